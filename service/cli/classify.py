"""`timbre classify`: recordings in, their emotions out, with the model here or on a server."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from service import recordings
from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.cli import formats
from service.domain import TimbreError
from service.precision import Wish
from service.recordings import Answer, Outcome
from service.runtime import cpus

if TYPE_CHECKING:
    from service.classifier import Classifier

FAILED = 1
INTERRUPTED = 130
"""Exit code after Ctrl-C, as of every program that a signal ends: 128 + SIGINT."""


@dataclass(slots=True)
class Totals:
    """What is said at the end of many files."""

    audio_s: float = 0.0
    failed: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)

    @property
    def files(self) -> int:
        """Files that are done, well or not."""
        return self.failed + self.decisions.total()

    def add(self, outcome: Outcome) -> None:
        """Count one file."""
        if isinstance(outcome.answer, TimbreError):
            self.failed += 1
            return
        self.audio_s += outcome.answer.duration_s
        self.decisions[outcome.answer.result.decision.value] += 1
        if outcome.answer.result.label is not None:
            self.labels[outcome.answer.result.label] += 1

    def told(self, elapsed_s: float) -> Iterator[str]:
        """Say them in lines; `elapsed_s` is how long the files took."""
        speed = f", real-time factor {elapsed_s / self.audio_s:.3f}" if self.audio_s else ""
        yield (
            f"{self.files} files, {formats.clock(self.audio_s)} of audio "
            f"in {formats.clock(elapsed_s)}{speed}"
        )
        decisions = [f"{count} {name}" for name, count in self.decisions.most_common()]
        yield ", ".join([*decisions, *([f"{self.failed} failed"] if self.failed else [])])
        if self.labels:
            yield ", ".join(f"{count} {label}" for label, count in self.labels.most_common())


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…")
@click.option("--url", help="Ask this server instead of loading a model here.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    envvar="TIMBRE_BUNDLE",
    help="Folder of the model to load; the built-in one if not given.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Wish)),
    envvar="TIMBRE_PRECISION",
    default="fp32",
    show_default=True,
    help="What to compute in; auto chooses as a server does: "
    "the most exact that no other is 1.1 times as fast as here.",
)
@click.option("--timeline", is_flag=True, help="Also tell the emotion of each window.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a file, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")
@click.option(
    "--parquet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a Parquet file.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Requests at a time, with --url.",
)
@click.pass_context
def classify(  # noqa: PLR0917 - click calls it with names
    context: click.Context,
    paths: Sequence[Path],
    url: str | None,
    bundle: Path | None,
    precision: Wish,
    timeline: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    as_csv: bool,  # noqa: FBT001
    parquet: Path | None,
    jobs: int,
) -> None:
    """Tell the emotion of recordings: files, or all in a folder and below.

    Without --url the model is loaded here, and nothing leaves this machine. Recordings may be of
    any length; what is longer than a server takes is sent in pieces and merged.

    \b
      timbre classify clip.wav
      timbre classify calls/ --csv > calls.csv
      timbre classify calls/ --json | jq -r 'select(.decision == "review") | .path'
      timbre classify interview.mp3 --timeline
      timbre classify calls/ --url http://localhost:3000 --parquet calls.parquet

    To a server that asks for a token, the one in the variable TIMBRE_TOKEN is sent.

    In a pipe it prints a line a file: path, emotion, confidence, decision, seconds, seconds of
    speech, between tabs. A file that cannot be classified is reported on standard error, and the
    rest is done.

    Exit code: 0 all done, 1 a file failed, 2 wrong usage, 130 interrupted.
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    if as_json + as_csv + (parquet is not None) > 1:
        raise click.UsageError("Take one of --json, --csv and --parquet.")
    if url:
        _refuse_local_options(context)
    found = recordings.find(paths)
    if not found:
        suffixes = " ".join(sorted(recordings.SUFFIXES))
        raise click.UsageError(f"No recordings there ({suffixes}).")

    def output(labels: Sequence[str]) -> formats.Format:
        if as_json:
            return formats.JsonLines(timeline=timeline)
        if as_csv:
            return formats.Csv(labels, timeline=timeline)
        if parquet is not None:
            return formats.Parquet(parquet, labels, timeline=timeline)
        if Console().is_terminal:
            return formats.Screen(timeline=timeline)
        return formats.Lines(timeline=timeline)

    with ExitStack() as stack:
        try:
            with _stderr().status("Asking the server …" if url else "Loading the model …"):
                labels, answer = (
                    _remote(url, stack) if url else _local(bundle or DEFAULT_BUNDLE, precision)
                )
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)
        context.exit(_run(found, answer, output(labels), jobs=jobs if url else 1))


def _refuse_local_options(context: click.Context) -> None:
    """Refuse what only a model that is loaded here would heed; variables are for both."""
    for option in ("bundle", "precision"):
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{option} is for a model loaded here; with --url the server has its own."
            )


def _run(
    files: Sequence[Path], answer: Callable[[Path], Answer], output: formats.Format, *, jobs: int
) -> int:
    """Answer and write all files, report what failed and the totals; returns the exit code."""
    errors = _stderr()
    totals = Totals()
    interrupted = False
    started = time.monotonic()
    try:
        with (
            closing(recordings.each(files, answer, jobs=jobs)) as outcomes,
            _progress(errors, len(files), output) as advance,
        ):
            for outcome in outcomes:
                totals.add(outcome)
                output.add(outcome)
                if isinstance(outcome.answer, TimbreError):
                    said = f"{formats.name(outcome.path)}: {outcome.answer}"
                    errors.print(Text(said, "red"))
                advance()
    except KeyboardInterrupt:
        interrupted = True
    elapsed_s = time.monotonic() - started
    output.close()
    if interrupted:
        errors.print(f"Interrupted: {len(files) - totals.files} of {len(files)} files not done.")
    if len(files) > 1:
        for line in totals.told(elapsed_s):
            errors.print(line)
    if interrupted:
        return INTERRUPTED
    return FAILED if totals.failed else 0


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _local(folder: Path, precision: Wish) -> tuple[Sequence[str], Callable[[Path], Answer]]:
    """Load the model here; the labels, and what answers a recording."""
    from service.classifier import open_classifier  # noqa: PLC0415 - not for --url
    from service.speeds import cache_folder, choose_precision  # noqa: PLC0415

    bundle, threads = open_bundle(folder), cpus()
    choice = choose_precision(
        bundle,
        precision,
        runtime="openvino",
        streams=1,
        threads=threads,
        cache=Path(chosen) if (chosen := os.environ.get("TIMBRE_CACHE")) else cache_folder(),
    )
    classifier = open_classifier(bundle, precision=choice.precision, threads=threads)
    return bundle.manifest.labels, lambda path: _heard(classifier, path)


def _heard(classifier: Classifier, path: Path) -> Answer:
    """Classify a recording of any length as one clip."""
    heard = classifier.listen(recordings.read(path))
    clip = heard.clip
    result = classifier.classify(heard)
    return Answer(result, clip.duration_s, heard.speech_s, clip.sample_rate, clip.channels)


def _remote(url: str, stack: ExitStack) -> tuple[Sequence[str], Callable[[Path], Answer]]:
    """Ask the server what it serves; the labels, and what answers a recording."""
    from service.client import VARIABLE, Client  # noqa: PLC0415 - not offline

    token = os.environ.get(VARIABLE, "").strip() or None
    client = stack.enter_context(Client(url, token=token))
    model = client.model()
    return model.labels, lambda path: client.classify_recording(path, model.review_threshold)


@contextmanager
def _progress(console: Console, files: int, output: formats.Format) -> Iterator[Callable[[], None]]:
    """Show a bar where somebody looks at it; yields what moves it on by a file."""
    # Lines that go to the same terminal as they come would run into it.
    streams = isinstance(output, formats.JsonLines | formats.Csv) and Console().is_terminal
    with Progress(
        TextColumn("Classifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=streams or not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=files)
        yield lambda: progress.advance(task)
