"""What a baseline is told, how it is chosen, and what its figures count."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModel, WhisperConfig, WhisperModel

from service.domain import SAMPLE_RATE, Samples, WindowSpec
from service.voice import FRAME, VoiceActivity
from service.windows import cut, lay, scored, span
from tests.support.audio import encoded, silence, speech_like
from training.baselines import extraction
from training.baselines.classifiers import NO_SPEECH, Labelled, logistic, majority, weights
from training.baselines.command import baselines
from training.baselines.extraction import Extracted, extract
from training.baselines.features import Features, checkpoint, durations, egemaps, log_mel
from training.baselines.protocol import attempt, figures
from training.config import CONFIGS, ConfigError
from training.data import load, prepare
from training.data_settings import Data
from training.recording import DEVELOPMENT_SPEAKERS

SPEC = WindowSpec(1.0, 0.5)
Hear = Callable[[Samples], tuple[Samples, NDArray[np.bool_]]]


@pytest.fixture(scope="module")
def hear() -> Hear:
    """Samples with their speech frames."""
    voice = VoiceActivity()
    return lambda samples: (samples, voice(samples))


@pytest.fixture(scope="module")
def clips(data: Path, tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    """Five prepared clips, the third of them silent."""
    folder = tmp_path_factory.mktemp("silent")
    recordings = load(Data(), data)[:5]
    recordings[2] = replace(recordings[2], path=folder / "silent.wav")
    recordings[2].path.write_bytes(encoded(silence(2.0)))
    return prepare(recordings, folder / "cache")


def _labelled(labels: list[int], corpora: list[str]) -> Labelled:
    return Labelled(np.array(corpora), np.array(labels))


def _all_spoken(values: NDArray[np.float64]) -> Extracted:
    return Extracted(values.astype(np.float32), np.ones(len(values), np.bool_), 0.0)


class TestFeatures:
    """What an extractor hears."""

    def test_durations_are_of_clip_span_and_speech(self, hear: Hear) -> None:
        """Silence around the speech lengthens the clip, not the span."""
        spoken = speech_like(2.0)
        around = np.concatenate([silence(1.0), spoken, silence(1.5)])
        clip_s, span_s, speech_s = durations().extract(*hear(around))
        assert clip_s == 4.5
        assert 1.5 < speech_s <= span_s < 2.5

    def test_log_mel_statistics_are_of_the_spectrum_and_not_its_level(self, hear: Hear) -> None:
        """A clip at a tenth of the level has the same values; another voice has others."""
        samples, speech = hear(speech_like(1.5))
        features = log_mel()
        loud, quiet = (
            features.extract(samples, speech),
            features.extract(samples / np.float32(10), speech),
        )
        assert loud.shape == (128,)
        assert np.allclose(loud, quiet, atol=1e-3)
        assert not np.allclose(loud, features.extract(*hear(speech_like(1.5, seed=1))), atol=0.1)

    def test_log_mel_statistics_ignore_what_is_around_the_speech(self, hear: Hear) -> None:
        """A click before the span changes nothing."""
        samples, speech = hear(np.concatenate([silence(1.0), speech_like(1.5)]))
        clicked = samples.copy()
        clicked[100] = 1.0
        assert span(speech, FRAME, samples.size)[0] > 100
        features = log_mel()
        assert np.array_equal(features.extract(samples, speech), features.extract(clicked, speech))

    @pytest.mark.needs_opensmile
    def test_egemaps_measures_the_voice(self, hear: Hear) -> None:
        """88 functionals, of which the first, the mean pitch, is the synthesiser's."""
        functionals = egemaps().extract(*hear(speech_like(3.0)))
        assert functionals.shape == (88,)
        assert np.isfinite(functionals).all()
        pitch = 27.5 * 2 ** (functionals[0] / 12)  # semitones above 27.5 Hz
        assert 70 < pitch < 135

    def test_without_opensmile_egemaps_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is an extra, for its licence."""
        monkeypatch.setitem(__import__("sys").modules, "opensmile", None)
        with pytest.raises(ConfigError, match=r"'\.\[baselines\]'"):
            egemaps()

    def test_a_probe_averages_each_layer_over_time_and_windows(
        self, data: Path, hear: Hear
    ) -> None:
        """Windows are those of serving, and weigh by their seconds of speech."""
        samples, speech = hear(np.concatenate([speech_like(1.0), silence(0.6), speech_like(1.0)]))
        windows = scored(lay(speech, FRAME, samples.size, SPEC))
        assert len({window.speech_s for window in windows}) > 1
        model = AutoModel.from_pretrained(data / "checkpoint").eval()
        expected = torch.zeros(2, 32)
        for window in windows:
            batch = torch.from_numpy(cut(samples, window, SPEC)[None])
            with torch.inference_mode():
                states = model(batch, output_hidden_states=True).hidden_states
            means = torch.stack([state[0].mean(dim=0) for state in states])
            expected += means * window.speech_s / sum(each.speech_s for each in windows)
        found = checkpoint("checkpoint", data, SPEC).extract(samples, speech)
        assert np.allclose(found, expected, atol=1e-5)

    def test_a_missing_checkpoint_is_refused(self, tmp_path: Path) -> None:
        """By its path."""
        with pytest.raises(ConfigError, match=r"No checkpoint in .*nowhere"):
            checkpoint("nowhere", tmp_path, SPEC)

    def test_a_whisper_comes_to_hear_samples(self, tmp_path: Path, hear: Hear) -> None:
        """As OpenAI's checkpoints are, which take spectrograms of 30 s."""
        size = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 16}
        heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
        tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
        settings: dict[str, Any] = {**size, **heads, **tokens, "decoder_start_token_id": 0}
        WhisperModel(WhisperConfig(**settings)).save_pretrained(tmp_path)
        probe = checkpoint(str(tmp_path), tmp_path, SPEC)
        layers = [probe.extract(*hear(speech_like(2.0, seed))) for seed in range(2)]
        assert layers[0].shape == (2, 8)
        assert not np.allclose(layers[0], layers[1])

    def test_a_checkpoint_that_lacks_weights_is_refused(self, data: Path, tmp_path: Path) -> None:
        """Its layers would be of random weights, and so would the figures."""
        shutil.copytree(data / "checkpoint", tmp_path / "half")
        weights = load_file(tmp_path / "half" / "model.safetensors")
        kept = {
            name: weight for name, weight in weights.items() if "feature_projection" not in name
        }
        save_file(kept, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=r"half has no feature_projection.*random"):
            checkpoint("half", tmp_path, SPEC)


class TestExtraction:
    """Features on disk."""

    def test_a_clip_without_speech_has_no_features(
        self, clips: datasets.Dataset, tmp_path: Path
    ) -> None:
        """It is marked, and the others keep their order."""
        found = extract(clips, durations(), tmp_path)
        assert found.spoken.tolist() == [True, True, False, True, True]
        assert np.allclose(found.values[:, 0], [1.0, 1.1, 1.3, 1.4])

    def test_a_stopped_extraction_goes_on_where_it_was(
        self, clips: datasets.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To the same features, hearing again only the clips of the block that was not written."""
        monkeypatch.setattr(extraction, "BLOCK", 2)
        heard: list[float] = []
        stops_at = 3

        def listen(samples: Samples, speech: NDArray[np.bool_]) -> NDArray[np.float32]:
            if len(heard) == stops_at:
                raise KeyboardInterrupt
            heard.append(samples.size / SAMPLE_RATE)
            return durations().extract(samples, speech)

        with pytest.raises(KeyboardInterrupt):
            extract(clips, Features("duration", "1", listen), tmp_path)
        stops_at = 100
        resumed = extract(clips, Features("duration", "1", listen), tmp_path)
        assert heard == [1.0, 1.1, 1.3, 1.4]
        whole = extract(clips, durations(), tmp_path / "other")
        assert np.array_equal(resumed.values, whole.values)
        assert np.array_equal(resumed.spoken, whole.spoken)

    def test_another_selection_of_the_clips_hears_none_again(
        self, clips: datasets.Dataset, tmp_path: Path
    ) -> None:
        """A clip is known by its sound, in whatever order and company."""
        whole = extract(clips, durations(), tmp_path)

        refuse = Mock(side_effect=AssertionError)
        found = extract(clips.select([4, 2, 0]), Features("duration", "1", refuse), tmp_path)
        assert np.array_equal(found.values, whole.values[[3, 0]])
        assert found.spoken.tolist() == [True, False, True]

    def test_another_version_of_an_extractor_extracts_anew(
        self, clips: datasets.Dataset, tmp_path: Path
    ) -> None:
        """What the version before left on disk is not taken for it."""
        before = extract(clips, durations(), tmp_path)
        doubled = Features("duration", "2", lambda *clip: 2 * durations().extract(*clip))
        assert np.array_equal(extract(clips, doubled, tmp_path).values, 2 * before.values)

    def test_the_cost_is_remembered(self, clips: datasets.Dataset, tmp_path: Path) -> None:
        """A resumed run tells the processor time of the run that extracted."""
        first = extract(clips, log_mel(), tmp_path)
        assert first.cpu_s > 0
        assert extract(clips, log_mel(), tmp_path).cpu_s == first.cpu_s


class TestProtocol:
    """Choice, fit and figures."""

    def test_corpora_weigh_equally_and_labels_within_them(self) -> None:
        """However many clips they have; a label that a corpus lacks takes no weight."""
        clips = _labelled([0, 0, 0, 1, 0, 1, 2, 2], ["big"] * 4 + ["small"] * 4)
        found = weights(clips)
        assert found.sum() == pytest.approx(8)
        assert found[:4].sum() == pytest.approx(found[4:].sum())
        assert found[:3].sum() == pytest.approx(found[3])
        assert found[6:].sum() == pytest.approx(found[4])

    def test_the_choice_is_made_on_development_speakers(self) -> None:
        """A layer that is right about validation, but not about them, is not taken."""
        random = np.random.default_rng(0)
        labels = np.tile([0, 1], 60)
        told = np.where(labels, 1.0, -1.0)[:, None] + 0.1 * random.standard_normal((120, 2))
        untold = random.standard_normal((120, 2))
        layers = {"train": (told, told), "development": (told, -told), "validation": (untold, told)}
        found = attempt(
            "probe",
            logistic([1, 0]),
            dict.fromkeys(layers, _labelled(labels.tolist(), ["a"] * 120)),
            {split: _all_spoken(np.stack(both, axis=1)) for split, both in layers.items()},
        )
        assert found.chosen.endswith("layer 0")
        assert found.figures["development"]["accuracy"] == 1
        assert found.figures["validation"]["accuracy"] < 0.7

    def test_the_final_fit_is_on_all_training_clips(self) -> None:
        """Only together with the development speakers' clips their label is the most frequent."""
        clips = {"train": [0, 0, 0, 1, 1], "development": [1, 1], "validation": [0, 1, 1]}
        found = attempt(
            "majority",
            majority(),
            {split: _labelled(labels, ["a"] * len(labels)) for split, labels in clips.items()},
            {split: _all_spoken(np.zeros((len(labels), 1))) for split, labels in clips.items()},
        )
        assert found.figures["development"]["accuracy"] == 0
        assert found.figures["validation"]["accuracy"] == round(2 / 3, 4)

    def test_a_clip_without_speech_counts_as_wrong(self) -> None:
        """Its features are missing in the middle; the others' guesses stay in place."""
        spoken = np.array([True, True, False, True, True, True])
        values = np.array([[-1], [1], [1], [-1], [1]], np.float32)
        sets = ("train", "development", "validation")
        found = attempt(
            "duration",
            logistic(),
            dict.fromkeys(sets, _labelled([0, 1, 0, 1, 0, 1], ["a"] * 6)),
            dict.fromkeys(sets, Extracted(values, spoken, 0.0)),
        )
        assert found.figures["development"]["accuracy"] == round(5 / 6, 4)
        assert found.figures["validation"]["accuracy"] == round(5 / 6, 4)

    def test_the_cost_is_of_all_sets(self) -> None:
        """Extraction of each, whichever run paid it, and what this run computed."""
        sets = ("train", "development", "validation")
        extracted = replace(_all_spoken(np.zeros((2, 1))), cpu_s=1.5)
        labels = _labelled([0, 1], ["a"] * 2)
        found = attempt(
            "majority", majority(), dict.fromkeys(sets, labels), dict.fromkeys(sets, extracted)
        )
        assert found.cpu_s["features"] == 4.5
        assert list(found.cpu_s) == ["features", "choice", "fit", "answers"]

    def test_figures_are_over_the_labels_that_are_there(self) -> None:
        """Pooled, by corpus, and as the corpora's mean; small corpora weigh as large ones there."""
        clips = _labelled([0, 0, 1, 1, 2, 2], ["a"] * 4 + ["b"] * 2)
        found = figures(clips, np.array([0, 0, 1, 0, 2, NO_SPEECH]))
        assert found["accuracy"] == round(4 / 6, 4)
        assert found["uar"] == round((1 + 0.5 + 0.5) / 3, 4)
        assert found["per_corpus"]["a"]["macro_f1"] == round((0.8 + 2 / 3) / 2, 4)
        assert found["per_corpus"]["b"] == {
            "clips": 2,
            "accuracy": 0.5,
            "macro_f1": 0.6667,
            "uar": 0.5,
        }
        assert found["mean_macro_f1"] == pytest.approx((0.7333 + 0.6667) / 2, abs=1e-4)


def test_baselines_and_the_lesson_are_chosen_by_the_same_speakers() -> None:
    """distil.toml states them too, since a configuration states what it does."""
    lesson = tomllib.loads((CONFIGS / "distil.toml").read_text())
    assert tuple(lesson["data"]["development_speakers"]) == DEVELOPMENT_SPEAKERS
    (option,) = [option for option in baselines.params if option.name == "speakers"]
    assert option.default == DEVELOPMENT_SPEAKERS


class TestCommand:
    """The command as it is typed."""

    def _run(self, *arguments: str | Path) -> tuple[int, str]:
        result = CliRunner().invoke(baselines, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def test_a_run_tells_what_durations_give_away(self, data: Path, tmp_path: Path) -> None:
        """These recordings' durations follow their labels: far above the majority's sixth."""
        code, output = self._run(
            *("--data", data, "--run", tmp_path, "--development", "two"),
            *("--only", "majority", "--only", "duration", "--only", "log-mel"),
            *("--only", "probe", "--probe", "checkpoint"),
        )
        assert code == 0
        content = json.loads((tmp_path / "baselines.json").read_text())
        assert content["clips"] == {"train": 6, "development": 6, "validation": 12}
        assert content["development_speakers"] == ["two"]
        found = {each["name"]: each["figures"] for each in content["baselines"]}
        assert list(found) == ["majority", "duration", "log-mel", "probe-checkpoint"]
        assert found["majority"]["validation"]["accuracy"] == 0.1667
        assert found["duration"]["validation"]["accuracy"] >= 0.5
        for name, sets in found.items():
            assert list(sets) == ["development", "validation"]
            assert list(sets["validation"]["per_corpus"]) == ["corpus-five", "corpus-three"]
            assert f"│ {name} " in output
            assert f"{sets['validation']['macro_f1']:.3f}" in output

    def test_a_trial_scores_no_strangers(self, data: Path, tmp_path: Path) -> None:
        """Only the development speakers' figures are there."""
        code, _ = self._run(
            *("--data", data, "--run", tmp_path, "--development", "two", "--only", "majority"),
            "--trial",
        )
        assert code == 0
        content = json.loads((tmp_path / "baselines.json").read_text())
        assert list(content["baselines"][0]["figures"]) == ["development"]

    def test_the_test_split_is_scored_when_asked_for(self, data: Path, tmp_path: Path) -> None:
        """Beside validation."""
        code, _ = self._run(
            *("--data", data, "--run", tmp_path, "--development", "two", "--only", "majority"),
            "--test",
        )
        assert code == 0
        content = json.loads((tmp_path / "baselines.json").read_text())
        assert list(content["baselines"][0]["figures"]) == ["development", "validation", "test"]

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (("--trial", "--test"), "exclude each other"),
            (("--only", "probe"), "with --probe"),
            (
                ("--only", "majority", "--development", "nobody"),
                "nobody (development) has no clips",
            ),
            (("--development", "one", "--development", "two"), "No clips in split train"),
            (("--development", "two", "--only", "probe", "--probe", "x"), "No checkpoint in"),
        ],
    )
    def test_wrong_arguments_are_one_sentence(
        self, data: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
    ) -> None:
        """It says what to do."""
        code, output = self._run("--data", data, "--run", tmp_path, *arguments)
        assert code != 0
        assert sentence in " ".join(output.replace("│", " ").split())
        assert "Traceback" not in output
