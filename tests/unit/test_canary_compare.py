"""A comparison: which sources it takes together, and how long it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from service.canary import compare
from service.canary.asking import Asked, Asker
from service.canary.compare import (
    LOOK_EVERY_S,
    Comparison,
    Examining,
    Finding,
    Mistaken,
    Watching,
    own_blocks_s,
    undecided,
    wait,
)
from service.canary.golden import Clip, GoldenError, GoldenSet, Manifest
from service.canary.live import edges
from service.canary.live_checks import FEWEST_BLOCKS
from service.canary.observations import Observations
from service.canary.pods import Names, NothingThere
from service.canary.prometheus import Prometheus, PrometheusFailed
from service.canary.verdict import Outcome
from service.client import Unreachable
from service.contract import ModelFacts
from tests.support.answers import FACTS
from tests.support.findings import CANDIDATE, GOLDEN, OBSERVATIONS, STABLE, finding

NAMES = Names.of_release("audio", "timbre")


class Asking:
    """Who would ask two servers."""

    def __init__(self) -> None:
        self.asked = 0
        self.stable = FACTS.model_copy(update={"digest": STABLE.digests[0]})
        self.candidate = FACTS.model_copy(update={"digest": CANDIDATE.digests[0]})

    def models(self) -> tuple[ModelFacts, ModelFacts]:
        return self.stable, self.candidate

    def ask(self, _opened: GoldenSet, _progress: object) -> Asked:
        self.asked += 1
        return Asked(GOLDEN, self.stable, self.candidate, ("of the set",))


@pytest.fixture
def asking() -> Asking:
    """Two servers."""
    return Asking()


@pytest.fixture
def examining(asking: Asking, tmp_path_factory: pytest.TempPathFactory) -> Examining:
    """A set to ask them about."""
    clip = Clip(file="a.wav", sha256="0" * 64, label="sad", speaker="ann")
    manifest = Manifest(format=1, name="s", version="1", labels=("sad", "calm"), clips=(clip,))
    opened = GoldenSet(tmp_path_factory.getbasetemp(), manifest, "0" * 64)
    return Examining(cast("Asker", asking), opened)


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    """A Prometheus that has observed something."""
    observed = replace(OBSERVATIONS, golden=None)
    monkeypatch.setattr(compare, "_watched", lambda _watching: observed)
    return Watching(Prometheus("http://prometheus"), NAMES, 60)


class TestSources:
    """What is taken together."""

    def test_servers_alone_tell_their_sides(self, examining: Examining) -> None:
        """And nothing of traffic."""
        seen = Comparison(examining=examining).observe()
        assert (seen.stable.digests, seen.stable.pods) == (STABLE.digests, 1)
        assert (seen.golden, seen.pairs, seen.live) == (GOLDEN, None, None)
        assert seen.notes == ("of the set",)

    def test_prometheus_tells_the_sides_of_both(
        self, watching: Watching, examining: Examining
    ) -> None:
        """With notes of both sources."""
        seen = Comparison(watching=watching, examining=examining).observe()
        assert (seen.stable, seen.candidate) == (STABLE, CANDIDATE)
        assert (seen.golden, seen.pairs, seen.live) == (
            GOLDEN,
            OBSERVATIONS.pairs,
            OBSERVATIONS.live,
        )
        assert seen.notes == ("of the set", *OBSERVATIONS.notes)

    def test_what_prometheus_knows_is_told_before_the_set_is_sent(
        self, watching: Watching, examining: Examining, asking: Asking
    ) -> None:
        """Sending takes minutes, in which a candidate may crash; the last has all."""
        told = Comparison(watching=watching, examining=examining).observations()
        assert (next(told).golden, asking.asked) == (None, 0)
        assert ([each.golden for each in told], asking.asked) == ([GOLDEN], 1)

    def test_the_set_is_sent_once_a_pair_of_models(
        self, examining: Examining, asking: Asking
    ) -> None:
        """And anew to another; what a pod's machine decides makes none."""
        comparison = Comparison(examining=examining)
        changes: tuple[dict[str, object], ...] = (
            {"digest": "sha256:other"},
            {"version": "9.9.9"},
            {"precision": "int8"},
        )
        for times, change in enumerate(({}, *changes), 1):
            asking.candidate = asking.candidate.model_copy(update=change)
            for threads in (2, 4, 2):
                asking.candidate = asking.candidate.model_copy(update={"threads": threads})
                comparison.observe()
            assert asking.asked == times

    def test_the_set_is_sent_to_each_candidate(
        self,
        watching: Watching,
        examining: Examining,
        asking: Asking,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Another image, or another setting, tells of itself by when its first server started."""
        comparison = Comparison(watching=watching, examining=examining)
        for times, started_s in enumerate((1000.0, 2000.0), 1):
            observed = replace(OBSERVATIONS, golden=None, started_s=started_s)
            monkeypatch.setattr(compare, "_watched", lambda _, observed=observed: observed)
            for _ in range(3):
                comparison.observe()
            assert asking.asked == times

    def test_a_server_that_is_no_pod_of_the_side_is_a_mistake(
        self, watching: Watching, examining: Examining, asking: Asking
    ) -> None:
        """Its answers would be of another model than the traffic."""
        asking.candidate = asking.candidate.model_copy(update={"digest": "sha256:other"})
        with pytest.raises(Mistaken, match="The candidate's address serves tiny"):
            Comparison(watching=watching, examining=examining).observe()
        assert asking.asked == 0

    def test_a_candidate_that_answers_nothing_is_judged_by_what_else_is_known(
        self, watching: Watching, examining: Examining, asking: Asking
    ) -> None:
        """It may crash, which Prometheus knows; a note says what is open."""

        def nobody() -> tuple[ModelFacts, ModelFacts]:
            raise Unreachable("No Timbre server answers there.")

        asking.models = nobody  # type: ignore[method-assign]
        seen = Comparison(watching=watching, examining=examining).observe()
        assert (seen.golden, seen.live) == (None, OBSERVATIONS.live)
        assert seen.notes[0] == "The golden set is open: No Timbre server answers there."
        with pytest.raises(Unreachable):
            Comparison(examining=examining).observe()

    def test_a_side_that_is_not_there_is_inconclusive(
        self, watching: Watching, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may come."""

        def nobody(_: Watching) -> Observations:
            raise NothingThere("No pods.")

        monkeypatch.setattr(compare, "_watched", nobody)
        found = Comparison(watching=watching).look(lambda *_: finding().verdict, 10)
        assert found.verdict == undecided(10, "No pods.")
        assert found.verdict.outcome is Outcome.INCONCLUSIVE
        assert found.observations is None

    def test_what_is_observed_is_judged_at_the_weight(self, watching: Watching) -> None:
        """By whoever judges."""
        found = Comparison(watching=watching).look(
            lambda seen, weight: undecided(weight, seen.stable.versions[0]), 25
        )
        assert (found.verdict.weight, found.verdict.reason) == (25, "1.0.0")


@dataclass
class Time:
    """A clock that sleeping moves."""

    now: float = 100.0
    sleeps: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move it."""
        self.sleeps.append(seconds)
        self.now += seconds


OPEN = finding(Outcome.INCONCLUSIVE)
GONE = PrometheusFailed("gone")


def failing() -> Finding:
    """Look in vain."""
    raise GONE


class TestWait:
    """How long it looks."""

    @pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
    def test_it_ends_when_it_is_decided(self, outcome: Outcome) -> None:
        """Well or badly."""
        time, found = Time(), iter([OPEN, OPEN, finding(outcome)])
        told = wait(lambda: next(found), 3600, clock=time, sleep=time.sleep)
        assert told.verdict.outcome is outcome
        assert time.sleeps == [LOOK_EVERY_S] * 2

    @pytest.mark.parametrize(
        ("outcome", "waited_s", "ended_s"),
        [
            (Outcome.PASS, 3600, 45),
            (Outcome.PASS, 20, 20),
            (Outcome.PASS, 0, 0),
            (Outcome.FAIL, 3600, 0),
        ],
    )
    def test_a_pass_of_what_was_before_decides_nothing(
        self, outcome: Outcome, waited_s: float, ended_s: float
    ) -> None:
        """For so long, or until time is up; a failure does."""
        time = Time()
        told = wait(
            lambda: finding(outcome), waited_s, clock=time, sleep=time.sleep, pass_after_s=40
        )
        assert told.verdict.outcome is outcome
        assert time.now - 100 == ended_s

    def test_blocks_are_new_once_they_all_began_after(self) -> None:
        """However the moment lies between their edges, and the last is settled."""
        for begin_s in range(1000, 1060):
            until_s = begin_s + own_blocks_s(60)
            new = edges(700, until_s, 60)
            assert FEWEST_BLOCKS <= (new >= begin_s).sum() - 1 <= FEWEST_BLOCKS + 1

    def test_it_ends_when_time_is_up(self) -> None:
        """With a last look then."""
        time, times = Time(), []

        def look() -> Finding:
            times.append(time.now - 100)
            return OPEN

        assert wait(look, 40, clock=time, sleep=time.sleep) is OPEN
        assert times == [0, 15, 30, 40]

    def test_without_waiting_it_looks_once(self) -> None:
        """Whatever it finds."""
        time = Time()
        assert wait(lambda: OPEN, 0, clock=time, sleep=time.sleep) is OPEN
        assert time.sleeps == []
        with pytest.raises(PrometheusFailed):
            wait(failing, 0, clock=time, sleep=time.sleep)

    def test_what_fails_is_tried_again(self) -> None:
        """For as long as there is time."""
        time = Time()
        steps: Iterator[Callable[[], Finding]] = iter([failing, lambda: finding(Outcome.PASS)])

        def look() -> Finding:
            return next(steps)()

        assert wait(look, 60, clock=time, sleep=time.sleep).verdict.outcome is Outcome.PASS
        with pytest.raises(PrometheusFailed):
            wait(failing, 60, clock=time, sleep=time.sleep)

    def test_a_set_that_is_not_to_be_used_is_not_waited_for(self) -> None:
        """It stays one that a model was trained on."""
        time = Time()

        def look() -> Finding:
            raise GoldenError("seen")

        with pytest.raises(GoldenError):
            wait(look, 60, clock=time, sleep=time.sleep)
        assert time.sleeps == []
