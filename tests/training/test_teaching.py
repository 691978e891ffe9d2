"""One model teaches another, on recordings made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training import model as models
from training import pipeline
from training.config import (
    Augmentation,
    Config,
    ConfigError,
    Identity,
    Model,
    Teaching,
    Training,
    Windows,
)
from training.data import prepare
from training.data_settings import Data
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


def test_speakers_are_centred_as_far_as_the_configuration_says(teacher: Run) -> None:
    """Of the same clips another head comes out; by no centring, the same again."""
    answers = []
    for share in (0.0, 1.0):
        folder = teacher.folder.parent / f"centred-{share}"
        run = _run(folder, teacher.root, epochs=0, probe_centring=share)
        pipeline.train(run)
        answers.append(_answers(run))
    assert np.array_equal(answers[0], _answers(teacher))
    assert not np.allclose(answers[0], answers[1], atol=1e-3)


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


def _teacher_toml(folder: Path, text: str = "") -> str:
    """A configuration of a teacher, as `teachers` names one that is trained first."""
    file = folder / "mentor.toml"
    file.write_text(
        '[bundle]\nname = "mentor"\nversion = "1.0.0"\nlicence = "For tests only"\n'
        '[model]\ncheckpoint = "checkpoint"\n[training]\nepochs = 0\n' + text
    )
    return f"train:{file}"


@pytest.fixture
def pupil(data: Path, tmp_path: Path) -> Run:
    """A run whose teacher has to be trained, without one of the corpora."""
    teaching = Teaching(teachers=(_teacher_toml(tmp_path),))
    run = _run(tmp_path / "runs" / "pupil", data, teaching, max_steps=3, seed=3, max_clips=5)
    config = run.config.model_copy(update={"data": Data(left_out_corpora=("corpus-two",))})
    return Run(config, data, run.folder)


def test_a_teacher_is_trained_on_what_its_pupil_is_trained_on(pupil: Run) -> None:
    """In a folder beside the pupil's, with the same recordings, windows and seed."""
    pipeline.train(pupil)
    (mentor,) = pupil.teachers.values()
    assert mentor.folder == pupil.folder.parent / "pupil-mentor"
    assert pupil.taught_by == [str(mentor.model)]
    assert mentor.model.is_dir()
    assert {clip.corpus for clip in mentor.sets["train"]} == {"corpus-one"}
    assert mentor.sets == pupil.sets
    assert mentor.config.windows == pupil.config.windows
    assert mentor.config.training.seed == 3
    assert pupil.model.is_dir()


def test_another_teacher_is_another_run(pupil: Run, tmp_path: Path) -> None:
    """What was learned from one isn't taken for what another taught."""
    pipeline.train(pupil)
    _teacher_toml(tmp_path, "probe_strength = 1.0\n")
    again = Run(pupil.config, pupil.root, pupil.folder)
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        pipeline.train(again)
    before = (again.model / "model.safetensors").read_bytes()
    pipeline.train(again, replace=True)
    assert (again.model / "model.safetensors").read_bytes() != before


def test_a_teacher_cannot_be_its_own(pupil: Run, tmp_path: Path) -> None:
    """It would have to be trained before itself."""
    name = _teacher_toml(tmp_path)
    _teacher_toml(tmp_path, f"[teaching]\nteachers = [{name!r}]\n")
    with pytest.raises(ConfigError, match=r"mentor\.toml would be taught by itself"):
        pipeline.train(pupil)


def test_a_teacher_can_have_one_trained_too(pupil: Run, tmp_path: Path) -> None:
    """Each before its pupil, on the same clips."""
    (tmp_path / "first").mkdir()
    first = _teacher_toml(tmp_path / "first")
    _teacher_toml(tmp_path, f"max_steps = 1\n[teaching]\nteachers = [{first!r}]\n")
    text = (tmp_path / "mentor.toml").read_text().replace("epochs = 0", "epochs = 1")
    (tmp_path / "mentor.toml").write_text(text)
    pipeline.train(pupil)
    (mentor,) = pupil.teachers.values()
    (taught_first,) = mentor.teachers.values()
    assert taught_first.folder == pupil.folder.parent / "pupil-mentor-mentor"
    assert taught_first.model.is_dir()
    assert taught_first.sets == pupil.sets


def test_two_teachers_of_one_name_are_refused(pupil: Run, tmp_path: Path) -> None:
    """They would be trained in the same folder, and one of them never heard."""
    (tmp_path / "other").mkdir()
    names = (_teacher_toml(tmp_path), _teacher_toml(tmp_path / "other"))
    config = pupil.config.model_copy(update={"teaching": Teaching(teachers=names)})
    with pytest.raises(ConfigError, match="Two teachers are called mentor; rename one"):
        pipeline.train(Run(config, pupil.root, pupil.folder))
