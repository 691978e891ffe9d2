"""Chromium, driven by Playwright: the page as people meet it, with a microphone that plays a file.

The browser is the system's own (Debian's package chromium, say), or the one that the variable
CHROMIUM names, and never one of Playwright's. `python -m tests.support.browser` says which it is.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, Request

VARIABLE = "CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 30_000
"""After which the page has not done what is waited for."""
SHOTS = Path(__file__).parents[2] / "runs" / "web"
"""Where a picture of each state is kept."""
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}

_FAILED_REQUEST = "Failed to load resource"
"""What Chromium says of every answer that is an error, also of one that the page deals with."""


def find() -> str | None:
    """Find the browser's program."""
    return os.environ.get(VARIABLE) or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(
    playwright: Playwright, *flags: str, microphone: Path | None = None, allowed: bool = True
) -> Iterator[Browser]:
    """Run a browser.

    Args:
        playwright: that drives it; one, of however many browsers.
        flags: of the program, beside those that are always given.
        microphone: a WAV file that it hears, over and over; a beep every second if none is given.
        allowed: whether who is asked for the microphone says yes; otherwise no.
    """
    options = ["--use-fake-device-for-media-stream", *flags]
    if allowed:
        options.append("--use-fake-ui-for-media-stream")
    if microphone is not None:
        options.append(f"--use-file-for-fake-audio-capture={microphone}")
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # which it has for users only
    with playwright.chromium.launch(executable_path=find(), args=options) as browser:
        yield browser


@dataclass
class Visit:
    """The page in a window of its own, and what it must never do."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)
    """Exceptions, complaints of the browser (about the CSP, say), and requests to strangers."""
    loaded: dict[str, int] = field(default_factory=dict)
    """Bytes of each file of the server that the page has loaded, uncompressed, by path."""

    def open(self) -> None:
        """Load the page until it can be used."""
        self.page.goto(self.origin)
        self.page.wait_for_selector("html[data-ready]")

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def choose(self, *files: Path) -> None:
        """Choose files, as the dialog would."""
        self.page.set_input_files("#choose", list(files))

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true.

        Playwright's own wait evaluates strings in the page, which the page's policy forbids.
        """
        give_up = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < give_up, condition
            self.page.wait_for_timeout(50)

    def record(self, seconds: float) -> None:
        """Press Record, and Stop after so many seconds of sound."""
        self["#record"].click()
        self["#record[data-state=recording]"].wait_for()
        self.page.wait_for_timeout(1000 * seconds)
        self["#record"].click()
        self["#recording"].wait_for()

    def answered(self) -> dict[str, Any]:
        """Wait for the answer, and take it by the button that copies it."""
        self["#answer"].wait_for(timeout=PATIENCE_MS)
        self["[data-copy='answer.json']"].click()
        self.until("document.querySelector('#status').textContent !== ''")
        answer: dict[str, Any] = self.page.evaluate(
            "navigator.clipboard.readText().then(JSON.parse)"
        )
        return answer

    def trouble(self) -> str:
        """Wait for the page to say that something went wrong; the slug of what."""
        self["[data-problem]"].wait_for(timeout=PATIENCE_MS)
        return self["[data-problem]"].get_attribute("data-problem") or ""

    def violations(self) -> list[str]:
        """Ask axe what makes the page, as it is now, hard to use for some."""
        axe = resources.files("axe_playwright_python").joinpath("axe.min.js")
        self.page.evaluate(axe.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run()")
        return [
            f"{violation['id']}: {node['html']} {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    def shot(self, name: str, *, whole: bool = True) -> None:
        """Keep a picture of the page as it is, or of what is in the window."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        if whole:
            self.page.evaluate("scrollTo(0, 0)")
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)


@contextmanager
def visiting(
    browser: Browser,
    origin: str,
    *,
    script: str | None = None,
    **options: Any,  # noqa: ANN401
) -> Iterator[Visit]:
    """Visit the page; afterwards there must have been no fault.

    Args:
        browser: that visits.
        origin: of the server, such as http://localhost:3000.
        script: is run before the page's own.
        options: of the window, as Playwright's `new_context` takes them.
    """
    settings = {"viewport": DESKTOP, "locale": "en-GB", "reduced_motion": "reduce", **options}
    with browser.new_context(**settings) as context:
        context.set_default_timeout(PATIENCE_MS)
        if urlsplit(origin).scheme == "https" or urlsplit(origin).hostname == "127.0.0.1":
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
        if script is not None:
            context.add_init_script(script)
        visit = Visit(context.new_page(), origin)
        _watch(visit)
        yield visit
        assert visit.faults == []


def _watch(visit: Visit) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_FAILED_REQUEST):
            visit.faults.append(message.text)

    def asked(request: Request) -> None:
        ours = request.url.startswith((f"{visit.origin}/", f"blob:{visit.origin}/", "data:"))
        if not ours:
            visit.faults.append(f"asked a stranger: {request.url}")

    def done(request: Request) -> None:
        response = request.response()
        if response is not None and response.ok and request.method == "GET":
            path = urlsplit(request.url).path
            if request.url.startswith(f"{visit.origin}/"):
                visit.loaded[path] = int(response.headers.get("content-length", "0"))

    visit.page.on("console", said)
    visit.page.on("pageerror", lambda error: visit.faults.append(str(error)))
    visit.page.on("request", asked)
    visit.page.on("requestfinished", done)


def main() -> None:
    """Say which browser there is, or that there is none."""
    program = find()
    if program is None:
        sys.exit(f"No Chromium here: install Debian's package chromium, or set {VARIABLE}.")
    print(program)  # noqa: T201


if __name__ == "__main__":
    main()
