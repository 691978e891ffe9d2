"""The `data` section of a configuration: where recordings come from and how they are divided.

Apart from config.py because it is a section of sections: one for each kind of source.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.recording import LABELS

SOURCE_LABELS = {
    **{label: label for label in LABELS},
    "anger": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "anxiety": "fearful",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "calm": "",
    "boredom": "",
    "surprise": "",
    "surprised": "",
    "suprised": "",
    "pleasant surprise": "",
}
"""What sources call their labels → one of LABELS, or nothing for those that are left out.

`suprised` is a folder of the Kaggle set "Audio Emotions".
"""

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Source(_Settings):
    split: Literal["train", "validation", "test"] | None = None
    """Put all of it there, whatever the source itself says."""


class Manifest(_Source):
    """A CSV file: path, corpus, speaker, language, label, split; optionally sentence and sex."""

    kind: Literal["manifest"] = "manifest"
    path: str = "speech"
    """The folder of manifest.csv, absolute or in the data root; so for every kind of source."""


class Folders(_Source):
    """A folder for each label, as in the Kaggle set "Audio Emotions"."""

    kind: Literal["folders"]
    path: str
    corpus: str = "unknown"
    """Of files whose names are not those of a known corpus."""
    language: str = ""
    """Of the same files."""
    trust: Literal["folder", "name"] | None = None
    """Which label holds where a file's name says another than its folder; None: refuse."""


class Named(_Source):
    """Files that keep the names their corpus gave them."""

    kind: Literal["ravdess", "tess", "savee", "crema-d", "aesdd", "emo-db", "nemo"]
    path: str


class Columns(_Settings):
    """What the columns of a data set are called; None: there is none."""

    audio: str = "audio"
    label: str = "label"
    speaker: str | None = None
    sentence: str | None = None
    sex: str | None = None


class Hub(_Source):
    """A data set that `datasets.load_dataset` reads: a local one, or one of a hub by its id."""

    kind: Literal["hub"]
    path: str | None = None
    """A folder of Parquet files; either this or `id`."""
    id: str | None = None
    """The data set's id on the hub: nothing is fetched from there unless it is named here."""
    revision: str | None = None
    """Commit or tag of the hub's data set, so that it stays the same."""
    subset: str | None = None
    """The hub's "configuration", where a data set has several."""
    columns: Columns = Columns()
    corpus: str
    language: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.id is None):
            raise ValueError("give either path (a local folder) or id (a data set of a hub)")
        return self


Source: TypeAlias = Annotated[Manifest | Folders | Named | Hub, Field(discriminator="kind")]


class Data(_Settings):
    """Which recordings, called what, divided how."""

    sources: tuple[Source, ...] = (Manifest(),)
    labels: dict[str, str] = {}
    """Source label → one of LABELS, or "" to leave its clips out; added to SOURCE_LABELS."""
    drop: tuple[Literal["angry", "disgusted", "fearful", "happy", "neutral", "sad"], ...] = ()
    """Classes to leave out, whatever they are called in a source."""
    split: Literal["given", "random", "speakers"] = "given"
    """given: as the sources say. random: clips at random; a speaker is on both sides, so figures
    flatter. speakers: no speaker is on both sides. The last two leave `test` as it is."""
    validation_share: Share = 0.2
    """Of the clips (random), or of each corpus's speakers (speakers)."""
    seed: int = 0
    """Of the division."""
    validation_speakers: tuple[str, ...] = ()
    """With split = "speakers": these and no others, instead of a share."""
    development_speakers: tuple[str, ...] = ()
    """Speakers of train that are kept for choices: epochs, layers, settings."""
    left_out_corpora: tuple[str, ...] = ()
    """Corpora whose training clips are kept for choices, and whose other clips are left out."""

    @model_validator(mode="after")
    def _known_labels(self) -> Self:
        if unknown := sorted(set(self.labels.values()) - {"", *LABELS}):
            raise ValueError(f'labels: {unknown[0]!r} is none of {", ".join(LABELS)}, nor ""')
        if self.validation_speakers and self.split != "speakers":
            raise ValueError('validation_speakers need split = "speakers"')
        return self
