"""The whole pipeline on recordings made on the spot: from a folder to a bundle that serves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from service.bundle import Bundle, open_bundle
from service.classifier import open_classifier
from training.__main__ import main
from training.config import (
    Augmentation,
    Config,
    ConfigError,
    Identity,
    Model,
    Training,
    Windows,
)
from training.data import LABELS, read_manifest
from training.pipeline import make_bundle, noises
from training.report import model_card

CONFIG = Config(
    bundle=Identity(name="made-here", version="1.2.3", licence="For tests only"),
    windows=Windows(window_s=1.0, hop_s=0.5),
    model=Model(checkpoint="checkpoint"),
    training=Training(epochs=1, batch_size=4, precision="fp32"),
)

pytestmark = [
    # Of torch's tracer, which fixes the window's length as we want it, and of libraries' own past.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run."""
    return tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture(scope="module")
def bundle(data: Path, run: Path) -> Bundle:
    """What one run makes of the folder."""
    return make_bundle(CONFIG, data, run, run / "bundle", test=True)


def test_the_bundle_is_sealed_and_says_what_it_is(bundle: Bundle) -> None:
    """It verifies, and has the configuration's name, labels and windows."""
    manifest = open_bundle(bundle.folder).manifest
    assert (manifest.name, manifest.version) == ("made-here", "1.2.3")
    assert manifest.labels == LABELS
    assert manifest.audio.window_s == 1.0
    assert {(facts.split, facts.clips) for facts in manifest.data} == {
        ("train", 6),
        ("validation", 6),
        ("test", 6),
    }


def test_its_figures_are_those_of_what_is_served(bundle: Bundle, data: Path) -> None:
    """Classifying validation through the serving half gives the accuracy in the bundle."""
    classifier = open_classifier(bundle)
    recordings = [r for r in read_manifest(data / "speech") if r.split == "validation"]
    right = [
        classifier.classify(classifier.hear(recording.path.read_bytes())).label == recording.label
        for recording in recordings
    ]
    figures = bundle.manifest.precisions["fp32"].metrics["validation"]
    assert figures["accuracy"] == round(float(np.mean(right)), 4)


def test_both_runtimes_have_the_same_weights(bundle: Bundle, data: Path) -> None:
    """OpenVINO and torch agree, since both compute in fp32 from the same rounded numbers."""
    served, reference = open_classifier(bundle), open_classifier(bundle, runtime="torch")
    heard = served.hear(read_manifest(data / "speech")[0].path.read_bytes())
    assert np.allclose(served.runner(heard.batch), reference.runner(heard.batch), atol=1e-4)


def test_the_card_has_the_figures_and_the_licences(bundle: Bundle) -> None:
    """Every set, every corpus, and what the weights may be used for."""
    card = (bundle.folder / "README.md").read_text()
    for words in ("validation", "corpus-one", "For tests only", "Limits", "unknown"):
        assert words in card


def test_figures_are_left_beside_the_run(bundle: Bundle, run: Path) -> None:
    """As JSON, for whoever compares runs."""
    figures = json.loads((run / "metrics.json").read_text())
    assert figures == bundle.manifest.model_dump(mode="json")["precisions"]["fp32"]["metrics"]
    assert figures["validation"]["cross_fitted"]["nll"] > 0


def test_a_finished_run_is_not_trained_again(bundle: Bundle, data: Path, run: Path) -> None:
    """It resumes at its end: the same weights, to the byte."""
    before = bundle.manifest.files["torch/model.safetensors"]
    again = make_bundle(CONFIG, data, run, run / "again", test=False)
    assert again.manifest.files["torch/model.safetensors"] == before
    assert "test" not in again.manifest.precisions["fp32"].metrics


def test_a_run_of_another_configuration_is_not_resumed(
    bundle: Bundle, data: Path, run: Path, tmp_path: Path
) -> None:
    """Its weights would be sealed under a configuration that didn't make them."""
    assert bundle.folder.is_dir()
    other = CONFIG.model_copy(update={"training": Training(epochs=2, batch_size=4)})
    with pytest.raises(ConfigError, match="another configuration"):
        make_bundle(other, data, run, tmp_path / "bundle", test=False)


@pytest.mark.parametrize("identity", [{"name": "a--b-"}, {"version": "one"}, {"licence": ""}])
def test_a_wrong_name_is_found_before_the_training(
    data: Path, tmp_path: Path, identity: dict[str, str]
) -> None:
    """And not by the bundle, an hour later."""
    wrong = CONFIG.model_copy(update={"bundle": CONFIG.bundle.model_copy(update=identity)})
    with pytest.raises(ConfigError, match=f"The bundle's {next(iter(identity))}"):
        make_bundle(wrong, data, tmp_path / "run", tmp_path / "bundle", test=False)
    assert not (tmp_path / "run").exists()


def test_a_mistyped_checkpoint_is_no_hub_s(data: Path, tmp_path: Path) -> None:
    """Nothing is fetched unless it is asked for."""
    wrong = CONFIG.model_copy(update={"model": Model(checkpoint="chekpoint")})
    with pytest.raises(ConfigError, match=r"No checkpoint in .*hub:NAME"):
        make_bundle(wrong, data, tmp_path / "run", tmp_path / "bundle", test=False)


def test_the_card_says_what_augmentation_did() -> None:
    """Whatever its probabilities are, none among them."""
    settings = Augmentation(noise_probability=0.25, speed_probability=0)
    card = model_card(
        CONFIG.model_copy(update={"augmentation": settings}),
        parameters=1,
        temperature=1.0,
        metrics={},
        data=[],
    )
    assert "25% mixed with noise" in card
    assert "played at" not in card


def test_the_same_seed_gives_the_same_weights(bundle: Bundle, data: Path, tmp_path: Path) -> None:
    """From the start, in another folder."""
    other = make_bundle(CONFIG, data, tmp_path / "run", tmp_path / "bundle", test=False)
    before = bundle.manifest.files["torch/model.safetensors"]
    assert other.manifest.files["torch/model.safetensors"] == before


def test_some_noises_are_kept_for_reports(data: Path) -> None:
    """Of two noises one is a helicopter."""
    assert len(noises(data / "noise")) == 1


def test_a_wrong_argument_is_one_sentence(tmp_path: Path) -> None:
    """No traceback, and torch isn't waited for."""
    result = CliRunner().invoke(main, ["nonsense", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: No configuration 'nonsense'")


def test_the_help_teaches() -> None:
    """An example and the names of the configurations."""
    output = CliRunner().invoke(main, ["--help"]).output
    assert "Example: python -m training compact" in output
    assert "smoke" in output
