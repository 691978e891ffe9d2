"""Servers that ended and didn't start again, as a real Prometheus with a written past has them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from service.canary.checks import judge
from service.canary.compare import Comparison, Watching
from service.canary.observations import Observations
from service.canary.pods import DOWN_S, Names, NothingThere
from service.canary.policy import load_policy
from service.canary.prometheus import Prometheus
from service.canary.verdict import Check, Outcome
from tests.support.past import AFTER, BEFORE, SAMPLES, SCRAPE_S, Past, remembering

pytestmark = pytest.mark.needs_prometheus

LIVED = 40
"""Samples of a server that ended: Prometheus, which was told of no end, has forgotten it by now."""
FAILING = int(DOWN_S / SCRAPE_S) + 1
"""Scrapes from the first to one that is `DOWN_S` later."""


@dataclass
class Written(Past):
    """A past in which targets answered scrapes or didn't."""

    def up(self, pod: str, answered: int, failed: int = 0, **labels: str) -> None:
        """Write that scrapes were answered, and then failed."""
        self.write("up", pod, [1.0] * answered + [0.0] * failed, late=0, **labels)

    def runs(self, pod: str, digest: str = AFTER, **labels: str) -> None:
        """Write a server that answers to the end."""
        self.server(pod, digest, [-50.0] * SAMPLES, late=0, **labels)
        self.up(pod, SAMPLES, 0, **labels)

    def ends(
        self, pod: str, digest: str = AFTER, *, lived: int = LIVED, failed: int | None = None
    ) -> None:
        """Write one that ended; its pod stays, or was there for so many scrapes more."""
        self.server(pod, digest, [-50.0] * lived)
        self.up(pod, lived, SAMPLES - lived if failed is None else failed)

    def comes(self, pod: str, late: int) -> None:
        """Write a server that starts after so many scrapes, and answers to the end."""
        self.server(pod, AFTER, [SCRAPE_S * late - 5.0] * (SAMPLES - late), late=late)
        self.write("up", pod, [1.0] * (SAMPLES - late), late=late)


def written(begin_s: float) -> Written:
    """Write what may happen to pods; the pods of a candidate begin with its name."""
    past = Written(begin_s)
    for pod in ("stable-1", "stable-2"):
        past.runs(pod, BEFORE)
    past.runs("fresh-1", BEFORE)
    past.runs("half-1", BEFORE)
    past.ends("half-2", BEFORE)
    past.ends("dead-1", BEFORE)

    past.ends("all-1")
    past.ends("all-2")
    past.runs("some-1")
    past.ends("some-2")
    past.runs("gone-1")
    past.ends("gone-2", failed=2)
    # Another came in the place of one that is still there: it isn't counted twice.
    past.ends("more-1")
    past.comes("more-2", LIVED + 4)
    # Taken by an autoscaler, a drain or an update, while clips were finished, and another came once
    # Prometheus had forgotten it.
    past.runs("taken-1")
    past.ends("taken-2", failed=FAILING - 1)
    past.comes("taken-3", LIVED + 24)
    # Failed before it was taken away, and another came, or didn't.
    past.runs("failed-1")
    past.ends("failed-2", failed=FAILING)
    past.comes("failed-3", LIVED + 8)
    past.runs("lost-1")
    past.ends("lost-2", failed=FAILING)
    past.up("lost-2", LIVED, FAILING, instance="sidecar")
    # Two jobs scraped it, of which one had it to the end.
    past.runs("both-1")
    past.ends("both-2", failed=FAILING)
    past.server("both-2", AFTER, [-50.0] * LIVED, job="kept")
    past.up("both-2", LIVED + FAILING, job="kept")
    past.runs("older-1")
    past.ends("older-2", "sha256:" + "c" * 64)
    past.runs("never-1")
    past.up("never-2", 0, SAMPLES)
    past.ends("long-1", lived=SAMPLES - FAILING)
    past.ends("short-1", lived=SAMPLES - FAILING + 1)
    # Beside the server: a sidecar, and a job that never had an answer.
    past.runs("beside-1")
    past.up("beside-1", LIVED, SAMPLES - LIVED, instance="sidecar")
    past.up("beside-1", 0, SAMPLES, job="wrong")
    # Ready again, a moment ago.
    past.server("again-1", AFTER, [-50.0] * (SAMPLES - 1) + [SCRAPE_S * (SAMPLES - 1.0) - 5.0])
    past.up("again-1", SAMPLES)
    # Two jobs, of which one lost it.
    past.runs("twice-1", job="kept")
    past.server("twice-1", AFTER, [-50.0] * LIVED, job="lost")
    past.up("twice-1", LIVED, SAMPLES - LIVED, job="lost")
    # A Prometheus that says of no target which pod it is.
    past.server("plain-1", AFTER, [-50.0] * LIVED)
    past.up("", LIVED, SAMPLES - LIVED, instance="plain-1:1")
    return past


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The Prometheus that has it; it ends now."""
    past = written(round(time.time()) - SCRAPE_S * (SAMPLES - 1.0))
    with remembering(past, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


def observed(
    prometheus: Prometheus, candidate: str, *, stable: str = "stable", baseline: str = "fresh"
) -> Observations:
    """Look at sides whose pods' names begin so."""
    names = Names("audio", f"{stable}-.", f"{candidate}-.", f"{baseline}-.")
    return Comparison(watching=Watching(prometheus, names, 60.0)).observe()


def restarts(seen: Observations) -> Check:
    """Judge them by the built-in policy, and give the check."""
    verdict = judge(seen, load_policy(), 1)
    (check,) = [check for check in verdict.checks if check.name == "restarts"]
    if check.outcome is Outcome.FAIL:
        assert verdict.outcome is Outcome.FAIL
    return check


@pytest.mark.parametrize(
    ("candidate", "pods", "down"),
    [
        ("all", 2, 2),
        ("some", 2, 1),
        ("gone", 1, 0),
        ("more", 2, 1),
        ("older", 1, 0),
        ("never", 1, 0),
        ("long", 1, 1),
        ("short", 1, 0),
        ("beside", 1, 0),
        ("twice", 1, 0),
    ],
)
def test_servers_that_are_down_fail_a_candidate(
    prometheus: Prometheus, candidate: str, pods: int, down: int
) -> None:
    """Those whose pods are there, that served this model, and that no scrape has had for a minute.

    Neither pods that were taken away, nor what never served, nor other programs of a pod.
    """
    seen = observed(prometheus, candidate)
    assert seen.live is not None
    assert (seen.candidate.digests, seen.candidate.pods) == ((AFTER,), pods)
    assert (seen.live.candidate.restarts, seen.live.candidate.down) == (0, down)
    assert (seen.live.baseline.restarts, seen.live.baseline.down) == (0, 0)
    assert restarts(seen).outcome is (Outcome.FAIL if down else Outcome.PASS)


@pytest.mark.parametrize(
    ("candidate", "ended"), [("taken", 0), ("failed", 1), ("lost", 1), ("both", 0)]
)
def test_a_pod_that_went_counts_if_it_was_down_before(
    prometheus: Prometheus, candidate: str, ended: int
) -> None:
    """One that ended in an orderly way doesn't, however soon another comes."""
    seen = observed(prometheus, candidate)
    assert seen.live is not None
    assert (seen.live.candidate.restarts, seen.live.candidate.down) == (ended, 0)
    assert restarts(seen).outcome is (Outcome.FAIL if ended else Outcome.PASS)


def test_a_restart_counts_at_once(prometheus: Prometheus) -> None:
    """Not when the block is over in which it was."""
    seen = observed(prometheus, "again")
    assert seen.live is not None
    assert seen.live.candidate.restarts == 1
    assert restarts(seen).outcome is Outcome.FAIL


def test_a_side_of_which_nothing_is_up_is_told_by_what_it_served(prometheus: Prometheus) -> None:
    """So that it is compared with a baseline until it ended, and judged by its end."""
    seen = observed(prometheus, "all")
    assert seen.candidate.versions == ("1.1.0",)
    assert (seen.candidate.precisions, seen.candidate.cpu_features) == (("fp32",), ("avx2,fma",))
    assert seen.live is not None
    assert seen.live.candidate.blocks
    assert restarts(seen).reason == (
        "The candidate's servers started again 0 times and 2 are down, the baseline's 0 times; "
        "0 are allowed, or as many as the baseline's."
    )


def test_a_baseline_may_be_down_as_well(prometheus: Prometheus) -> None:
    """A candidate fails by more than that."""
    for candidate, outcome in (("some", Outcome.PASS), ("all", Outcome.FAIL)):
        for baseline in ("half", "dead"):
            seen = observed(prometheus, candidate, baseline=baseline)
            assert seen.live is not None
            assert seen.live.baseline.down == 1
            assert seen.notes == ()
            assert restarts(seen).outcome is outcome


def test_where_nothing_of_stable_is_up_nothing_is_said(prometheus: Prometheus) -> None:
    """It may be Prometheus that reaches nobody; one pod of stable is enough."""
    with pytest.raises(NothingThere, match="No pod of stable answers"):
        observed(prometheus, "all", stable="dead")
    assert restarts(observed(prometheus, "all", stable="half")).outcome is Outcome.FAIL


def test_without_pods_in_up_a_side_that_is_down_is_not_there(prometheus: Prometheus) -> None:
    """As if it had gone."""
    with pytest.raises(NothingThere, match="audio called plain"):
        observed(prometheus, "plain")
