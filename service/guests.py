"""Shadow clips inside a candidate: clips that another pod has answered, and nobody waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.domain import NotReady, Overloaded
from service.serving import BUSY_S, Serving

MAX_INSIDE = 4
"""At a time, whoever sent them."""
RETRY_S = 10.0
"""Retry-After of a refusal: there is no hurry."""


class Guests:
    """The shadow clips inside a candidate: the first to be refused, before any client's clip."""

    def __init__(self) -> None:
        """Start with none."""
        self.inside = 0

    @contextmanager
    def admitting(self, serving: Serving) -> Iterator[None]:
        """Let one in meanwhile.

        Such a refusal is no demand: nobody needs more pods for it.

        Raises:
            NotReady: the server is on its way out.
            Overloaded: clips would wait, or `MAX_INSIDE` shadows are inside.
        """
        if not serving.ready:
            raise NotReady("The server is shutting down.", RETRY_S)
        if serving.busy or self.inside >= MAX_INSIDE:
            raise Overloaded(
                f"Shadow clips are taken while the queue is below {BUSY_S:g} s and fewer than "
                f"{MAX_INSIDE} are inside.",
                RETRY_S,
            )
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
