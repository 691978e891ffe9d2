"""Gather what is known of both sides, judge it, and look again while it is too little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias

from service.access import TokenError
from service.canary import live
from service.canary.asking import Asked, Asker, NotAnswered, side_of
from service.canary.golden import GoldenError, GoldenSet
from service.canary.live_checks import FEWEST_BLOCKS
from service.canary.observations import Observations
from service.canary.pods import Names, NothingThere, Seen, first_start, see
from service.canary.prometheus import Prometheus
from service.canary.verdict import Outcome, Verdict
from service.client import Refused, Unreachable
from service.contract import ModelFacts
from service.domain import TimbreError

LOOK_EVERY_S = 15.0
"""Between two looks while somebody waits for a verdict."""

Judge: TypeAlias = Callable[[Observations, int], Verdict]
"""Tells of observations, at a weight in percent, whether the candidate may go on."""


Progress: TypeAlias = Callable[[int], AbstractContextManager[Callable[[], None]]]
"""Shows how far it is: given how many steps there are, it gives what is called at each."""


@contextmanager
def nobody_looks(_steps: int) -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


class Mistaken(TimbreError):
    """The sources are not of the same two models."""

    slug = "mistaken"
    title = "The sources are of different models"


@dataclass(frozen=True, slots=True)
class Watching:
    """What Prometheus is asked."""

    prometheus: Prometheus
    names: Names
    block_s: float
    since_s: float | None = None
    """None: when the candidate first started."""


@dataclass(frozen=True, slots=True)
class Examining:
    """Who is asked about which golden set."""

    asker: Asker
    opened: GoldenSet
    progress: Progress = nobody_looks


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, with what it is made of; without, where a side wasn't there to be looked at."""

    at: datetime
    verdict: Verdict
    observations: Observations | None


class Comparison:
    """Two sides that are compared; one thread at a time.

    The golden set is sent once, and again only where a side has come to be another version. A
    candidate of the same bundle may differ in its image and in settings that no server tells, so
    one whose first server started at another time is another, too.
    """

    def __init__(
        self, *, watching: Watching | None = None, examining: Examining | None = None
    ) -> None:
        """Take one source at least."""
        self._watching = watching
        self._examining = examining
        self._asked: Asked | None = None
        self._asked_of: _Versions | None = None

    def observations(self) -> Iterator[Observations]:
        """Gather, first what is known at once; the last has everything.

        Raises:
            NothingThere: a side has no pods.
            Mistaken: the golden set would be answered by other models than the pods serve.
            TimbreError: a source doesn't answer; of two, Prometheus.
        """
        if self._watching is None:
            asked = self._ask()
            if asked is None:
                raise NothingThere("Neither Prometheus nor servers are given.")
            yield Observations(
                side_of(asked.stable),
                side_of(asked.candidate),
                golden=asked.golden,
                notes=asked.notes,
            )
            return
        watched = _watched(self._watching)
        yield watched
        try:
            asked = self._ask(watched)
        except (Unreachable, Refused, NotAnswered, TokenError) as error:
            # A candidate that crashes answers nothing, and its restarts are known all the same.
            yield replace(watched, notes=(f"The golden set is open: {error}", *watched.notes))
            return
        if asked is not None:
            yield replace(watched, golden=asked.golden, notes=(*asked.notes, *watched.notes))

    def observe(self) -> Observations:
        """Gather everything.

        Raises:
            TimbreError: as `observations`.
        """
        *_, everything = self.observations()
        return everything

    def look(self, judge: Judge, weight: int) -> Finding:
        """Gather and judge; a side that isn't there makes it inconclusive.

        Raises:
            TimbreError: as `observe`, but for NothingThere.
        """
        try:
            observations = self.observe()
        except NothingThere as error:
            return Finding(_now(), undecided(weight, str(error)), None)
        return Finding(_now(), judge(observations, weight), observations)

    def _ask(self, watched: Observations | None = None) -> Asked | None:
        """Give the golden set's answers, of the sides that are watched if any are.

        None where there is no golden set.
        """
        examining = self._examining
        if examining is None:
            return None
        models = examining.asker.models()
        sides = (None, None) if watched is None else (watched.stable, watched.candidate)
        for who, facts, side in zip(("Stable", "The candidate"), models, sides, strict=True):
            if side is not None and facts.digest not in side.digests:
                raise Mistaken(
                    f"{who}'s address serves {facts.name} {facts.version} ({facts.digest[:19]}), "
                    "and its pods something else: a wrong address, or a rollout under way."
                )
        versions = _Versions.of(models, None if watched is None else watched.started_s)
        asked = self._asked
        if asked is None or self._asked_of != versions:
            with examining.progress(2 * len(examining.opened.manifest.clips)) as advance:
                self._asked = asked = examining.asker.ask(examining.opened, advance)
            self._asked_of = versions
        return asked


@dataclass(frozen=True, slots=True)
class _Versions:
    """Which two versions are compared, by what all pods of one tell alike."""

    facts: tuple[tuple[str, ...], ...]
    started_s: float | None

    @classmethod
    def of(cls, models: Sequence[ModelFacts], started_s: float | None) -> _Versions:
        """Leave out what a machine decides: behind one address may be several."""
        facts = tuple(
            (each.name, each.version, each.digest, each.runtime, each.precision) for each in models
        )
        return cls(facts, started_s)


def _watched(watching: Watching) -> Observations:
    """Gather what Prometheus has."""
    prometheus, names = watching.prometheus, watching.names
    now_s = prometheus.now()
    stable = see(prometheus, names.namespace, names.stable, now_s)
    if stable.down == stable.there:
        # Where nobody answers, it may be Prometheus that cannot ask.
        raise NothingThere("No pod of stable answers Prometheus, so the candidate's tell nothing.")
    candidate = see(prometheus, names.namespace, names.candidate, now_s)
    notes = []
    baseline = _baseline(watching, stable, now_s)
    if baseline is stable:
        notes.append(
            "There is no baseline that serves what stable does: live traffic is compared with "
            "stable itself, which is older and warmer."
        )
    started_s = first_start(prometheus, candidate, now_s)
    since_s = started_s if watching.since_s is None else watching.since_s
    edges_s = live.edges(since_s, now_s, watching.block_s)
    if edges_s[0] > since_s:
        notes.append(f"Only the newest {edges_s.size - 1} blocks were looked at.")
    return Observations(
        stable.side,
        candidate.side,
        pairs=live.pairs(prometheus, stable, candidate, edges_s),
        live=live.live(prometheus, baseline, candidate, edges_s),
        notes=tuple(notes),
        started_s=started_s,
    )


def _baseline(watching: Watching, stable: Seen, now_s: float) -> Seen:
    """Find the fresh copy of stable, or stable where there is none."""
    names = watching.names
    try:
        found = see(watching.prometheus, names.namespace, names.baseline, now_s)
    except NothingThere:
        return stable
    return found if found.side.digests == stable.side.digests else stable


def own_blocks_s(block_s: float) -> float:
    """Tell after how many seconds there are as many new blocks as are judged at all."""
    return (FEWEST_BLOCKS + 1) * block_s + live.SETTLED_S


def wait(
    look: Callable[[], Finding],
    wait_s: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    pass_after_s: float = 0.0,
) -> Finding:
    """Look until it is decided or `wait_s` seconds are over; what fails is tried again till then.

    Args:
        look: gathers and judges.
        wait_s: how long.
        clock: in seconds.
        sleep: waits for so many.
        pass_after_s: before so many seconds a pass decides nothing, as it may be of what was before
            the candidate had the share of the clips that it has now. A failure does at once.

    Raises:
        TimbreError: the last look's; at once where the golden set is one not to be used.
    """
    begin = clock()
    while True:
        waited = clock() - begin
        try:
            finding = look()
        except GoldenError:  # waiting makes it no better
            raise
        except TimbreError:
            if waited >= wait_s:
                raise
        else:
            decided = {
                Outcome.PASS: waited >= pass_after_s,
                Outcome.FAIL: True,
                Outcome.INCONCLUSIVE: False,
            }
            if waited >= wait_s or decided[finding.verdict.outcome]:
                return finding
        sleep(max(0.0, min(LOOK_EVERY_S, begin + wait_s - clock())))


def undecided(weight: int, reason: str) -> Verdict:
    """Make the verdict of what could not be looked at."""
    return Verdict(Outcome.INCONCLUSIVE, weight, reason, ())


def _now() -> datetime:
    return datetime.now(UTC)
