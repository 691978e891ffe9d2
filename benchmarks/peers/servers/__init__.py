"""The peers' servers. They read BENCH_* variables, see `work.py`, and run in their own environment.

Nothing here imports the rest of the project.
"""
