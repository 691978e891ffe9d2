"""Which sets are measured: the test split is for what ships, and choices have sets of their own."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from training import pipeline
from training.config import Config, ConfigError, Identity, Model
from training.data_settings import Data
from training.run import Run

CONFIG = Config(
    bundle=Identity(name="made-here", version="1.2.3", licence="For tests only"),
    model=Model(checkpoint="checkpoint"),
)
CHOICES = {
    "development": Data(development_speakers=("two",)),
    "left-out": Data(left_out_corpora=("corpus-two",)),
}


def _run(data: Path, folder: Path, settings: Data) -> Run:
    return Run(CONFIG.model_copy(update={"data": settings}), data, folder / "run")


@pytest.fixture
def untested(data: Path, tmp_path: Path) -> Path:
    """The recordings without those of the test split."""
    root = tmp_path / "untested"
    shutil.copytree(data, root)
    manifest = root / "speech" / "manifest.csv"
    with manifest.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[-1] != "test"]
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def test_what_ships_is_measured_on_validation_and_test(data: Path, tmp_path: Path) -> None:
    """The latter when asked for."""
    run = _run(data, tmp_path, Data())
    assert run.measured(test=False) == ["validation"]
    assert run.measured(test=True) == ["validation", "test"]


@pytest.mark.parametrize("split", CHOICES)
def test_what_keeps_a_set_for_choices_is_not_measured_on_test(
    data: Path, tmp_path: Path, split: str
) -> None:
    """Else the test split would be looked at for every choice."""
    run = _run(data, tmp_path, CHOICES[split])
    assert run.measured(test=False) == [split]
    with pytest.raises(ConfigError, match=f"keeps a {split} set .* leave out --test"):
        run.measured(test=True)


def test_a_test_split_that_is_not_there_is_missed(untested: Path, tmp_path: Path) -> None:
    """Asked for and not there is no silence."""
    run = _run(untested, tmp_path, Data())
    assert run.measured(test=False) == ["validation"]
    with pytest.raises(ConfigError, match="no test split: leave out --test"):
        run.measured(test=True)


def test_it_is_refused_before_the_training(data: Path, tmp_path: Path) -> None:
    """And before a recording is heard."""
    run = _run(data, tmp_path, CHOICES["development"])
    with pytest.raises(ConfigError, match="leave out --test"):
        pipeline.make_bundle(run, test=True)
    assert not run.folder.exists()
    assert not run.cache.exists()
