"""Timbre beside other ways to serve the same model, on one machine, in turns; docs/benchmarks.md.

The servers of the others are in `servers`, each runnable alone; they run in an environment of their
own and import nothing of Timbre.
"""
