"""A process of honest clients: `python -m benchmarks.soak.generator`, told by JSON on stdin.

It says on stdout when each request was due, sent and answered (seconds of time.monotonic()), and
with what.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.peers.client import Sample, closed_loop, open_loop


async def run(plan: dict[str, Any], requests: list[bytes]) -> list[Sample]:
    """Ask as planned: a `schedule` of seconds after `begin`, or `count` times with `clients`."""
    wait_s = plan["begin"] - time.monotonic()
    if "schedule" in plan:
        return await open_loop(plan["port"], requests, [wait_s + at for at in plan["schedule"]])
    await asyncio.sleep(wait_s)
    return await closed_loop(plan["port"], requests, clients=plan["clients"], count=plan["count"])


def main() -> None:
    """Read the plan, ask, and tell."""
    plan = json.load(sys.stdin)
    requests = [Path(file).read_bytes() for file in plan["requests"]]
    gc.freeze()  # what is imported never goes: collections needn't look at it, nor requests wait
    samples = uvloop.run(run(plan, requests))
    json.dump([[s.due, s.sent, s.done, s.status] for s in samples], sys.stdout)


if __name__ == "__main__":
    main()
