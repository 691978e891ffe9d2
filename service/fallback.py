"""When new clips go to the faster model: above a queue time, until the queue is short again."""

from __future__ import annotations

SHORT = 0.5
"""Share of the threshold at which a queue is short again. Between the two nothing changes, since
models that took turns clip by clip would give one speaker two scales."""


class Switch:
    """Decides whether the fallback answers. Belongs to one event loop, as the queue does."""

    def __init__(self, above_s: float) -> None:
        """Start with the better model.

        Args:
            above_s: seconds a new clip would wait, from which on the fallback answers.
        """
        if not above_s > 0:
            raise ValueError(f"need a queue time above 0 s, got {above_s}")
        self._above_s = above_s
        self.on = False
        """Whether new clips are the fallback's."""

    def turn(self, queue_s: float) -> None:
        """Decide by the seconds that a clip would wait now."""
        if queue_s >= self._above_s:
            self.on = True
        elif queue_s <= SHORT * self._above_s:
            self.on = False
