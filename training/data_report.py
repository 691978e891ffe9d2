"""What a run was made of, for people and for programs: data.html and data.json.

How many clips of what class, corpus and speaker there are, how long they are, which bytes they are,
and what is there twice: what is unequal here comes back as a model's habit.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
import numpy as np
import soundfile
from matplotlib import rc_context
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from training import corpora
from training.config import ConfigError
from training.digests import by_corpus, duplicates, facts
from training.recording import LABELS, Recording

Sets: TypeAlias = Mapping[str, Sequence[Recording]]
"""Recordings by split."""

JSON = "data.json"
HTML = "data.html"
TEMPLATE = Path(__file__).parent / "data_report.html.j2"
QUANTILES = {
    "least_s": 0.0,
    "p5_s": 0.05,
    "p25_s": 0.25,
    "median_s": 0.5,
    "p75_s": 0.75,
    "p95_s": 0.95,
    "most_s": 1.0,
}

MOST_SPEAKERS = 150
"""In the figure; the JSON has all."""


def write(sets: Sets, folder: Path) -> dict[str, Any]:
    """Write JSON and HTML into `folder`, which is made if need be.

    Returns:
        What is in the JSON; see `describe`.

    Raises:
        ConfigError: the header of a recording cannot be read.
    """
    described = describe(sets)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(described, indent=2, ensure_ascii=False)
    (folder / JSON).write_text(text + "\n", encoding="utf-8")
    (folder / HTML).write_text(render(described), encoding="utf-8")
    return described


def describe(sets: Sets) -> dict[str, Any]:
    """Count and measure.

    Returns:
        sets: what each corpus gave to each split, as a bundle states it (`facts`);
        corpora: of each corpus its licence, what it annotates, speakers and sentences;
        counts: clips and seconds by split, corpus, speaker, sex and label;
        durations: quantiles in seconds, by split and corpus;
        duplicates: names of clips with the same bytes, together.
    """
    recordings = [recording for members in sets.values() for recording in members]
    seconds = dict(zip((r.name for r in recordings), durations(recordings), strict=True))
    return {
        "clips": len(recordings),
        "duration_s": round(sum(seconds.values()), 1),
        "sets": [fact.model_dump(mode="json") for fact in facts(sets)],
        "corpora": [_corpus(name, members) for name, members in by_corpus(recordings)],
        "counts": list(_counts(sets, seconds)),
        "durations": list(_durations(sets, seconds)),
        "duplicates": [[r.name for r in same] for same in duplicates(recordings)],
    }


def durations(recordings: Iterable[Recording]) -> list[float]:
    """Seconds of each recording, from its header.

    Raises:
        ConfigError: a header cannot be read.
    """
    seconds = []
    for recording in tqdm(recordings, desc="durations", unit="clip"):
        try:
            seconds.append(float(soundfile.info(recording.path).duration))
        except soundfile.LibsndfileError as error:
            raise ConfigError(f"{recording.path} cannot be read: {error.error_string}") from error
    return seconds


def _corpus(name: str, members: Sequence[Recording]) -> dict[str, Any]:
    sexes = dict.fromkeys((r.speaker, r.sex) for r in members)
    shared = Counter(corpora.sentence_is_shared(r) for r in members)
    return {
        "name": name,
        "licence": corpora.licence(name),
        "languages": sorted({r.language for r in members}),
        "annotates": list(corpora.annotated(name, {r.label for r in members})),
        "clips": len(members),
        "speakers": len(sexes),
        "women": sum(sex == "female" for _, sex in sexes),
        "men": sum(sex == "male" for _, sex in sexes),
        "sentence_in_all_emotions": shared[True],
        "sentence_tells_emotion": shared[False],
        "sentence_unknown": shared[None],
    }


def _counts(sets: Sets, seconds: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    keys = ("corpus", "speaker", "sex", "label")
    for split, recordings in sets.items():
        clips: Counter[tuple[Any, ...]] = Counter()
        total: defaultdict[tuple[Any, ...], float] = defaultdict(float)
        for recording in recordings:
            key = tuple(getattr(recording, name) for name in keys)
            clips[key] += 1
            total[key] += seconds[recording.name]
        for key in sorted(clips, key=str):
            row = {"split": split, **dict(zip(keys, key, strict=True))}
            yield {**row, "clips": clips[key], "duration_s": round(total[key], 1)}


def _durations(sets: Sets, seconds: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    for split, recordings in sets.items():
        for corpus, members in by_corpus(recordings):
            lengths = [seconds[r.name] for r in members]
            quantiles = np.quantile(lengths, list(QUANTILES.values())).round(3).tolist()
            yield {
                "split": split,
                "corpus": corpus,
                "clips": len(members),
                "duration_s": round(sum(lengths), 1),
                **dict(zip(QUANTILES, quantiles, strict=True)),
            }


def render(described: Mapping[str, Any]) -> str:
    """One HTML page that needs no other file, from what `describe` returns."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    counts = Counter[tuple[str, str, str]]()
    for row in described["counts"]:
        counts[row["split"], row["corpus"], row["label"]] += row["clips"]
    with rc_context({"svg.hashsalt": "timbre", "font.size": 9}):
        figures = {
            "Clips of each class, by corpus": _svg(_classes(counts)),
            "Length of the clips (median, quarter and three quarters, 5% and 95%)": _svg(
                _lengths(described["durations"])
            ),
            f"Clips of each speaker (of more than {MOST_SPEAKERS}, those with most)": _svg(
                _speakers(described["counts"])
            ),
        }
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        data=described, labels=LABELS, counts=counts, figures=figures
    )


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _classes(counts: Mapping[tuple[str, str, str], int]) -> Figure:
    splits = list(dict.fromkeys(split for split, _, _ in counts))
    names = sorted({corpus for _, corpus, _ in counts})
    figure = Figure(figsize=(8, 0.5 + 2.2 * len(splits)), layout="constrained")
    for row, split in enumerate(splits, start=1):
        axes = figure.add_subplot(len(splits), 1, row, title=split, ylabel="clips")
        bottom = np.zeros(len(LABELS))
        for number, corpus in enumerate(names):
            heights = np.array([counts.get((split, corpus, label), 0) for label in LABELS])
            axes.bar(LABELS, heights, bottom=bottom, color=f"C{number}", label=corpus)
            bottom += heights
    handles, present = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, present, loc="outside upper center", ncols=6)
    return figure


def _lengths(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(8, 1 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds")
    boxes = [
        {
            "label": f"{row['corpus']}, {row['split']}",
            "whislo": row["p5_s"],
            "q1": row["p25_s"],
            "med": row["median_s"],
            "q3": row["p75_s"],
            "whishi": row["p95_s"],
        }
        for row in reversed(rows)
    ]
    axes.bxp(boxes, orientation="horizontal", showfliers=False)
    axes.set_xlim(left=0)
    return figure


def _speakers(rows: Sequence[Mapping[str, Any]]) -> Figure:
    clips = Counter[tuple[str, str, str]]()
    for row in rows:
        clips[row["corpus"], row["speaker"], row["split"]] += row["clips"]
    names = sorted(name for name, _ in clips.most_common(MOST_SPEAKERS))
    figure = Figure(figsize=(8, 1 + 0.16 * len(names)), layout="constrained")
    axes = figure.add_subplot(xlabel="clips")
    places = {corpus: number for number, corpus in enumerate(dict.fromkeys(n[0] for n in names))}
    axes.barh(
        [f"{speaker}, {split}" for _, speaker, split in names],
        [clips[name] for name in names],
        color=[f"C{places[corpus]}" for corpus, _, _ in names],
    )
    axes.tick_params(axis="y", labelsize=6)
    axes.invert_yaxis()
    axes.margins(y=0.005)
    return figure
