"""What the pipeline refuses, and what its digests and caches hold."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from service.audio import decode
from service.voice import VoiceActivity
from training import config as configuration
from training.config import ConfigError
from training.data import arrays, digest, prepare, read_manifest, thin


def test_a_clip_is_heard_as_the_service_hears_it(data: Path, tmp_path: Path) -> None:
    """Samples and speech frames are those of the serving half, bit by bit."""
    recordings = read_manifest(data / "speech")[:2]
    rows = prepare(recordings, tmp_path)
    assert len(rows) == 2
    for recording, row in zip(recordings, rows, strict=True):
        samples, speech = arrays(row)
        clip = decode(recording.path.read_bytes())
        assert np.array_equal(samples, clip.samples)
        assert np.array_equal(speech, VoiceActivity()(clip.samples))


def test_a_changed_recording_is_heard_again(data: Path, tmp_path: Path) -> None:
    """The cache is of the bytes, not of their path."""
    shutil.copytree(data / "speech", tmp_path / "speech")
    recordings = read_manifest(tmp_path / "speech")[:2]
    before = arrays(prepare(recordings, tmp_path / "cache")[0])[0].size
    recordings[0].path.write_bytes(recordings[1].path.read_bytes())
    after = arrays(prepare(recordings, tmp_path / "cache")[0])[0].size
    assert before == 16_000
    assert after == 17_600


def _broken(data: Path, tmp_path: Path, old: str, new: str) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    text = (data / "speech" / "manifest.csv").read_text()
    assert old in text
    (folder / "manifest.csv").write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("speaker,", "who,", "no column 'speaker'"),
        ("three,en,angry,validation", "three,en,bored,validation", "unknown label or split"),
        ("three,en,angry,validation", "three,en,angry,later", "unknown label or split"),
        ("three,en,angry,validation", "one,en,angry,validation", "Speaker one is in two splits"),
    ],
)
def test_a_wrong_manifest_is_refused(
    data: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    """With what is wrong; a speaker in two splits would make figures on strangers false."""
    with pytest.raises(ConfigError, match=sentence):
        read_manifest(_broken(data, tmp_path, old, new))


def test_no_manifest_is_refused(tmp_path: Path) -> None:
    """The message names the option to give the folder with."""
    with pytest.raises(ConfigError, match="--data"):
        read_manifest(tmp_path)


def test_an_unreadable_recording_is_named(data: Path, tmp_path: Path) -> None:
    """By its path, so that it can be mended or left out."""
    recordings = read_manifest(data / "speech")[:1]
    shutil.copytree(data / "speech", tmp_path / "speech")
    broken = tmp_path / "speech" / recordings[0].path.name
    broken.write_bytes(b"fLaC")
    with pytest.raises(Exception, match="generating the dataset") as caught:
        prepare(read_manifest(tmp_path / "speech")[:1], tmp_path / "cache")
    assert str(broken) in str(caught.value.__cause__)


def test_thinning_spreads_evenly(data: Path) -> None:
    """The first and the last are in, and no more than asked."""
    recordings = read_manifest(data / "speech")
    whole = thin(recordings, "train", None)
    assert len(whole) == 12
    chosen = thin(recordings, "train", 4)
    assert [whole.index(recording) for recording in chosen] == [0, 3, 7, 11]


def test_a_digest_is_of_bytes_and_labels(data: Path, tmp_path: Path) -> None:
    """Order doesn't matter; a changed byte does."""
    shutil.copytree(data / "speech", tmp_path / "speech")
    recordings = read_manifest(tmp_path / "speech")
    before = digest(recordings)
    assert digest(recordings[::-1]) == before
    with recordings[3].path.open("ab") as file:
        file.write(b"\0")
    assert digest(recordings) != before


@pytest.mark.parametrize("name", ["compact", "smoke"])
def test_the_shipped_configurations_are_valid(name: str) -> None:
    """Each loads by its name."""
    assert configuration.load(name).bundle.name.startswith("timbre-")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[bundle", "is not TOML"),
        ("[model]\ncheckpoint = 'x'", "bundle: Field required"),
        (
            "bundle={name='a',version='1',licence='x'}\nmodel={checkpoint='x'}\n[windows]\nhop_s=9",
            "hop_s must be in",
        ),
        ("[bundle]\nname='a'\nversion='1'\nlicence='x'\ncolour=1\n", "colour"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """It names the field."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        configuration.load(str(file))


def test_an_unknown_configuration_lists_those_there_are() -> None:
    """A typo is answered with the names."""
    with pytest.raises(ConfigError, match="compact, smoke"):
        configuration.load("compcat")
