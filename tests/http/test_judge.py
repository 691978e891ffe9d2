"""`timbre judge` over HTTP: what it answers whom, when, and while things go wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route
from starlette.testclient import TestClient

from service.canary.bench import STALE_ROUNDS, Bench
from service.canary.findings import Findings
from service.canary.judge import MAX_WEIGHT, create_app
from service.canary.observations import Observations
from service.canary.prometheus import PrometheusFailed
from service.canary.verdict import Outcome, Verdict
from tests.support.docs import DOCS
from tests.support.findings import OBSERVATIONS, finding

EVERY_S = 30.0
TROUBLES = [PrometheusFailed("Prometheus: refused."), KeyError("pod")]


@dataclass
class World:
    """What is looked at, how it is judged, and what time it is."""

    outcome: Outcome = Outcome.PASS
    trouble: Exception | None = None
    now: float = 0.0
    looks: int = 0
    judged: int = 0

    def observe(self) -> Iterator[Observations]:
        """Look."""
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        yield OBSERVATIONS

    def judge(self, _: Observations, weight: int) -> Verdict:
        """Judge: all weights alike, but for 0."""
        self.judged += 1
        outcome = self.outcome if weight else Outcome.INCONCLUSIVE
        return replace(finding(outcome).verdict, weight=weight)


@pytest.fixture
def world() -> World:
    """One in which all is well."""
    return World()


@pytest.fixture
def bench(world: World) -> Bench:
    """Who judges it, at 10%."""
    return Bench(world.observe, world.judge, 10, every_s=EVERY_S, clock=lambda: world.now)


@pytest.fixture
def ask(bench: Bench) -> Iterator[TestClient]:
    """Who asks."""
    with TestClient(create_app(bench)) as client:
        yield client


HOOKS = ("confirm-traffic-increase", "confirm-promotion", "rollback")


def hooks(ask: TestClient, query: str = "") -> list[int]:
    """Ask as Flagger does; GET says the same."""
    posted = [ask.post(f"/flagger/{name}{query}", json={}).status_code for name in HOOKS]
    assert posted == [ask.get(f"/flagger/{name}{query}").status_code for name in HOOKS]
    return posted


def samples(ask: TestClient) -> dict[tuple[str, str], float]:
    """Read the metrics: name and label values → value."""
    families = text_string_to_metric_families(ask.get("/metrics").text)
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_before_the_first_look_there_is_nothing(ask: TestClient) -> None:
    """Which nobody takes for a verdict; but it is alive."""
    for path in ("/verdict", "/report", "/readyz"):
        assert ask.get(path).status_code == 503
    assert hooks(ask) == [503, 503, 503]
    assert ask.get("/livez").status_code == 200
    assert samples(ask) == {}


def test_a_verdict_is_told_as_it_is(ask: TestClient, bench: Bench) -> None:
    """In the documented form, with 200 whatever it is."""
    bench.look()
    assert ask.get("/readyz").status_code == 200
    answer = ask.get("/verdict")
    assert answer.status_code == 200
    told = Findings.model_validate_json(answer.content)
    assert (told.outcome, told.weight, len(told.checks)) == (Outcome.PASS, 10, 4)
    assert told.golden is not None


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        (Outcome.PASS, [200, 200, 409]),
        (Outcome.FAIL, [409, 409, 200]),
        (Outcome.INCONCLUSIVE, [409, 409, 409]),
    ],
)
def test_flagger_goes_on_by_a_pass_and_back_by_a_fail(
    outcome: Outcome, statuses: list[int], ask: TestClient, bench: Bench, world: World
) -> None:
    """It reads the status only; the reason is for its log."""
    world.outcome = outcome
    bench.look()
    assert hooks(ask) == statuses
    told = ask.post("/flagger/rollback").json()
    assert told == {"outcome": outcome, "weight": 10, "reason": "accuracy fails: It is worse."}


def test_what_fails_at_first_is_told_while_the_rest_is_looked_at(world: World) -> None:
    """A crashing candidate may answer for seconds only, and a golden set takes minutes."""
    world.outcome = Outcome.FAIL
    told: list[tuple[list[int], float]] = []

    def observe() -> Iterator[Observations]:
        yield OBSERVATIONS
        world.now += EVERY_S
        told.append((hooks(asking), samples(asking)["timbre_canary_verdict_age_seconds", ""]))
        world.outcome = Outcome.PASS
        yield OBSERVATIONS

    bench = Bench(observe, world.judge, 10, every_s=EVERY_S, clock=lambda: world.now)
    with TestClient(create_app(bench)) as asking:
        bench.look()
        assert told == [([409, 409, 200], EVERY_S)]
        assert hooks(asking) == [200, 200, 409]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        (Outcome.PASS, [409, 409, 409]),
        (Outcome.FAIL, [409, 409, 200]),
        (Outcome.INCONCLUSIVE, [409, 409, 409]),
    ],
)
def test_trouble_with_the_rest_hides_no_failure(
    outcome: Outcome, statuses: list[int], trouble: Exception, world: World
) -> None:
    """A candidate that crashes is none the better for a golden set that can't be used."""
    world.outcome = outcome

    def observe() -> Iterator[Observations]:
        yield OBSERVATIONS
        raise trouble

    bench = Bench(observe, world.judge, 10, every_s=EVERY_S, clock=lambda: world.now)
    with TestClient(create_app(bench)) as asking:
        for _ in range(STALE_ROUNDS + 2):
            bench.look()
            assert hooks(asking) == statuses
            world.now += EVERY_S


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.INCONCLUSIVE])
def test_what_is_known_first_tells_nothing_but_failures(outcome: Outcome, world: World) -> None:
    """The rest may be what is required, and what it said last still is the verdict."""
    world.outcome = outcome
    told: list[list[int]] = []

    def observe() -> Iterator[Observations]:
        yield OBSERVATIONS
        told.append(hooks(asking))
        yield OBSERVATIONS

    bench = Bench(observe, world.judge, 10, every_s=EVERY_S)
    with TestClient(create_app(bench)) as asking:
        bench.look()
    assert told == [[503, 503, 503]]


def test_another_weight_may_be_asked_for(ask: TestClient, bench: Bench, world: World) -> None:
    """It is judged once a look."""
    bench.look()
    for _ in range(3):
        assert ask.get("/verdict?weight=0").json()["outcome"] == "inconclusive"
        assert hooks(ask, "?weight=0") == [409, 409, 409]
    assert hooks(ask, f"?weight={MAX_WEIGHT}") == [200, 200, 409]
    assert (world.looks, world.judged) == (1, 3)


@pytest.mark.parametrize("weight", ["101", "-1", "ten", "", "1.5", "٣", "0" * 4])
def test_what_is_no_weight_is_refused(weight: str, ask: TestClient, bench: Bench) -> None:
    """Neither 200 nor 409."""
    bench.look()
    assert ask.get("/verdict", params={"weight": weight}).status_code == 400
    assert ask.post("/flagger/rollback", params={"weight": weight}).status_code == 400


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
def test_what_cannot_be_looked_at_is_inconclusive(
    trouble: Exception, outcome: Outcome, ask: TestClient, bench: Bench, world: World
) -> None:
    """With the reason, whatever it was before; and when it can be again it is again."""
    world.outcome = outcome
    bench.look()
    world.trouble = trouble
    bench.look()
    told = ask.get("/verdict").json()
    assert told["outcome"] == "inconclusive"
    assert str(trouble) in told["reason"]
    assert hooks(ask) == [409, 409, 409]
    world.trouble = None
    bench.look()
    assert ask.get("/verdict").json()["outcome"] == outcome


def test_judging_that_fails_is_inconclusive(ask: TestClient, bench: Bench, world: World) -> None:
    """It isn't the canary's fault."""
    bench.look()
    bench._judge = lambda *_: 1 / 0  # type: ignore[assignment]
    bench.look()
    assert "ZeroDivisionError" in ask.get("/verdict").json()["reason"]
    assert world.looks == 2


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAIL])
def test_an_old_verdict_is_none(
    outcome: Outcome, ask: TestClient, bench: Bench, world: World
) -> None:
    """After `STALE_ROUNDS`, not before."""
    world.outcome = outcome
    bench.look()
    world.now += STALE_ROUNDS * EVERY_S
    assert ask.get("/verdict").json()["outcome"] == outcome
    world.now += 1
    told = ask.get("/verdict").json()
    assert told["outcome"] == "inconclusive"
    assert told["reason"] == f"The last look was 91 s ago; it said {outcome}."
    assert hooks(ask) == [409, 409, 409]
    assert samples(ask)["timbre_canary_verdict", "inconclusive"] == 1


def test_the_report_is_a_page_that_loads_nothing(ask: TestClient, bench: Bench) -> None:
    """Of whoever may look at it."""
    bench.look()
    answer = ask.get("/report")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "PASS" in answer.text


def test_the_metrics_say_the_same(ask: TestClient, bench: Bench, world: World) -> None:
    """The verdict, every check with its figures, and how old they are."""
    bench.look()
    world.now += 7
    found = samples(ask)
    assert [found["timbre_canary_verdict", outcome] for outcome in Outcome] == [1, 0, 0]
    assert found["timbre_canary_check", "accuracy,fail"] == 1
    assert found["timbre_canary_check", "accuracy,pass"] == 0
    figures = {name: found[f"timbre_canary_{name}", "accuracy,share"] for name in ("low", "high")}
    assert figures == {"low": -0.08, "high": -0.02}
    assert found["timbre_canary_effect", "p95,ratio"] == 1.04
    assert found["timbre_canary_margin", "p95,ratio"] == 0.05
    assert ("timbre_canary_effect", "sides,") not in found
    assert found["timbre_canary_verdict_age_seconds", ""] == 7


def test_metrics_and_routes_are_documented(ask: TestClient, bench: Bench) -> None:
    """All of them, by name."""
    bench.look()
    page = (DOCS / "compare.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in page for name, _ in samples(ask))
    routes = [route.path for route in create_app(bench).routes if isinstance(route, Route)]
    assert all(f"{path}`" in page for path in routes)


def test_it_is_not_alive_once_nobody_looks(bench: Bench) -> None:
    """So that it is started anew."""
    with TestClient(create_app(bench, alive=lambda: False)) as client:
        assert client.get("/livez").status_code == 500


def test_nobody_waits_for_a_look(ask: TestClient, bench: Bench, world: World) -> None:
    """While one takes long the last verdict is told, and there is one look at a time."""
    bench.look()
    going, go_on = threading.Event(), threading.Event()
    observe = world.observe

    def slow() -> Iterator[Observations]:
        going.set()
        assert go_on.wait(60)
        yield from observe()

    bench._observe = slow
    ended = threading.Event()
    looking = threading.Thread(target=bench.keep_looking, args=(ended,))
    looking.start()
    try:
        assert going.wait(60)
        assert ask.get("/verdict").json()["outcome"] == "pass"
        assert world.looks == 1
    finally:
        ended.set()
        go_on.set()
        looking.join(60)
    assert world.looks == 2
