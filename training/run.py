"""The folder of a run: what lies where, and that all of it comes from the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from service.bundle import DataFacts
from training import data, digests, launch
from training.checkpoints import CHECKPOINTS
from training.config import Config, ConfigError
from training.data import Recording
from training.origins import PROCESSES, origins

LOG = "log.jsonl"
LOCK = "lock"
"""The file that a training holds while it runs; it may lie there afterwards."""
METRICS = "metrics.json"
MLFLOW_RUN = "mlflow.json"
"""Which MLflow run the stages report to."""
EVALUATION = "evaluation.json"
REPORT = "report.html"
FIGURES = "figures"
DATA_REPORT = ("data.json", "data.html")

CHOICES = ("development", "left-out")
"""Splits made for choosing between configurations."""
NOT_TRAINED = {"bundle", "evaluation"}
"""Sections of the configuration that may change after the training."""

NOTHING_TO_TRAIN_ON = (
    "No clips are left to train on: in [data], look at each source's split, at "
    "validation_speakers, development_speakers and left_out_corpora."
)


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
    def measured_data(self) -> Path:
        """Digests of the sets that were measured; an evaluation writes them last."""
        return self.scores / "data.json"

    @property
    def cache(self) -> Path:
        """Prepared recordings, which runs share."""
        return self.folder.parent / "cache"

    @cached_property
    def sets(self) -> dict[str, list[Recording]]:
        """Recordings by split; those that have none are left out.

        Raises:
            ConfigError: they cannot be used, or none is left to train on.
        """
        recordings = data.load(self.config.data, self.root)
        most = self.config.training.max_clips
        sets = {split: data.thin(recordings, split, most) for split in data.SPLITS}
        if not sets["train"]:
            raise ConfigError(NOTHING_TO_TRAIN_ON)
        return {split: members for split, members in sets.items() if members}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody else train in the folder, such as the pod that this one is to replace.

        Whoever has it loses it with its process, however that ends. Of several processes of one
        training it is the first.

        Raises:
            ConfigError: somebody else has it.
        """
        if not launch.is_first():
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"Another process trains in {self.folder}: wait for its end, or give another --run."
            ) from None
        try:
            yield
        finally:
            lock.release()

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

        Raises:
            ConfigError: there is nothing to measure on, or the test split is asked for and isn't
                there, or belongs to the configuration that ships, which keeps nothing for choices.
        """
        choices = [split for split in CHOICES if split in self.sets]
        if test and choices:
            raise ConfigError(
                f"This configuration keeps a {choices[0]} set for choices, and the test split is "
                "for the one that ships: leave out --test, or take development_speakers and "
                "left_out_corpora out of [data] when all is decided."
            )
        if test and "test" not in self.sets:
            raise ConfigError(
                "There is no test split: leave out --test, or give a source of [data] "
                'split = "test".'
            )
        return [*(choices or [self.watched]), *(["test"] if test else [])]

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
        if self.claim.is_file() and self._differs():
            if not replace:
                raise ConfigError(
                    f"{self.folder} holds a run of another configuration, of other data or with "
                    "another number of processes; give another --run, or --replace to remove it."
                )
            self._clear()
        if launch.is_first() and not self.claim.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            half = self.claim.with_suffix(".part")
            half.write_text(json.dumps(self._claimed, indent=2), encoding="utf-8")
            half.replace(self.claim)

    def need(self, made: Path, stage: str) -> None:
        """Refuse to go on without what an earlier stage makes of the same configuration and data.

        Raises:
            ConfigError: `made` isn't there, or is of another run.
        """
        if not (self.claim.is_file() and made.exists()):
            raise ConfigError(
                f"No {made.name} in {self.folder}: `python -m training {stage}` comes first."
            )
        claimed = json.loads(self.claim.read_text(encoding="utf-8"))
        if any(claimed.get(part) != ours for part, ours in self._described.items()):
            raise ConfigError(
                f"{self.folder} holds a run of another configuration or of other data; "
                "give the one it was trained with, or train again."
            )

    def note_measured(self, splits: Iterable[str]) -> None:
        """Write which clips the evaluation is of."""
        digests_of = {split: self._digests(split) for split in splits}
        self.measured_data.write_text(json.dumps(digests_of, indent=2) + "\n", encoding="utf-8")

    def is_measured(self) -> bool:
        """Whether there is a whole evaluation, and its sets have the same clips and labels now."""
        if not self.measured_data.is_file():
            return False
        noted = json.loads(self.measured_data.read_text(encoding="utf-8"))
        return bool(noted == {split: self._digests(split) for split in noted})

    @cached_property
    def _described(self) -> dict[str, object]:
        """What a bundle tells of its weights; the later stages need no more of what was used."""
        return {
            "config": self.config.model_dump(mode="json", exclude=NOT_TRAINED),
            "training_data": self._digests("train"),
            "watched_data": self._digests(self.watched),
        }

    def _digests(self, split: str) -> dict[str, str]:
        """Of each corpus in a split."""
        return {fact.name: fact.sha256 for fact in self.facts if fact.split == split}

    @cached_property
    def _claimed(self) -> dict[str, object]:
        return self._described | origins(self.config.checkpoints, self.root)

    def _differs(self) -> bool:
        """Whether what lies here was begun with something else."""
        claimed = json.loads(self.claim.read_text(encoding="utf-8"))
        ours = dict(self._claimed)
        if self.model.is_dir():  # nothing is left to share between processes
            claimed.pop(PROCESSES, None)
            ours.pop(PROCESSES)
        return bool(claimed != ours)

    def _clear(self) -> None:
        """Remove what was trained and measured; the bundle may be in use, and says what it is."""
        folders = (CHECKPOINTS, FIGURES)
        for folder in (*map(self.folder.joinpath, folders), self.model, self.draft, self.scores):
            shutil.rmtree(folder, ignore_errors=True)
        stale = () if self._data_is_reported() else DATA_REPORT
        for name in (LOG, METRICS, MLFLOW_RUN, EVALUATION, REPORT, *stale):
            (self.folder / name).unlink(missing_ok=True)
        self.claim.unlink(missing_ok=True)

    def _data_is_reported(self) -> bool:
        """Whether the report of the data is of this run's: `prepare` comes before the training."""
        file = self.folder / DATA_REPORT[0]
        if not file.is_file():
            return False
        facts = [fact.model_dump(mode="json") for fact in self.facts]
        return bool(json.loads(file.read_text(encoding="utf-8"))["sets"] == facts)
