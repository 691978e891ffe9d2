"""The average of the weights over the steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments, Wav2Vec2Config
from transformers import Wav2Vec2ForSequenceClassification as Model

from training.average import Average

CONTROL = TrainerControl()


@pytest.fixture
def model() -> Model:
    """As small as they come; its front end is frozen."""
    made = Model(
        Wav2Vec2Config(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            conv_dim=(4,),
            conv_kernel=(10,),
            conv_stride=(5,),
            num_conv_pos_embeddings=2,
            num_conv_pos_embedding_groups=1,
        )
    )
    made.freeze_feature_encoder()
    return made


def _steps(average: Average, model: Model, arguments: TrainingArguments, *values: float) -> None:
    state = TrainerState()
    average.on_train_begin(arguments, state, CONTROL)
    for step, value in enumerate(values, 1):
        state.global_step = step
        torch.nn.init.constant_(model.classifier.bias, value)
        average.on_step_end(arguments, state, CONTROL)
    (Path(arguments.output_dir or "") / f"checkpoint-{state.global_step}").mkdir()
    average.on_save(arguments, state, CONTROL)


def test_it_follows_the_weights(model: Model, tmp_path: Path) -> None:
    """Quickly in the first steps, so that the start is forgotten, then at its decay."""
    torch.nn.init.constant_(model.classifier.bias, 0.0)
    average = Average(model, 0.25)
    _steps(average, model, TrainingArguments(output_dir=str(tmp_path)), 1.0, 2.0)
    first = 1 * (1 - 2 / 11)  # (1 + 1) / (10 + 1) is below the decay
    second = first * 0.25 + 2 * 0.75
    with average.in_place():
        assert model.classifier.bias.mean().item() == pytest.approx(second)
    assert model.classifier.bias.mean().item() == 2.0
    average.keep()
    assert model.classifier.bias.mean().item() == pytest.approx(second)


def test_a_resumed_average_goes_on(model: Model, tmp_path: Path) -> None:
    """From the checkpoint's, not from the weights."""
    arguments = TrainingArguments(output_dir=str(tmp_path))
    average = Average(model, 0.9)
    _steps(average, model, arguments, 1.0, 5.0)
    with average.in_place():
        expected = model.classifier.bias.mean().item()
    assert expected != 5.0
    resumed = Average(model, 0.9)
    resumed.on_train_begin(arguments, TrainerState(global_step=2), CONTROL)
    resumed.keep()
    assert model.classifier.bias.mean().item() == expected


def test_what_is_frozen_is_not_averaged(model: Model, tmp_path: Path) -> None:
    """It is neither kept in memory nor saved twice."""
    average = Average(model, 0.9)
    _steps(average, model, TrainingArguments(output_dir=str(tmp_path)), 1.0)
    file = tmp_path / "checkpoint-1" / "average.safetensors"
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert file.stat().st_size == pytest.approx(4 * trained, abs=4000)
