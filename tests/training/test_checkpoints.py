"""Which checkpoint a training goes on from, and that it ends where it would have ended."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, Trainer

from training import checkpoints, pipeline
from training import train as training
from training.average import Average
from training.config import Augmentation, Config, ConfigError, Identity, Model, Training, Windows
from training.launch import ENDED
from training.run import LOG, Run

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SETTINGS = Training(
    max_steps=8,
    batch_size=4,
    probe_strength=0,
    checkpoint_steps=2,
    precision="fp32",
    keep="average",
)
STEPS_AN_EPOCH = 3
STUCK = SETTINGS.model_copy(
    update={
        "max_steps": 20,
        "learning_rate": 1e-12,
        "head_learning_rate": 1e-12,
        "keep": "last",
        "patience": 3,
    }
)
"""It learns nothing, so its accuracy is the best at step 2, and three times no better at 8."""
QUIET = Augmentation(
    speed_probability=0,
    pitch_probability=0,
    room_probability=0,
    telephone_probability=0,
    low_pass_probability=0,
    codec_probability=0,
)


class Killed(Exception):
    """Stands for a kill."""


def of(settings: Training, data: Path, folder: Path) -> Run:
    """A run of a tiny model with these settings."""
    config = Config(
        bundle=Identity(name="killed", version="0.0.1", licence="For tests only"),
        windows=Windows(window_s=1.0, hop_s=0.5),
        model=Model(checkpoint="checkpoint"),
        training=settings,
        augmentation=QUIET,
    )
    return Run(config, data, folder)


def weights(run: Run) -> dict[str, bytes]:
    """What was trained."""
    tensors = load_file(run.model / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def log(run: Run) -> list[dict[str, float]]:
    """The lines of log.jsonl."""
    return [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]


def evaluated(run: Run) -> list[float]:
    """The steps that log.jsonl has an evaluation of."""
    return [line["step"] for line in log(run) if "eval_accuracy" in line]


def killed_in_step(number: int) -> Callable[..., torch.Tensor]:
    """A training step that is killed, the first being number 1."""
    usual = training._Trainer.training_step
    done: list[bool] = []

    def step(self: Trainer, *args: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        done.append(True)
        if len(done) == number:
            raise Killed
        return usual(self, *args, **options)

    return step


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that wasn't killed."""
    run = of(SETTINGS, data, tmp_path_factory.mktemp("runs") / "whole")
    pipeline.train(run)
    return run


def test_a_half_written_checkpoint_is_not_gone_on_from(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the average was beside its weights, it goes on from the one before."""
    usual = Average.on_save

    def save(self: Average, args: Any, state: Any, control: Any, **_: object) -> None:  # noqa: ANN401
        if state.global_step == 4:
            raise Killed
        usual(self, args, state, control)

    run = of(SETTINGS, whole.root, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Average, "on_save", save)
        with pytest.raises(Killed):
            pipeline.train(run)
    folder = run.folder / "checkpoints"
    assert (folder / "checkpoint-4" / "trainer_state.json").is_file()
    assert checkpoints.newest(folder) == folder / "checkpoint-2"
    assert not (folder / "checkpoint-4").exists()
    pipeline.train(run)
    assert weights(run) == weights(whole)


def test_a_half_removed_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    """Its list has a file that isn't there any more."""
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").touch()
        (folder / checkpoints.COMPLETE).write_text("weights\n")
    assert checkpoints.newest(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / "weights").unlink()
    assert checkpoints.newest(tmp_path) == tmp_path / "checkpoint-2"


def test_no_folder_has_no_checkpoint(tmp_path: Path) -> None:
    """A training that begins finds nothing to go on from."""
    assert checkpoints.newest(tmp_path / "checkpoints") is None


def test_a_training_killed_after_its_last_step_does_no_other(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves, and what it logs, is what it would have left."""
    run = of(SETTINGS, whole.root, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", refuses_the_result(run))
        with pytest.raises(Killed):
            pipeline.train(run)
    assert (run.folder / "checkpoints" / "checkpoint-8").is_dir()
    pipeline.train(run)
    assert weights(run) == weights(whole)
    assert [line["step"] for line in log(run)] == [line["step"] for line in log(whole)]


@pytest.mark.parametrize("step", [1, 4, 8])
def test_a_training_that_is_told_to_end_loses_no_step(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """It saves what it has after any step, between its checkpoints too, and goes on from there."""
    run = of(SETTINGS, whole.root, tmp_path / "run")
    told_to_end(run, step, monkeypatch)
    pipeline.train(run)
    assert weights(run) == weights(whole)
    assert evaluated(run) == evaluated(whole)


@pytest.mark.parametrize("step", [STEPS_AN_EPOCH - 1, STEPS_AN_EPOCH, SETTINGS.max_steps])
def test_no_evaluation_is_lost_with_the_epoch(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Told in its last step, or the training's, it evaluates first: it may be the best."""
    by_epoch = SETTINGS.model_copy(update={"checkpoint_steps": None, "keep": "best"})
    expected = of(by_epoch, whole.root, tmp_path / "expected")
    pipeline.train(expected)
    run = of(by_epoch, whole.root, tmp_path / "run")
    told_to_end(run, step, monkeypatch)
    pipeline.train(run)
    assert evaluated(run) == evaluated(expected)
    assert STEPS_AN_EPOCH in evaluated(run)
    assert weights(run) == weights(expected)


def test_a_training_that_is_told_twice_ends_at_once(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step may take longer than anybody waits."""
    run = of(SETTINGS, whole.root, tmp_path / "run")
    with at_once(), monkeypatch.context() as patch:
        patch.setattr(training._Trainer, "training_step", told_to_end_in_step(1, times=2))
        with pytest.raises(SystemExit, match="at once"):
            pipeline.train(run)
    assert checkpoints.newest(run.folder / "checkpoints") is None


def test_two_do_not_train_in_one_folder(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is told so, and leaves what the first is at."""
    run = of(SETTINGS, whole.root, tmp_path / "run")
    usual = training._Trainer.training_step

    def step(self: Trainer, *args: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        with pytest.raises(ConfigError, match="Another process trains in"):
            pipeline.train(of(SETTINGS, run.root, run.folder), replace=True)
        return usual(self, *args, **options)

    monkeypatch.setattr(training._Trainer, "training_step", step)
    pipeline.train(run)
    assert weights(run) == weights(whole)


@contextmanager
def at_once() -> Iterator[None]:
    """End by SIGTERM as the command does, and not with the process of all tests."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("at once"))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def told_to_end(run: Run, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until SIGTERM comes in a step, which is the last then."""
    with at_once(), monkeypatch.context() as patch:
        before = signal.getsignal(signal.SIGTERM)
        patch.setattr(training._Trainer, "training_step", told_to_end_in_step(step))
        with pytest.raises(SystemExit) as raised:
            pipeline.train(run)
        assert signal.getsignal(signal.SIGTERM) is before
    assert raised.value.code == ENDED
    folder = run.folder / "checkpoints"
    assert checkpoints.newest(folder) == folder / f"checkpoint-{step}"


def told_to_end_in_step(number: int, times: int = 1) -> Callable[..., torch.Tensor]:
    """A training step in which SIGTERM comes, the first being number 1."""
    usual = training._Trainer.training_step
    done: list[bool] = []

    def step(self: Trainer, *args: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        done.append(True)
        if len(done) == number:
            for _ in range(times):
                # As Python calls it. A signal itself crashes the process of all tests once a model
                # was exported in it; test_resume sends one to a training's own.
                listener = signal.getsignal(signal.SIGTERM)
                assert callable(listener)
                listener(signal.SIGTERM, None)
        return usual(self, *args, **options)

    return step


def refuses_the_result(run: Run) -> Callable[..., object]:
    """Save checkpoints, but be killed when the model is saved."""
    usual = PreTrainedModel.save_pretrained

    def save(self: PreTrainedModel, folder: str | Path, **options: Any) -> object:  # noqa: ANN401
        if Path(folder) == run.folder / "model.part":
            raise Killed
        return usual(self, folder, **options)

    return save


def test_patience_survives_a_kill(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations before the kill count, each once, and none is logged twice."""
    run = of(STUCK, data, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(training._Trainer, "training_step", killed_in_step(6))
        with pytest.raises(Killed):
            pipeline.train(run)
    assert evaluated(run) == [0, 2, 4]
    pipeline.train(run)
    assert evaluated(run) == [0, 2, 4, 6, 8]


def test_a_patience_that_has_ended_does_not_begin_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when it had ended, before its model was in place, it does no further step."""
    run = of(STUCK, data, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", refuses_the_result(run))
        with pytest.raises(Killed):
            pipeline.train(run)
    pipeline.train(run)
    assert evaluated(run) == [0, 2, 4, 6, 8]
    assert max(line["step"] for line in log(run)) == 8


def test_a_removed_model_is_trained_anew(data: Path, tmp_path: Path) -> None:
    """As DVC removes it when the code has changed: the checkpoints are of the old code."""
    run = of(SETTINGS.model_copy(update={"max_steps": 2}), data, tmp_path / "run")
    pipeline.train(run)
    assert not (run.folder / "checkpoints").exists()
    before = (run.model / "config.json").stat().st_mtime_ns
    pipeline.train(run)
    assert (run.model / "config.json").stat().st_mtime_ns == before
    for file in run.model.iterdir():
        file.unlink()
    run.model.rmdir()
    (run.folder / LOG).unlink()
    pipeline.train(run)
    assert evaluated(run) == [0, 2]
