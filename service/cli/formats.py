"""How outcomes are written: a table, lines, CSV, JSON lines or Parquet.

All but JSON write the same rows: one a file, or one a segment of the time line.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.domain import Decision, Segment, TimbreError
from service.recordings import Answer, Outcome

if TYPE_CHECKING:
    import pyarrow as pa

Row: TypeAlias = Mapping[str, str | float | int | None]
Kind: TypeAlias = Literal["text", "number", "integer"]

STYLES = {
    Decision.ACCEPT.value: "green",
    Decision.REVIEW.value: "yellow",
    Decision.NO_SPEECH.value: "dim",
    "failed": "red",
}
"""Colours of decisions at a terminal."""


class Format(Protocol):
    """Takes outcomes one by one."""

    def add(self, outcome: Outcome) -> None:
        """Take one, and write it if it can be written at once."""

    def close(self) -> None:
        """Write what could not be written before all is known."""


def columns(labels: Sequence[str], *, timeline: bool) -> dict[str, Kind]:
    """Name the columns of CSV and Parquet and their types; `p_…` are the labels' probabilities."""
    if timeline:
        return {
            "path": "text",
            "start_s": "number",
            "end_s": "number",
            "label": "text",
            "score": "number",
            "speech_s": "number",
            "error": "text",
        }
    return {
        "path": "text",
        "label": "text",
        "score": "number",
        "decision": "text",
        "duration_s": "number",
        "speech_s": "number",
        "sample_rate": "integer",
        "channels": "integer",
        **{f"p_{label}": "number" for label in labels},
        "error": "text",
    }


def rows(outcome: Outcome, *, timeline: bool) -> Iterator[Row]:
    """Flatten an outcome; a failed one is one row with its error, whatever is asked for."""
    path, answer = name(outcome.path), outcome.answer
    if isinstance(answer, TimbreError):
        yield {"path": path, "error": str(answer)}
    elif timeline:
        for segment in answer.result.segments:
            yield {"path": path, **_segment(segment)}
    else:
        result = answer.result
        yield {
            "path": path,
            "label": result.label,
            "score": result.score,
            "decision": result.decision.value,
            **_audio(answer),
            **{f"p_{label}": score for label, score in result.probabilities.items()},
        }


class JsonLines:
    """One object a file."""

    def __init__(self, *, timeline: bool) -> None:
        self._timeline = timeline

    def add(self, outcome: Outcome) -> None:
        """Print it."""
        click.echo(json.dumps(self._object(outcome), ensure_ascii=False))

    def close(self) -> None:
        """Nothing is left."""

    def _object(self, outcome: Outcome) -> dict[str, Any]:
        path, answer = name(outcome.path), outcome.answer
        if isinstance(answer, TimbreError):
            return {"path": path, "error": {"type": answer.slug, "detail": str(answer)}}
        result = answer.result
        said: dict[str, Any] = {
            "path": path,
            "label": result.label,
            "score": result.score,
            "decision": result.decision.value,
            "probabilities": dict(result.probabilities),
            "audio": _audio(answer),
        }
        if self._timeline:
            said["segments"] = [_segment(segment) for segment in result.segments]
        return said


class Csv:
    """RFC 4180 with a header."""

    def __init__(self, labels: Sequence[str], *, timeline: bool) -> None:
        self._timeline = timeline
        self._writer = csv.DictWriter(sys.stdout, list(columns(labels, timeline=timeline)))
        self._writer.writeheader()

    def add(self, outcome: Outcome) -> None:
        """Print its rows."""
        self._writer.writerows(rows(outcome, timeline=self._timeline))

    def close(self) -> None:
        """Nothing is left."""


class Lines:
    """Fields between tabs, for cut, sort and awk; failed files are on standard error only."""

    def __init__(self, *, timeline: bool) -> None:
        self._timeline = timeline
        self._fields = (
            ("path", "start_s", "end_s", "label", "score")
            if timeline
            else ("path", "label", "score", "decision", "duration_s", "speech_s")
        )

    def add(self, outcome: Outcome) -> None:
        """Print its lines."""
        if not isinstance(outcome.answer, TimbreError):
            for row in rows(outcome, timeline=self._timeline):
                click.echo("\t".join(_field(row.get(field)) for field in self._fields))

    def close(self) -> None:
        """Nothing is left."""


class Screen:
    """A table for people, when all is known."""

    def __init__(self, *, timeline: bool) -> None:
        self._timeline = timeline
        self._table = Table(box=None, pad_edge=False, header_style="bold")
        self._table.add_column("file", overflow="fold")
        self._table.add_column("emotion", no_wrap=True)
        for heading in ("confidence", "decision", "duration", "speech"):
            right = heading != "decision"
            self._table.add_column(heading, justify="right" if right else "left", no_wrap=True)

    def add(self, outcome: Outcome) -> None:
        """Keep its rows."""
        path, answer = Text(name(outcome.path)), outcome.answer
        if isinstance(answer, TimbreError):
            self._table.add_row(path, "", "", _decision("failed"), "", "")
            return
        result = answer.result
        self._table.add_row(
            path,
            Text(" or ".join(top.label for top in result.top) or "–"),
            _percent(result.score),
            _decision(result.decision.value),
            clock(answer.duration_s),
            clock(answer.speech_s),
        )
        for segment in result.segments if self._timeline else ():
            self._table.add_row(
                Text(f"  {clock(segment.start_s)} to {clock(segment.end_s)}"),
                Text(segment.label or "–"),
                _percent(segment.score),
                "",
                "",
                clock(segment.speech),
                style="dim",
            )

    def close(self) -> None:
        """Print the table."""
        Console(highlight=False).print(self._table)


class Parquet:
    """A file of typed columns."""

    def __init__(self, file: Path, labels: Sequence[str], *, timeline: bool) -> None:
        """Open the file before the work, because afterwards is too late to learn it can't be.

        Raises:
            click.ClickException: pyarrow is not installed, or the file cannot be written.
        """
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as error:
            raise click.ClickException(
                "Parquet needs pyarrow, which is not installed: "
                "in a checkout of Timbre, pip install '.[parquet]'."
            ) from error
        types = {"text": pa.string(), "number": pa.float64(), "integer": pa.int32()}
        named = columns(labels, timeline=timeline)
        self._timeline = timeline
        self._schema: pa.Schema = pa.schema([(n, types[kind]) for n, kind in named.items()])
        self._rows: list[Row] = []
        self._table = pa.Table
        try:
            self._writer = parquet.ParquetWriter(file, self._schema)
        except OSError as error:
            raise click.ClickException(f"Cannot write {file}: {error}.") from error

    def add(self, outcome: Outcome) -> None:
        """Keep its rows: one row group holds them all."""
        self._rows += rows(outcome, timeline=self._timeline)

    def close(self) -> None:
        """Write the file."""
        self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._writer.close()


def name(path: Path) -> str:
    """Say a path on one line, in characters that every stream takes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def clock(seconds: float) -> str:
    """Say a duration: 3.2 s, 4:05 min, 1:02:03 h."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def _audio(answer: Answer) -> dict[str, float | int]:
    return {
        "duration_s": round(answer.duration_s, 3),
        "speech_s": round(answer.speech_s, 3),
        "sample_rate": answer.sample_rate,
        "channels": answer.channels,
    }


def _segment(segment: Segment) -> dict[str, str | float | None]:
    return {
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "label": segment.label,
        "score": segment.score,
        "speech_s": round(segment.speech, 3),
    }


def _field(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{score:.0%}"


def _decision(decision: str) -> Text:
    return Text(decision.replace("_", " "), STYLES[decision])
