"""Measurements, each a command of `python -m benchmarks`; docs/performance.md has results."""
