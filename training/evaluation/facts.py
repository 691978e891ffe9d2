"""What evaluation.json says. The report, the model card and bundle.json take every number from it.

docs/evaluation.schema.json is the same as JSON Schema, for programs that are not Timbre.
"""

from __future__ import annotations

import json
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

FORMAT = 1
"""The version of evaluation.json that this code writes and reads."""
DIGITS = 4

Number: TypeAlias = Annotated[float, AfterValidator(lambda value: round(value, DIGITS))]
Count: TypeAlias = Annotated[int, Field(ge=0)]


class _Facts(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Figure(_Facts):
    """A figure with its 95% interval over speakers within corpora."""

    value: Number
    low: Number
    high: Number


class Headline(_Facts):
    """Figures of the labels given to some clips; a clip without speech counts as wrong."""

    clips: Count
    no_speech: Count
    """Clips in which no speech was found, and so no label given."""
    accuracy: Figure
    macro_f1: Figure
    """Mean over the labels that these clips have."""
    uar: Figure
    """Unweighted average recall, over the labels that these clips have."""


class Means(_Facts):
    """Mean over corpora, each of which counts the same however many clips it has."""

    corpora: Count
    accuracy: Figure
    macro_f1: Figure
    uar: Figure


class ClassFigures(_Facts):
    """One label; a class that was never given has precision 0."""

    clips: Count
    precision: Figure
    recall: Figure
    f1: Figure


class Bin(_Facts):
    """Clips of similar confidence."""

    clips: Count
    confidence: Number
    accuracy: Number


class Calibration(_Facts):
    """How far scores are probabilities; clips without speech have none and are left out."""

    nll: Figure
    """Negative log likelihood, in nats."""
    brier: Figure
    """Brier score over all labels, 0 to 2."""
    ece: Number
    """Expected calibration error of the best label, in ten bins of equal mass."""
    ece_null: Number
    """The mean ECE of a perfectly calibrated model with these scores: what chance alone makes."""
    ece_null_95: Number
    """Its 95% quantile; an ECE below it is no evidence against the calibration."""
    reliability: tuple[Bin, ...]
    """The bins of the ECE, in rising confidence."""


class Accepted(_Facts):
    """Answers at or above the review threshold."""

    clips: Count
    coverage: Figure
    """Share of all clips that is accepted."""
    precision: Figure | None
    """Share of the accepted that is right; none when nothing is accepted."""


class Curve(_Facts):
    """Coverage and risk at thresholds from 0 up, to the last that accepts a clip."""

    threshold: tuple[Number, ...]
    coverage: tuple[Number, ...]
    risk: tuple[Number, ...]
    """Share of the accepted that is wrong."""


class Selection(_Facts):
    """What the review threshold does to one set."""

    all: Accepted
    by_corpus: dict[str, Accepted]
    fallback: Accepted
    """The same at the fallback threshold."""
    curve: Curve


class Confusion(_Facts):
    """Clips by truth (row) and label given (column)."""

    counts: tuple[tuple[Count, ...], ...]
    """The last column is clips without speech."""
    by_row: tuple[tuple[Number, ...], ...]
    """Shares of each row: the diagonal is recall. A label the set hasn't is a row of zeros."""
    by_column: tuple[tuple[Number, ...], ...]
    """Shares of each column: the diagonal is precision. Clips without speech have no share."""


class SetFigures(_Facts):
    """One set, at the calibrated temperature."""

    labels: tuple[str, ...]
    """Labels that the set has."""
    speakers: Count
    pooled: Headline
    corpora_mean: Means
    by_corpus: dict[str, Headline]
    by_speaker: dict[str, Headline]
    by_class: dict[str, ClassFigures]
    confusion: Confusion
    masked: Headline | None
    """With the probability of labels that the set hasn't set to 0 and the rest renormalised: what
    a caller gets who knows that they cannot occur. None where the set has all labels."""
    uncalibrated: Calibration
    """At temperature 1."""
    served: Calibration
    """At the calibrated temperature. It was fitted on one of the sets, whose figures flatter."""
    cross_fitted: Calibration | None
    """Each speaker at a temperature fitted on the others; only of the set it is fitted on."""
    selection: Selection


class Threshold(_Facts):
    """The review threshold and how it was come by."""

    value: Number
    target_risk: Number
    """Share of wrong answers among the accepted that is allowed."""
    risk_bound: Number | None
    """Upper end of the 95% one-sided interval of the risk at the threshold; None: no
    threshold was shown to keep the target, and the value is the fallback."""
    cross_fitted: Accepted | None
    """Each speaker accepted by a threshold chosen on the others: what the choice is worth on
    strangers. None where there are too few speakers."""


class NoiseCondition(_Facts):
    """All clips of a set with one kind of noise mixed in."""

    noise: str
    """`clean`, or the noise."""
    snr_db: Number | None
    """Over the speech; None: clean."""
    figures: Headline
    accepted: Accepted


class Noise(_Facts):
    """What noise that training never heard does to one set."""

    set: str
    conditions: tuple[NoiseCondition, ...]
    pooled: tuple[NoiseCondition, ...]
    """All noises together at each SNR; their `noise` is `all`."""


class Probe(_Facts):
    """How well the corpus of a clip can be told from the model's logits.

    A logistic regression, classes balanced, on the clip's mean logits; a speaker is never in both
    its halves. Corpora with one speaker are left out, since it would have to be.
    """

    clips: Count
    corpora: tuple[str, ...]
    balanced_accuracy: Number
    chance: Number
    recall: dict[str, Number]


class Confounds(_Facts):
    """What the figures of one set depend on besides the emotion."""

    by_sex: dict[str, dict[str, Headline]]
    """By corpus, then by the speaker's sex; of clips whose speaker's sex is known."""
    by_sentence: dict[str, dict[str, Headline]]
    """By corpus, where some sentences are said in every emotion (`shared`) and others aren't
    (`other`): of the latter the words can give the emotion away."""
    recall_by_corpus: dict[str, dict[str, Figure]]
    """By label, then by corpus."""


class Evaluation(_Facts):
    """All figures of one bundle, of the served score of whole clips."""

    format: int = FORMAT
    name: str
    version: str
    precision: str
    """Of the weights that were measured: fp32 or int8."""
    architecture: str
    """As transformers names the type of model: wav2vec2, hubert …"""
    parameters: Count
    labels: tuple[str, ...]
    """In the order of the confusion's rows."""
    temperature: Number
    fitted_on: str
    """The set that temperature and threshold were fitted on."""
    threshold: Threshold
    sets: dict[str, SetFigures]
    confounds: dict[str, Confounds]
    probe: Probe | None
    """Of speakers of training and measured ones together; None: too few of them."""
    noise: Noise | None
    """None: not asked for."""
    reference: dict[str, JsonValue]
    """Statistics of inputs and answers, to measure drift against."""
    resamples: Count
    """Of the bootstrap behind every interval."""


def json_schema() -> str:
    """Give the JSON Schema of evaluation.json as text; docs/evaluation.schema.json is a copy."""
    return json.dumps(Evaluation.model_json_schema(), indent=2) + "\n"
