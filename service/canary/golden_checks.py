"""What a labelled set says of a candidate. One look: its clips don't grow in number. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from service.canary.observations import Golden, Scores
from service.canary.policy import CheckName, Policy
from service.canary.statistics import (
    FEWEST_CLUSTERS,
    Estimate,
    Metric,
    Places,
    Sums,
    accuracy,
    at_least,
    by_cluster,
    calibrated_ece,
    confusion,
    discordance_error,
    draw,
    ece,
    macro_f1,
    mcnemar,
    paired,
    recalls,
    surpluses,
    uar,
    weights,
)
from service.canary.verdict import Check, Outcome, Source
from service.canary.weighing import Question, non_inferior, too_few

NAMES = {
    CheckName.ACCURACY: "accuracy",
    CheckName.MACRO_F1: "macro-F1",
    CheckName.UAR: "unweighted average recall",
    CheckName.RECALL: "recall",
    CheckName.ECE: "calibration error (ECE)",
    CheckName.GOLDEN_LATENCY: "time an answer",
}


class GoldenChecks:
    """The checks of one golden set; what they share is computed once."""

    def __init__(self, golden: Golden, policy: Policy, weight: int) -> None:
        """Lay the answers out by speaker."""
        self._golden, self._policy, self._weight = golden, policy, weight
        places = {label: place for place, label in enumerate(golden.labels)}
        none = len(places)
        self._truth: Places = np.array([places[label] for label in golden.truth], np.intp)
        self._answers: list[Places] = [
            np.array([places.get(label, none) for label in side], np.intp)
            for side in (golden.stable, golden.candidate)
        ]
        self._speakers = len(set(golden.speakers))
        self._weights = weights(self._speakers, policy.resamples, policy.seed)
        self._tables = [self._draw(confusion(self._truth, side, none)) for side in self._answers]

    def __call__(self) -> Iterator[tuple[CheckName, Check]]:
        """Give every check."""
        yield CheckName.ACCURACY, self._accuracy()
        for name, metric in ((CheckName.MACRO_F1, macro_f1), (CheckName.UAR, uar)):
            yield name, self._mean(name, metric)
        # A label that only a model knows has no clips to be right about.
        for place in np.unique(self._truth):
            yield CheckName.RECALL, self._recall(int(place), self._golden.labels[place])
        yield CheckName.ECE, self._ece()
        yield CheckName.GOLDEN_LATENCY, self._latency()

    def _question(self, name: CheckName, *, more_is_better: bool) -> Question:
        return Question(
            name=name,
            source=Source.GOLDEN,
            what=NAMES[name],
            margin=self._policy.checks[name].margin,
            samples=self._truth.size,
            needed=self._policy.needed(name, self._weight),
            false_pass=self._policy.false_pass,
            alpha=self._policy.share_of_alpha,
            more_is_better=more_is_better,
        )

    def _check(self, question: Question, measured: Callable[[], Estimate]) -> Check:
        if few := too_few(question):
            return few
        if self._speakers < FEWEST_CLUSTERS:
            return question.said(
                Outcome.INCONCLUSIVE,
                "All clips of the golden set are of one speaker, which says nothing of others; "
                "give clips of several, and name them.",
            )
        return non_inferior(question, measured())

    def _paired(self, metric: Metric, samples: int) -> Estimate:
        stable, candidate = self._tables
        return paired(stable, candidate, metric, samples)

    def _draw(self, values: Scores) -> Sums:
        return draw(by_cluster(self._golden.speakers, values), self._weights)

    def _accuracy(self) -> Check:
        gained, lost, clips = self._flips()
        check = self._check(
            self._question(CheckName.ACCURACY, more_is_better=True),
            lambda: at_least(self._paired(accuracy, clips), discordance_error(gained, lost, clips)),
        )
        if check.effect is None:
            return check
        return replace(
            check,
            reason=f"{check.reason} {gained} clips turn right and {lost} wrong (exact McNemar "
            f"p = {mcnemar(gained, lost):.2g}).",
        )

    def _mean(self, name: CheckName, metric: Metric) -> Check:
        """Judge a mean over labels; a flip moves F1 about as it moves recall."""
        errors = [discordance_error(*self._flips(int(label))) for label in np.unique(self._truth)]
        return self._check(
            self._question(name, more_is_better=True),
            lambda: at_least(
                self._paired(metric, self._truth.size),
                float(np.sqrt(np.square(errors).sum())) / len(errors),
            ),
        )

    def _flips(self, label: int | None = None) -> tuple[int, int, int]:
        """Clips (of a label) that turn right, that turn wrong, and all."""
        among = np.ones(self._truth.size, bool) if label is None else self._truth == label
        before, after = (side[among] == self._truth[among] for side in self._answers)
        return int((after & ~before).sum()), int((before & ~after).sum()), int(among.sum())

    def _recall(self, place: int, label: str) -> Check:
        gained, lost, clips = self._flips(place)
        question = replace(
            self._question(CheckName.RECALL, more_is_better=True),
            name=f"{CheckName.RECALL}_{label}",
            what=f"recall of {label}",
            samples=clips,
            alpha=self._policy.share_of_alpha / len(set(self._golden.truth)),
        )

        def measured() -> Estimate:
            estimate = self._paired(lambda table: recalls(table)[..., place], clips)
            return at_least(estimate, discordance_error(gained, lost, clips))

        return self._check(question, measured)

    def _ece(self) -> Check:
        golden = self._golden
        confidence = [
            side.max(axis=1)
            for side in (golden.stable_probabilities, golden.candidate_probabilities)
        ]
        sums = [
            self._draw(surpluses(score, answers == self._truth))
            for score, answers in zip(confidence, self._answers, strict=True)
        ]
        check = self._check(
            self._question(CheckName.ECE, more_is_better=False),
            lambda: paired(sums[0], sums[1], ece, self._truth.size),
        )
        if check.effect is None:
            return check
        shown = float(ece(sums[1].total))
        chance = calibrated_ece(confidence[1], self._policy.seed)
        return replace(
            check,
            reason=f"{check.reason} It is {shown:.3f}; a perfectly calibrated model would show "
            f"{chance:.3f} on these clips.",
        )

    def _latency(self) -> Check:
        question = self._question(CheckName.GOLDEN_LATENCY, more_is_better=False)
        if few := too_few(question):
            return few
        before, after = (
            float(np.median(side)) for side in (self._golden.stable_s, self._golden.candidate_s)
        )
        return replace(
            question.said(
                Outcome.PASS,
                f"For information: half of the candidate's answers took at most {1e3 * after:.0f} "
                f"ms, stable's {1e3 * before:.0f} ms; this decides nothing.",
                after / before if before > 0 else None,
            ),
            unit="ratio",
            margin=None,
        )
