"""How long a window takes in each precision on this machine: measured once, remembered in a file.

A file that cannot be read or written, or that holds anything else, costs a measurement of a second
at the next start, and nothing more: a read-only container serves as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.bundle import Bundle, Precision, RuntimeName
from service.precision import Choice, Wish, candidates, choose
from service.runner import Runner, open_runner
from service.runtime import cpu_features, cpu_model, engine_version

logger = logging.getLogger("timbre")

MEASURE_S = 0.1
"""Seconds to go on timing windows in a precision, once it has been timed `LEAST_CALLS` times."""
LEAST_CALLS = 2
MAX_FILE_BYTES = 10_000

_EXACT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Situation(BaseModel):
    """All that a window's time depends on, as far as it can be told."""

    model_config = _EXACT

    digest: str
    runtime: RuntimeName
    engine: str
    cpu: str
    features: list[str]
    streams: int
    threads: int


class _File(BaseModel):
    model_config = _EXACT

    situation: Situation
    window_s: Mapping[Precision, Annotated[float, Field(gt=0)]]


def choose_precision(
    bundle: Bundle,
    wish: Wish,
    *,
    runtime: RuntimeName,
    streams: int,
    threads: int,
    ungated: bool = False,
    cache: Path | None = None,
) -> Choice:
    """Choose what to serve of a bundle, as `precision.choose`, from this machine's speeds.

    Args:
        bundle: to be served.
        wish: from the settings.
        runtime: that will compute, with that many `streams` and, over all of them, `threads`.
        streams: see `runtime`.
        threads: see `runtime`.
        ungated: see `candidates`.
        cache: folder to remember speeds in; None where there is none.

    Raises:
        BundleError: the bundle has nothing that may be served for the wish, or it doesn't load.
    """
    features = cpu_features()
    allowed = candidates(bundle, wish, runtime=runtime, features=features, ungated=ungated)
    situation = Situation(
        digest=bundle.digest,
        runtime=runtime,
        engine=engine_version(runtime),
        cpu=cpu_model(),
        features=features,
        streams=streams,
        threads=threads,
    )

    def timed(precision: Precision) -> float:
        return window_seconds(
            open_runner(
                bundle,
                runtime=runtime,
                precision=precision,
                streams=streams,
                threads=threads,
                batches=(1,),  # all that is timed; to compile the others would take a second
            )
        )

    return choose(wish, allowed, partial(speeds, situation, cache=cache, measure=timed))


def speeds(
    situation: Situation,
    precisions: Sequence[Precision],
    *,
    cache: Path | None,
    measure: Callable[[Precision], float],
) -> Mapping[Precision, float]:
    """Give the seconds a window takes in each of `precisions`: remembered, or measured and so.

    Never fails for the sake of the cache.
    """
    file = cache / f"{_name(situation)}.json" if cache is not None else None
    if file is not None and (known := _recall(file, situation)) is not None:
        with suppress(KeyError):
            return {precision: known[precision] for precision in precisions}
    window_s = {precision: measure(precision) for precision in precisions}
    if file is not None:
        _remember(file, _File(situation=situation, window_s=window_s))
    return window_s


def window_seconds(runner: Runner, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Time a window by itself, in seconds: the least of some calls, since others share the CPUs."""
    noise = np.random.default_rng(0).standard_normal(runner.bundle.manifest.audio.window.window)
    batch = [noise.astype(np.float32)]
    runner(batch)  # the first call compiles
    taken: list[float] = []
    begun = clock()
    while len(taken) < LEAST_CALLS or clock() - begun < MEASURE_S:
        started = clock()
        runner(batch)
        taken.append(clock() - started)
    return min(taken)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Find the user's folder for what can be made again; None for a user without a home."""
    given = Path(environment.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "timbre"
    home = Path(environment.get("HOME", ""))
    return home / ".cache" / "timbre" if home.is_absolute() else None


def _name(situation: Situation) -> str:
    """Name a situation's file; one each, so that servers that share a folder can't mix them up."""
    text = json.dumps(situation.model_dump(), sort_keys=True)
    return f"speeds-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _recall(file: Path, situation: Situation) -> Mapping[Precision, float] | None:
    try:
        with file.open("rb") as opened:
            found = _File.model_validate_json(opened.read(MAX_FILE_BYTES))
    except (OSError, ValidationError):
        return None
    return found.window_s if found.situation == situation else None


def _remember(file: Path, content: _File) -> None:
    """Write a file whole or not at all: another server may be reading it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as written:
            try:
                written.write(content.model_dump_json(indent=2).encode())
                written.flush()
                Path(written.name).replace(file)
            except OSError:
                Path(written.name).unlink()
                raise
    except OSError as error:
        logger.info("speeds are not remembered, and measured again at the next start: %s", error)
