"""Which threads go first: those that answer, before those that compute.

Under overload hundreds of requests a second are refused, in less than a millisecond each. The event
loop that does so would wait its turn behind threads that always have something to compute, for
longer than the refusal takes: docs/performance.md has by how much.
"""

from __future__ import annotations

import os
import sys

NICENESS = 5
"""Of threads that compute. Of a CPU that both want, the event loop gets three quarters by it."""


def give_way() -> None:
    """Lower the priority of this thread, and so of those that it starts, below the others'.

    On Linux, where it is a thread's own; elsewhere it is the process's, and stays what it is. It
    decides between threads of one container only: between containers their CPU requests do.
    """
    if sys.platform == "linux":
        os.nice(NICENESS)
