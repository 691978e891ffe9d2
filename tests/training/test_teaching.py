"""One model teaches another: what `make model` does, on recordings made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training import model as models
from training import pipeline
from training.config import Augmentation, Config, Identity, Model, Teaching, Training, Windows
from training.data import prepare
from training.recording import LABELS
from training.run import Run
from training.views import CentredWindows

PLAIN = Augmentation.model_validate(
    {"jitter_s": 0.0}
    | {name: 0.0 for name in Augmentation.model_fields if name.endswith("_probability")}
)


def _run(folder: Path, data: Path, teaching: Teaching | None = None, **training: Any) -> Run:  # noqa: ANN401
    config = Config(
        bundle=Identity(name="made-here", version="1.2.3", licence="For tests only"),
        windows=Windows(window_s=1.0, hop_s=0.5),
        model=Model(checkpoint="checkpoint"),
        training=Training(batch_size=4, precision="fp32", **training),
        augmentation=PLAIN,
        teaching=teaching,
    )
    return Run(config, data, folder)


def _answers(run: Run) -> NDArray[np.float32]:
    """Probabilities of the training clips' middle windows, [clips, labels]."""
    windows = CentredWindows(prepare(run.sets["train"], run.cache), run.config.windows.spec)
    batch = torch.from_numpy(np.stack([windows[i]["input_values"] for i in range(len(windows))]))
    with torch.inference_mode():
        answers: NDArray[np.float32] = (
            models.load(str(run.model), run.root)(batch).logits.softmax(dim=1).numpy()
        )
    return answers


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A probe, and nothing else."""
    run = _run(tmp_path_factory.mktemp("runs") / "teacher", data, epochs=0)
    pipeline.train(run)
    return run


def test_without_epochs_the_probe_is_the_model(teacher: Run) -> None:
    """It tells the clips it was fitted on apart, and no step was trained."""
    labels = [recording.label for recording in teacher.sets["train"]]
    told = [LABELS[i] for i in _answers(teacher).argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(labels, told, strict=True)]) > 0.5
    assert not (teacher.folder / "log.jsonl").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_who_is_taught_comes_to_answer_like_the_teacher(teacher: Run) -> None:
    """From a random head, with nothing but the teacher's answers to learn from."""
    untaught = _run(teacher.folder.parent / "untaught", teacher.root, epochs=0, probe_strength=0)
    pipeline.train(untaught)
    teaching = Teaching(teachers=(str(teacher.model),), share=1.0)
    taught = _run(
        teacher.folder.parent / "taught",
        teacher.root,
        teaching,
        epochs=30,
        probe_strength=0,
        head_learning_rate=0.01,
        checkpoint_steps=1000,
    )
    pipeline.train(taught)
    model_answers = _answers(teacher)
    before = np.abs(_answers(untaught) - model_answers).mean()
    after = np.abs(_answers(taught) - model_answers).mean()
    assert after < before / 2
