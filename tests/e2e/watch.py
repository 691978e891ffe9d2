"""kubectl's watch, with the moment at which each change was seen."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.timeline import Seen


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
        lines = process.stdout

        def gather() -> None:
            for line in lines:
                at, event = time.time(), json.loads(line)
                seen.append(Seen(at, event["type"], event["object"]))

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
