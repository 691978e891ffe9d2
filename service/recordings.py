"""Recordings on a disk: find them, read them whole, cut long ones for a server and merge again.

A server bounds what a clip may be; a recording has no such bound. Here one is told from the other.
"""

from __future__ import annotations

import io
import math
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from service import audio
from service.domain import (
    SAMPLE_RATE,
    Clip,
    Decision,
    Result,
    Samples,
    Segment,
    TimbreError,
)
from service.windows import decide

SUFFIXES = frozenset({".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""What is taken for a recording in a folder; a file that is named is tried in any case."""

LONGEST_S = 24 * 3600.0
"""Of a recording: it is held as 16 kHz mono, 230 MB an hour."""
SEARCH_S = 12.0
"""Before the end of a piece, where the quietest moment is looked for."""
QUIET_S = 0.3
"""How long that moment is: a pause between words, not the closure of a consonant."""
SHORTEST_S = 3.0
"""No piece is shorter, so that none has too little speech to be heard."""


class Unreadable(TimbreError):
    """The file cannot be opened."""

    slug = "unreadable"
    title = "The file cannot be read"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard in a recording. `duration_s`, `sample_rate` and `channels` are the file's."""

    result: Result
    duration_s: float
    speech_s: float
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with one file: an answer, or the reason why there is none."""

    path: Path
    answer: Answer | TimbreError


def find(paths: Iterable[Path]) -> list[Path]:
    """List recordings: files as they are named, folders searched to the bottom and sorted.

    What doesn't exist is listed too, for whoever opens it to say so.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            found.update(dict.fromkeys(sorted(file for file in inside if file.is_file())))
        else:
            found[path] = None
    return list(found)


def read(path: Path) -> Clip:
    """Decode a recording of any length, block by block.

    Raises:
        Unreadable: it cannot be opened.
        TimbreError: as `audio.decode`.
    """
    try:
        with path.open("rb") as file:
            return audio.read(file, max_duration_s=LONGEST_S)
    except OSError as error:
        raise _unreadable(error) from error


def clip_bytes(path: Path) -> bytes | None:
    """Give a file's bytes if a server takes them as they are, None if it must be cut first.

    Raises:
        Unreadable: it cannot be opened.
    """
    try:
        if path.stat().st_size > audio.MAX_BODY_BYTES:
            return None
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error
    try:
        about = soundfile.info(io.BytesIO(data))
    except soundfile.LibsndfileError:
        return data  # the server knows best what is wrong with it
    return data if about.frames <= audio.MAX_DURATION_S * about.samplerate else None


def pieces(samples: Samples, longest_s: float = audio.MAX_DURATION_S) -> list[tuple[int, int]]:
    """Cut a recording where it is quietest, into pieces [start, stop) a server takes.

    Args:
        samples: float32 [n], mono, `SAMPLE_RATE`.
        longest_s: of a piece, in seconds; more than `SEARCH_S` + 2 `SHORTEST_S`.

    Returns:
        Pieces in order that cover every sample once.
    """
    longest, shortest = round(longest_s * SAMPLE_RATE), round(SHORTEST_S * SAMPLE_RATE)
    cuts = [0]
    while samples.size - cuts[-1] > longest:
        latest = min(cuts[-1] + longest, samples.size - shortest)
        earliest = latest - round(SEARCH_S * SAMPLE_RATE)
        cuts.append(earliest + _quietest(samples[earliest:latest]))
    return list(pairwise([*cuts, samples.size]))


def _quietest(samples: Samples) -> int:
    """Find the middle of the `QUIET_S` with the least energy; the last of equals."""
    step = SAMPLE_RATE // 100
    energy = np.square(samples[: samples.size // step * step].reshape(-1, step)).mean(axis=1)
    span = round(QUIET_S * 100)
    means = np.convolve(energy, np.full(span, 1 / span), mode="valid")
    last = means.size - 1 - int(means[::-1].argmin())
    return (2 * last + span) * step // 2


def as_flac(samples: Samples) -> bytes:
    """Encode a piece as a server takes it: 16-bit FLAC, lossless to what was recorded."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def merge(
    parts: Sequence[tuple[float, Answer]], recording: Clip, review_threshold: float
) -> Answer:
    """Merge pieces' answers into the recording's.

    Probabilities are weighted by each piece's seconds of speech, as windows are within a clip.

    Args:
        parts: when each piece starts in the recording, in seconds, and its answer.
        recording: that was cut.
        review_threshold: of the model; a confidence below it is `review`.
    """
    segments = tuple(
        _shifted(segment, start_s) for start_s, part in parts for segment in part.result.segments
    )
    speaking = [part for _, part in parts if part.result.decision is not Decision.NO_SPEECH]
    weight = math.fsum(part.speech_s for part in speaking)
    if speaking:
        probabilities = {
            label: math.fsum(p.speech_s * p.result.probabilities[label] for p in speaking) / weight
            for label in speaking[0].result.probabilities
        }
        result = decide(probabilities, segments, review_threshold=review_threshold)
    else:
        result = Result(None, None, Decision.NO_SPEECH, segments=segments)
    return Answer(
        result=result,
        duration_s=recording.duration_s,
        speech_s=math.fsum(part.speech_s for _, part in parts),
        sample_rate=recording.sample_rate,
        channels=recording.channels,
    )


def _shifted(segment: Segment, by_s: float) -> Segment:
    return replace(segment, start_s=segment.start_s + by_s, end_s=segment.end_s + by_s)


def each(
    paths: Sequence[Path], answer: Callable[[Path], Answer], *, jobs: int = 1
) -> Generator[Outcome, None, None]:
    """Answer recordings in their order, `jobs` at a time; a failed one stops none of the others.

    Closing the iterator starts no more of them. With one job all happens in the caller's thread;
    with several in daemon threads, so that an interrupted program need not wait for them.
    """
    if jobs == 1:
        for path in paths:
            yield _attempt(path, answer)
        return
    todo: queue.SimpleQueue[tuple[Path, Future[Outcome]]] = queue.SimpleQueue()
    closed = threading.Event()

    def work() -> None:
        while not closed.is_set():
            try:
                path, future = todo.get_nowait()
            except queue.Empty:
                return
            try:
                future.set_result(_attempt(path, answer))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                future.set_exception(error)

    futures: list[Future[Outcome]] = [Future() for _ in paths]
    for item in zip(paths, futures, strict=True):
        todo.put(item)
    for _ in range(min(jobs, len(paths))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for future in futures:
            yield future.result()
    finally:
        closed.set()


def _attempt(path: Path, answer: Callable[[Path], Answer]) -> Outcome:
    try:
        return Outcome(path, answer(path))
    except TimbreError as error:
        return Outcome(path, error)


def _unreadable(error: OSError) -> Unreadable:
    return Unreadable(f"{error.strerror or os.strerror(error.errno or 0)}.")
