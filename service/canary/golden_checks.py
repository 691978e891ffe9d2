"""What a labelled set says of a candidate. One look: its clips don't grow in number. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
        self._speakers = np.array(golden.speakers)
        self._everything = np.ones(self._truth.size, bool)
        self._tables = self._drawn(self._everything)

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

    def _check(
        self, question: Question, speakers: int, clips: str, measured: Callable[[], Estimate]
    ) -> Check:
        """Judge a figure of so many speakers; `clips` says whose they are, in a sentence."""
        if few := too_few(question):
            return few
        if speakers < FEWEST_CLUSTERS:
            return question.said(
                Outcome.INCONCLUSIVE,
                f"All clips {clips} are of one speaker, which says nothing of others; give clips "
                "of several, and name them.",
            )
        return non_inferior(question, measured())

    def _drawn(self, among: NDArray[np.bool_]) -> tuple[Sums, Sums]:
        """Draw both sides' confusions of some of the clips, of the speakers who have such."""
        labels = len(self._golden.labels)
        return self._draw([confusion(self._truth, side, labels) for side in self._answers], among)

    def _draw(self, values: Sequence[Scores], among: NDArray[np.bool_]) -> tuple[Sums, Sums]:
        weighed = weights(self._heard(among), self._policy.resamples, self._policy.seed)
        speakers = self._speakers[among]
        before, after = (draw(by_cluster(speakers, side[among]), weighed) for side in values)
        return before, after

    def _heard(self, among: NDArray[np.bool_]) -> int:
        """Count the speakers of some of the clips."""
        return np.unique(self._speakers[among]).size

    def _accuracy(self) -> Check:
        gained, lost, clips = self._flips()
        check = self._check(
            self._question(CheckName.ACCURACY, more_is_better=True),
            self._heard(self._everything),
            "of the golden set",
            lambda: at_least(
                paired(*self._tables, accuracy, clips), discordance_error(gained, lost, clips)
            ),
        )
        if check.effect is None:
            return check
        return replace(
            check,
            reason=f"{check.reason} {gained} clips turn right and {lost} wrong (exact McNemar "
            f"p = {mcnemar(gained, lost):.2g}).",
        )

    def _mean(self, name: CheckName, metric: Metric) -> Check:
        """Judge a mean over labels; a flip moves F1 about as it moves recall.

        How sure it is of other speakers is decided by the label that the fewest have: each weighs
        as much as any other.
        """
        labels = [int(label) for label in np.unique(self._truth)]
        errors = [discordance_error(*self._flips(label)) for label in labels]
        speakers, rarest = min((self._heard(self._truth == label), label) for label in labels)
        return self._check(
            self._question(name, more_is_better=True),
            speakers,
            f"of {self._golden.labels[rarest]}",
            lambda: at_least(
                paired(*self._tables, metric, self._truth.size, speakers),
                float(np.sqrt(np.square(errors).sum())) / len(errors),
            ),
        )

    def _flips(self, label: int | None = None) -> tuple[int, int, int]:
        """Clips (of a label) that turn right, that turn wrong, and all."""
        among = self._everything if label is None else self._truth == label
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

        among = self._truth == place

        def measured() -> Estimate:
            # Of the label's clips those that are right, by the speakers who have any.
            estimate = paired(*self._drawn(among), accuracy, clips)
            return at_least(estimate, discordance_error(gained, lost, clips))

        return self._check(question, self._heard(among), f"of {label}", measured)

    def _ece(self) -> Check:
        golden = self._golden
        confidence = [
            side.max(axis=1)
            for side in (golden.stable_probabilities, golden.candidate_probabilities)
        ]
        sums = self._draw(
            [
                surpluses(score, answers == self._truth)
                for score, answers in zip(confidence, self._answers, strict=True)
            ],
            self._everything,
        )
        check = self._check(
            self._question(CheckName.ECE, more_is_better=False),
            self._heard(self._everything),
            "of the golden set",
            lambda: paired(*sums, ece, self._truth.size),
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
