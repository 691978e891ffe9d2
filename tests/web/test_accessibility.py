"""The page for everybody: keyboards, screen readers, phones, both colour schemes."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import DESKTOP, PHONE, Visit
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium

NARROWEST = 320
"""CSS pixels that a page must do with (WCAG 1.4.10)."""
LOOKS = [
    {"viewport": viewport, "color_scheme": scheme}
    for viewport in (DESKTOP, PHONE)
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize(
    "look", LOOKS, ids=lambda look: f"{look['viewport']['width']}-{look['color_scheme']}"
)
def test_axe_finds_nothing(
    visiting_page: Visiting, clips: dict[str, Path], look: dict[str, object]
) -> None:
    """In any state: empty, recording, recorded, answered, in trouble, several files."""
    name = f"{look['viewport']['width']}-{look['color_scheme']}"  # type: ignore[index]
    with visiting_page(**look) as visit:
        visit.open()
        visit.shot(f"start-{name}")
        found = {"start": visit.violations()}
        visit["#continuous"].check()
        visit["#record"].click()
        visit["#live .track button"].first.wait_for()
        found["continuous"] = visit.violations()
        visit["#record"].click()
        visit["#recording"].wait_for()
        visit.choose(clips["talk.wav"])
        visit["#answer"].wait_for()
        for summary in visit["summary:visible"].all():
            summary.click()
        found["answer"] = visit.violations()
        visit.shot(f"answer-{name}")
        visit.choose(clips["speech.wav"], clips["text.wav"], clips["silence.wav"])
        visit["[data-action='files.csv']:not([disabled])"].wait_for()
        visit.choose(clips["text.wav"])
        assert visit.trouble() == "not-audio"
        found["files and trouble"] = visit.violations()
        visit.shot(f"files-{name}")
        assert {state: list_ for state, list_ in found.items() if list_} == {}


@pytest.mark.parametrize("locale", ["en-GB", "es-ES"])
def test_the_narrowest_screen(visiting_page: Visiting, clips: dict[str, Path], locale: str) -> None:
    """Nothing is wider than it, in whatever state and language."""
    wide = "document.documentElement.scrollWidth"
    viewport = {"width": NARROWEST, "height": 640}
    with visiting_page(viewport=viewport, locale=locale) as visit:
        visit.open()
        assert visit.page.evaluate(wide) == NARROWEST
        visit.record(1.0)
        visit.choose(clips["long.wav"])
        visit["#answer"].wait_for()
        for summary in visit["summary:visible"].all():
            summary.click()
        assert visit.page.evaluate(wide) == NARROWEST
        visit.choose(clips["text.wav"], clips["silence.wav"])
        visit["[data-action='files.csv']:not([disabled])"].wait_for()
        visit.choose(clips["text.wav"])
        visit.trouble()
        assert visit.page.evaluate(wide) == NARROWEST
        visit.shot(f"narrow-{locale}")


def tab_to(visit: Visit, selector: str) -> None:
    """Press Tab until an element has the focus, and see that this shows."""
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        if visit[selector].evaluate("(element) => element === document.activeElement"):
            break
    expect(visit[selector]).to_be_focused()
    # The file chooser is unseen; its label shows the focus.
    shown = visit[selector].evaluate(
        "(element) => getComputedStyle(element.id === 'choose' ?"
        " element.nextElementSibling : element).outlineStyle"
    )
    assert shown == "solid"


def test_with_the_keyboard_alone(visit: Visit, clips: dict[str, Path]) -> None:
    """Record, stop, classify, walk along the time line, copy; then choose a file."""
    # Whoever listens makes Playwright take over the dialog. Asked for only as the key is pressed,
    # that came too late in 2 of 100 tries on a busy machine: the dialog opened, and was cancelled.
    visit.page.on("filechooser", lambda _: None)
    keyboard = visit.page.keyboard
    tab_to(visit, "#record")
    keyboard.press("Enter")
    visit["#record[data-state=recording]"].wait_for()
    visit.until("document.querySelector('#clock').textContent === '0:04'")
    keyboard.press("Space")
    expect(visit["#classify"]).to_be_focused()
    keyboard.press("Enter")
    expect(visit["#verdict"]).to_be_focused()
    first, last = (visit["#answer .track button"].nth(at) for at in (0, -1))
    tab_to(visit, "#answer .track button[tabindex='0']")
    keyboard.press("End")
    expect(last).to_be_focused()
    expect(visit["#answer .detail"]).to_have_text(last.get_attribute("aria-label") or "-")
    keyboard.press("ArrowRight")  # there is no further one
    expect(last).to_be_focused()
    keyboard.press("Home")
    expect(first).to_be_focused()
    keyboard.press("ArrowRight")
    expect(visit["#answer .track button"].nth(1)).to_be_focused()
    tab_to(visit, "[data-copy='answer.json']")
    keyboard.press("Enter")
    expect(visit["#status"]).to_have_text("Copied.")
    visit.page.evaluate("document.activeElement.blur()")
    tab_to(visit, "#choose")
    with visit.page.expect_file_chooser() as chooser:
        keyboard.press("Enter")
    chooser.value.set_files(clips["short.flac"])
    expect(visit["#answer .subject"]).to_have_text("short.flac")


def test_an_emotion_is_never_a_colour_alone(visit: Visit, clips: dict[str, Path]) -> None:
    """Each segment is in the lane of its emotion, whose name is beside it, and says it itself."""
    visit.choose(clips["talk.wav"])
    answer = visit.answered()
    lanes = [text.lower() for text in visit["#answer .lanes li"].all_inner_texts()]
    for button, segment in zip(
        visit["#answer .track button"].all(), answer["segments"], strict=True
    ):
        lane = int(button.locator(".mark").evaluate("(m) => m.style.getPropertyValue('--lane')"))
        assert lanes[lane] == segment["label"]
        assert segment["label"] in (button.get_attribute("aria-label") or "").lower()


def test_problems_are_announced_once(visit: Visit, clips: dict[str, Path]) -> None:
    """A countdown changes beside the alert, not in it."""
    busy = {"type": "urn:timbre:problem:overloaded", "detail": ""}
    visit.page.route(
        "**/v1/classify*",
        lambda route: route.fulfill(status=429, headers={"retry-after": "5"}, json=busy),
    )
    visit.choose(clips["speech.wav"])
    expect(visit["[role=alert]"]).to_have_count(1)
    expect(visit["[role=alert] [role=timer]"]).to_have_count(0)
    visit.page.evaluate(
        "window.changes = 0; new MutationObserver(() => window.changes++).observe("
        "document.querySelector('[role=alert]').parentElement, { childList: true })"
    )
    expect(visit["[role=timer].countdown"]).to_have_text("Trying again in 3 s")
    assert visit.page.evaluate("window.changes") == 0


def test_the_focus_is_never_lost(visit: Visit, clips: dict[str, Path]) -> None:
    """When what had it goes away, it is beside where that was, and not at the page's beginning."""
    visit.choose(clips["text.wav"])
    visit["[data-problem] .quiet"].click()
    expect(visit["#status"]).to_be_focused()
    visit.page.route("**/v1/classify*", lambda route: route.abort())
    visit.choose(clips["speech.wav"], clips["short.flac"])
    visit["[data-action='files.retry']:enabled"].wait_for()
    visit.page.unroute("**/v1/classify*")
    visit["[data-action='files.retry']"].click()
    expect(visit["#files [data-state=done]"]).to_have_count(2)
    expect(visit["#files-heading"]).to_be_focused()


@pytest.mark.parametrize("chosen", ["light", "dark"])
def test_the_appearance_can_be_chosen(visit: Visit, chosen: str) -> None:
    """Whatever the system's is, and it is remembered."""
    visit["#theme"].select_option(chosen)
    scheme = "getComputedStyle(document.documentElement).colorScheme"
    assert visit.page.evaluate(scheme) == chosen
    visit.page.reload()
    visit["html[data-ready]"].wait_for()
    assert visit.page.evaluate(scheme) == chosen


def test_motion_can_be_reduced(visiting_page: Visiting) -> None:
    """Nothing turns for whom it makes dizzy."""
    turning = "getComputedStyle(document.querySelector('.status'), '::before').animationName"
    for wish, names in (("reduce", "none"), ("no-preference", "turn")):
        with visiting_page(reduced_motion=wish) as visit:
            visit.open()
            visit.page.evaluate("document.body.dataset.busy = ''")
            assert visit.page.evaluate(turning) == names
