"""The stages of a run: prepare → train → evaluate → export.

Each finds in the run's folder what the one before it left there, so that they can be started
together, one at a time, or by a tool that keeps track of what has changed.
"""

from __future__ import annotations

import shutil
from dataclasses import replace as changed
from pathlib import Path

from service.bundle import MANIFEST, Bundle
from service.classifier import open_classifier
from service.runtime import cpus
from training import data, data_report, export, launch, tracking
from training import model as models
from training.checkpoints import CHECKPOINTS
from training.config import ConfigError
from training.evaluation import noise as noises
from training.evaluation import report, scores
from training.evaluation.assess import TRAIN_SAMPLE, Measured, assess
from training.noises import decoded, for_training
from training.run import Run
from training.train import train as fit

REPORTS = (data_report.JSON, data_report.HTML, report.JSON, report.HTML, report.FIGURES)
"""What is kept beside a run's figures."""


def make_bundle(
    run: Run,
    out: Path | None = None,
    *,
    test: bool = False,
    noise: bool = False,
    replace: bool = False,
) -> Bundle | None:
    """Prepare, train, evaluate and export; a run that was stopped goes on where it was.

    Args:
        run: what to make, of what.
        out: folder of the bundle, replaced; by default in the run's.
        test: whether to measure the test split as well.
        noise: whether to measure clips with noise mixed in as well.
        replace: whether what another configuration left in the folder may be removed.

    Returns:
        The bundle; None in all but the first of several processes.

    Raises:
        ConfigError, TimbreError: the data, the configuration or the result cannot be used.
    """
    # A wrong name or a set that isn't there is better found before the training.
    export.draft(run.config)
    with launch.first_alone():
        run.measured(test=test)
    if noise:
        noises.read(run.root / "noise")
    _check_bundle(_bundle(run, out))
    prepare(run)
    train(run, replace=replace)
    if not launch.is_first():
        return None
    evaluate(run, test=test, noise=noise)
    return seal(run, out)


def prepare(run: Run) -> None:
    """Hear every recording that is trained on or looked at meanwhile, once.

    Raises:
        ConfigError: there is a fault in the data, or a recording cannot be decoded.
    """
    with launch.first_alone():
        for split in ("train", run.watched):
            data.prepare(run.sets[split], run.cache)
        if launch.is_first():
            data_report.write(run.sets, run.folder)


def train(run: Run, *, replace: bool = False) -> None:
    """Train, and leave the weights in `run.model`; a training that has ended is not done again.

    Raises:
        ConfigError: the folder holds a run of another configuration or other data, and `replace`
            is not given, or another process trains there.
    """
    with run.held():
        _train(run, replace=replace)


def _train(run: Run, *, replace: bool) -> None:
    finished = run.folder / CHECKPOINTS
    with launch.first_alone():
        run.take(replace=replace)
        if run.model.is_dir():
            if launch.is_first():
                shutil.rmtree(finished, ignore_errors=True)
                print(f"{run.model} is trained already.")
            return
        training = data.prepare(run.sets["train"], run.cache)
        watched = data.prepare(run.sets[run.watched], run.cache)
    with tracking.tracked(run.folder, run.config, stage="train") as tracker:
        model = fit(
            run.config,
            training,
            watched,
            [decoded(path) for path in for_training(run.root / "noise")],
            root=run.root,
            run=run.folder,
            callbacks=[tracking.Steps(tracker)],
        )
        with launch.first_alone():
            if launch.is_first():
                # In place at once or not at all: what lies there counts as trained.
                unfinished = run.folder / "model.part"
                shutil.rmtree(unfinished, ignore_errors=True)
                model.save_pretrained(unfinished, safe_serialization=True)
                unfinished.replace(run.model)
        # Now that no process reads them: whoever removes the model wants another one, and with
        # checkpoints it would be the same.
        if launch.is_first():
            shutil.rmtree(finished, ignore_errors=True)


def evaluate(run: Run, *, test: bool = False, noise: bool = False) -> None:
    """Write the weights as they will be served, into `run.draft`, and measure those.

    Args:
        run: with trained weights.
        test: whether to measure the test split as well.
        noise: whether to measure clips with noise mixed in as well, which takes minutes.

    Raises:
        ConfigError: nothing was trained in the folder, or something else, or there is no noise.
    """
    run.need(run.model, "train")
    measured = run.measured(test=test)
    kinds = noises.read(run.root / "noise") if noise else None
    settings = run.config.evaluation
    noisy = None
    with tracking.tracked(run.folder, run.config, stage="evaluate") as tracker:
        # Until all is written, there is no evaluation of these weights on these clips.
        run.measured_data.unlink(missing_ok=True)
        model = models.load(str(run.model.absolute()), run.root)
        export.write_weights(model, run.draft, run.config.windows.spec.window)
        draft = export.seal_with_card(
            run.draft,
            "Not measured yet.\n",
            export.draft(run.config, runtimes=export.runtimes(run.draft)),
        )
        classifier = open_classifier(draft, threads=cpus())
        sets = {split: run.sets[split] for split in measured}
        sets[TRAIN_SAMPLE] = scores.of_each_speaker(run.sets["train"])
        scored = {name: scores.measure(classifier, sets[name], name) for name in sets}
        scores.save(run.scores, scored)
        if kinds:
            snr_db, seed = settings.noise_snr_db, settings.seed
            noisy = noises.measure(classifier, sets[run.watched], kinds, snr_db, seed)
            scores.save(run.scores / "noise", noisy)
        about = Measured(
            name=run.config.bundle.name,
            version=run.config.bundle.version,
            precision="fp32",
            architecture=model.config.model_type,
            parameters=model.num_parameters(),
            fitted_on=run.watched,
        )
        evaluation = assess(about, scored, settings, noisy)
        report.write(evaluation, run.folder)
        run.note_measured(measured)
        metrics = report.compact(evaluation)
        tracker.figures(metrics)
        tracker.files(*(run.folder / name for name in REPORTS))
    for name, figures in metrics.items():
        print(f"{name}: accuracy {figures['accuracy']}, macro-F1 {figures['macro_f1']}")


def seal(run: Run, out: Path | None = None) -> Bundle:
    """Copy the measured weights to `out`, and seal them with their figures and a card.

    Args:
        run: measured.
        out: folder of the bundle, which may have another bundle; by default in the run's.

    Raises:
        ConfigError: nothing was measured in the folder, or something else, or on clips that have
            changed, or `out` is the folder of something that is no bundle.
    """
    run.need(run.folder / report.JSON, "evaluate")
    if not run.is_measured():
        raise ConfigError(
            f"The figures in {run.folder} are not whole, or of clips that have changed since: "
            "`python -m training evaluate` comes first."
        )
    out = _bundle(run, out)
    _check_bundle(out)
    evaluation = report.read(run.folder)
    facts = [fact for fact in run.facts if fact.split in {"train", *evaluation.sets}]
    # In place when it is whole: a server may look for it there.
    unfinished = out.absolute().with_name(f"{out.absolute().name}.part")
    with tracking.tracked(run.folder, run.config, stage="export") as tracker:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(run.draft, unfinished)
        card = report.model_card(run.config, evaluation, facts)
        described = export.draft(
            run.config,
            runtimes=export.runtimes(unfinished),
            temperature=evaluation.temperature,
            threshold=evaluation.threshold.value,
            metrics=report.compact(evaluation),
            reference=evaluation.reference,
            data=facts,
        )
        sealed = export.seal_with_card(unfinished, card, described)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.replace(out)
        bundle = changed(sealed, folder=out)
        tracker.bundle(bundle)
    return bundle


def _bundle(run: Run, out: Path | None) -> Path:
    return out or run.folder / "bundle"


def _check_bundle(out: Path) -> None:
    """Refuse to replace what is no bundle."""
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ConfigError(
            f"{out} has files that are no bundle's; remove them, or give another --out."
        )
