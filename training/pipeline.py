"""The pipeline: prepare → train → evaluate → export, in that order and on one set of facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from service.audio import decode
from service.bundle import Bundle, DataFacts
from service.classifier import open_classifier
from service.domain import Samples
from service.runtime import cpus
from training import calibrate, evaluate, export, report
from training.config import Config, ConfigError
from training.data import SPLITS, Recording, digest, prepare, read_manifest, thin
from training.train import train

LICENCES = {
    "ravdess": "CC BY-NC-SA 4.0",
    "tess": "CC BY-NC-ND 4.0",
    "savee": "research use, on registration",
    "nemo": "CC BY-NC-SA 4.0",
    "aesdd": "unclear: research use",
}
"""Licence by corpus; one that is not here is called unknown in the card."""

REPORT_NOISES = ("exercise_bike", "helicopter", "chainsaw", "baby_cry")
"""Kept out of training, for reports on noise."""
NOISE_SUFFIXES = {".flac", ".ogg", ".wav"}
MAX_NOISE_S = 600.0

Sets = Mapping[str, Sequence[Recording]]


def make_bundle(config: Config, root: Path, run: Path, out: Path, *, test: bool) -> Bundle:
    """Train by `config` and export; a run that was stopped resumes.

    Args:
        config: what to make.
        root: folder with speech/manifest.csv, noise/ and the checkpoint's folder.
        run: checkpoints and figures.
        out: folder of the bundle, replaced.
        test: whether to measure the test split as well.

    Raises:
        ConfigError, TimbreError: the data, the configuration or the result cannot be used.
    """
    export.draft(config)  # a wrong name or version is better found before the training than after
    recordings = read_manifest(root / "speech")
    measured = ("validation", "test") if test else ("validation",)
    sets = {split: thin(recordings, split, config.training.max_clips) for split in SPLITS}
    data = list(facts({split: sets[split] for split in ("train", *measured)}))
    _claim(run, config, data)
    cache = run.parent / "cache"
    model = train(
        config,
        prepare(sets["train"], cache),
        prepare(sets["validation"], cache),
        noises(root / "noise"),
        root=root,
        run=run,
    )
    bundle = export_bundle(config, model, {split: sets[split] for split in measured}, out, data)
    figures = bundle.manifest.model_dump(mode="json")["precisions"]["fp32"]["metrics"]
    (run / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return bundle


def _claim(run: Path, config: Config, data: Sequence[DataFacts]) -> None:
    """Tie a run's folder to what is trained there, so that no checkpoint of another is resumed."""
    claim = json.dumps(
        {
            "config": config.model_dump(mode="json", exclude={"bundle"}),
            "training_data": {facts.name: facts.sha256 for facts in data if facts.split == "train"},
        },
        indent=2,
    )
    file = run / "run.json"
    if file.is_file() and file.read_text(encoding="utf-8") != claim:
        raise ConfigError(
            f"{run} holds a run of another configuration or of other data; "
            "give another --run, or remove it."
        )
    run.mkdir(parents=True, exist_ok=True)
    file.write_text(claim, encoding="utf-8")


def export_bundle(
    config: Config,
    model: PreTrainedModel,
    sets: Sets,
    out: Path,
    data: Sequence[DataFacts],
) -> Bundle:
    """Write the weights, measure them as they will be served, calibrate, describe and seal."""
    parameters = model.num_parameters()
    export.write_weights(model, out, config.windows.spec.window)
    unmeasured = export.seal_with_card(out, "Not measured yet.\n", export.draft(config))
    classifier = open_classifier(unmeasured, threads=cpus())
    scored = {name: evaluate.score(classifier, members, name) for name, members in sets.items()}
    temperature = calibrate.fit(scored["validation"])
    metrics: dict[str, dict[str, Any]] = {
        name: evaluate.figures(clips, temperature) for name, clips in scored.items()
    }
    if crossed := calibrate.cross_fitted(scored["validation"]):
        metrics["validation"]["cross_fitted"] = crossed
    card = report.model_card(
        config, parameters=parameters, temperature=temperature, metrics=metrics, data=data
    )
    described = export.draft(
        config,
        temperature=temperature,
        metrics=metrics,
        reference=evaluate.reference(scored["validation"], temperature),
        data=data,
    )
    return export.seal_with_card(out, card, described)


def noises(folder: Path) -> list[Samples]:
    """Every recording of noise but those kept for reports; none is fine too."""
    return [
        decode(path.read_bytes(), max_duration_s=MAX_NOISE_S).samples
        for path in sorted(folder.rglob("*"))
        if path.suffix in NOISE_SUFFIXES
        and not any(name in path.as_posix() for name in REPORT_NOISES)
    ]


def facts(sets: Sets) -> Iterator[DataFacts]:
    """What each corpus gave to each set, with a digest of it."""
    for split, recordings in sets.items():
        for corpus in sorted({recording.corpus for recording in recordings}):
            members = [recording for recording in recordings if recording.corpus == corpus]
            yield DataFacts(
                name=corpus,
                split=split,
                clips=len(members),
                sha256=digest(members),
                licence=LICENCES.get(corpus, "unknown"),
            )
