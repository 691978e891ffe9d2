"""Fuzzing: damaged files into decoders, damaged requests into a server; `python -m tests.fuzz`."""
