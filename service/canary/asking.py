"""Both sides are asked about a golden set, clip by clip and in turns: alike in whatever varies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from service.canary.golden import GoldenSet, require_unseen
from service.canary.observations import NO_SPEECH, Golden, Scores, Side
from service.client import Client
from service.contract import TRACK, Classification, ModelFacts
from service.domain import TimbreError, Track

JOBS = 2
"""Clips at a time, of each side one: more would measure how they queue."""


class NotAnswered(TimbreError):
    """A clip of the set was not answered, or not by the model that was asked."""

    slug = "not-answered"
    title = "A clip was not answered"


@dataclass(frozen=True, slots=True)
class Asked:
    """What both sides said, and what must be known of the set."""

    golden: Golden
    stable: ModelFacts
    candidate: ModelFacts
    notes: tuple[str, ...]


class Asker:
    """Asks a stable and a candidate server; calls block."""

    def __init__(
        self,
        stable_url: str,
        candidate_url: str,
        *,
        token: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Take their URLs; nothing is sent yet.

        Raises:
            Unreachable: one is no http or https URL.
            TokenError: no header can carry the token, or the file cannot be used.
        """
        # The header also tells a server that the clip is not live traffic.
        self._stable, self._candidate = (
            Client(url, token=token, headers={TRACK: track.value}, transport=transport)
            for url, track in ((stable_url, Track.STABLE), (candidate_url, Track.CANARY))
        )

    def close(self) -> None:
        """Close the connections."""
        self._stable.close()
        self._candidate.close()

    def models(self) -> tuple[ModelFacts, ModelFacts]:
        """Ask what stable and the candidate serve.

        Raises:
            Unreachable, Refused.
        """
        return self._stable.model(), self._candidate.model()

    def ask(self, opened: GoldenSet, progress: Callable[[], None] = lambda: None) -> Asked:
        """Send every clip to both, each first in turn; `progress` is called a clip and side.

        Raises:
            Unreachable, Refused: by one of them.
            NotAnswered: any of the clips, or by another model.
            GoldenError: a model was made with the set, or a clip has changed.
        """
        stable, candidate = self.models()
        notes = [
            note
            for who, facts in (("stable", stable), ("the candidate", candidate))
            for note in _checked(opened, f"{who} ({facts.name} {facts.version})", facts)
        ]
        said = self._all(opened, stable, candidate, progress)
        return Asked(_golden(opened, said, (stable, candidate)), stable, candidate, tuple(notes))

    def _all(
        self,
        opened: GoldenSet,
        stable: ModelFacts,
        candidate: ModelFacts,
        progress: Callable[[], None],
    ) -> Sequence[tuple[Classification, Classification]]:
        """Give stable's and the candidate's answer to each clip, in the set's order."""
        clips = opened.manifest.clips
        sides = ((self._stable, stable), (self._candidate, candidate))
        # An even clip goes to stable first, an odd one to the candidate: with two at a time both
        # have it at once, and neither is always the one that finds the machine at rest.
        turns = [(number, (number + turn) % 2) for number in range(len(clips)) for turn in (0, 1)]

        def answer(number: int, side: int) -> Classification:
            client, facts = sides[side]
            clip = clips[number]
            data = opened.data(clip)
            try:
                said = client.classification(data)
            except TimbreError as error:
                raise NotAnswered(
                    f"{clip.file} was not answered by {client.url}: {error}"
                ) from error
            if (said.model.name, said.model.version) != (facts.name, facts.version):
                raise NotAnswered(
                    f"{clip.file} was answered by {said.model.name} {said.model.version} and not "
                    f"by {facts.name} {facts.version} of {client.url}: by its fallback, or behind "
                    "a gateway that sends clips to either side."
                )
            return said

        with ThreadPoolExecutor(JOBS) as pool:
            futures = {turn: pool.submit(answer, *turn) for turn in turns}
            try:
                answers = {}
                for turn, future in futures.items():
                    answers[turn] = future.result()
                    progress()
            finally:
                pool.shutdown(cancel_futures=True)
        return [(answers[number, 0], answers[number, 1]) for number in range(len(clips))]


def side_of(facts: ModelFacts) -> Side:
    """Tell a side by one server, where nobody else is asked."""
    return Side(
        versions=(facts.version,),
        digests=(facts.digest,),
        precisions=(facts.precision,),
        cpu_features=(",".join(facts.cpu_features),),
        pods=1,
    )


def _checked(opened: GoldenSet, who: str, facts: ModelFacts) -> list[str]:
    """Say what is to be known of a set for a model, or refuse it."""
    notes = require_unseen(opened, who, facts.data)
    if unknown := sorted(set(opened.manifest.labels) - set(facts.labels)):
        notes.append(f"{who} doesn't know the golden set's {', '.join(unknown)}.")
    if unasked := sorted(set(facts.labels) - {clip.label for clip in opened.manifest.clips}):
        notes.append(
            f"The golden set has no clips of {', '.join(unasked)}, so nothing is said of how well "
            f"{who} hears that."
        )
    return notes


def _golden(
    opened: GoldenSet,
    said: Sequence[tuple[Classification, Classification]],
    models: tuple[ModelFacts, ModelFacts],
) -> Golden:
    manifest = opened.manifest
    # The set's labels, and after them those that only a model knows.
    labels = tuple(dict.fromkeys([*manifest.labels, *(x for m in models for x in m.labels)]))
    stable, candidate = ([both[side] for both in said] for side in (0, 1))
    return Golden(
        version=opened.title,
        labels=labels,
        truth=tuple(clip.label for clip in manifest.clips),
        speakers=tuple(clip.speaker for clip in manifest.clips),
        stable=tuple(answer.label or NO_SPEECH for answer in stable),
        candidate=tuple(answer.label or NO_SPEECH for answer in candidate),
        stable_probabilities=_matrix(stable, labels),
        candidate_probabilities=_matrix(candidate, labels),
        stable_s=_seconds(stable),
        candidate_s=_seconds(candidate),
    )


def _matrix(said: Sequence[Classification], labels: Sequence[str]) -> Scores:
    return np.array([_row(answer.probabilities, labels) for answer in said], dtype=np.float64)


def _row(probabilities: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    return [probabilities.get(label, 0.0) for label in labels]


def _seconds(said: Sequence[Classification]) -> Scores:
    return np.array([answer.timing_ms.total / 1000 for answer in said], dtype=np.float64)
