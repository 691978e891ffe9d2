"""Which weights learn, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel, PreTrainedModel

from training import model as models
from training.config import ConfigError, Model, Training
from training.model import build, find, load, parameter_groups
from training.probe import Windows, centred, probe, regress
from training.recording import LABELS

OVERRIDES: dict[str, float | int | bool] = {"use_weighted_layer_sum": True}


@pytest.fixture(scope="module")
def data(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the others train from, but of three layers."""
    root = tmp_path_factory.mktemp("deep")
    configuration = AutoConfig.from_pretrained(data / "checkpoint", num_hidden_layers=3)
    AutoModel.from_config(configuration).save_pretrained(root / "checkpoint")
    return root


def _built(data: Path, freeze: str) -> PreTrainedModel:
    settings = Model.model_validate(
        {"checkpoint": "checkpoint", "freeze": freeze, "overrides": OVERRIDES}
    )
    return build(settings, data, square=True)


def _learning(model: PreTrainedModel) -> set[str]:
    """Parts of the encoder that learn."""
    return {
        name.removeprefix("wav2vec2.").removeprefix("encoder.").split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.startswith("wav2vec2")
    }


@pytest.mark.parametrize(
    ("freeze", "learning"),
    [
        ("encoder", set()),
        ("front-end", {"layers", "layer_norm", "masked_spec_embed"}),
        (
            "nothing",
            {
                "feature_extractor",
                "feature_projection",
                "masked_spec_embed",
                "pos_conv_embed",
                "layers",
                "layer_norm",
            },
        ),
    ],
)
def test_what_is_frozen_does_not_learn(data: Path, freeze: str, learning: set[str]) -> None:
    """The head always does."""
    model = _built(data, freeze)
    assert _learning(model) == learning
    learning_head = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"classifier.weight", "projector.weight"} <= learning_head


@pytest.mark.parametrize("freeze", ["nothing", "front-end", "encoder"])
def test_no_gradient_goes_through_what_is_frozen(data: Path, freeze: str) -> None:
    """The front end is dear to go back through: a third of the backward pass."""
    model = _built(data, freeze).train()
    heard = model.base_model.feature_extractor(torch.zeros(1, 16_000))
    assert heard.requires_grad == (freeze == "nothing")


def _parameters(group: dict[str, object]) -> list[torch.nn.Parameter]:
    parameters = group["params"]
    assert isinstance(parameters, list)
    return parameters


def test_a_layer_learns_slower_than_the_one_above(data: Path) -> None:
    """By the decay; the front end slower than the lowest, the projector as fast as the highest."""
    model = _built(data, "nothing")
    settings = Training(learning_rate=1.0, layer_decay=0.5, head_learning_rate=7.0)
    groups = parameter_groups(model, settings)
    rates = {id(p): group["lr"] for group in groups for p in _parameters(group)}
    named = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}

    def rate(prefix: str) -> object:
        (found,) = {rate for name, rate in named.items() if name.startswith(prefix)}
        return found

    assert rate("classifier") == rate("layer_weights") == 7.0
    assert rate("projector") == rate("wav2vec2.encoder.layers.2") == 1.0
    assert rate("wav2vec2.encoder.layer_norm") == 1.0
    assert rate("wav2vec2.encoder.layers.1") == 0.5
    assert rate("wav2vec2.encoder.layers.0") == 0.25
    assert rate("wav2vec2.feature_extractor") == rate("wav2vec2.encoder.pos_conv_embed") == 0.125


def test_a_new_head_hears_all_layers_alike(data: Path) -> None:
    """Whatever was in the memory before: the same seed is to give the same model."""
    for junk in (1e30, -1e30):
        # Of their size, and given back: what is not written to has these values.
        left = [torch.full((4,), junk) for _ in range(10_000)]
        del left
        weights = _built(data, "nothing").get_parameter("layer_weights")
        assert weights.tolist() == [0.25] * 4


def test_no_layer_is_dropped_from_the_sum(data: Path) -> None:
    """It would leave a weight without its hidden state."""
    settings = Model(checkpoint="checkpoint", overrides={**OVERRIDES, "layerdrop": 0.9})
    model = build(settings, data, square=True).train()
    assert model(torch.zeros(1, 16_000)).logits.shape == (1, len(LABELS))


def test_biases_and_norms_do_not_decay(data: Path) -> None:
    """Weights with two dimensions do, and nothing is in two groups or in none."""
    model = _built(data, "nothing")
    groups = parameter_groups(model, Training(weight_decay=0.3))
    grouped = [(p, group["weight_decay"]) for group in groups for p in _parameters(group)]
    assert all((parameter.ndim > 1) == (decay == 0.3) for parameter, decay in grouped)
    assert len(grouped) == len(list(model.parameters()))


class _Tones:
    """Windows whose class is their pitch."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = index % len(LABELS)
        phase = np.arange(16_000) * 2 * np.pi * 200 * (label + 1) / 16_000 + index
        return {"input_values": np.sin(phase).astype(np.float32), "labels": label}


def _fit(
    model: torch.nn.Module,
    windows: Windows,
    weights: NDArray[np.float64],
    *,
    speakers: Sequence[str] | None = None,
    centring: float = 0.0,
) -> None:
    """Fit a probe, to one speaker unless told otherwise; stand-ins have what it asks of a model."""
    probe(
        cast("PreTrainedModel", model),
        windows,
        speakers or ["ann"] * len(windows),
        weights,
        batch_size=7,
        strength=1.0,
        centring=centring,
    )


@pytest.mark.parametrize("summed", [False, True])
def test_a_probe_is_where_the_training_starts(data: Path, *, summed: bool) -> None:
    """Its head tells apart what the frozen encoder tells apart, whatever layers it sees."""
    settings = Model(
        checkpoint="checkpoint", overrides={**OVERRIDES, "use_weighted_layer_sum": summed}
    )
    model = build(settings, data, square=True)
    windows = _Tones()
    _fit(model, windows, np.full(60, 1 / 60))
    batch = torch.from_numpy(np.stack([windows[i]["input_values"] for i in range(6)]))
    with torch.inference_mode():
        assert model(batch).logits.argmax(dim=1).tolist() == list(range(6))


def test_a_probe_minds_the_weights(data: Path) -> None:
    """Windows that count for nothing leave their class unlikely."""
    model = _built(data, "encoder")
    weights = np.array([0.0 if i % len(LABELS) == 2 else 1 / 50 for i in range(60)])
    _fit(model, _Tones(), weights)
    batch = torch.from_numpy(np.stack([_Tones()[i]["input_values"] for i in range(60)]))
    with torch.inference_mode():
        assert 2 not in model(batch).logits.argmax(dim=1).tolist()


def test_one_label_alone_is_refused() -> None:
    """There is nothing to tell apart."""
    with pytest.raises(ConfigError, match=r"from are sad.*clips of other labels"):
        regress(np.ones((4, 2), np.float32), np.full(4, LABELS.index("sad")), np.full(4, 0.25), 1.0)


def test_a_trained_model_comes_back_with_its_head(data: Path, tmp_path: Path) -> None:
    """As a teacher it is loaded whole; a checkpoint of other labels is refused."""
    model = _built(data, "encoder")
    model.save_pretrained(tmp_path / "model")
    again = load("model", tmp_path)
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ConfigError, match="has not the labels"):
        load("checkpoint", data)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"hidden_dropuot": 0.1}, "no setting 'hidden_dropuot'"),
        ({"num_hidden_layers": 4}, "no weights for wav2vec2.encoder.layers.3"),
    ],
)
def test_what_would_be_ignored_or_random_is_refused(
    data: Path, overrides: dict[str, float], sentence: str
) -> None:
    """A mistyped setting, and layers that the checkpoint doesn't have."""
    with pytest.raises(ConfigError, match=sentence):
        build(Model(checkpoint="checkpoint", overrides=overrides), data, square=True)


def test_the_head_is_stock_unless_it_starts_as_a_probe(data: Path) -> None:
    """A projector of the size the checkpoint's configuration says."""
    stock = build(Model(checkpoint="checkpoint"), data, square=False)
    assert stock.config.classifier_proj_size == 256
    assert (
        build(Model(checkpoint="checkpoint"), data, square=True).config.classifier_proj_size == 32
    )


def test_a_checkpoint_is_looked_for_in_the_data_and_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order; `tiny.en` is fetched, and a hub's name taken as it is."""
    root, here = tmp_path / "data", tmp_path / "here"
    for folder in (root / "both", here / "both", here / "one"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(models, "fetch", lambda cache: cache / "fetched")
    assert find("both", root) == str(root / "both")
    assert find("one", root) == "one"
    assert find(str(here / "one"), root) == str(here / "one")
    assert find("tiny.en", root) == "runs/cache/fetched"
    assert find("hub:someone/model", root) == "someone/model"


def test_a_checkpoint_that_is_not_there_is_named(data: Path) -> None:
    """With how to name one of a hub."""
    with pytest.raises(ConfigError, match="hub:NAME"):
        build(Model(checkpoint="elsewhere"), data, square=True)


class _StandIn(torch.nn.Module):
    """A head, for encoders that are made up."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(use_weighted_layer_sum=False)
        self.device = torch.device("cpu")
        self.projector = torch.nn.Linear(size, size)
        self.classifier = torch.nn.Linear(size, len(LABELS))


class _Coarse(_StandIn):
    """An encoder in bf16 whose channels hardly vary around a large mean, as Whisper's do."""

    def base_model(self, windows: torch.Tensor) -> SimpleNamespace:
        classes = torch.nn.functional.one_hot(windows[:, 0].long(), len(LABELS)).float()
        noise = torch.randn(len(windows), 2000, len(LABELS))
        hidden = 32 + 0.05 * classes[:, None] + 0.2 * noise
        return SimpleNamespace(last_hidden_state=hidden.bfloat16())


class _Classes:
    """Windows that are their class."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_values": np.array([index % 6], np.float32), "labels": index % 6}


def test_centring_moves_speakers_together() -> None:
    """By the share asked for, about the mean of all; what a speaker varies by stays."""
    random = np.random.default_rng(0)
    speakers = np.repeat(["ann", "bob", "cid"], 20)
    offsets = np.repeat([[-3.0], [0.0], [9.0]], 20, axis=0)
    features = (random.standard_normal((60, 4)) + offsets).astype(np.float32)
    weights = random.random(60)

    def means(values: NDArray[np.float32]) -> NDArray[np.float64]:
        of_speakers = zip(np.split(values, 3), np.split(weights, 3), strict=True)
        return np.array([np.average(own, axis=0, weights=w) for own, w in of_speakers])

    before = means(features)
    for share in (0.25, 1.0):
        moved = centred(features, speakers.tolist(), weights, share)
        middle = np.average(features, axis=0, weights=weights)
        assert np.allclose(means(moved), before + share * (middle - before), atol=1e-5)
        assert np.allclose(np.diff(moved[:20], axis=0), np.diff(features[:20], axis=0), atol=1e-5)


class _Open(_StandIn):
    """An encoder that shows emotion and voice as they are, in channels of their own."""

    def base_model(self, windows: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=windows[:, None])


class _Voices:
    """One speaker is mostly angry, the other mostly sad, and their voices differ as well."""

    speakers = ["ann", "bob"] * 240

    def __len__(self) -> int:
        return len(self.speakers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        bob = index % 2
        sad = bob ^ (index % 24 < 2)
        shown = np.random.default_rng(index).normal([sad, 1 - sad, 3.0 * bob])
        return {"input_values": shown.astype(np.float32), "labels": LABELS.index("sad") * sad}


@pytest.mark.parametrize(("centring", "told"), [(0.0, False), (1.0, True)])
def test_a_centred_probe_hears_emotions_not_voices(centring: float, *, told: bool) -> None:
    """Without centring who speaks says more than how: a sad Ann is taken for an angry one."""
    model, windows = _Open(3), _Voices()
    weights = np.full(480, 1 / 480)
    _fit(model, windows, weights, speakers=windows.speakers, centring=centring)
    sad_ann = torch.tensor([[1.0, 0.0, 0.0]])
    with torch.inference_mode():
        [logits] = model.classifier(model.projector(sad_ann))
    assert (LABELS[logits.argmax()] == "sad") == told


def test_a_probe_averages_over_time_in_float32() -> None:
    """In bf16, where numbers near 32 are a quarter apart, the mean of all clips would be one."""
    model = _Coarse(len(LABELS))
    _fit(model, _Classes(), np.full(60, 1 / 60))
    hidden = model.base_model(torch.arange(6.0)[:, None]).last_hidden_state.float().mean(dim=1)
    with torch.inference_mode():
        told = model.classifier(model.projector(hidden)).argmax(dim=1)
    assert told.tolist() == list(range(6))


def test_from_scratch_nothing_of_the_checkpoint_s_weights_is_left(data: Path) -> None:
    """Only its architecture; drawn anew from torch's generator, so a seed gives the same again."""
    settings = Model(checkpoint="checkpoint", from_scratch=True, freeze="nothing")
    stored = dict(AutoModel.from_pretrained(data / "checkpoint").named_parameters())
    made = []
    for _ in range(2):
        torch.manual_seed(1)
        made.append(dict(build(settings, data, square=False).base_model.named_parameters()))
    assert made[0].keys() == stored.keys()
    matrices = [name for name, weight in stored.items() if weight.ndim > 1]
    assert matrices
    for name in matrices:
        assert not torch.equal(made[0][name], stored[name])
        assert torch.equal(made[0][name], made[1][name])
