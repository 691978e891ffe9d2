"""A sealed bundle → another one that has a reduced precision too; the first is left as it is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from service.bundle import (
    CARD,
    AudioDraft,
    Bundle,
    DataFacts,
    PrecisionFacts,
)
from service.classifier import open_classifier
from service.runtime import cpus
from training import config
from training.config import ConfigError
from training.digests import facts as data_facts
from training.evaluation import report
from training.evaluation.answers import Answers
from training.evaluation.assess import judge
from training.evaluation.scores import Scores
from training.export import seal_with_card
from training.quantization import calibration_set, gate, int8, paired
from training.quantization.card import with_precisions
from training.recording import Recording

Reduced: TypeAlias = Literal["bf16", "int8"]

JUDGED_ON = "validation"
CALIBRATION = "calibration"
"""The split that a bundle's data calls the calibration set."""


def reduce(
    bundle: Bundle,
    precision: Reduced,
    recordings: Sequence[Recording],
    out: Path,
    settings: config.Evaluation,
    *,
    windows: int = calibration_set.WINDOWS,
    seed: int = 0,
    spared: Sequence[str] = int8.SPARED,
    version: str | None = None,
    gated: bool = True,
) -> Bundle:
    """Write `bundle` with a further precision to `out`, if that passes the gate.

    fp32's files and figures stay as they are. The name and version stay too, unless another
    version is given: the same model answers, and the digest says which bundle it is.

    Args:
        bundle: with weights for OpenVINO in fp32.
        precision: what to add, or to make anew.
        recordings: those that the bundle was trained and measured on.
        out: folder of the new bundle; there is nothing in it yet.
        settings: by which temperature and threshold are fitted.
        windows: at most so many calibrate int8.
        seed: of their choice.
        spared: regular expressions over the names of operations that int8 leaves in floats.
        version: of the new bundle.
        gated: whether to measure and judge it; without, it is for speed work only, and has fp32's
            temperature and threshold, no figures and no gate.

    Raises:
        RefusedError: it did not pass; nothing is written.
        ConfigError: the recordings are others, `out` is not empty, or nothing can be measured.
        TimbreError: the bundle or a recording cannot be used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty; give another --out, or remove it.")
    if gated:
        _need_the_same(bundle, recordings)
    out.parent.mkdir(parents=True, exist_ok=True)
    # In place when it is whole, or not at all.
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f"{out.name}.") as made:
        part = Path(made) / "bundle"
        shutil.copytree(bundle.folder, part)
        draft = _described(bundle, version)
        fp32 = draft.precisions["fp32"]
        runtimes = {"openvino": fp32.runtimes["openvino"]}
        data = draft.data
        if precision == "int8":
            chosen = calibration_set.choose(recordings, windows, seed)
            fp32_model = bundle.weights("fp32", "openvino")
            runtimes["openvino"] = str(
                PurePosixPath(fp32.runtimes["openvino"]).with_name("int8.xml")
            )
            int8.quantize(
                fp32_model,
                calibration_set.windows(open_classifier(bundle, threads=cpus()), chosen, seed),
                part / runtimes["openvino"],
                spared,
            )
            kept = [fact for fact in data if fact.split != CALIBRATION]
            data = (*kept, *data_facts({CALIBRATION: chosen}))
        facts = PrecisionFacts.model_validate(
            {
                "runtimes": runtimes,
                "temperature": fp32.temperature,
                "review_threshold": fp32.review_threshold,
                "metrics": {},
            }
        )
        sealed = _seal(part, draft, precision, facts, data)
        if gated:
            judged = [recording for recording in recordings if recording.split == JUDGED_ON]
            facts = _measured(bundle, sealed, precision, judged, settings)
            sealed = _seal(part, draft, precision, facts, data)
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)
    return replace(sealed, folder=out)


def _need_the_same(bundle: Bundle, recordings: Sequence[Recording]) -> None:
    """Refuse recordings that may be others' than the bundle's: the gate's clips may be known."""
    sets = {
        split: [recording for recording in recordings if recording.split == split]
        for split in ("train", JUDGED_ON)
    }
    ours = {(fact.split, fact.name, fact.sha256) for fact in data_facts(sets)}
    theirs = {
        (fact.split, fact.name, fact.sha256) for fact in bundle.manifest.data if fact.split in sets
    }
    if ours != theirs or not sets[JUDGED_ON]:
        raise ConfigError(
            "These are not the recordings, or not divided as, this bundle was trained and "
            "measured on; give its own --data and --config."
        )


def _described(bundle: Bundle, version: str | None) -> AudioDraft:
    """What the bundle says of itself, to be sealed again."""
    facts = {name: getattr(bundle.manifest, name) for name in AudioDraft.model_fields}
    facts["created"] = datetime.now(UTC).replace(microsecond=0)
    return AudioDraft.model_validate(facts | ({"version": version} if version else {}))


def _seal(
    folder: Path,
    draft: AudioDraft,
    precision: Reduced,
    facts: PrecisionFacts,
    data: Sequence[DataFacts],
) -> Bundle:
    """Seal `folder` with one more precision, and a card that tells of it."""
    described = draft.model_copy(
        update={"precisions": {**draft.precisions, precision: facts}, "data": tuple(data)}
    )
    card = (folder / CARD).read_text(encoding="utf-8")
    return seal_with_card(folder, with_precisions(card, described), described)


def _measured(
    bundle: Bundle,
    candidate: Bundle,
    precision: Reduced,
    recordings: Sequence[Recording],
    settings: config.Evaluation,
) -> PrecisionFacts:
    """Measure the precision beside fp32 and give it a calibration and figures of its own.

    Raises:
        RefusedError: the gate does not let it in.
    """
    pair = paired.measure(
        open_classifier(bundle, threads=cpus()),
        open_classifier(candidate, precision=precision, threads=cpus()),
        recordings,
    )
    judged = judge(pair.reduced, settings)
    facts = candidate.manifest.precisions
    weighed = gate.weigh(
        JUDGED_ON,
        _answers(pair.reference, facts["fp32"].temperature, settings),
        _answers(pair.reduced, judged.temperature, settings),
        pair.parity,
    )
    if objections := gate.objections(weighed):
        raise gate.RefusedError(
            "\n".join([gate.told(weighed), *objections, "Nothing was written."])
        )
    return facts[precision].model_copy(
        update={
            "temperature": judged.temperature,
            "review_threshold": judged.threshold.value,
            "metrics": {JUDGED_ON: report.of_set(judged.figures)},
            "gate": weighed,
        }
    )


def _answers(scores: Scores, temperature: float, settings: config.Evaluation) -> Answers:
    return Answers(scores, scores.probabilities(temperature), settings.resamples, settings.seed)
