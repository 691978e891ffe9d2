"""The time line: times stand below what they are of, and whoever looks at a place stays there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.browser import PHONE, Visit
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium

SEGMENTS = 100
"""More than fit a phone."""
DRAW = """
async ([count, places]) => {
  const { showTimeline } = await import("/web/timeline.js");
  const container = document.querySelector("#live-timeline");
  document.querySelector("#live").hidden = false;
  const seen = [];
  for (const place of [...places, null]) {
    const segments = Array.from({ length: count }, (_, at) => (
      { start_s: at, end_s: at + 1, label: "sad", score: 1 }
    ));
    showTimeline(container, { durationS: count, segments, labels: ["sad"], peaks: [] });
    const scroll = container.querySelector(".scroll");
    const rest = () => scroll.scrollWidth - scroll.clientWidth - scroll.scrollLeft;
    seen.push({ left: scroll.scrollLeft, rest: rest() });
    if (place !== null) scroll.scrollLeft = place;
    count += 1;
  }
  const left = (element) => element.getBoundingClientRect().left;
  const buttons = [...container.querySelectorAll(".track button")].map(left);
  const ticks = [...container.querySelectorAll(".axis span")].map((tick) => {
    const [minutes, seconds] = tick.textContent.split(":").map(Number);
    return [60 * minutes + seconds, left(tick)];
  });
  return { seen, buttons, ticks };
}
"""
"""Draws a time line of windows of 1 s again and again, with one more each time, and scrolls it."""

LONG = """
async (count) => {
  const { showTimeline } = await import("/web/timeline.js");
  const container = document.querySelector("#live-timeline");
  const peaks = new Array(count).fill(0.5);
  showTimeline(container, { durationS: 3600, segments: [], labels: ["sad"], peaks });
  return container.querySelectorAll(".wave").length;
}
"""


def draw(visit: Visit, count: int, *places: float) -> dict[str, Any]:
    """Draw, scroll to a place in pixels, draw, and so on; what was seen after each drawing."""
    drawn: dict[str, Any] = visit.page.evaluate(DRAW, [count, places])
    return drawn


@pytest.mark.parametrize("count", [10, SEGMENTS])
def test_times_stand_below_what_they_are_of(visiting_page: Visiting, count: int) -> None:
    """Whether all of it fits the screen or it scrolls."""
    with visiting_page(viewport=PHONE) as visit:
        visit.open()
        drawn = draw(visit, count)
        assert len(drawn["ticks"]) > 1
        for time_s, left in drawn["ticks"]:
            if time_s < count:
                assert left == pytest.approx(drawn["buttons"][time_s], abs=1)


def test_a_place_is_kept_while_the_time_line_grows(visiting_page: Visiting) -> None:
    """That to which somebody scrolled; who is at the end stays at the end, and sees what comes."""
    with visiting_page(viewport=PHONE) as visit:
        visit.open()
        *kept, followed = draw(visit, SEGMENTS, 50, 50, 1e6)["seen"]
        assert kept[0]["rest"] > 0
        assert [seen["left"] for seen in kept] == [0, 50, 50]
        assert followed["rest"] == pytest.approx(0, abs=1)


def test_a_waveform_of_any_length_is_drawn(visit: Visit) -> None:
    """Also one of more peaks than a function takes arguments."""
    assert visit.page.evaluate(LONG, 200_000) == 1
