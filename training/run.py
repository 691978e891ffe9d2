"""The folder of a run: what lies where, and that it belongs to one configuration and one data."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from service.bundle import DataFacts
from training import data, digests, launch
from training.config import Config, ConfigError
from training.data import Recording

LOG = "log.jsonl"
METRICS = "metrics.json"
MLFLOW_RUN = "mlflow.json"
"""Which MLflow run the stages report to."""
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"

CHOICES = ("development", "left-out")
"""Splits made for choosing between configurations."""
NOT_TRAINED = {"bundle", "evaluation"}
"""Sections of the configuration that may change after the training."""


@dataclass(frozen=True)
class Run:
    """A configuration, its data, and the folder where the stages leave what they make."""

    config: Config
    root: Path
    """Folder with the recordings, noise/ and the checkpoint's folder."""
    folder: Path

    @property
    def claim(self) -> Path:
        """What is trained here, on what: written before the training, and held to ever after."""
        return self.folder / "run.json"

    @property
    def model(self) -> Path:
        """The trained weights, float32, as transformers saves them."""
        return self.folder / "model"

    @property
    def draft(self) -> Path:
        """The bundle to be: its weights are the ones measured, its figures are still missing."""
        return self.folder / "draft"

    @property
    def scores(self) -> Path:
        """What the draft said of every clip that was measured."""
        return self.folder / "scores"

    @property
    def cache(self) -> Path:
        """Prepared recordings, which runs share."""
        return self.folder.parent / "cache"

    @cached_property
    def sets(self) -> dict[str, list[Recording]]:
        """Recordings by split; those that have none are left out.

        Raises:
            ConfigError: they cannot be used.
        """
        recordings = data.load(self.config.data, self.root)
        most = self.config.training.max_clips
        sets = {split: data.thin(recordings, split, most) for split in data.SPLITS}
        return {split: members for split, members in sets.items() if members}

    @property
    def watched(self) -> str:
        """The set that is looked at while choosing and calibrating; see `measured`.

        Raises:
            ConfigError: there is none.
        """
        for split in (*CHOICES, "validation"):
            if split in self.sets:
                return split
        raise ConfigError(
            'There is nothing to measure on: with [data] split = "speakers" there is.'
        )

    def measured(self, *, test: bool) -> list[str]:
        """The sets that an evaluation measures.

        A configuration that keeps speakers or corpora of `train` for choices isn't measured on
        `validation`, which would no longer be a set that nothing was chosen on.
        """
        choices = [split for split in CHOICES if split in self.sets] or [self.watched]
        return [*choices, *(["test"] if test and "test" in self.sets else [])]

    @cached_property
    def facts(self) -> list[DataFacts]:
        """What each corpus gave to each set, with a digest of it."""
        return list(digests.facts(self.sets))

    def take(self, *, replace: bool) -> None:
        """Tie the folder to what is trained there, so that no checkpoint of another is resumed.

        Args:
            replace: whether what another configuration left may be removed.

        Raises:
            ConfigError: it holds another run, which may not be removed.
        """
        if self.claim.is_file() and not self._is_ours():
            if not replace:
                raise ConfigError(
                    f"{self.folder} holds a run of another configuration or of other data; "
                    "give another --run, or --replace to remove it."
                )
            self._clear()
        if launch.is_first():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.claim.write_text(self._claimed, encoding="utf-8")

    def need(self, made: Path, stage: str) -> None:
        """Refuse to go on without what an earlier stage makes of the same configuration and data.

        Raises:
            ConfigError: `made` isn't there, or is of another run.
        """
        if not (self.claim.is_file() and made.exists()):
            raise ConfigError(
                f"No {made.name} in {self.folder}: `python -m training {stage}` comes first."
            )
        if not self._is_ours():
            raise ConfigError(
                f"{self.folder} holds a run of another configuration or of other data; "
                "give the one it was trained with, or train again."
            )

    @cached_property
    def _claimed(self) -> str:
        settings = self.config.model_dump(mode="json", exclude=NOT_TRAINED)
        trained_on = {fact.name: fact.sha256 for fact in self.facts if fact.split == "train"}
        return json.dumps({"config": settings, "training_data": trained_on}, indent=2)

    def _is_ours(self) -> bool:
        return self.claim.read_text(encoding="utf-8") == self._claimed

    def _clear(self) -> None:
        """Remove what was trained and measured; the bundle may be in use, and says what it is."""
        for folder in (self.folder / CHECKPOINTS, self.model, self.draft, self.scores):
            shutil.rmtree(folder, ignore_errors=True)
        for name in (LOG, METRICS, MLFLOW_RUN, EVALUATION):
            (self.folder / name).unlink(missing_ok=True)
