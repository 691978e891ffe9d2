"""Measurements, each a command of `python -m benchmarks`; docs/benchmarks.md explains them."""
