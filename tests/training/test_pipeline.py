"""The whole pipeline on recordings made on the spot: from a folder to a bundle that serves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from service.bundle import Bundle, open_bundle
from service.classifier import open_classifier
from tests.support.networks import floating_types
from training import data_report, noises
from training.config import (
    Config,
    ConfigError,
    Evaluation,
    Identity,
    Model,
    Probe,
    Teaching,
    Training,
    Windows,
)
from training.data import LABELS, Recording, load
from training.data_settings import Data, Manifest
from training.evaluation import report
from training.pipeline import evaluate, make_bundle, prepare, seal, train
from training.run import Run
from training.train import computes_in_bf16
from training.whisper import WaveformWhisperConfig, WaveformWhisperEncoder

CONFIG = Config(
    bundle=Identity(name="made-here", version="1.2.3", licence="For tests only"),
    windows=Windows(window_s=1.0, hop_s=0.5),
    model=Model(checkpoint="checkpoint"),
    training=Training(epochs=1, batch_size=4, precision="fp32"),
    evaluation=Evaluation(resamples=100),
)

pytestmark = [
    # Of torch's tracer, which fixes the window's length as we want it, and of libraries' own past.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nothing was made of yet."""
    return Run(CONFIG, data, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def bundle(run: Run) -> Bundle:
    """What it makes of the folder."""
    return made(run, test=True)


def made(run: Run, *, test: bool = False, out: Path | None = None) -> Bundle:
    """Make a bundle in this process, the only one."""
    bundle = make_bundle(run, out, test=test)
    assert bundle is not None
    return bundle


def other(run: Run, folder: Path, **sections: object) -> Run:
    """A run in another folder, perhaps of another configuration."""
    return Run(run.config.model_copy(update=sections), run.root, folder)


def recordings(data: Path, split: str) -> list[Recording]:
    """What there is of a split."""
    return [recording for recording in load(CONFIG.data, data) if recording.split == split]


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
    right = [
        classifier.classify(classifier.hear(recording.path.read_bytes())).label == recording.label
        for recording in recordings(data, "validation")
    ]
    figures = bundle.manifest.precisions["fp32"].metrics["validation"]
    assert figures["accuracy"] == round(float(np.mean(right)), 4)


def test_both_runtimes_have_the_same_weights(bundle: Bundle, data: Path) -> None:
    """OpenVINO and torch agree, since both compute in fp32 from the same rounded numbers."""
    served, reference = open_classifier(bundle), open_classifier(bundle, runtime="torch")
    heard = served.hear(recordings(data, "train")[0].path.read_bytes())
    assert np.allclose(served.runner(heard.batch), reference.runner(heard.batch), atol=1e-4)


def test_the_network_is_fp32_in_every_operation(bundle: Bundle) -> None:
    """Its constants are stored in fp16; any other type it would compute in, unasked."""
    assert floating_types(bundle.weights("fp32", "openvino")) == {"f16", "f32"}


def test_the_card_has_the_figures_and_the_licences(bundle: Bundle) -> None:
    """Every set, every corpus, and what the weights may be used for."""
    card = (bundle.folder / "README.md").read_text()
    for words in ("validation", "corpus-one", "For tests only", "Limits", "unknown"):
        assert words in card


def test_figures_are_left_beside_the_run(bundle: Bundle, run: Run) -> None:
    """As JSON, for whoever compares runs."""
    figures = json.loads((run.folder / "metrics.json").read_text())
    assert figures == bundle.manifest.model_dump(mode="json")["precisions"]["fp32"]["metrics"]
    assert figures["validation"]["cross_fitted"]["nll"] > 0


def test_the_reports_are_left_beside_the_run(bundle: Bundle, run: Run) -> None:
    """Of the data and of the evaluation, whose temperature and threshold the bundle has."""
    assert (run.folder / "data.html").is_file()
    assert (run.folder / "report.html").is_file()
    found = json.loads((run.folder / "evaluation.json").read_text())
    assert set(found["sets"]) == {"validation", "test", "train-sample"}
    facts = bundle.manifest.precisions["fp32"]
    assert facts.temperature == found["temperature"]
    assert facts.review_threshold == found["threshold"]["value"]


def test_the_steps_are_logged(bundle: Bundle, run: Run) -> None:
    """A line each, with numbers only, in order."""
    assert bundle.folder.is_dir()
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert steps[-1] == 3  # 12 clips in batches of 4
    assert any("eval_macro_f1" in line for line in lines)
    assert all(isinstance(value, int | float) for line in lines for value in line.values())


def test_stages_one_at_a_time_make_what_all_together_make(
    bundle: Bundle, run: Run, tmp_path: Path
) -> None:
    """Each finds in the folder what it needs; the second time, training changes nothing."""
    again = other(run, tmp_path / "run")
    for stage in (prepare, train, train, evaluate, seal):
        stage(again)
    sealed = open_bundle(tmp_path / "run" / "bundle")
    before = bundle.manifest.files
    assert sealed.manifest.files["torch/model.safetensors"] == before["torch/model.safetensors"]
    assert sealed.manifest.files["openvino/fp32.bin"] == before["openvino/fp32.bin"]


@pytest.mark.parametrize(("stage", "comes_first"), [(evaluate, "train"), (seal, "evaluate")])
def test_a_stage_names_the_one_it_misses(
    run: Run, tmp_path: Path, stage: Callable[[Run], object], comes_first: str
) -> None:
    """Instead of failing on a file that isn't there."""
    with pytest.raises(ConfigError, match=f"`python -m training {comes_first}` comes first"):
        stage(other(run, tmp_path))


def test_another_licence_needs_no_new_training(bundle: Bundle, run: Run, tmp_path: Path) -> None:
    """What the bundle is called is no part of what was trained."""
    renamed = CONFIG.bundle.model_copy(update={"licence": "CC0"})
    sealed = seal(other(run, run.folder, bundle=renamed), tmp_path / "bundle")
    assert sealed.manifest.licence == "CC0"
    before = bundle.manifest.files["torch/model.safetensors"]
    assert sealed.manifest.files["torch/model.safetensors"] == before


def test_figures_of_clips_that_changed_are_not_sealed(
    bundle: Bundle, run: Run, tmp_path: Path
) -> None:
    """The bundle would state digests of the new clips beside figures of the old ones."""
    assert bundle.folder.is_dir()
    root = tmp_path / "data"
    shutil.copytree(run.root, root)
    shutil.copytree(run.folder, tmp_path / "run")
    again = Run(CONFIG, root, tmp_path / "run")
    evaluate(again, test=True)
    seal(again)
    manifest = root / "speech" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",sad,test", ",happy,test"))
    changed = Run(CONFIG, root, tmp_path / "run")
    with pytest.raises(ConfigError, match="`python -m training evaluate` comes first"):
        seal(changed)
    evaluate(changed, test=True)
    seal(changed)


def test_figures_of_an_evaluation_that_was_stopped_are_not_sealed(
    bundle: Bundle, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights may be new ones already, and the figures still the old ones."""
    assert bundle.folder.is_dir()
    shutil.copytree(run.folder, tmp_path / "run")
    again = other(run, tmp_path / "run")

    def stopped(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(again)
    with pytest.raises(ConfigError, match="not whole"):
        seal(again)


def test_a_training_that_ended_is_not_done_again(
    bundle: Bundle, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights are measured and sealed anew."""
    before = bundle.manifest.files["torch/model.safetensors"]
    again = made(run, out=tmp_path / "again")
    assert "trained already" in capsys.readouterr().out
    assert again.manifest.files["torch/model.safetensors"] == before
    assert "test" not in again.manifest.precisions["fp32"].metrics


def test_emulated_bf16_is_not_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a T4, which is slower in it than in fp32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert not computes_in_bf16("auto")


OTHER = Training(epochs=2, batch_size=4, precision="fp32")


def test_a_run_of_another_configuration_is_not_resumed(bundle: Bundle, run: Run) -> None:
    """Its weights would be sealed under a configuration that didn't make them."""
    assert bundle.folder.is_dir()
    for stage in (train, evaluate, seal):
        with pytest.raises(ConfigError, match="another configuration"):
            stage(other(run, run.folder, training=OTHER))


def test_a_run_of_another_configuration_is_replaced_if_asked(run: Run, tmp_path: Path) -> None:
    """Nothing of it is left in what is trained instead."""
    first = other(run, tmp_path / "run")
    train(first)
    second = other(run, tmp_path / "run", training=OTHER)
    train(second, replace=True)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 6
    evaluate(second)


def test_nothing_of_a_replaced_run_is_left(run: Run, tmp_path: Path) -> None:
    """Neither reports nor figures: they would be taken for the new one's."""
    first = other(run, tmp_path)
    first.take(replace=False)
    stale = ["report.html", "figures/a.svg", "scores/a.npz", "evaluation.json", "data.html"]
    for name in (*stale, "mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data.json").write_text('{"sets": []}')
    other(run, tmp_path, training=OTHER).take(replace=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.txt", "run.json"]


def test_a_replaced_run_keeps_the_report_of_its_data(run: Run, tmp_path: Path) -> None:
    """`prepare` has just written it."""
    other(run, tmp_path).take(replace=False)
    replacing = other(run, tmp_path, training=OTHER)
    data_report.write(replacing.sets, tmp_path)
    replacing.take(replace=True)
    assert (tmp_path / "data.html").is_file()


CHANGES = {
    "checkpoint": "checkpoint/config.json",
    "teacher": "teacher/weights",
    "probe": "probe/weights",
    "noise": "noise/rain.wav",
    "watched set": "speech/three-sad.flac",
}


@pytest.mark.parametrize("changed", [*CHANGES, "processes"])
def test_a_checkpoint_is_not_resumed_from_another_start(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """The configuration is the same, but not what it names, or how many share the work."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    for name in ("teacher", "probe"):
        (root / name).mkdir()
        (root / name / "weights").touch()
    probes = (Probe(checkpoint="probe", layers=(1,)),)
    teaching = Teaching(teachers=("teacher",), probes=probes)
    config = CONFIG.model_copy(update={"teaching": teaching})

    def begin() -> None:
        Run(config, root, tmp_path / "run").take(replace=False)

    begin()
    begin()
    with (root / "noise" / "helicopter.wav").open("ab") as kept_for_reports:
        kept_for_reports.write(b" ")
    begin()
    if changed == "processes":
        monkeypatch.setenv("WORLD_SIZE", "2")
    else:
        with (root / CHANGES[changed]).open("ab") as file:
            file.write(b" ")
    with pytest.raises(ConfigError, match="--replace"):
        begin()


def test_what_was_trained_by_several_is_measured_by_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of processes is no matter once there is a model, nor is where it started."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        Run(CONFIG, root, tmp_path / "run").take(replace=False)
    one = Run(CONFIG, root, tmp_path / "run")
    one.model.mkdir()
    one.take(replace=False)
    shutil.rmtree(root / "checkpoint")
    one.need(one.model, "train")


def test_a_folder_of_something_else_is_not_replaced(run: Run, tmp_path: Path) -> None:
    """It is refused before anything is done, and is as it was."""
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(ConfigError, match="no bundle's"):
        make_bundle(other(run, tmp_path / "run"), tmp_path)
    assert (tmp_path / "thesis.odt").is_file()
    assert not (tmp_path / "run").exists()


def test_a_bundle_is_replaced_by_another(bundle: Bundle, run: Run, tmp_path: Path) -> None:
    """Whole, with nothing of the first, and nothing half made beside it."""
    assert bundle.folder.is_dir()
    sealed = seal(run, tmp_path / "bundle")
    (sealed.folder / "left-over").touch()
    assert seal(run, tmp_path / "bundle").folder == tmp_path / "bundle"
    assert not (tmp_path / "bundle" / "left-over").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]


def test_missing_noise_is_found_before_the_training(data: Path, tmp_path: Path) -> None:
    """And not after hours of it."""
    root = tmp_path / "data"
    root.mkdir()
    for name in ("speech", "checkpoint"):
        (root / name).symlink_to(data / name)
    with pytest.raises(ConfigError, match="without --noise"):
        make_bundle(Run(CONFIG, root, tmp_path / "run"), noise=True)
    assert not (tmp_path / "run").exists()


def test_speakers_kept_for_choices_are_measured_in_place_of_validation(
    run: Run, tmp_path: Path
) -> None:
    """What is chosen on them leaves validation unseen."""
    kept = other(run, tmp_path, data=Data(development_speakers=("two",)))
    assert kept.watched == "development"
    assert kept.measured(test=False) == ["development"]


@pytest.mark.parametrize(
    "kept",
    [
        Data(development_speakers=("one", "two")),
        Data(left_out_corpora=("corpus-one", "corpus-two")),
        Data(sources=(Manifest(split="validation"),)),
    ],
)
def test_without_training_clips_it_is_said_what_to_look_at(
    run: Run, tmp_path: Path, kept: Data
) -> None:
    """Before anything is prepared."""
    with pytest.raises(ConfigError, match=r"No clips are left to train on: in \[data\], look at"):
        prepare(other(run, tmp_path / "run", data=kept))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("identity", [{"name": "a--b-"}, {"version": "one"}, {"licence": ""}])
def test_a_wrong_name_is_found_before_the_training(
    run: Run, tmp_path: Path, identity: dict[str, str]
) -> None:
    """And not by the bundle, an hour later."""
    wrong = CONFIG.bundle.model_copy(update=identity)
    with pytest.raises(ConfigError, match=f"The bundle's {next(iter(identity))}"):
        made(other(run, tmp_path / "run", bundle=wrong))
    assert not (tmp_path / "run").exists()


def test_a_mistyped_checkpoint_is_no_hub_s(run: Run, tmp_path: Path) -> None:
    """Nothing is fetched unless it is asked for."""
    with pytest.raises(ConfigError, match=r"No checkpoint in .*hub:NAME"):
        made(other(run, tmp_path / "run", model=Model(checkpoint="chekpoint")))


def test_some_noises_are_kept_for_reports(data: Path) -> None:
    """Of two noises one is a helicopter."""
    assert [path.name for path in noises.for_training(data / "noise")] == ["rain.wav"]


def test_a_whisper_is_trained_and_served_too(data: Path, tmp_path: Path) -> None:
    """As OpenVINO runs it, spectrogram and all; transformers alone couldn't load it."""
    tiny = WaveformWhisperConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        max_source_positions=50,
    )
    WaveformWhisperEncoder(tiny).save_pretrained(tmp_path / "whisper")
    config = CONFIG.model_copy(update={"model": Model(checkpoint=str(tmp_path / "whisper"))})
    bundle = made(Run(config, data, tmp_path / "run"))
    assert set(bundle.manifest.precisions["fp32"].runtimes) == {"openvino"}
    assert not (bundle.folder / "torch").exists()
    heard = open_classifier(bundle).hear(recordings(data, "test")[0].path.read_bytes())
    assert open_classifier(bundle).classify(heard).label in LABELS
