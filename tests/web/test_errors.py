"""Whatever goes wrong on the way: it is said in words, with what helps, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.problems import URN
from tests.support import tokens
from tests.support.browser import Visit, visiting
from tests.support.server import PATIENCE_S, serving
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium

CLASSIFY = "**/v1/classify*"
LISTEN = """
() => {
  window.told = {};
  new MutationObserver(() => {
    const card = document.querySelector("[data-problem]");
    const timer = card?.querySelector("[role=timer]");
    if (timer) (window.told[card.dataset.problem] ??= []).push(timer.textContent);
  }).observe(document.querySelector("#trouble"), { childList: true, subtree: true });
}
"""
"""Keeps what is counted down, by the problem."""


class Refusing:
    """Answers the first requests with a problem, and lets the others through."""

    def __init__(self, status: int, slug: str, times: int = 1, **headers: str) -> None:
        self.answered = 0
        self._status, self._slug, self._times, self._headers = status, slug, times, headers

    def __call__(self, route: Route) -> None:
        if self.answered == self._times:
            route.continue_()
            return
        self.answered += 1
        problem = {"type": URN + self._slug, "title": "No", "detail": "Says the server."}
        headers = {name.replace("_", "-"): value for name, value in self._headers.items()}
        route.fulfill(status=self._status, headers=headers, json=problem)


@pytest.mark.parametrize(("status", "slug"), [(429, "overloaded"), (503, "not-ready")])
def test_a_wait_is_counted_down(
    visit: Visit, clips: dict[str, Path], status: int, slug: str
) -> None:
    """From Retry-After, and then it is tried again by itself."""
    visit.page.route(CLASSIFY, Refusing(status, slug, retry_after="3"))
    visit.page.evaluate(LISTEN)
    visit.choose(clips["speech.wav"])
    assert visit.answered()["label"]
    told = [f"Trying again in {left} s" for left in (3, 2, 1)]
    assert visit.page.evaluate("window.told") == {slug: told}
    expect(visit["[data-problem]"]).to_have_count(0)


@pytest.mark.parametrize(("status", "slug"), [(429, "overloaded"), (503, "not-ready")])
def test_a_wait_can_be_cut_short(
    visit: Visit, clips: dict[str, Path], status: int, slug: str
) -> None:
    """Each of several, at once."""
    refusing = Refusing(status, slug, times=2, retry_after="30")
    visit.page.route(CLASSIFY, refusing)
    visit.page.evaluate(LISTEN)
    visit.choose(clips["speech.wav"])
    assert visit.trouble() == slug
    visit.shot(f"error-{slug}")
    visit["[data-problem] .strong"].click()
    visit.until(f"window.told['{slug}'].filter((text) => text.includes('30')).length === 2")
    visit["[data-problem] .strong"].click()
    assert visit.answered()["label"]
    assert refusing.answered == 2


def test_another_file_ends_a_wait(visit: Visit, clips: dict[str, Path]) -> None:
    """Only the answer to the last one is shown, and nothing is left of the first."""
    visit.page.route(CLASSIFY, Refusing(429, "overloaded", retry_after="30"))
    visit.choose(clips["speech.wav"])
    expect(visit["[role=timer].countdown"]).to_be_visible()
    assert visit.violations() == []
    visit.choose(clips["short.flac"])
    assert visit.answered()["label"]
    expect(visit["#answer .subject"]).to_have_text("short.flac")
    expect(visit["[data-problem]"]).to_have_count(0)


def test_a_wait_can_be_given_up(visit: Visit) -> None:
    """The recording stays."""
    visit.record(1.5)
    visit.page.route(CLASSIFY, Refusing(429, "overloaded", retry_after="30"))
    visit["#classify"].click()
    visit["[data-problem] .quiet"].click()
    expect(visit["[data-problem]"]).to_have_count(0)
    visit["#classify"].click()
    assert visit.answered()["model"]


def test_it_gives_up_in_the_end(visit: Visit, clips: dict[str, Path]) -> None:
    """After as many tries as the Python client's, and offers another."""
    refusing = Refusing(429, "overloaded", times=100, retry_after="0")
    visit.page.route(CLASSIFY, refusing)
    visit.choose(clips["speech.wav"])
    visit["[data-problem=overloaded] .quiet:has-text('Dismiss')"].wait_for()
    assert refusing.answered == 8


@pytest.mark.parametrize("seconds", ["2", "-1", "soon"])
def test_a_row_waits_too(visit: Visit, clips: dict[str, Path], seconds: str) -> None:
    """Of several files, each says for how long; what is no number of seconds counts as one."""
    visit.page.route(CLASSIFY, Refusing(429, "overloaded", retry_after=seconds))
    visit.choose(clips["speech.wav"], clips["short.flac"])
    expect(visit["#files tbody"]).to_contain_text("server busy, again in")
    expect(visit["#files [data-state=done]"]).to_have_count(2)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("text.wav", "not-audio"),
        ("video.webm", "unsupported-format"),
        ("huge.bin", "too-long-here"),
    ],
)
def test_a_file_that_is_no_use(visit: Visit, clips: dict[str, Path], name: str, slug: str) -> None:
    """By the real server's word, or before it is asked."""
    visit.choose(clips[name])
    assert visit.trouble() == slug
    visit.shot(f"error-{slug}")


@pytest.mark.parametrize(
    ("status", "slug", "again"),
    [
        (413, "too-large", False),
        (422, "undecodable", False),
        (500, "internal", True),
        (504, "deadline", True),
    ],
)
def test_other_refusals(visit: Visit, status: int, slug: str, *, again: bool) -> None:
    """With the server's own words, another try where it may help, and the recording kept."""
    visit.record(1.5)
    visit.page.route(CLASSIFY, Refusing(status, slug))
    visit["#classify"].click()
    assert visit.trouble() == slug
    expect(visit["[data-problem]"]).to_contain_text("Says the server.")
    visit.shot(f"error-{slug}")
    expect(visit["[data-problem]"]).to_contain_text("Download the recording")
    expect(visit["[data-problem] .strong"]).to_have_count(int(again))
    visit["[data-problem] .strong" if again else "#classify"].click()
    assert visit.answered()["model"]


def test_a_gateway_s_own_page(visit: Visit, clips: dict[str, Path]) -> None:
    """Has no problem in it; the status is said."""
    visit.page.route(CLASSIFY, lambda route: route.fulfill(status=502, body="<h1>Bad</h1>"))
    visit.choose(clips["speech.wav"])
    assert visit.trouble() == "refused"
    expect(visit["[data-problem]"]).to_contain_text("HTTP 502")


def test_a_gateway_that_takes_less(visit: Visit, clips: dict[str, Path]) -> None:
    """Its 413 means what the server's would."""
    visit.page.route(CLASSIFY, lambda route: route.fulfill(status=413, body="<h1>No</h1>"))
    visit.choose(clips["speech.wav"])
    assert visit.trouble() == "too-large"


def test_the_server_goes_away(browser: Browser, tmp_path: Path) -> None:
    """The recording is kept, can be saved, and is classified when a server is back."""
    with (
        serving(open_bundle(DEFAULT_BUNDLE), tmp_path / "log", TIMBRE_PRECISION="fp32") as server,
        visiting(browser, server.url) as visit,
    ):
        visit.open()
        visit.record(1.5)
        server.process.terminate()
        server.process.wait(PATIENCE_S)
        visit["#classify"].click()
        assert visit.trouble() == "unreachable"
        visit.shot("error-unreachable")
        with visit.page.expect_download() as download:
            visit["[data-problem] .button:has-text('Download the recording')"].click()
        assert download.value.path().stat().st_size > 100_000
        expect(visit["#recording"]).to_be_visible()
        visit["[data-problem] .strong"].click()
        assert visit.trouble() == "unreachable"


def test_a_connection_that_comes_back(visit: Visit, clips: dict[str, Path]) -> None:
    """What failed is sent again by a button."""
    visit.page.context.set_offline(offline=True)
    visit.choose(clips["speech.wav"])
    assert visit.trouble() == "unreachable"
    visit.page.context.set_offline(offline=False)
    visit["[data-problem] .strong"].click()
    assert visit.answered()["label"]


def test_a_token_is_asked_for(browser: Browser, tmp_path: Path, clips: dict[str, Path]) -> None:
    """By a server that has some: a wrong one is asked for again, a right one is kept in the tab."""
    file = tokens.token_file(tmp_path, tokens.FIRST)
    variables = {"TIMBRE_TOKEN_FILE": file, "TIMBRE_PRECISION": "fp32"}
    with (
        serving(open_bundle(DEFAULT_BUNDLE), tmp_path / "log", **variables) as server,
        visiting(browser, server.url) as visit,
    ):
        visit.open()
        visit.choose(clips["speech.wav"])
        assert visit.trouble() == "unauthorized"
        visit.shot("error-unauthorized")
        assert visit.violations() == []
        visit["#token"].fill(tokens.UNKNOWN)
        visit["#token"].press("Enter")
        expect(visit["#token"]).to_have_value("")
        visit["#token"].fill(tokens.FIRST)
        visit["#token"].press("Enter")
        assert visit.answered()["label"]
        expect(visit["#answer code"]).to_contain_text("$TIMBRE_TOKEN")
        assert visit.page.evaluate("Object.values({ ...localStorage }).join()").count("first") == 0
        assert tokens.FIRST not in visit.page.content()

        visit.page.evaluate("sessionStorage.clear()")
        visit.page.reload()
        visit["html[data-ready]"].wait_for()
        visit.choose(clips["speech.wav"], clips["short.flac"])
        assert visit.trouble() == "unauthorized"
        visit["#token"].fill(tokens.FIRST)
        visit["#token"].press("Enter")
        expect(visit["#files [data-state=done]"]).to_have_count(2)


@pytest.mark.parametrize("odd", ["\u200b", "\u2013", " ", "\u00e9"])
def test_a_token_that_is_none(visit: Visit, clips: dict[str, Path], odd: str) -> None:
    """Chats and documents put hidden characters into what is copied: it says so, and keeps none."""
    sent: list[str] = []
    visit.page.on("request", lambda request: sent.append(request.method))
    visit.page.route(CLASSIFY, Refusing(401, "unauthorized"))
    visit.choose(clips["speech.wav"])
    assert visit.trouble() == "unauthorized"
    visit["#token"].fill(f"{tokens.FIRST}{odd}{tokens.FIRST}")
    visit["#token"].press("Enter")
    assert visit["#token"].evaluate("(token) => token.validity.patternMismatch")
    assert "hidden characters" in (visit["#token"].get_attribute("title") or "")
    expect(visit["#token"]).to_be_focused()
    assert sent.count("POST") == 1
    assert visit.page.evaluate("sessionStorage.length") == 0
    visit["#token"].fill(f" {tokens.FIRST} ")
    visit["#token"].press("Enter")
    assert visit.answered()["label"]
    assert visit.page.evaluate("Object.values(sessionStorage)") == [tokens.FIRST]


def test_a_fault_of_the_page_loses_nothing(visiting_page: Visiting) -> None:
    """It is said, too, beside the way to keep the recording."""
    with visiting_page() as visit:
        visit.open()
        visit.record(1.5)
        visit.page.route(CLASSIFY, lambda route: route.fulfill(status=200, json={"odd": True}))
        visit["#classify"].click()
        assert visit.trouble() == "page"
        expect(visit["[data-problem]"]).to_contain_text("Download the recording")
        assert visit.faults.pop().startswith("TypeError")
