"""The reliability suite: what Timbre does beyond its capacity, with hostile clients, and over time.

`python -m benchmarks soak` runs named trials against a real server; each yields figures, and a
verdict on every number that the project has set itself.
"""
