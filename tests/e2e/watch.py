"""What kubectl goes on to say: its watch, with the moment at which each change was seen."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tests.e2e.timeline import Seen


@contextmanager
def reading(command: Sequence[str], take: Callable[[str], None]) -> Iterator[None]:
    """Hand over the lines of a program that goes on for as long as this is entered."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout

        def gather() -> None:
            for line in lines:
                take(line)

        reader = threading.Thread(target=gather)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            reader.join()


@contextmanager
def watching(kind: str, namespace: str, selector: str = "") -> Iterator[list[Seen]]:
    """Gather what becomes of the objects of a kind, in a list that grows while this is entered."""
    command = ["kubectl", "get", kind, "--namespace", namespace, "--selector", selector]
    seen: list[Seen] = []

    def take(line: str) -> None:
        at, event = time.time(), json.loads(line)
        seen.append(Seen(at, event["type"], event["object"]))

    with reading([*command, "--watch", "--output-watch-events", "--output", "json"], take):
        yield seen


def of(seen: list[Seen], name: str) -> list[Seen]:
    """What was seen of one object."""
    return [each for each in list(seen) if each.object["metadata"]["name"] == name]
