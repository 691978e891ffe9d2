"""Where the CPU goes for one clip in Timbre: `python -m benchmarks.peers.anatomy BUNDLE CPUS`.

Each stage is run by itself, many times, in this process, and charged with its CPU time over all
threads. What a server uses for a request beyond the sum is HTTP, batching and the answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.peers.clips import wavs
from service.audio import decode
from service.bundle import open_bundle
from service.runner import open_runner
from service.voice import FRAME, VoiceActivity
from service.windows import conclude, cut, lay, scored

STAGES = ("decode", "voice activity", "windows", "engine", "result")
HTTP = "HTTP, and a thread to decode in"
"""Measured at a server: the same number of bytes, refused as no audio."""
REST = "batching and the answer"
SECONDS = 1.0
CLIPS = 4


def stages(folder: Path, cpus: int, seconds: float) -> dict[str, float]:
    """Milliseconds of CPU a clip for each of `STAGES`; takes about `seconds` for each."""
    bundle = open_bundle(folder)
    runner = open_runner(bundle, runtime="openvino", precision="fp32", streams=1, threads=cpus)
    voice = VoiceActivity(streams=cpus)
    spec = bundle.manifest.audio.window
    files = wavs(CLIPS)
    clips = [decode(file).samples for file in files]
    speech = [voice(samples) for samples in clips]

    def windows(number: int) -> object:
        samples = clips[number]
        laid = lay(speech[number], FRAME, samples.size, spec)
        return [cut(samples, window, spec) for window in scored(laid)]

    laid = [lay(speech[n], FRAME, clips[n].size, spec) for n in range(CLIPS)]
    batches = [[cut(clips[n], w, spec) for w in scored(laid[n])] for n in range(CLIPS)]
    logits = [np.array(runner(batch), np.float32) for batch in batches]
    labels = bundle.manifest.labels

    def result(number: int) -> object:
        return conclude(logits[number], laid[number], labels, temperature=1.0, review_threshold=0.5)

    work: tuple[Callable[[int], object], ...] = (
        lambda number: decode(files[number]),
        lambda number: voice(clips[number]),
        windows,
        lambda number: runner(batches[number]),
        result,
    )
    return {name: _milliseconds(run, seconds) for name, run in zip(STAGES, work, strict=True)}


def _milliseconds(run: Callable[[int], object], seconds: float) -> float:
    run(0)
    times, used, started = 0, time.process_time(), time.monotonic()
    while time.monotonic() - started < seconds or times < CLIPS:
        run(times % CLIPS)
        times += 1
    return (time.process_time() - used) * 1e3 / times


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("cpus", type=int)
@click.option("--seconds", default=SECONDS, help="For each stage.")
def main(bundle: Path, cpus: int, seconds: float) -> None:
    """Print milliseconds of CPU by stage as JSON."""
    click.echo(json.dumps(stages(bundle, cpus, seconds)))


if __name__ == "__main__":
    main()
