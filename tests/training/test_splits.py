"""How recordings are divided, and which divisions are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import ConfigError
from training.data_settings import Data
from training.recording import Recording
from training.splits import divide


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Two corpora of five speakers with four clips each, and a third one for tests."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for corpus, split in (("a", "train"), ("b", "train"), ("c", "test")):
        for speaker in range(5):
            for clip in range(4):
                path = folder / f"{corpus}{speaker}{clip}.wav"
                path.write_bytes(path.name.encode())
                given_split = "validation" if split == "train" and speaker == 4 else split
                who = f"{corpus}_{speaker}"
                label = "sad" if clip % 2 else "happy"
                found.append(Recording(path, path.name, corpus, who, "en", label, given_split))
    return found


def _speakers(recordings: Iterable[Recording], split: str) -> set[str]:
    return {recording.speaker for recording in recordings if recording.split == split}


def test_given_splits_are_kept(recordings: list[Recording]) -> None:
    """Recording by recording."""
    assert divide(recordings, Data()) == recordings


@pytest.mark.parametrize(("split", "sentence"), [("", "has no splits"), ("later", "unknown split")])
def test_a_source_without_splits_needs_a_division(
    recordings: list[Recording], split: str, sentence: str
) -> None:
    """The message says which settings there are."""
    with pytest.raises(ConfigError, match=sentence):
        divide([replace(recordings[0], split=split)], Data())


def test_at_random_a_fifth_is_for_validation(recordings: list[Recording]) -> None:
    """As the thesis had it: 80/20 of the clips, with speakers on both sides; test stays."""
    divided = divide(recordings, Data(split="random"))
    assert Counter(r.split for r in divided) == {"train": 32, "validation": 8, "test": 20}
    assert _speakers(divided, "train") & _speakers(divided, "validation")
    assert _speakers(divided, "test") == {f"c_{n}" for n in range(5)}


def test_a_random_division_is_of_names_and_seed(recordings: list[Recording]) -> None:
    """Neither order nor the given splits matter; the seed does."""

    def chosen(given: Iterable[Recording], seed: int = 0) -> set[str]:
        divided = divide(list(given), Data(split="random", seed=seed))
        return {r.name for r in divided if r.split == "validation"}

    other = [r if r.split == "test" else replace(r, split="") for r in recordings[::-1]]
    assert chosen(recordings) == chosen(other)
    assert chosen(recordings) != chosen(recordings, seed=1)


def test_by_speakers_each_corpus_gives_its_share(recordings: list[Recording]) -> None:
    """Of five speakers one, and no speaker is on both sides."""
    divided = divide(recordings, Data(split="speakers"))
    validation = _speakers(divided, "validation")
    assert sorted(speaker[0] for speaker in validation) == ["a", "b"]
    assert not validation & _speakers(divided, "train")


def test_another_corpus_changes_no_corpus_s_division(recordings: list[Recording]) -> None:
    """So that figures on a corpus stay comparable when data is added."""
    alone = [r for r in recordings if r.corpus == "a"]
    both = _speakers(divide(recordings, Data(split="speakers")), "validation")
    assert _speakers(divide(alone, Data(split="speakers")), "validation") < both


@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_corpus_with_two_speakers_or_more_is_on_both_sides(
    recordings: list[Recording], share: float, seed: int
) -> None:
    """Whatever the share."""
    divided = divide(recordings, Data(split="speakers", validation_share=share, seed=seed))
    for split in ("train", "validation"):
        assert {speaker[0] for speaker in _speakers(divided, split)} == {"a", "b"}


def test_a_corpus_with_one_speaker_stays_in_train(recordings: list[Recording]) -> None:
    """There is nobody else to train on."""
    one = [r for r in recordings if r.speaker in ("a_0", "b_0", "b_1")]
    divided = divide(one, Data(split="speakers"))
    assert "a_0" in _speakers(divided, "train")


def test_named_speakers_go_to_validation(recordings: list[Recording]) -> None:
    """These and no others."""
    divided = divide(recordings, Data(split="speakers", validation_speakers=("a_1", "a_2")))
    assert _speakers(divided, "validation") == {"a_1", "a_2"}


def test_development_speakers_are_taken_from_train(recordings: list[Recording]) -> None:
    """With all their clips, and from nowhere else."""
    divided = divide(recordings, Data(development_speakers=("a_1", "b_2")))
    assert _speakers(divided, "development") == {"a_1", "b_2"}
    assert _speakers(divided, "train") == {"a_0", "a_2", "a_3", "b_0", "b_1", "b_3"}
    assert Counter(r.split for r in divided)["development"] == 8


def test_a_corpus_left_out_is_only_there_to_choose_by(recordings: list[Recording]) -> None:
    """Its training clips are `left-out`, its others are not there; its development speakers too."""
    divided = divide(recordings, Data(left_out_corpora=("a",), development_speakers=("a_1", "b_2")))
    assert _speakers(divided, "left-out") == {"a_0", "a_1", "a_2", "a_3"}
    assert {r.split for r in divided if r.corpus == "a"} == {"left-out"}
    assert _speakers(divided, "development") == {"b_2"}
    assert _speakers(divided, "validation") == {"b_4"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (Data(development_speakers=("a_4",)), r"a_4 \(development\)"),
        (Data(left_out_corpora=("c",)), r"c \(left-out\) .* there are a, b\."),
        (Data(split="speakers", validation_speakers=("nobody",)), r"nobody \(validation\)"),
    ],
)
def test_names_that_are_not_there_are_refused(
    recordings: list[Recording], data: Data, sentence: str
) -> None:
    """With those that are; a development speaker of validation is one of them."""
    with pytest.raises(ConfigError, match=sentence):
        divide(recordings, data)


def test_a_speaker_in_two_splits_is_refused(recordings: list[Recording]) -> None:
    """But for a random division, which says what it is."""
    mixed = [replace(recordings[0], split="validation"), *recordings[1:]]
    with pytest.raises(ConfigError, match="Speaker a_0 is in two splits"):
        divide(mixed, Data())
    assert divide(mixed, Data(split="random"))


@pytest.mark.parametrize("what", ["split", "label"])
def test_one_file_in_two_splits_or_classes_is_refused(
    recordings: list[Recording], tmp_path: Path, what: str
) -> None:
    """Both paths are named; what counts are the bytes."""
    first, *rest = recordings
    copy = tmp_path / "copy.wav"
    copy.write_bytes(first.path.read_bytes())
    twin = replace(first, path=copy, name="copy.wav", speaker="twin")
    twin = replace(twin, split="validation") if what == "split" else replace(twin, label="angry")
    with pytest.raises(ConfigError, match=rf"a00\.wav and .*copy\.wav are .* two {what}s"):
        divide([first, *rest, twin], Data())


def test_at_random_the_same_file_falls_on_one_side(
    recordings: list[Recording], tmp_path: Path
) -> None:
    """However often it is there, and in whichever order."""
    copies = []
    for number, recording in enumerate(recordings[:8]):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(recording.path.read_bytes())
        copies.append(replace(recording, path=path, name=path.name))
    divided = divide([*recordings, *copies], Data(split="random", validation_share=0.5))
    splits = {recording.name: recording.split for recording in divided}
    turned = divide([*recordings, *copies][::-1], Data(split="random", validation_share=0.5))
    assert {recording.name: recording.split for recording in turned} == splits
    assert [splits[r.name] for r in recordings[:8]] == [splits[r.name] for r in copies]
