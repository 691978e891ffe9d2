"""kubectl's watch, with the moment at which each change was seen."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.timeline import Seen, documents


@contextmanager
def watching(kind: str, namespace: str, selector: str = "") -> Iterator[list[Seen]]:
    """Gather what becomes of the objects of a kind, in a list that grows while this is entered."""
    command = ["kubectl", "get", kind, "--namespace", namespace, "--selector", selector]
    seen: list[Seen] = []
    with subprocess.Popen(
        [*command, "--watch", "--output-watch-events", "--output", "json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        events = documents(process.stdout)

        def gather() -> None:
            for event in events:
                # One by one: the moment counts, and others read the list meanwhile.
                seen.append(Seen(time.time(), event["type"], event["object"]))  # noqa: PERF401

        reader = threading.Thread(target=gather)
        reader.start()
        try:
            yield seen
        finally:
            process.terminate()
            reader.join()


def of(seen: list[Seen], name: str) -> list[Seen]:
    """What was seen of one object."""
    return [each for each in list(seen) if each.object["metadata"]["name"] == name]
