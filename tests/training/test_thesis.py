"""The thesis's recipe on a wav2vec2-base: what a larger checkpoint needs, at its real size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification, Wav2Vec2Model

from training import config as configuration
from training import pipeline
from training.run import LOG, Run

STEPS = 20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wav2vec2-base (94 M parameters) with random weights."""
    folder = tmp_path_factory.mktemp("base")
    Wav2Vec2Model(Wav2Vec2Config(apply_spec_augment=False)).save_pretrained(folder)
    return folder


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_twenty_steps_of_the_thesis(data: Path, base: Path, tmp_path: Path) -> None:
    """Its rate and accumulation, on small batches: the loss is finite and every weight learns."""
    config = configuration.load(
        "thesis",
        [
            f"model.checkpoint={base}",
            f"training.max_steps={STEPS}",
            "training.batch_size=1",
            "training.accumulation=2",
            # A checkpoint of the base model is a gigabyte.
            "training.keep=last",
            "training.checkpoint_steps=1000",
        ],
    )
    run = Run(config, data, tmp_path / "run")
    pipeline.train(run)
    log = [json.loads(line) for line in (run.folder / LOG).read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert max(line["step"] for line in log) == STEPS
    assert losses
    assert all(0 < loss < 10 for loss in losses)
    before = load_file(base / "model.safetensors")
    after = Wav2Vec2ForSequenceClassification.from_pretrained(run.model).wav2vec2.state_dict()
    for name in ("encoder.layers.0.attention.k_proj.weight", "encoder.layers.11.layer_norm.bias"):
        assert not torch.equal(before[name], after[name])


def test_the_thesis_is_stated_in_full() -> None:
    """What the thesis says of its training is what the configuration says."""
    config = configuration.load("thesis")
    assert (config.windows.window_s, config.training.learning_rate) == (2.0, 3e-5)
    assert (config.training.batch_size, config.training.accumulation) == (32, 4)
    assert (config.training.epochs, config.training.warmup_ratio) == (10, 0.1)
    assert (config.training.keep, config.data.split, config.data.seed) == ("best", "random", 0)
