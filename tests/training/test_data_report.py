"""The data report, on recordings whose counts are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.config import ConfigError
from training.data import SPLITS, digest, load, thin
from training.data_report import HTML, JSON, describe, render, write
from training.data_settings import Data
from training.digests import facts
from training.recording import LABELS, Recording


@pytest.fixture(scope="module")
def sets(data: Path) -> dict[str, list[Recording]]:
    """Recordings by split."""
    recordings = load(Data(), data)
    return {split: members for split in SPLITS if (members := thin(recordings, split, None))}


@pytest.fixture(scope="module")
def described(sets: dict[str, list[Recording]]) -> dict[str, Any]:
    """What the report says of them."""
    return describe(sets)


def test_every_clip_is_counted_once(described: dict[str, Any]) -> None:
    """By split, corpus, speaker and label; seconds add up as well."""
    assert described["clips"] == 30
    assert len(described["counts"]) == 30
    assert all(row["clips"] == 1 for row in described["counts"])
    for total in ("counts", "durations"):
        seconds = sum(row["duration_s"] for row in described[total])
        assert seconds == pytest.approx(described["duration_s"], abs=0.1) == 37.5


def test_durations_are_quantiles(described: dict[str, Any]) -> None:
    """Of clips of 1.0, 1.1 … 1.5 s."""
    for row in described["durations"]:
        assert (row["least_s"], row["median_s"], row["most_s"]) == (1.0, 1.25, 1.5)


def test_each_set_has_its_digest(
    described: dict[str, Any], sets: dict[str, list[Recording]]
) -> None:
    """The one that a bundle states."""
    assert described["sets"] == [fact.model_dump(mode="json") for fact in facts(sets)]
    test = next(fact for fact in facts(sets) if fact.split == "test")
    assert (test.name, test.clips, test.licence) == ("corpus-four", 6, "unknown")
    assert test.sha256 == digest(sets["test"])


def test_a_corpus_is_described(sets: dict[str, list[Recording]]) -> None:
    """What it annotates, who speaks, and where the sentence tells the emotion."""
    first, second, third = (replace(r, corpus="savee") for r in sets["test"][:3])
    members = [
        replace(first, sentence="savee:common01", sex="male"),
        replace(second, sentence="savee:a04", sex="male"),
        replace(third, speaker="another", sex="female"),
    ]
    (corpus,) = describe({"test": members})["corpora"]
    assert corpus["annotates"] == list(LABELS)
    assert (corpus["speakers"], corpus["men"], corpus["women"]) == (2, 1, 1)
    told = ("sentence_in_all_emotions", "sentence_tells_emotion", "sentence_unknown")
    assert [corpus[name] for name in told] == [1, 1, 1]


def test_clips_that_are_there_twice_are_named(data: Path, tmp_path: Path) -> None:
    """By their names."""
    recordings = load(Data(), data)[:3]
    copy = tmp_path / "copy.flac"
    shutil.copy(recordings[1].path, copy)
    twin = replace(recordings[1], path=copy, name="copy.flac")
    assert describe({"train": [*recordings, twin]})["duplicates"] == [
        [recordings[1].name, "copy.flac"]
    ]


def test_the_page_needs_nothing_else(
    sets: dict[str, list[Recording]], described: dict[str, Any], tmp_path: Path
) -> None:
    """One file with its figures in it, written beside the JSON it was made from."""
    assert write(sets, tmp_path / "report") == described
    assert json.loads((tmp_path / "report" / JSON).read_text()) == described
    page = (tmp_path / "report" / HTML).read_text()
    assert page.count("<svg") == 3
    assert "src=" not in page
    assert "<script" not in page
    assert described["sets"][0]["sha256"] in page


def test_the_page_is_the_same_for_the_same_data(described: dict[str, Any]) -> None:
    """To the byte, so that it can be compared and cached."""
    assert render(described) == render(described)


def test_what_sources_say_is_text_on_the_page(described: dict[str, Any]) -> None:
    """A name cannot become markup."""
    hostile = json.loads(json.dumps(described).replace("corpus-one", "<b onclick=x>"))
    assert "<b onclick" not in render(hostile)


def test_an_unreadable_header_is_named(sets: dict[str, list[Recording]], tmp_path: Path) -> None:
    """By its path."""
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"fLaC")
    with pytest.raises(ConfigError, match=str(broken)):
        describe({"train": [replace(sets["train"][0], path=broken)]})
