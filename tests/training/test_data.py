"""What a configuration's recordings are, and what the cache of their sound holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.audio import decode
from service.voice import VoiceActivity
from training import config as configuration
from training import data as data_module
from training.config import ConfigError
from training.data import LABELS, arrays, digest, load, prepare, thin
from training.data_settings import Data, Manifest


def test_the_recordings_of_a_configuration(data: Path) -> None:
    """By default those of speech/manifest.csv, as it divides them."""
    recordings = load(Data(), data)
    assert len(recordings) == 30
    assert {r.split for r in recordings} == {"train", "validation", "test"}
    assert {r.label for r in recordings} == set(LABELS)


def _changed(data: Path, tmp_path: Path, old: str, new: str) -> Path:
    shutil.copytree(data / "speech", tmp_path / "speech")
    file = tmp_path / "speech" / "manifest.csv"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("speaker,", "who,", "no column 'speaker'"),
        (
            "three,en,angry,validation",
            "three,en,bored,validation",
            r"'bored'; say in \[data.labels\]",
        ),
        ("three,en,angry,validation", "three,en,angry,later", "unknown split 'later'"),
        ("three,en,angry,validation", "one,en,angry,validation", "Speaker one is in two splits"),
        ("three-angry.flac", "three-gone.flac", r"three-gone\.flac isn't there"),
    ],
)
def test_wrong_data_is_refused(
    data: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """With what is wrong and what to do."""
    with pytest.raises(ConfigError, match=sentence):
        load(Data(), _changed(data, tmp_path, old, new))


def test_labels_are_mapped(data: Path, tmp_path: Path) -> None:
    """Of any case, by the usual words and by the configuration's; "" leaves clips out."""
    root = _changed(data, tmp_path, ",angry,", ",ANGER,")
    assert sum(r.label == "angry" for r in load(Data(), root)) == 5
    mapped = load(Data(labels={"Anger": "sad", "happy": ""}), root)
    assert {r.label for r in mapped} == {"disgusted", "fearful", "neutral", "sad"}
    assert sum(r.label == "sad" for r in mapped) == 10


def test_classes_are_dropped(data: Path) -> None:
    """Whatever they are called in a source; not all of them."""
    assert {r.label for r in load(Data(drop=("sad",)), data)} == set(LABELS) - {"sad"}
    with pytest.raises(ConfigError, match="No clips are left"):
        load(Data(drop=LABELS), data)  # type: ignore[arg-type] # the six, not any six strings


def test_a_clip_is_heard_as_the_service_hears_it(data: Path, tmp_path: Path) -> None:
    """Samples and speech frames are those of the serving half, bit by bit."""
    recordings = load(Data(), data)[:2]
    rows = prepare(recordings, tmp_path)
    assert len(rows) == 2
    for recording, row in zip(recordings, rows, strict=True):
        samples, speech = arrays(row)
        clip = decode(recording.path.read_bytes())
        assert np.array_equal(samples, clip.samples)
        assert np.array_equal(speech, VoiceActivity()(clip.samples))
        assert (row["clip"], row["path"]) == (recording.name, str(recording.path))
        assert (row["corpus"], row["speaker"]) == (recording.corpus, recording.speaker)
        assert LABELS[row["label"]] == recording.label


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length in bytes of every file that is decoded."""
    lengths: list[int] = []

    def listening(data: bytes, **limits: Any) -> Any:  # noqa: ANN401 - as decode
        lengths.append(len(data))
        return decode(data, **limits)

    monkeypatch.setattr(data_module, "decode", listening)
    return lengths


def test_nothing_is_decoded_twice(data: Path, tmp_path: Path, heard: list[int]) -> None:
    """Not for another order, selection, split or label either: those cost nothing."""
    recordings = load(Data(), data)
    before = [arrays(row)[0].size for row in prepare(recordings, tmp_path)]
    assert len(heard) == 30
    other = [replace(r, label="sad", split="train", name=f"x/{r.name}") for r in recordings[::-2]]
    rows = prepare(other, tmp_path)
    assert len(heard) == 30
    assert [arrays(row)[0].size for row in rows] == before[::-2]
    assert [row["clip"] for row in rows] == [r.name for r in other]
    assert set(rows["label"]) == {LABELS.index("sad")}


def test_what_is_new_is_all_that_is_decoded(data: Path, tmp_path: Path, heard: list[int]) -> None:
    """Beside what is there."""
    recordings = load(Data(), data)
    prepare(recordings[:10], tmp_path)
    rows = prepare(recordings, tmp_path)
    assert len(heard) == 30
    assert [row["clip"] for row in rows] == [r.name for r in recordings]


def test_a_killed_preparation_goes_on(
    data: Path, tmp_path: Path, heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was, but for the file it was writing, and to the same rows."""
    monkeypatch.setattr(data_module, "CLIPS_A_FILE", 8)
    recordings = load(Data(), data)
    whole = prepare(recordings, tmp_path / "whole")[:]
    heard.clear()
    rows = data_module._rows

    def killed(*arguments: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - as _rows
        for number, row in enumerate(rows(*arguments)):
            if number == 20:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(data_module, "_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(recordings, tmp_path / "killed")
    monkeypatch.setattr(data_module, "_rows", rows)
    assert len(heard) == 21
    again = prepare(recordings, tmp_path / "killed")[:]
    assert len(heard) == 21 + 30 - 16
    assert again == whole


def test_preparing_at_once_loses_nothing(data: Path, tmp_path: Path, heard: list[int]) -> None:
    """Two selections that begin with the same recording are two files, whoever comes last."""
    recordings = load(Data(), data)
    selections = recordings[:5], recordings[:2]
    for number, selection in enumerate(selections):
        prepare(selection, tmp_path / str(number))  # neither finds what the other has heard
    [long] = (tmp_path / "0").rglob("*.arrow")
    [short] = (tmp_path / "1").rglob("*.arrow")
    short.replace(long.parent / short.name)
    heard.clear()
    prepare(recordings[:5], tmp_path / "0")
    assert not heard


def test_the_same_bytes_twice_are_two_rows(data: Path, tmp_path: Path) -> None:
    """Each with its own name."""
    recording = load(Data(), data)[0]
    rows = prepare([recording, replace(recording, name="twin")], tmp_path)
    assert [row["clip"] for row in rows] == [recording.name, "twin"]
    assert rows[0]["samples"] == rows[1]["samples"]


def test_no_recordings_are_no_rows(tmp_path: Path) -> None:
    """With the columns of any."""
    rows = prepare([], tmp_path)
    assert len(rows) == 0
    assert {"clip", "samples", "speech", "label"} < set(rows.column_names)


def test_a_changed_recording_is_heard_again(data: Path, tmp_path: Path) -> None:
    """The cache is of the bytes, not of their path."""
    shutil.copytree(data / "speech", tmp_path / "speech")
    recordings = load(Data(), tmp_path)[:2]
    before = arrays(prepare(recordings, tmp_path / "cache")[0])[0].size
    recordings[0].path.write_bytes(recordings[1].path.read_bytes())
    after = arrays(prepare(recordings, tmp_path / "cache")[0])[0].size
    assert before == 16_000
    assert after == 17_600


def test_an_unreadable_recording_is_named(data: Path, tmp_path: Path) -> None:
    """By its path, so that it can be mended or left out."""
    shutil.copytree(data / "speech", tmp_path / "speech")
    recordings = load(Data(), tmp_path)[:1]
    recordings[0].path.write_bytes(b"fLaC")
    with pytest.raises(ConfigError, match=str(recordings[0].path)):
        prepare(recordings, tmp_path / "cache")


def test_thinning_spreads_evenly(data: Path) -> None:
    """The first and the last are in, and no more than asked."""
    recordings = load(Data(), data)
    whole = thin(recordings, "train", None)
    assert len(whole) == 12
    chosen = thin(recordings, "train", 4)
    assert [whole.index(recording) for recording in chosen] == [0, 3, 7, 11]


def test_a_digest_is_of_bytes_and_labels(data: Path, tmp_path: Path) -> None:
    """Order doesn't matter; a changed byte or label does."""
    shutil.copytree(data / "speech", tmp_path / "speech")
    recordings = load(Data(), tmp_path)
    before = digest(recordings)
    assert digest(recordings[::-1]) == before
    assert digest([replace(recordings[0], label="sad"), *recordings[1:]]) != before
    with recordings[3].path.open("ab") as file:
        file.write(b"\0")
    assert digest(recordings) != before


@pytest.mark.parametrize("name", ["compact", "scratch", "smoke", "thesis", "tiny-en"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    """Each loads by its name."""
    assert configuration.load(name).bundle.name.startswith("timbre-")


HEAD = "bundle={name='a',version='1',licence='x'}\nmodel={checkpoint='x'}\n"


def test_sources_are_tables_of_the_configuration(tmp_path: Path) -> None:
    """As many as there are, of any kind."""
    file = tmp_path / "config.toml"
    file.write_text(
        f'{HEAD}[data]\nsplit = "speakers"\n[[data.sources]]\nkind = "manifest"\n'
        '[[data.sources]]\nkind = "tess"\npath = "tess"\nsplit = "test"\n'
    )
    settings = configuration.load(str(file)).data
    assert settings.sources[0] == Manifest()
    assert (settings.sources[1].kind, settings.sources[1].split) == ("tess", "test")


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    """As it stands on the page, with a bundle and a model before it."""
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    file = tmp_path / "config.toml"
    file.write_text(HEAD + page.split("```toml\n")[1].split("```")[0])
    settings = configuration.load(str(file)).data
    assert [source.kind for source in settings.sources] == ["ravdess", "folders", "aesdd"]
    assert settings.labels == {"excited": "happy", "pensive": ""}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[bundle", "is not TOML"),
        ("[model]\ncheckpoint = 'x'", "bundle: Field required"),
        (f"{HEAD}[windows]\nhop_s=9", "hop_s must be in"),
        ("[bundle]\nname='a'\nversion='1'\nlicence='x'\ncolour=1\n", "colour"),
        (f"{HEAD}[training]\nwarmup_ratio=1.0", "training.warmup_ratio"),
        (f"{HEAD}[data.labels]\nbored='dull'", "'dull' is none of angry"),
        (f"{HEAD}[data]\nvalidation_speakers=['x']", "need split"),
        (f"{HEAD}[data]\nsources=[{{kind='tape'}}]", "data.sources.0"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """It names the field."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        configuration.load(str(file))


def test_a_folder_or_a_picture_is_no_configuration(tmp_path: Path) -> None:
    """What can't be read as text is told as what is no TOML is."""
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        configuration.load(str(tmp_path))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ConfigError, match=r"picture\.png is not TOML"):
        configuration.load(str(tmp_path / "picture.png"))


def test_an_unknown_configuration_lists_those_there_are() -> None:
    """A typo is answered with the names."""
    with pytest.raises(ConfigError, match=r"one of compact, .*, thesis"):
        configuration.load("compcat")
