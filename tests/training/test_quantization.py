"""A reduced precision gets into a bundle by its gate, with a calibration and figures of its own."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as some

from service.bundle import (
    CARD,
    DEFAULT_BUNDLE,
    AudioDraft,
    Bundle,
    GateFacts,
    Lost,
    open_bundle,
    seal,
)
from service.classifier import Classifier, open_classifier
from service.domain import Logits, Samples
from service.runner import Wav2Vec2Runner
from service.runtime import Runtime
from tests.support.audio import encoded, speech_like
from tests.support.models import tiny_model_bundle
from tests.support.scores import drawn
from training.config import ConfigError, Evaluation
from training.data import load
from training.data_settings import Data
from training.digests import facts
from training.evaluation.answers import Answers
from training.quantization import calibration_set, command, gate, int8, paired, reduce
from training.quantization.gate import MAX_LOST, MIN_AGREEMENT, RefusedError
from training.recording import Recording

SETTINGS = Evaluation(resamples=100)
EPSILON = 0.0001

pytestmark = [
    # Of torch's tracer, and of what NNCF and OpenVINO say of each other.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def recordings(data: Path) -> list[Recording]:
    """30 clips, 12 of them of training speakers and 12 of validation's."""
    return load(Data(), data)


@pytest.fixture(scope="module")
def bundle(recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny model that says it was trained and measured on those."""
    made = tiny_model_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    described = {name: getattr(made.manifest, name) for name in AudioDraft.model_fields}
    sets = {split: [r for r in recordings if r.split == split] for split in ("train", "validation")}
    return seal(made.folder, AudioDraft.model_validate({**described, "data": tuple(facts(sets))}))


@pytest.fixture(scope="module")
def let_in(
    bundle: Bundle, recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The same with int8, by a gate that random weights pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "MAX_LOST", 1.0)
        patch.setattr(gate, "MIN_AGREEMENT", 0.0)
        out = tmp_path_factory.mktemp("reduced") / "out"
        return reduce.reduce(bundle, "int8", recordings, out, SETTINGS, windows=8)


def loss(value: float, agreement: float = 1.0) -> GateFacts:
    """What the gate judges, with these figures."""
    lost = Lost(value=value, low=-1.0, high=1.0)
    return GateFacts(
        split="validation", clips=831, macro_f1_lost=lost, agreement=agreement, parity=0.01
    )


class TestGate:
    """Its limits, on both sides, and its figures."""

    def test_the_largest_loss_is_let_in(self) -> None:
        """Half a point."""
        assert MAX_LOST == 0.005
        assert gate.objections(loss(MAX_LOST)) == []

    def test_a_larger_one_is_refused(self) -> None:
        """However little larger."""
        (why,) = gate.objections(loss(MAX_LOST + EPSILON))
        assert "falls by 0.51 points; at most 0.5 are" in why

    def test_the_least_agreement_is_let_in(self) -> None:
        """98% of the clips."""
        assert MIN_AGREEMENT == 0.98
        assert gate.objections(loss(0.0, MIN_AGREEMENT)) == []

    def test_a_lesser_one_is_refused(self) -> None:
        """However little less."""
        (why,) = gate.objections(loss(0.0, MIN_AGREEMENT - EPSILON))
        assert "97.99% of the clips" in why

    def test_both_objections_are_said(self) -> None:
        """So that nobody mends one to meet the other."""
        assert len(gate.objections(loss(1.0, 0.0))) == 2

    def test_the_same_answers_lose_nothing_whoever_speaks(self) -> None:
        """The interval is paired: the same resamples of both have no difference."""
        answers = answered(0)
        weighed = gate.weigh("validation", answers, answers, 0.0)
        assert weighed.macro_f1_lost == Lost(value=0.0, low=0.0, high=0.0)
        assert weighed.agreement == 1.0

    def test_wrecked_answers_lose_what_they_are_worth(self) -> None:
        """Of clips that were mostly right, none is after every label was moved by one."""
        good = answered(0)
        shifted = dataclasses.replace(good, probabilities=np.roll(good.probabilities, 1, axis=1))
        weighed = gate.weigh("validation", good, shifted, 0.0)
        assert weighed.agreement == 0.0
        assert weighed.macro_f1_lost.low > 10 * MAX_LOST
        assert weighed.macro_f1_lost.low < weighed.macro_f1_lost.value < weighed.macro_f1_lost.high


def answered(seed: int) -> Answers:
    """300 clips that are mostly right."""
    scores = drawn(1.0, 300, seed=seed, spread=5.0)
    return Answers(scores, scores.probabilities(1.0), SETTINGS.resamples, SETTINGS.seed)


def recording(name: str, corpus: str, speaker: str, split: str) -> Recording:
    """One that is never read."""
    return Recording(Path(name), name, corpus, speaker, "en", "happy", split)


some_recordings = some.lists(
    some.builds(
        recording,
        some.uuids().map(str),
        some.sampled_from("abc"),
        some.sampled_from("stuv"),
        some.sampled_from(["train", "validation", "test", "development", "left-out"]),
    ),
    max_size=40,
)


def test_the_bound_of_parity_is_rounded_up() -> None:
    """What was seen is within it."""
    answers = answered(0)
    assert gate.weigh("validation", answers, answers, 1.00000001e-4).parity == 0.000101
    assert gate.weigh("validation", answers, answers, 0.0).parity == 0.0


class TestCalibrationSet:
    """Who is heard for int8's ranges."""

    @given(some_recordings, some.integers(1, 30), some.integers(0, 3))
    def test_only_training_speakers(
        self, recordings: list[Recording], most: int, seed: int
    ) -> None:
        """As many as are asked for or are there, none twice, and none of another split."""
        of_train = [r for r in recordings if r.split == "train"]
        if not of_train:
            with pytest.raises(ConfigError, match="no recordings of training speakers"):
                calibration_set.choose(recordings, most, seed)
            return
        chosen = calibration_set.choose(recordings, most, seed)
        assert len(chosen) == len(set(chosen)) == min(most, len(of_train))
        assert set(chosen) <= set(of_train)
        assert chosen == calibration_set.choose(recordings, most, seed)

    def test_corpora_and_their_speakers_take_turns(self) -> None:
        """A corpus of a thousand clips and one of two are heard alike while both last."""
        many = [recording(f"a{n}", "a", f"s{n % 2}", "train") for n in range(100)]
        few = [recording(f"b{n}", "b", "t", "train") for n in range(3)]
        chosen = calibration_set.choose([*many, *few], 6, seed=0)
        assert sorted(r.corpus for r in chosen) == list("aaabbb")
        assert {r.speaker for r in chosen} == {"s0", "s1", "t"}

    def test_another_seed_takes_others(self) -> None:
        """So that one can see how much depends on the choice."""
        many = [recording(f"a{n}", "a", "s", "train") for n in range(100)]
        one, other = (calibration_set.choose(many, 10, seed) for seed in (0, 1))
        assert set(one) != set(other)


class Shared:
    """A runtime whose logits move with the number of windows in the batch."""

    name = "shared"
    streams = 1
    threads = 1
    batches: Sequence[int] = ()
    wide: Runtime | None = None

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, windows: Samples) -> Logits:
        self.sizes.append(len(windows))
        return np.full((len(windows), 6), 0.01 * len(windows), np.float32)


def test_parity_is_the_largest_movement_in_any_batch(bundle: Bundle) -> None:
    """Batches of every size up to eight are tried, and what is left over at the end."""
    runtime = Shared()
    parity = paired.Parity(Wav2Vec2Runner(bundle, runtime, "fp32"))
    window = np.zeros(4, np.float32)
    for _ in range(3):
        parity.add([window] * 12, np.full((12, 6), 0.01, np.float32))
    assert parity.end() == pytest.approx(0.07)
    assert runtime.sizes == [2, 3, 4, 5, 6, 7, 8, 1]


def test_int8_is_let_in_with_figures_of_its_own(bundle: Bundle, let_in: Bundle) -> None:
    """Its weights, temperature, threshold, figures and gate; fp32's are as they were."""
    opened = open_bundle(let_in.folder)
    before, after = bundle.manifest, opened.manifest
    assert after.precisions["fp32"] == before.precisions["fp32"]
    assert {name: after.files[name] for name in before.files if name != CARD} == {
        name: fact for name, fact in before.files.items() if name != CARD
    }
    int8 = after.precisions["int8"]
    assert int8.runtimes == {"openvino": "openvino/int8.xml"}
    assert int8.gate is not None
    assert (int8.gate.split, int8.gate.clips) == ("validation", 12)
    assert int8.gate.parity >= 0
    assert int8.metrics["validation"]["clips"] == 12
    assert int8.temperature != after.precisions["fp32"].temperature
    assert (after.name, after.version) == (before.name, before.version)
    assert opened.digest != bundle.digest


def test_it_says_what_it_was_calibrated_by(let_in: Bundle) -> None:
    """Corpora of training speakers, with their digests."""
    told = [fact for fact in let_in.manifest.data if fact.split == "calibration"]
    assert {fact.name for fact in told} == {"corpus-one", "corpus-two"}
    assert sum(fact.clips for fact in told) == 8


def test_it_answers_in_int8(bundle: Bundle, let_in: Bundle) -> None:
    """Near fp32's logits, but not they."""
    clip = encoded(speech_like(1.5, seed=99))
    fp32 = spoken(open_classifier(bundle), clip)
    reduced = spoken(open_classifier(let_in, precision="int8"), clip)
    assert not np.array_equal(reduced, fp32)
    assert np.abs(reduced - fp32).max() < 0.2 * np.abs(fp32).max()


def test_what_is_spared_stays_in_floats(bundle: Bundle, let_in: Bundle, tmp_path: Path) -> None:
    """By default much of the compact model; by another list, other operations."""
    spec = bundle.manifest.audio.window
    windows = [speech_like(spec.window / 16_000, seed=seed)[None] for seed in range(4)]
    int8.quantize(
        bundle.weights("fp32", "openvino"), windows, tmp_path / "int8.xml", [".*dense/.*"]
    )
    default, other = (quantized(folder) for folder in (let_in.folder / "openvino", tmp_path))
    assert any("q_proj" in name for name in default & other)
    assert not any("output_dense" in name for name in default | other)
    assert any("intermediate_dense" in name for name in default - other)
    assert any("feature_projection" in name for name in other - default)


def quantized(folder: Path) -> set[str]:
    """Names of the operations that take quantised inputs in `folder`'s int8.xml."""
    model = openvino.Core().read_model(folder / "int8.xml")
    return {
        target.get_node().get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "FakeQuantize"
        for target in node.output(0).get_target_inputs()
    }


def spoken(classifier: Classifier, clip: bytes) -> Logits:
    """Logits of a clip's windows."""
    return np.array(classifier.runner(classifier.hear(clip).batch))


def test_card_and_manifest_agree(let_in: Bundle) -> None:
    """The card's row has the manifest's numbers, once, before the limits if it has some."""
    card = let_in.path(CARD).read_text(encoding="utf-8")
    facts = let_in.manifest.precisions["int8"]
    assert facts.gate is not None
    (row,) = [line for line in card.splitlines() if line.startswith("| int8 |")]
    lost = facts.gate.macro_f1_lost
    macro_f1 = facts.metrics["validation"]["macro_f1"]
    assert isinstance(macro_f1, float)
    assert f"| {macro_f1:.3f} (" in row
    assert f"{100 * lost.value:.2f} ({100 * lost.low:.2f} to {100 * lost.high:.2f})" in row
    assert f"{100 * facts.gate.agreement:.1f}%" in row
    assert f"| {facts.gate.parity:g} | {facts.temperature:g} | {facts.review_threshold:g} |" in row


def test_what_the_gate_refuses_is_not_written(
    bundle: Bundle, recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrecked int8 leaves no file behind, and the sentence has its figures."""

    def wrecked(_model: Path, _windows: object, out: Path, _spared: object) -> None:
        other = tiny_model_bundle(tmp_path / "other", seed=1)
        for suffix in (".xml", ".bin"):
            source = other.weights("fp32", "openvino").with_suffix(suffix)
            out.with_suffix(suffix).write_bytes(source.read_bytes())

    monkeypatch.setattr(int8, "quantize", wrecked)
    folder = tmp_path / "there"
    with pytest.raises(RefusedError, match=r"(?s)validation, 12 clips: .*Nothing was written"):
        reduce.reduce(bundle, "int8", recordings, folder / "out", SETTINGS, windows=4)
    assert list(folder.iterdir()) == []


def test_bf16_shares_fp32_s_files(
    bundle: Bundle, let_in: Bundle, recordings: list[Recording], tmp_path: Path
) -> None:
    """No weights are added; ungated, it has fp32's calibration, no figures, and says so."""
    made = reduce.reduce(
        let_in, "bf16", recordings, tmp_path / "out", SETTINGS, version="2.0.0", gated=False
    )
    manifest = made.manifest
    assert set(manifest.files) == set(let_in.manifest.files)
    assert set(manifest.precisions) == {"fp32", "int8", "bf16"}
    bf16, fp32 = manifest.precisions["bf16"], manifest.precisions["fp32"]
    assert bf16.runtimes == {"openvino": fp32.runtimes["openvino"]}
    assert (bf16.temperature, bf16.review_threshold) == (fp32.temperature, fp32.review_threshold)
    assert bf16.gate is None
    assert not bf16.metrics
    assert manifest.version == "2.0.0"
    card = made.path(CARD).read_text(encoding="utf-8")
    assert card.count("## Precisions") == 1
    assert "| bf16 | – | *ungated* |" in card
    assert bundle.manifest.version == "1.0.0"


def test_a_precision_that_is_not_computed_is_not_judged(
    bundle: Bundle, recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the CPU has no bf16, the engine computes in fp32, which says nothing of bf16."""
    fp32 = open_classifier(bundle)
    monkeypatch.setattr(reduce, "open_classifier", lambda *_, **__: fp32)
    with pytest.raises(ConfigError, match="this CPU does not compute in it"):
        reduce.reduce(bundle, "bf16", recordings, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_other_recordings_are_refused(
    bundle: Bundle, recordings: list[Recording], tmp_path: Path
) -> None:
    """Whose speakers the bundle may have been trained on."""
    with pytest.raises(ConfigError, match="not the recordings"):
        reduce.reduce(bundle, "bf16", recordings[:-7], tmp_path / "out", SETTINGS)


def test_what_is_there_is_not_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    """Least of all by accident the bundle itself."""
    with pytest.raises(ConfigError, match="is not empty"):
        reduce.reduce(bundle, "bf16", [], bundle.folder, SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        reduce.reduce(bundle, "bf16", [], tmp_path / "file", SETTINGS)


def test_the_embedded_bundle_s_precisions_passed() -> None:
    """None is ungated, and what the gate was told would still let each in."""
    precisions = open_bundle(DEFAULT_BUNDLE).manifest.precisions
    assert set(precisions) == {"fp32", "bf16", "int8"}
    for precision, about in precisions.items():
        if precision != "fp32":
            assert about.gate is not None
            assert gate.objections(about.gate) == []
            assert about.gate.clips == 831


class TestCommand:
    """As a user meets it."""

    def test_help_teaches(self) -> None:
        """What it does, when it refuses, and examples."""
        told = CliRunner().invoke(command.quantize, ["--help"]).output
        for part in (
            "validation clips",
            "at most 0.5 points",
            "98%",
            "--ungated",
            "exit code is 1",
        ):
            assert part in " ".join(told.split())

    def test_its_windows_are_the_calibration_set_s(self) -> None:
        """A number that stands twice, so that help needs no engine."""
        assert command.WINDOWS == calibration_set.WINDOWS

    def test_an_ungated_bundle_is_told_to_be_one(
        self, bundle: Bundle, data: Path, tmp_path: Path
    ) -> None:
        """Exit code 0, and no doubt about what it is for."""
        arguments = [bundle.folder, "--to", "bf16", "--data", data, "--out", tmp_path / "out"]
        done = CliRunner().invoke(command.quantize, [*map(str, arguments), "--ungated"])
        assert done.exit_code == 0, done.output
        assert "bf16 is ungated" in done.output
        assert open_bundle(tmp_path / "out").digest in done.output

    def test_a_refusal_is_one_message(self, bundle: Bundle, data: Path) -> None:
        """Exit code 1, without a traceback."""
        arguments = [bundle.folder, "--to", "bf16", "--data", data, "--out", bundle.folder]
        done = CliRunner().invoke(command.quantize, [*map(str, arguments)])
        assert done.exit_code == 1
        assert "is not empty" in done.output

    def test_without_what_trains_it_says_what_to_install(
        self, bundle: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The serving install has the command, but neither torch nor NNCF."""
        monkeypatch.setitem(sys.modules, "training.quantization.reduce", None)
        arguments = [bundle.folder, "--data", data, "--out", tmp_path / "out"]
        done = CliRunner().invoke(command.quantize, [*map(str, arguments)])
        assert done.exit_code == 1
        assert "in a checkout of Timbre, pip install '.[train]'" in done.output

    def test_timbre_finds_it(self) -> None:
        """By the entry point that the package declares."""
        root = Path(__file__).parents[2]
        declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        entry = declared["project"]["entry-points"]["timbre.bundle"]["quantize"]
        module, _, name = entry.partition(":")
        assert getattr(importlib.import_module(module), name) is command.quantize
