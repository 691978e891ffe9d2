"""Continuous mode: answers while it records, one request at a time, and gaps that are marked."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Request, Route, expect

from service.problems import URN
from tests.support import tokens
from tests.support.browser import PATIENCE_MS, Visit
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium

RATE = 1000
SIMULATE = """
async ([script]) => {
  const { Live } = await import("/web/live.js");
  const told = [];
  const asked = [];
  let most = 0;
  let under = 0;
  let answers = [];
  const live = new Live({
    rate: 1000,
    windowS: 1,
    told: ({ answer, problem, ...rest }) =>
      told.push({ ...rest, ...(answer && { answer }), ...(problem && { problem: problem.slug }) }),
    pause: async (s) => told.push({ pause: s }),
    ask: (parts) => {
      asked.push(parts.flatMap((part) => [...part]));
      most = Math.max(most, ++under);
      return new Promise((resolve, reject) => answers.push({ resolve, reject })).finally(
        () => (under -= 1),
      );
    },
  });
  let next = 0;
  const settled = () => new Promise((resolve) => setTimeout(resolve));
  for (const [what, value] of script) {
    if (what === "push") live.push(Float32Array.from({ length: value }, () => next++));
    if (what === "answer") answers.shift().resolve(value);
    if (what === "fail") answers.shift().reject(Object.assign(new Error(), value));
    if (what === "stop") live.stop();
    await settled();
  }
  return { told, asked: asked.map((all) => [all[0], all.length]), most };
}
"""
"""Plays a script with a Live of 1 s windows at 1 kHz, whose samples count upwards."""

FAULTY = """
async () => {
  const { Live } = await import("/web/live.js");
  const told = () => {
    throw new Error("a fault of the page");
  };
  let asked = 0;
  const ask = async () => (asked += 1);
  const live = new Live({ rate: 1000, windowS: 1, told, pause: async () => {}, ask });
  for (let window = 0; window < 3; window += 1) {
    live.push(new Float32Array(1000));
    await new Promise((resolve) => setTimeout(resolve));
  }
  await live.stop();
  return asked;
}
"""
"""Three windows, each of which ends in a fault."""
SPEAK = """
async (blocks) => {
  const { startLive } = await import("/web/continuous.js");
  const answer = { label: "sad", score: 1, decision: "accept" };
  window.fetch = async () => new Response(JSON.stringify(answer));
  const known = async () => ({ labels: ["sad"], window_s: blocks / 1000 });
  const recorder = { rate: 1000, seconds: blocks / 1000 };
  const { take, stop } = startLive(recorder, { known, fail: (problem) => { throw problem; } });
  for (let block = 0; block < blocks; block += 1) take(new Float32Array(1).fill(0.5));
  await stop();
  return document.querySelector("#live-timeline path").getAttribute("d").split("L").length;
}
"""
"""As many blocks of sound, of a sample each, and one window; points of the waveform."""


def simulate(visit: Visit, *script: tuple[str, Any]) -> dict[str, Any]:
    """Run a script of push (samples), answer, fail and stop."""
    seen: dict[str, Any] = visit.page.evaluate(SIMULATE, [list(map(list, script))])
    return seen


def spans(seen: dict[str, Any]) -> list[tuple[float, float, bool]]:
    """What was told of the time line: start, end, whether it is a gap."""
    return [(t["start_s"], t["end_s"], t.get("gap", False)) for t in seen["told"] if "end_s" in t]


def test_windows_have_the_model_s_length(visit: Visit) -> None:
    """However the sound comes in blocks, each sample is in one window."""
    blocks = [("push", 300)] * 7
    seen = simulate(visit, *blocks[:4], ("answer", "one"), *blocks[4:], ("answer", "two"))
    assert seen["asked"] == [[0, RATE], [RATE, RATE]]
    assert spans(seen) == [(0, 1, False), (1, 2, False)]


def test_one_request_at_a_time(visit: Visit) -> None:
    """Windows that come meanwhile wait; of several the newest, and those before it are gaps."""
    seen = simulate(
        visit, ("push", 1000), ("push", 1000), ("push", 1000), ("push", 1000), ("answer", "one")
    )
    assert seen["most"] == 1
    assert seen["asked"] == [[0, RATE], [3 * RATE, RATE]]
    assert sorted(spans(seen)) == [(0, 1, False), (1, 2, True), (2, 3, True)]


@pytest.mark.parametrize(("retry_after", "pause"), [(7, 7), (None, 2)])
def test_a_failure_is_a_gap_and_a_pause(visit: Visit, retry_after: int | None, pause: int) -> None:
    """As long as the server asks for; then it goes on with what is new."""
    seen = simulate(
        visit,
        ("push", 1000),
        ("fail", {"slug": "overloaded", "retryAfterS": retry_after}),
        ("push", 1000),
        ("answer", "two"),
    )
    assert seen["told"] == [
        {"start_s": 0, "end_s": 1, "gap": True, "problem": "overloaded"},
        {"pause": pause},
        {"start_s": 1, "end_s": 2, "answer": "two"},
    ]


@pytest.mark.parametrize(("rest", "sent"), [(499, 1), (500, 2)])
def test_the_rest_is_sent_at_the_end(visit: Visit, rest: int, sent: int) -> None:
    """If there is half a second of it."""
    seen = simulate(visit, ("push", 1000), ("answer", "one"), ("push", rest), ("stop", None))
    assert len(seen["asked"]) == sent


def test_a_fault_ends_no_session(visit: Visit) -> None:
    """Whatever goes wrong with one window, the next is sent, and the end comes."""
    assert visit.page.evaluate(FAULTY) == 3
    assert set(visit.faults) == {"a fault of the page"}
    visit.faults.clear()


def test_the_waveform_is_as_light_after_an_hour(visit: Visit) -> None:
    """However many blocks of sound there were, it has as many columns as it needs."""
    assert visit.page.evaluate(SPEAK, 10_000) < 2_000


def test_the_time_line_grows(visit: Visit) -> None:
    """With a real microphone and server: no two requests at a time, and then the whole is there."""
    under: set[Request] = set()
    most = 0

    def asked(request: Request) -> None:
        nonlocal most
        if request.method == "POST":
            under.add(request)
            most = max(most, len(under))

    def done(request: Request) -> None:
        under.discard(request)

    visit.page.on("request", asked)
    visit.page.on("requestfinished", done)
    visit["#continuous"].check()
    visit["#record"].click()
    expect(visit["#live-now"]).to_contain_text("first answer")
    for count in (1, 2):
        expect(visit["#live .track button"]).to_have_count(count, timeout=PATIENCE_MS)
    visit.shot("continuous")
    visit["#record"].click()
    visit["#recording"].wait_for()
    assert most == 1
    visit["#classify"].click()
    assert visit.answered()["audio"]["duration_s"] > 6


def test_a_slow_server_leaves_gaps(visiting_page: Visiting) -> None:
    """They are on the time line, and the recording has everything."""
    slow = """
    const send = window.fetch;
    window.fetch = async (...request) => {
      const answer = await send(...request);
      if (request[0].includes("classify")) await new Promise((done) => setTimeout(done, 7000));
      return answer;
    };
    """
    with visiting_page(script=slow) as visit:
        visit.open()
        visit["#continuous"].check()
        visit["#record"].click()
        gap = visit["#live .track [data-kind=gap]"].first
        gap.wait_for(timeout=PATIENCE_MS)
        assert "skipped" in (gap.get_attribute("aria-label") or "")
        visit.shot("continuous-behind")
        visit["#record"].click()
        visit["#recording"].wait_for()


def test_a_server_that_is_busy_or_gone_meanwhile(visit: Visit) -> None:
    """It says so while it records, goes on when the server is back, and keeps the recording."""
    problem = {"type": URN + "overloaded", "detail": "Busy."}
    visit.page.route(
        "**/v1/classify*",
        lambda route: route.fulfill(status=429, headers={"retry-after": "2"}, json=problem),
    )
    visit["#continuous"].check()
    visit["#record"].click()
    assert visit.trouble() == "overloaded"
    expect(visit["[role=timer].countdown"]).to_be_visible()
    visit.page.unroute("**/v1/classify*")
    visit["#live .track [data-kind=speech]"].wait_for(timeout=PATIENCE_MS)
    expect(visit["[data-problem]"]).to_have_count(0)
    visit["#record"].click()
    visit["#recording"].wait_for()


def busy(route: Route) -> None:
    """Have the server ask to wait for longer than any test does."""
    problem = {"type": URN + "overloaded", "detail": "Busy."}
    route.fulfill(status=429, headers={"retry-after": "30"}, json=problem)


def guarded(route: Route) -> None:
    """Let through what has the token, as a server with tokens does."""
    if route.request.headers.get("authorization") == f"Bearer {tokens.FIRST}":
        route.continue_()
    else:
        route.fulfill(status=401, json={"type": URN + "unauthorized", "detail": "No."})


@pytest.mark.parametrize("path", ["**/v1/*", "**/v1/classify*"], ids=["at first", "later"])
def test_a_token_is_asked_for(visit: Visit, path: str) -> None:
    """Once it is there, answers come; windows refused meanwhile take away nothing typed."""
    visit.page.route(path, guarded)
    visit.page.reload()
    visit["html[data-ready]"].wait_for()
    visit["#continuous"].check()
    visit["#record"].click()
    assert visit.trouble() == "unauthorized"
    visit["#token"].press_sequentially("half")
    if path == "**/v1/classify*":
        expect(visit["#live .track [data-kind=gap]"]).to_have_count(2, timeout=PATIENCE_MS)
        expect(visit["#token"]).to_be_focused()
        expect(visit["#token"]).to_have_value("half")
    visit["#token"].fill(tokens.UNKNOWN)
    visit["#token"].press("Enter")
    expect(visit["#token"]).to_have_value("", timeout=PATIENCE_MS)  # asked for again
    visit["#token"].fill(tokens.FIRST)
    visit["#token"].press("Enter")
    visit["#live .track [data-kind=speech]"].first.wait_for(timeout=PATIENCE_MS)
    expect(visit["[data-problem]"]).to_have_count(0)
    visit["#record"].click()
    visit["#recording"].wait_for()


def test_a_wait_can_be_given_up(visit: Visit) -> None:
    """Then nothing more is sent: what comes is marked as skipped, and all of it recorded."""
    sent: list[str] = []
    visit.page.on("request", lambda request: sent.append(request.method))
    visit.page.route("**/v1/classify*", busy)
    visit["#continuous"].check()
    visit["#record"].click()
    visit["[data-problem] .quiet"].click()
    expect(visit["#live .track [data-kind=gap]"]).to_have_count(3, timeout=PATIENCE_MS)
    expect(visit["[data-problem]"]).to_have_count(0)
    expect(visit["#status"]).to_have_text("Recording.")
    visit["#record"].click()
    visit["#recording"].wait_for()
    expect(visit["[data-problem]"]).to_have_count(0)
    assert sent.count("POST") == 1


def test_a_wait_ends_with_the_recording(visit: Visit) -> None:
    """Why there is no answer stays there; nothing is counted down any more, and nothing sent."""
    sent: list[str] = []
    visit.page.on("request", lambda request: sent.append(request.method))
    visit.page.route("**/v1/classify*", busy)
    visit["#continuous"].check()
    visit["#record"].click()
    expect(visit["[role=timer].countdown"]).to_be_visible(timeout=PATIENCE_MS)
    visit["#record"].click()
    visit["#recording"].wait_for()
    expect(visit["[role=timer].countdown"]).to_have_count(0)
    assert visit.trouble() == "overloaded"
    assert sent.count("POST") == 1


def test_a_last_window_that_is_refused(visit: Visit) -> None:
    """It says why, and promises no other try."""
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        held.append(route)
        if route is not held[0]:
            busy(route)

    visit.page.route("**/v1/classify*", hold_the_first)
    visit["#continuous"].check()
    visit["#record"].click()
    with visit.page.expect_request("**/v1/classify*", timeout=PATIENCE_MS):
        pass
    visit["#record"].click()
    visit["#recording"].wait_for()
    busy(held[0])
    assert visit.trouble() == "overloaded"
    expect(visit["[role=timer].countdown"]).to_have_count(0)
