"""Timbre's serving half: what runs in the pod, from the bytes of a clip to its emotion."""

__version__ = "0.1.0"
