"""What the page is made of: its weight, where it comes from, and how soon it can be used."""

from __future__ import annotations

import json
import re
import time

import httpx
import pytest
from playwright.sync_api import expect

from service.http import PAGE_HEADERS, WEB
from tests.support.browser import PATIENCE_MS, PHONE, SHOTS, Visit
from tests.support.server import Server
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium

MAX_PAGE_BYTES = 100_000
"""Of all that `GET /` loads, uncompressed."""
TRIPS = 5
"""Times that the page is loaded for a figure."""
SLOW = {
    "offline": False,
    "latency": 150,
    "downloadThroughput": 1.6e6 / 8,
    "uploadThroughput": 0.75e6 / 8,
}
"""A slow 4G connection, as Lighthouse has it."""
SLOWER_CPU = 4
MODULES = set(re.findall(r'"modulepreload" href="([^"]+)"', (WEB / "index.html").read_text()))
"""Those that are named in the page."""


def wait_for(visit: Visit, *paths: str) -> None:
    """Wait until the page has loaded these: it can be used before the last is told here."""
    give_up = time.monotonic() + PATIENCE_MS / 1000
    while missing := set(paths) - set(visit.loaded):
        assert time.monotonic() < give_up, missing
        visit.page.wait_for_timeout(50)


def test_its_weight(visit: Visit) -> None:
    """All that is loaded before anything is pressed is light, and comes from this server."""
    wait_for(visit, "/", "/web/page.css", "/web/page.js", "/v1/model", *MODULES)
    weight = sum(size for path, size in visit.loaded.items() if path != "/v1/model")
    assert all(visit.loaded.values())
    assert weight <= MAX_PAGE_BYTES
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS / "weight.json").write_text(json.dumps({"bytes": weight, "files": visit.loaded}))


def test_modules_are_fetched_at_once(visit: Visit) -> None:
    """Each that is imported is named in the page, so that none waits for another."""
    wait_for(visit, "/web/page.js", *MODULES)
    loaded = {path for path in visit.loaded if path.endswith(".js")} - {"/web/page.js"}
    assert loaded == MODULES


def test_the_policy_is_strict(server: Server) -> None:
    """Nothing inline, nothing from elsewhere; the microphone is this page's alone."""
    answer = httpx.get(server.url)
    assert dict(answer.headers) | PAGE_HEADERS == dict(answer.headers)
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert not re.search(r"unsafe|\*|https?:", " ".join(policy.values()))
    assert answer.headers["permissions-policy"] == "microphone=(self)"
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src=)| on\w+=", answer.text)


def test_files_are_asked_for_again(server: Server) -> None:
    """A new version's page never meets an old version's module; what is unchanged is not sent."""
    first = httpx.get(f"{server.url}/web/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = httpx.get(f"{server.url}/web/page.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"


def test_a_browser_that_keeps_nothing(visiting_page: Visiting) -> None:
    """Whose settings forbid it: the page works, and forgets what was chosen."""
    forbid = """
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(window, name, {
        get() { throw new DOMException("Forbidden", "SecurityError"); },
      });
    }
    """
    with visiting_page(script=forbid) as visit:
        visit.open()
        visit["#language"].select_option("es")
        expect(visit["#record"]).to_have_text("Grabar")
        visit.page.reload()
        visit["html[data-ready]"].wait_for()
        expect(visit["#record"]).to_have_text("Record")


@pytest.mark.parametrize("slow", [False, True], ids=["here", "slow phone"])
def test_how_soon_it_can_be_used(visiting_page: Visiting, *, slow: bool) -> None:
    """A figure, and no limit: until its listeners are there. It is in runs/web."""
    times = []
    for _ in range(TRIPS):
        with visiting_page(viewport=PHONE) as visit:
            if slow:
                session = visit.page.context.new_cdp_session(visit.page)
                session.send("Network.enable")
                session.send("Network.emulateNetworkConditions", SLOW)
                session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER_CPU})
            visit.open()
            times.append(
                visit.page.evaluate("performance.getEntriesByName('interactive')[0].startTime")
            )
    SHOTS.mkdir(parents=True, exist_ok=True)
    name = "slow" if slow else "here"
    (SHOTS / f"interactive-{name}.json").write_text(json.dumps(sorted(times)))
    assert times[0] > 0
