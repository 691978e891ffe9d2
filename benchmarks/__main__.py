"""`python -m benchmarks`: measure the served model on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, get_args

import click
import numpy as np
from tqdm.auto import tqdm

from benchmarks import decoding, load, queueing, recordings, shadow, shed
from benchmarks.canary.command import canary, canary_latencies, canary_predictions
from benchmarks.peers.command import peers, report_command
from benchmarks.server import running
from benchmarks.soak.command import soak, soak_report
from service.bundle import DEFAULT_BUNDLE, Precision, open_bundle
from service.classifier import Classifier, open_classifier
from service.runtime import cpu_features, cpu_model, cpus
from tests.support.audio import encoded, speech_like

CLIP_S = (1.0, 2.0, 3.0, 3.0, 4.0, 6.0)
"""Lengths of the clips of the load: of the corpora's, and some longer."""
VOICES = 8
SENT = 1000
"""Clips by which the sender of shadows is measured."""
TOLERANCE = 1e-4
"""Of a probability; the promise is 1e-4 of a logit, which moves a probability less. A reduced
precision has its gate's bound."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Measure the served model on this machine; each figure is printed as JSON.

    Compare only what one run printed: machines differ, and so do two hours of one machine.
    """


@main.command(name="load")
@click.option("--requests", default=5000, help="Requests of the load.")
@click.option("--connections", default=64, help="Connections that send them.")
@click.option("--gaps", default=5, help="Pauses of 4 to 6 s on one idle connection.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="fp32",
    help="In which the model computes.",
)
def load_command(requests: int, connections: int, gaps: int, precision: Precision) -> None:
    """Errors, differing answers, speed and memory of `timbre serve` under a closed loop."""
    clips = [
        encoded(speech_like(seconds, seed=seed), subtype="PCM_16")
        for seed in range(VOICES)
        for seconds in CLIP_S
    ]
    figures: dict[str, Any] = {"machine": machine(), "precision": precision}
    classifier = _classifier(precision)
    gate = classifier.runner.bundle.manifest.precisions[precision].gate
    bare = _bare_runtime(classifier, clips)
    settings = {"TIMBRE_BUNDLE": _bundle(), "TIMBRE_PRECISION": precision, "TIMBRE_UNGATED": "true"}
    with running(**settings) as server:
        figures["ready_s"] = round(server.ready_s, 2)
        figures["memory_mib_when_ready"] = _mib(server.worker.memory_info().rss)
        expected = asyncio.run(load.solo(server.port, clips))
        memory: list[float] = []
        for name, count, clients in (
            ("one_client", 200, 1),
            ("first_1000", 1000, 8),
            ("load", requests, connections),
        ):
            with tqdm(total=count, desc=name, unit="clip") as bar:

                def advance(by: int, bar: Any = bar) -> None:  # noqa: ANN401 - tqdm has no types
                    bar.update(by)
                    if bar.n % 250 == 0:
                        memory.append(_mib(server.worker.memory_info().rss))

                outcome = asyncio.run(
                    load.closed_loop(
                        server.port,
                        clips,
                        expected,
                        requests=count,
                        connections=clients,
                        tolerance=gate.parity if gate else TOLERANCE,
                        progress=advance,
                    )
                )
            figures[name] = {"connections": clients, **outcome.summary()}
        figures["memory_mib_every_250"] = memory
        figures["idle_gap_failures"] = asyncio.run(
            load.idle_gaps(server.port, clips[0], np.linspace(4, 6, gaps).tolist())
        )
    figures["bare_runtime_clips_per_s"] = bare
    figures["share_of_bare_runtime"] = round(figures["load"]["clips_per_s"] / bare, 3)
    _print(figures)


def _data_command(function: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--data",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        required=True,
        help="Folder with speech/manifest.csv and noise/.",
    )(function)


@main.command()
@_data_command
def voice(data: Path) -> None:
    """Speech taken for silence, clean and in noise, and noise taken for speech."""
    classifier = _classifier()
    noises = recordings.noise_recordings(data / "noise")
    speech = recordings.read(data / "speech", "validation")
    figures: dict[str, Any] = {
        "noise_taken_for_speech": [
            name
            for name, samples in noises.items()
            if classifier.listen(recordings.as_clip(samples)).batch
        ],
        "noise_clips": len(noises),
    }
    for snr_db in (float("inf"), 10.0, 5.0):
        missed = recordings.heard_as_silence(classifier, speech, list(noises.values()), snr_db)
        figures[f"speech_missed_at_{snr_db:g}_dB"] = {
            "all": _share(missed),
            **{
                f"{kind}={value}": _share(
                    [m for m, r in zip(missed, speech, strict=True) if getattr(r, kind) == value]
                )
                for kind in ("corpus", "label")
                for value in sorted({getattr(recording, kind) for recording in speech})
            },
        }
    _print(figures)


@main.command()
@_data_command
@click.option("--seconds", default=1.0, help="Silence to add.")
def silence(data: Path, seconds: float) -> None:
    """Labels of validation clips that change when silence is added around them."""
    speech = recordings.read(data / "speech", "validation")
    _print({"clips": len(speech), **recordings.label_changes(_classifier(), speech, seconds)})


@main.command()
@_data_command
def http(data: Path) -> None:
    """Whether a server's answers on validation are those of the evaluation."""
    speech = recordings.read(data / "speech", "validation")
    with running(TIMBRE_BUNDLE=_bundle(), TIMBRE_PRECISION="fp32") as server:
        _print(recordings.over_http(server.port, _classifier(), speech))


@main.command()
@click.option("--windows", default=100, help="Windows for each figure.")
def augment(windows: int) -> None:
    """CPU time that augmentation costs a training window of 3 s, effect by effect."""
    # Here, so that no other measurement and no --help waits for torch.
    from benchmarks import augmentation  # noqa: PLC0415

    _print({"machine": machine(), "ms": augmentation.costs(windows)})


@main.command()
@click.option("--clips", default=1000, help="Clips of 3 s for each figure.")
@click.option("--replacements", default=20, help="Decoders to kill.")
def decode(clips: int, replacements: int) -> None:
    """What decoding in processes of their own costs: time, memory, and to replace one."""
    _print({"machine": machine(), **decoding.costs(clips, replacements)})


@main.command(name="queue")
@click.option("--clips", default=20_000, help="Clips for each figure.")
def queue_command(clips: int) -> None:
    """CPU time a window that the batcher takes for itself."""
    _print({"machine": machine(), **queueing.costs(clips)})


@main.command(name="shed")
@click.option("--requests", default=2000, help="Clips of 3 s to refuse for each figure.")
def shed_command(requests: int) -> None:
    """What a clip that is refused at the gate costs the server, and how soon its client knows."""
    _print({"machine": machine(), **shed.costs(requests)})


@main.command(name="shadow")
@click.option("--turns", default=7, help="Turns of all arms.")
@click.option("--rate", default=20.0, help="Clips of 3 s a second; keep well below capacity.")
@click.option("--seconds", default=15.0, help="Of each arm in a turn.")
def shadow_command(turns: int, rate: float, seconds: float) -> None:
    """What shadowing costs clients: latency with candidates and without, in turns."""
    arms = len(shadow.arms(0, 0, 0))
    with tqdm(total=turns * arms, unit="server") as bar:
        sending = shadow.sending(SENT)
        figures = shadow.costs(turns, rate, seconds, bar.update)
    load_said = {"clips_per_s": rate, "seconds": seconds, "turns": turns}
    said = {"machine": machine(), "sender_cpu_us": sending, "load": load_said, "arms": figures}
    _print(said)


main.add_command(peers)
main.add_command(report_command)
main.add_command(soak)
main.add_command(canary)
main.add_command(canary_predictions)
main.add_command(canary_latencies)
main.add_command(soak_report)


def _classifier(precision: Precision = "fp32") -> Classifier:
    return open_classifier(open_bundle(_bundle()), precision=precision, threads=cpus())


def _bundle() -> Path:
    return Path(os.environ.get("TIMBRE_BUNDLE", DEFAULT_BUNDLE))


def _bare_runtime(classifier: Classifier, clips: list[bytes], rounds: int = 5) -> float:
    """Clips a second that the runner alone makes of the same windows, in full batches."""
    windows = [window for clip in clips for window in classifier.hear(clip).batch]
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        for start in range(0, len(windows), 8):
            classifier.runner(windows[start : start + 8])
        times.append(time.monotonic() - started)
    return round(len(clips) / median(times), 2)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": cpu_model() or platform.processor(),
        "cpus": cpus(),
        "features": cpu_features(),
        "python": platform.python_version(),
    }


def _share(values: list[bool]) -> str:
    return f"{sum(values)}/{len(values)} ({100 * sum(values) / len(values):.2f}%)"


def _mib(size: int) -> float:
    return round(size / 2**20, 1)


def _print(figures: dict[str, Any]) -> None:
    click.echo(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
