"""One model teaches another, on recordings made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from transformers import AutoConfig, AutoModel

from training import model as models
from training import pipeline
from training.config import (
    Augmentation,
    Config,
    ConfigError,
    Identity,
    Model,
    Probe,
    Teaching,
    Training,
    Windows,
)
from training.data import prepare
from training.recording import LABELS
from training.run import Run
from training.teachers import Probed, gather
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
def test_without_epochs_there_may_be_steps(teacher: Run) -> None:
    """They are in place of the epochs, however many those are."""
    run = _run(teacher.folder.parent / "steps", teacher.root, epochs=0, max_steps=2)
    pipeline.train(run)
    lines = (run.folder / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2


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


def test_without_probes_nothing_fitted_is_kept(teacher: Run, tmp_path: Path) -> None:
    """Models that are trained already are where they are."""
    clips = prepare(teacher.sets["train"], teacher.cache)
    teaching = Teaching(teachers=(str(teacher.model),))
    (found,) = gather(
        teacher.config.model_copy(update={"teaching": teaching}),
        clips,
        np.full(len(clips), 1 / len(clips)),
        root=teacher.root,
        kept=tmp_path / "kept",
        device=torch.device("cpu"),
    )
    assert found(torch.zeros(1, 16_000)).shape == (1, len(LABELS))
    assert not (tmp_path / "kept").exists()


def test_somebody_has_to_teach() -> None:
    """A section that names nobody is a slip."""
    with pytest.raises(ValidationError, match="name a model in teachers, or a checkpoint in prob"):
        Teaching()


PROBE = Probe(checkpoint="checkpoint", layers=(0, 1), strength=1.0)


class TestProbed:
    """A frozen encoder that teaches by what a probe of it learned."""

    @pytest.fixture
    def clips(self, teacher: Run) -> datasets.Dataset:
        """Of training."""
        return prepare(teacher.sets["train"], teacher.cache)

    @pytest.fixture
    def batch(self, teacher: Run, clips: datasets.Dataset) -> torch.Tensor:
        """The middle window of each."""
        windows = CentredWindows(clips, teacher.config.windows.spec)
        return torch.from_numpy(np.stack([windows[i]["input_values"] for i in range(len(windows))]))

    def test_it_has_learned_the_clips(
        self, teacher: Run, clips: datasets.Dataset, batch: torch.Tensor, tmp_path: Path
    ) -> None:
        """As the probe does that a model starts from."""
        said = _gathered(teacher, clips, tmp_path, PROBE)(batch)
        assert np.mean(said.argmax(dim=1).numpy() == np.array(clips["label"])) > 0.5

    def test_layers_stand_side_by_side(
        self, data: Path, tmp_path: Path, batch: torch.Tensor
    ) -> None:
        """The head weighs the mean over time of each; others above them change nothing."""
        configuration = AutoConfig.from_pretrained(data / "checkpoint", num_hidden_layers=3)
        AutoModel.from_config(configuration).save_pretrained(tmp_path / "deep")
        probe = Probed(Probe(checkpoint=str(tmp_path / "deep"), layers=(2, 0)), data)
        whole = AutoModel.from_pretrained(tmp_path / "deep").eval()
        with torch.no_grad():
            said = probe(batch[:1])
            heard = whole(batch[:1], output_hidden_states=True).hidden_states
        expected = probe.head(torch.cat([heard[2].mean(dim=1), heard[0].mean(dim=1)], dim=1))
        assert torch.allclose(said, expected, atol=1e-5)

    def test_layers_that_are_not_there_are_refused(self, data: Path) -> None:
        """The message says how many there are."""
        Probed(PROBE, data)
        with pytest.raises(ConfigError, match="checkpoint has layers 1 to 1, no layer 2"):
            Probed(PROBE.model_copy(update={"layers": (0, 2)}), data)

    def test_it_does_not_teach_at_random(self, data: Path, tmp_path: Path) -> None:
        """A checkpoint without all weights is refused."""
        encoder = AutoModel.from_pretrained(data / "checkpoint")
        weights = {k: w for k, w in encoder.state_dict().items() if "layers.0.attention" not in k}
        encoder.save_pretrained(tmp_path / "half", state_dict=weights)
        with pytest.raises(ConfigError, match=r"half has no encoder\.layers\.0\.attention"):
            Probed(PROBE.model_copy(update={"checkpoint": str(tmp_path / "half")}), data)

    def test_who_resumes_has_the_same_teachers(
        self,
        teacher: Run,
        clips: datasets.Dataset,
        batch: torch.Tensor,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """They are fitted once, and kept."""
        first = _gathered(teacher, clips, tmp_path, PROBE)(batch)
        monkeypatch.setattr(Probed, "fit", lambda *_, **__: pytest.fail("fitted again"))
        assert torch.equal(_gathered(teacher, clips, tmp_path, PROBE)(batch), first)

    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_a_model_learns_from_it(
        self, teacher: Run, clips: datasets.Dataset, batch: torch.Tensor, tmp_path: Path
    ) -> None:
        """With nothing else to learn from, it comes to say of clips what the probe says."""
        # The model has a head on the last layer only, so that it could say the same.
        probe = Probe(checkpoint="checkpoint", layers=(1,), strength=0.01)
        told = _gathered(teacher, clips, tmp_path, probe)(batch).softmax(dim=1).numpy()
        runs = [
            _run(
                tmp_path / name,
                teacher.root,
                Teaching(probes=(probe,), share=1.0),
                epochs=epochs,
                probe_strength=0,
                head_learning_rate=0.01,
                checkpoint_steps=1000,
            )
            for name, epochs in (("before", 0), ("after", 30))
        ]
        for run in runs:
            pipeline.train(run)
        before, after = (np.abs(_answers(run) - told).mean() for run in runs)
        assert after < before / 2


def _gathered(run: Run, clips: datasets.Dataset, kept: Path, probe: Probe) -> torch.nn.Module:
    (found,) = gather(
        run.config.model_copy(update={"teaching": Teaching(probes=(probe,))}),
        clips,
        np.full(len(clips), 1 / len(clips)),
        root=run.root,
        kept=kept / "kept",
        device=torch.device("cpu"),
    )
    return found
