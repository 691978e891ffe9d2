"""Each kind of source, on folders made on the spot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from service.audio import decode
from tests.support.audio import encoded
from training.config import ConfigError
from training.data_settings import Source
from training.recording import Recording
from training.sources import read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of datasets' own past


def _sound(seed: int) -> bytes:
    noise = 0.1 * np.random.default_rng(seed).standard_normal(800)
    return encoded(noise.astype(np.float32))


def _files(folder: Path, names: Sequence[str]) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_sound(seed))


def _read(root: Path, **settings: Any) -> list[Recording]:  # noqa: ANN401 - as TOML has them
    return read([TypeAdapter(Source).validate_python(settings)], root)


@pytest.mark.parametrize(
    ("kind", "name", "label", "language"),
    [
        ("ravdess", "Actor_02/03-01-06-01-02-01-02.wav", "fearful", "en"),
        ("tess", "OAF_angry/OAF_back_angry.wav", "angry", "en"),
        ("savee", "DC/sa01.wav", "sadness", "en"),
        ("crema-d", "AudioWAV/1001_DFA_HAP_XX.wav", "happiness", "en"),
        ("aesdd", "anger/a01 (1).wav", "anger", "el"),
        ("emo-db", "wav/03a01Fa.wav", "happiness", "de"),
        ("nemo", "samples/EB0_anger_7.wav", "anger", "pl"),
    ],
)
def test_a_published_corpus_is_read_as_it_lies(
    tmp_path: Path, kind: str, name: str, label: str, language: str
) -> None:
    """However deep; what is no audio, or hidden, is no recording."""
    _files(tmp_path / "x", [name])
    (tmp_path / "x" / "readme.txt").write_text("words")
    (tmp_path / "x" / "._03a01Fa.wav").write_bytes(b"a system's own")
    (recording,) = _read(tmp_path, kind=kind, path="x")
    assert (recording.corpus, recording.label, recording.language) == (kind, label, language)
    assert (recording.name, recording.split) == (name, "")
    assert recording.speaker.startswith(f"{kind}_")


def test_songs_of_ravdess_are_left_out(tmp_path: Path) -> None:
    """Its source is of speech."""
    _files(tmp_path, ["03-01-06-01-02-01-12.wav", "03-02-06-01-02-01-12.wav"])
    assert [r.name for r in _read(tmp_path, kind="ravdess", path=".")] == [
        "03-01-06-01-02-01-12.wav"
    ]


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    """Its label cannot be guessed."""
    _files(tmp_path, ["03a01Fa.wav", "noise.wav"])
    with pytest.raises(ConfigError, match=r"noise\.wav is not named as files of emo-db are"):
        _read(tmp_path, kind="emo-db", path=".")


@pytest.mark.parametrize("kind", ["folders", "tess"])
def test_an_empty_or_missing_folder_is_refused(tmp_path: Path, kind: str) -> None:
    """It is a mistyped path."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="No audio files"):
        _read(tmp_path, kind=kind, path="empty")
    with pytest.raises(ConfigError, match="No folder"):
        _read(tmp_path, kind=kind, path="missing")


def test_a_folder_for_each_label(tmp_path: Path) -> None:
    """The folder is the label; names of known corpora say the rest, songs included."""
    names = ["Angry/1002_DFA_ANG_XX.wav", "Sad/03-02-04-01-01-01-01.wav", "Suprised/YAF_dog_ps.wav"]
    _files(tmp_path, [*names, "Happy/mine.wav", "Sad/mine.wav"])
    found = {r.name: r for r in _read(tmp_path, kind="folders", path=".", language="tr")}
    assert found[names[0]].speaker == "crema-d_1002"
    assert (found[names[0]].sex, found[names[0]].sentence) == ("female", "crema-d:DFA")
    assert (found[names[1]].corpus, found[names[1]].label) == ("ravdess", "Sad")
    assert found[names[2]].label == "Suprised"
    mine = found["Happy/mine.wav"]
    assert (mine.corpus, mine.language, mine.sex) == ("unknown", "tr", None)
    assert mine.speaker == found["Sad/mine.wav"].speaker


@pytest.mark.parametrize(("trust", "label"), [("folder", "Angry"), ("name", "disgust")])
def test_a_folder_that_contradicts_its_files_is_refused(
    tmp_path: Path, trust: str, label: str
) -> None:
    """Unless the settings say which of them holds."""
    _files(tmp_path, ["Angry/DC_d01.wav", "Angry/DC_a01.wav"])
    with pytest.raises(ConfigError, match=r"1 files .* another label .*DC_d01.wav, .*trust ="):
        _read(tmp_path, kind="folders", path=".")
    found = {r.name: r.label for r in _read(tmp_path, kind="folders", path=".", trust=trust)}
    assert found["Angry/DC_d01.wav"] == label


def test_a_file_beside_the_folders_is_refused(tmp_path: Path) -> None:
    """It has no label."""
    _files(tmp_path, ["mine.wav"])
    with pytest.raises(ConfigError, match="in no label's folder"):
        _read(tmp_path, kind="folders", path=".")


_COLUMNS = ["path", "corpus", "speaker", "language", "label", "split"]


def _manifest(folder: Path, columns: Sequence[str], *rows: Sequence[str]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def test_a_manifest_says_what_it_says(tmp_path: Path) -> None:
    """Row by row, with the path as the name; what it lacks is read from names of known corpora."""
    _manifest(
        tmp_path,
        _COLUMNS,
        ["a/EB0_anger_7.opus", "nemo", "nemo_EB0", "pl", "angry", "train"],
        ["a/EB0_anger_8.opus", "mine", "somebody", "pl", "angry", "test"],
    )
    known, other = _read(tmp_path, kind="manifest", path=".")
    assert (known.name, known.split) == ("a/EB0_anger_7.opus", "train")
    assert (known.sentence, known.sex) == ("nemo:07", "female")
    assert (other.sentence, other.sex, other.split) == (None, None, "test")


def test_a_manifest_may_tell_sentence_and_sex(tmp_path: Path) -> None:
    """What it tells goes before what a name says."""
    _manifest(
        tmp_path,
        [*_COLUMNS, "sentence", "sex"],
        ["EB0_anger_7.opus", "nemo", "s", "pl", "angry", "train", "hello", "M"],
        ["EB0_anger_8.opus", "nemo", "s", "pl", "angry", "train", "", ""],
    )
    told, left = _read(tmp_path, kind="manifest", path=".")
    assert (told.sentence, told.sex) == ("hello", "male")
    assert (left.sentence, left.sex) == ("nemo:08", "female")


@pytest.mark.parametrize(
    ("columns", "row", "sentence"),
    [
        (["path"], ["x.wav"], "manifest.csv:2: no column 'corpus'"),
        ([*_COLUMNS, "sex"], ["x", "c", "s", "en", "sad", "train", "yes"], "2: sex is 'yes'"),
        (_COLUMNS, ["x.wav", "c", "s"], "manifest.csv:2: the line has too few cells"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tmp_path: Path, columns: list[str], row: list[str], sentence: str
) -> None:
    """With its line and what is wrong there."""
    _manifest(tmp_path, columns, row)
    with pytest.raises(ConfigError, match=sentence):
        _read(tmp_path, kind="manifest", path=".")


def test_a_manifest_may_be_as_excel_writes_it(tmp_path: Path) -> None:
    """In UTF-8 with a mark before it; another encoding is refused."""
    row = ["x.wav", "c", "José", "es", "sad", "train"]
    text = f"{','.join(_COLUMNS)}\n{','.join(row)}\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8-sig")
    [recording] = _read(tmp_path, kind="manifest", path=".")
    assert (recording.name, recording.speaker) == ("x.wav", "José")
    (tmp_path / "manifest.csv").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"manifest\.csv isn't in UTF-8"):
        _read(tmp_path, kind="manifest", path=".")


def test_no_manifest_or_an_empty_one_is_refused(tmp_path: Path) -> None:
    """The message names the option to give the folder with."""
    with pytest.raises(ConfigError, match="--data"):
        _read(tmp_path, kind="manifest")
    _manifest(tmp_path, _COLUMNS)
    with pytest.raises(ConfigError, match="lists no recordings"):
        _read(tmp_path, kind="manifest", path=".")


def _table(file: Path, **columns: list[Any]) -> None:
    clips = len(columns["label"])
    audio = [{"bytes": _sound(seed), "path": f"EB0_anger_{seed}.wav"} for seed in range(clips)]
    features = datasets.Features(
        {
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.ClassLabel(names=["happy", "sad"]),
            **{
                name: datasets.Value("string") for name in columns if name not in {"audio", "label"}
            },
        }
    )
    file.parent.mkdir(exist_ok=True)
    table = datasets.Dataset.from_dict({"audio": audio, **columns}, features)
    # Cast afterwards: made as audio, the cells would be encoded, and that needs torchcodec.
    table.cast_column("audio", datasets.Audio()).to_parquet(file)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `datasets` keeps what it has read."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    return tmp_path / "hub-cache"


@pytest.mark.usefixtures("hub_cache")
def test_a_data_set_of_tables(tmp_path: Path) -> None:
    """Audio in the cells becomes files that the project's decoder reads; class names are labels."""
    columns: dict[str, list[Any]] = {
        "label": [0, 1],
        "who": ["EB0", "WR0"],
        "says": ["hi", "ho"],
        "is": ["female", "male"],
    }
    _table(tmp_path / "set" / "train.parquet", **columns)
    _table(tmp_path / "set" / "validation.parquet", **columns)
    names = {"speaker": "who", "sentence": "says", "sex": "is"}
    settings = {"kind": "hub", "path": "set", "corpus": "nemo", "columns": names}
    found = _read(tmp_path, **settings)
    assert [(r.label, r.split) for r in found] == [
        ("happy", "train"),
        ("sad", "train"),
        ("happy", "validation"),
        ("sad", "validation"),
    ]
    assert (found[1].speaker, found[1].sentence, found[1].sex) == ("nemo_WR0", "ho", "male")
    assert found[1].name == "nemo/train/000001"
    assert found[1].path.read_bytes() == _sound(1)
    assert decode(found[1].path.read_bytes()).samples.size == 800
    assert _read(tmp_path, **settings) == found


@pytest.mark.usefixtures("hub_cache")
def test_what_a_table_lacks_its_file_names_may_say(tmp_path: Path) -> None:
    """Where they are those of the corpus; otherwise all clips have one speaker between them."""
    _table(tmp_path / "set" / "train.parquet", label=[0, 1])
    known = _read(tmp_path, kind="hub", path="set", corpus="nemo")
    assert [(r.speaker, r.sex, r.sentence) for r in known][1] == ("nemo_EB0", "female", "nemo:01")
    other = _read(tmp_path, kind="hub", path="set", corpus="mine")
    assert {r.speaker for r in other} == {"mine_unknown"}


@pytest.mark.usefixtures("hub_cache")
def test_a_table_may_name_files(tmp_path: Path) -> None:
    """Recordings that are files already stay where they are."""
    _files(tmp_path, ["EB0_anger_1.wav"])
    here = tmp_path / "EB0_anger_1.wav"
    _table(
        tmp_path / "set" / "train.parquet", label=[0], audio=[{"bytes": None, "path": str(here)}]
    )
    (found,) = _read(tmp_path, kind="hub", path="set", corpus="nemo")
    assert found.path == here


@pytest.mark.usefixtures("hub_cache")
def test_a_row_without_audio_is_refused(tmp_path: Path) -> None:
    """By its name."""
    _table(tmp_path / "set" / "train.parquet", label=[0], audio=[{"bytes": None, "path": None}])
    with pytest.raises(ConfigError, match="nemo/train/000000 has neither audio"):
        _read(tmp_path, kind="hub", path="set", corpus="nemo")


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("cell", [-1, None])
def test_a_row_without_a_label_is_refused(tmp_path: Path, cell: int | None) -> None:
    """A label that is kept from us is no class, and neither is none."""
    _table(tmp_path / "set" / "train.parquet", label=[0, cell])
    with pytest.raises(ConfigError, match=r"nemo/train/000001 has no label .*without such rows"):
        _read(tmp_path, kind="hub", path="set", corpus="nemo")


@pytest.mark.usefixtures("hub_cache")
def test_a_missing_column_is_named_beside_those_there_are(tmp_path: Path) -> None:
    """So that the settings can be mended without opening the table."""
    _table(tmp_path / "set" / "train.parquet", label=[0])
    with pytest.raises(ConfigError, match=r"no column 'who' for speaker; .* audio, label"):
        _read(tmp_path, kind="hub", path="set", corpus="x", columns={"speaker": "who"})


@pytest.mark.usefixtures("hub_cache")
def test_a_mistyped_folder_is_no_hub_s(tmp_path: Path) -> None:
    """Nothing is fetched unless it is asked for."""
    with pytest.raises(ConfigError, match=r"No folder .*nemo; .* its `id`"):
        _read(tmp_path, kind="hub", path="nemo", corpus="x")
    (tmp_path / "nemo").mkdir()
    with pytest.raises(ConfigError, match="cannot be read as a data set"):
        _read(tmp_path, kind="hub", path="nemo", corpus="x")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "tape", "path": "x"}, "tag 'tape'"),
        ({"kind": "hub", "corpus": "x"}, "either path"),
        ({"kind": "hub", "corpus": "x", "path": "y", "id": "z"}, "either path"),
        ({"kind": "tess", "path": "x", "speed": 2}, "Extra inputs"),
    ],
)
def test_a_source_that_cannot_be_is_refused(settings: dict[str, Any], sentence: str) -> None:
    """When the configuration is read, before anything is opened."""
    with pytest.raises(ValidationError, match=sentence):
        TypeAdapter(Source).validate_python(settings)


def test_a_source_can_be_put_into_one_split(tmp_path: Path) -> None:
    """Whatever it says itself."""
    _files(tmp_path, ["03a01Fa.wav"])
    (recording,) = _read(tmp_path, kind="emo-db", path=".", split="test")
    assert recording.split == "test"


def test_two_sources_may_not_share_a_name(tmp_path: Path) -> None:
    """A name stands for one clip in reports, and seeds its augmentation."""
    _files(tmp_path, ["a/03a01Fa.wav", "b/03a01Fa.wav"])
    settings = [{"kind": "emo-db", "path": path} for path in ("a", "b")]
    sources = TypeAdapter(list[Source]).validate_python(settings)
    with pytest.raises(ConfigError, match=r"both called 03a01Fa\.wav"):
        read(sources, tmp_path)
