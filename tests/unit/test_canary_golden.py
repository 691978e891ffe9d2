"""Golden sets: how they are made and read, and which are refused."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from service.bundle import DataFacts
from service.canary.golden import (
    NAME,
    GoldenError,
    GoldenSet,
    read,
    require_apart,
    require_unseen,
)
from service.canary.making import create, listed
from tests.support.audio import encoded, silence, speech_like
from training.digests import facts
from training.recording import Recording

CLIPS = {"sad/ann/1.wav": 1, "sad/bob/2.wav": 2, "angry/ann/3.wav": 3, "angry/bob/4.wav": 4}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each label and speaker."""
    folder = tmp_path_factory.mktemp("source")
    for name, voice in CLIPS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(speech_like(0.5, voice)))
    return folder


@pytest.fixture
def made(source: Path, tmp_path: Path) -> GoldenSet:
    """A set of it."""
    return create(listed(source), tmp_path / "set" / NAME, name="calls", version="2")


def table(file: Path, *rows: dict[str, str]) -> Path:
    """Write CSV."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


class TestCreate:
    """A set of recordings."""

    def test_a_folder_has_labels_and_speakers(self, made: GoldenSet, source: Path) -> None:
        """Clips keep their names and bytes; the set is named by its content."""
        manifest = made.manifest
        assert (manifest.format, manifest.name, manifest.version) == (1, "calls", "2")
        assert manifest.labels == ("angry", "sad")
        assert {(clip.file, clip.label, clip.speaker) for clip in manifest.clips} == {
            (name, *name.split("/")[:2]) for name in CLIPS
        }
        for clip in manifest.clips:
            data = (source / clip.file).read_bytes()
            assert made.data(clip) == data
            assert clip.sha256 == hashlib.sha256(data).hexdigest()
        assert made.title == f"calls 2 ({made.digest[:12]})"

    def test_without_speakers_each_clip_is_one(self, source: Path) -> None:
        """A folder of recordings only."""
        found = listed(source / "sad" / "ann" / "..")
        assert {one.label for one in found} == {"ann", "bob"}
        assert len({one.speaker for one in found}) == len(found) == 2

    def test_a_table_says_what_a_folder_cannot(self, source: Path, tmp_path: Path) -> None:
        """Corpora too; clips of a split that training chooses by are left out."""
        row = {"path": "sad/ann/1.wav", "label": "sad", "speaker": "x", "corpus": "mine"}
        rows = [
            {**row, "split": "test"},
            {**row, "path": "angry/bob/4.wav", "label": "angry", "split": ""},
            *({**row, "split": split} for split in ("train", "validation", "calibration")),
        ]
        file = table(source / "rows.csv", *rows)
        made = create(listed(file), tmp_path / NAME, name="rows", labels=["sad", "calm", "angry"])
        assert [(clip.file, clip.corpus, clip.speaker) for clip in made.manifest.clips] == [
            ("sad/ann/1.wav", "mine", "x"),
            ("angry/bob/4.wav", "mine", "x"),
        ]
        assert made.manifest.labels == ("sad", "calm", "angry")
        file.unlink()

    def test_it_may_be_made_where_its_clips_are(self, source: Path) -> None:
        """They stay."""
        made = create(listed(source), source / NAME, name="calls")
        assert len(made.manifest.clips) == len(CLIPS)
        (source / NAME).unlink()

    def test_what_a_server_would_not_take_is_refused(self, tmp_path: Path) -> None:
        """Such as a clip that is too long: it would have to be cut."""
        (tmp_path / "long").mkdir()
        (tmp_path / "long" / "a.flac").write_bytes(encoded(silence(60.1), container="FLAC"))
        with pytest.raises(GoldenError, match=r"a\.flac is longer"):
            create(listed(tmp_path), tmp_path / NAME, name="calls")

    def test_a_clip_may_be_there_once(self, tmp_path: Path) -> None:
        """Under whatever name: it would count twice."""
        for name in ("sad/a.wav", "angry/b.wav"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_bytes(encoded(speech_like(0.5)))
        with pytest.raises(GoldenError, match="2 clips have the sha256"):
            create(listed(tmp_path), tmp_path / NAME, name="calls")

    def test_no_other_file_is_overwritten(self, source: Path, tmp_path: Path) -> None:
        """A set keeps to its own folder."""
        (tmp_path / "sad" / "ann").mkdir(parents=True)
        (tmp_path / "sad" / "ann" / "1.wav").write_bytes(b"mine")
        with pytest.raises(GoldenError, match="is there already"):
            create(listed(source), tmp_path / NAME, name="calls")
        assert (tmp_path / "sad" / "ann" / "1.wav").read_bytes() == b"mine"

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"file": "sad/ann/1.wav", "label": "sad"}, "line 2: needs file, label and speaker"),
            ({"file": "no.wav", "label": "sad", "speaker": "x"}, r"no\.wav"),
            ({"file": "../a.wav", "label": "sad", "speaker": "x"}, r"a\.wav"),
        ],
    )
    def test_a_table_must_say_enough(
        self, row: dict[str, str], said: str, source: Path, tmp_path: Path
    ) -> None:
        """In the row that doesn't."""
        file = table(source / "wrong.csv", row)
        with pytest.raises(GoldenError, match=said):
            create(listed(file), tmp_path / NAME, name="rows")
        file.unlink()

    def test_nothing_is_no_set(self, tmp_path: Path) -> None:
        """Nor is what lies about without a label."""
        with pytest.raises(GoldenError, match="has no recordings"):
            listed(tmp_path)
        (tmp_path / "a.wav").write_bytes(b"")
        with pytest.raises(GoldenError, match="is not in a folder LABEL"):
            listed(tmp_path)
        (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(GoldenError, match="no CSV file"):
            listed(tmp_path / "b.csv")


class TestRead:
    """A set that is there."""

    def test_every_file_is_verified(self, made: GoldenSet) -> None:
        """One byte more is another clip."""
        path = made.folder / NAME
        assert read(path) == made
        clip = made.folder / made.manifest.clips[2].file
        clip.write_bytes(clip.read_bytes() + b"\0")
        with pytest.raises(GoldenError, match=f"{clip} is not the file"):
            read(path)
        clip.unlink()
        with pytest.raises(GoldenError, match="No such file"):
            read(path)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"format": 2}, "format: Input should be 1"),
            ({"clips": []}, "clips: "),
            ({"labels": ["sad", "calm"]}, "'angry', which is none of the set's"),
            ({"more": 1}, "more: Extra inputs"),
        ],
    )
    def test_what_it_may_not_say_is_refused(
        self, change: dict[str, object], said: str, made: GoldenSet
    ) -> None:
        """In a sentence that names the field."""
        path = made.folder / NAME
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")
        with pytest.raises(GoldenError, match=said):
            read(path)

    @pytest.mark.parametrize("file", ["/etc/passwd", "../a.wav", "a/../../b.wav", "", "a\\b.wav"])
    def test_a_path_stays_within_its_folder(self, file: str, made: GoldenSet) -> None:
        """A set comes from elsewhere."""
        path = made.folder / NAME
        content = json.loads(path.read_text())
        content["clips"][0]["file"] = file
        path.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(GoldenError, match="is no path within"):
            read(path)

    def test_no_set_is_said(self, tmp_path: Path) -> None:
        """And what isn't JSON."""
        with pytest.raises(GoldenError, match="No such file"):
            read(tmp_path / NAME)
        (tmp_path / NAME).write_text("{", encoding="utf-8")
        with pytest.raises(GoldenError, match="is no golden set: Invalid JSON"):
            read(tmp_path / NAME)


def data(source: Path, split: str, corpus: str) -> list[dict[str, object]]:
    """Say what training would say of the whole source."""
    recordings = [
        Recording(source / name, name, corpus, "x", "en", name.split("/")[0], split)
        for name in CLIPS
    ]
    found: list[DataFacts] = list(facts({split: recordings}))
    return [fact.model_dump() for fact in found]


class TestUnseen:
    """Whether a model was made with a set."""

    @pytest.mark.parametrize("split", ["train", "validation", "calibration"])
    @pytest.mark.parametrize("corpus", ["", "mine"])
    def test_what_it_was_made_with_is_refused(
        self, split: str, corpus: str, made: GoldenSet, source: Path
    ) -> None:
        """Training's digest of the same clips is the same, whether the set names the corpus."""
        named = made.manifest.model_copy(
            update={
                "clips": tuple(
                    clip.model_copy(update={"corpus": corpus}) for clip in made.manifest.clips
                )
            }
        )
        opened = GoldenSet(made.folder, named, made.digest)
        with pytest.raises(GoldenError, match=f"of mine that stable was made with.* split {split}"):
            require_unseen(opened, "stable", data(source, split, "mine"))

    def test_what_it_was_measured_on_only_is_not(self, made: GoldenSet, source: Path) -> None:
        """The test split chooses nothing."""
        notes = require_unseen(made, "stable", data(source, "test", "mine"))
        assert notes == [
            "What stable was trained on isn't recorded, so nothing of it could be compared."
        ]

    def test_what_cannot_be_checked_is_said(self, made: GoldenSet, source: Path) -> None:
        """A part of a corpus has another digest."""
        clips = tuple(clip.model_copy(update={"corpus": "mine"}) for clip in made.manifest.clips)
        part = made.manifest.model_copy(update={"clips": clips[1:]})
        opened = GoldenSet(made.folder, part, made.digest)
        (note,) = require_unseen(opened, "stable", data(source, "train", "mine"))
        assert "clips of mine" in note
        assert "cannot be checked" in note
        (note,) = require_unseen(
            GoldenSet(
                made.folder,
                made.manifest.model_copy(update={"clips": made.manifest.clips[1:]}),
                made.digest,
            ),
            "stable",
            data(source, "train", "mine"),
        )
        assert "For 3 clips of the golden set no corpus is named" in note

    def test_the_same_bytes_in_a_folder_are_found(
        self, made: GoldenSet, source: Path, tmp_path: Path
    ) -> None:
        """Under another name too; others are counted."""
        others = tmp_path / "others"
        others.mkdir()
        (others / "a.wav").write_bytes(encoded(speech_like(0.5, 9)))
        assert require_apart(made, others) == 1
        (others / "b.wav").write_bytes((source / "sad" / "ann" / "1.wav").read_bytes())
        with pytest.raises(GoldenError, match=r"sad/ann/1\.wav of the golden set is .*b\.wav"):
            require_apart(made, others)
        (tmp_path / "none").mkdir()
        with pytest.raises(GoldenError, match="has no recordings"):
            require_apart(made, tmp_path / "none")
