"""From the microphone to an answer, and every way in which a microphone can be missing."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import soundfile
from playwright.sync_api import Browser, Playwright, Route, expect

from tests.support.browser import Visit, chromium, visiting
from tests.support.server import PATIENCE_S, Server
from tests.web.conftest import MICROPHONE_RATE, Visiting

pytestmark = pytest.mark.needs_chromium

REMEMBER = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  window.asked = asked;
  window.stream = await open(asked);
  return window.stream;
};
window.revoked = [];
const revoke = URL.revokeObjectURL;
URL.revokeObjectURL = (url) => {
  window.revoked.push(url);
  revoke(url);
};
"""
"""Keeps what the page asks for and gets, and the addresses that it gives back."""
TRACKS = "window.stream.getTracks().map((track) => track.readyState)"
"""Whether the microphone is in use."""


def recording(visit: Visit, folder: Path) -> Path:
    """Take the recording off the page, by its button."""
    with visit.page.expect_download() as download:
        visit["#download"].click()
    path = folder / "recording.wav"
    download.value.save_as(path)
    return path


def test_record_listen_classify(visit: Visit, server: Server, tmp_path: Path) -> None:
    """What is heard is there to listen to, and its answer is the one that its file gets."""
    visit.record(3.0)
    expect(visit["#classify"]).to_be_focused()
    visit.shot("recorded")
    file = recording(visit, tmp_path)
    about = soundfile.info(file)
    assert (about.format, about.subtype, about.channels) == ("WAV", "PCM_16", 1)
    assert about.duration == pytest.approx(3.0, abs=0.7)
    visit.until("document.querySelector('#player').duration > 2")
    visit["#classify"].click()
    answer = visit.answered()
    asked = httpx.post(
        f"{server.url}/v1/classify?timeline=true", content=file.read_bytes(), timeout=PATIENCE_S
    ).json()
    for part in ("label", "score", "decision", "probabilities", "top", "segments", "audio"):
        assert answer[part] == asked[part]
    assert answer["label"] is not None
    visit.shot("answer-recording")


def test_the_voice_is_left_as_it_is(visiting_page: Visiting, tmp_path: Path) -> None:
    """What calls need is off, and the rate is the browser's own: the server resamples."""
    with visiting_page(script=REMEMBER) as visit:
        visit.open()
        visit.record(1.0)
        off = ("echoCancellation", "noiseSuppression", "autoGainControl")
        assert visit.page.evaluate("window.asked") == {"audio": dict.fromkeys(off, False)}
        assert soundfile.info(recording(visit, tmp_path)).samplerate in {44_100, MICROPHONE_RATE}


def test_while_recording(visiting_page: Visiting) -> None:
    """The level moves, the clock goes, the button says Stop; afterwards the microphone is free."""
    with visiting_page(script=REMEMBER) as visit:
        visit.open()
        visit["#record"].click()
        expect(visit["#record"]).to_have_text("Stop")
        visit.until("Number(document.querySelector('#meter').ariaValueNow) > 5")
        expect(visit["#clock"]).to_have_text("0:02")
        assert visit.page.evaluate(TRACKS) == ["live"]
        visit.shot("recording")
        visit["#record"].click()
        expect(visit["#record"]).to_have_text("Record")
        assert visit.page.evaluate(TRACKS) == ["ended"]


def test_the_button_says_stop_whatever_comes_meanwhile(visiting_page: Visiting) -> None:
    """The model's facts, which take their time here, and another language."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with visiting_page() as visit:
        visit.page.route("**/v1/model", hold)
        visit.open()
        visit["#record"].click()
        expect(visit["#record"]).to_have_text("Stop")
        for route in held:
            route.continue_()
        expect(visit["#model"]).not_to_be_empty()
        expect(visit["#record"]).to_have_text("Stop")
        visit["#language"].select_option("es")
        expect(visit["#record"]).to_have_text("Parar")
        visit["#record"].click()
        expect(visit["#record"]).to_have_text("Grabar")


def test_a_recording_can_be_discarded(visiting_page: Visiting) -> None:
    """It is gone, is heard no more and offered nowhere, and the next one may begin."""
    with visiting_page(script=REMEMBER) as visit:
        visit.open()
        visit.record(2.0)
        visit.page.route("**/v1/classify*", lambda route: route.abort())
        visit["#classify"].click()
        visit["[data-problem]"].wait_for()
        source = visit["#player"].get_attribute("src")
        visit["#player"].evaluate("(player) => player.play()")
        visit["#discard"].click()
        expect(visit["#recording"]).to_be_hidden()
        expect(visit["#record"]).to_be_focused()
        expect(visit["[data-problem]"]).to_have_count(0)
        assert visit["#player"].evaluate("(player) => [player.paused, player.readyState]") == [
            True,
            0,
        ]
        assert visit["#player"].get_attribute("src") is None
        assert source in visit.page.evaluate("window.revoked")
        assert visit.page.evaluate(TRACKS) == ["ended"]


def test_what_is_playing_is_not_recorded(visit: Visit) -> None:
    """The recording before falls silent when the next one begins."""
    visit.record(2.0)
    visit["#player"].evaluate("(player) => player.play()")
    visit["#record"].click()
    visit["#record[data-state=recording]"].wait_for()
    player = "(player) => [player.paused, player.ended]"
    assert visit["#player"].evaluate(player) == [True, False]


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        ("NotFoundError", "no-microphone"),
        ("NotAllowedError", "microphone-denied"),
        ("NotReadableError", "microphone-busy"),
        ("OverconstrainedError", "no-microphone"),
    ],
)
def test_no_microphone(visiting_page: Visiting, error: str, slug: str) -> None:
    """Each reason that browsers give has its words, and the page goes on."""
    refuse = f"""
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "{error}"));
    """
    with visiting_page(script=refuse) as visit:
        visit.open()
        visit["#record"].click()
        assert visit.trouble() == slug
        expect(visit["#record"]).to_have_text("Record")
        visit.shot(f"error-{slug}")


def test_who_says_no(playwright: Playwright, server: Server) -> None:
    """A real refusal, by the browser itself."""
    with (
        chromium(playwright, allowed=False) as browser,
        visiting(browser, server.url) as visit,
    ):
        visit.open()
        visit["#record"].click()
        assert visit.trouble() == "microphone-denied"


def test_an_insecure_address(browser: Browser, server: Server, clips: dict[str, Path]) -> None:
    """By http from elsewhere, recording says what it needs, and files work."""
    with visiting(browser, f"http://insecure.example:{server.port}") as visit:
        visit.open()
        assert visit.page.evaluate("isSecureContext") is False
        visit["#record"].click()
        assert visit.trouble() == "insecure"
        visit.shot("error-insecure")
        visit.choose(clips["speech.wav"])
        visit["#answer"].wait_for()
        # There is no clipboard; the text is selected and copied as of old.
        visit["[data-copy='answer.command']"].click()
        expect(visit["#status"]).to_have_text("Copied.")


def test_a_microphone_that_goes_away(visiting_page: Visiting) -> None:
    """What was recorded until then is kept."""
    with visiting_page(script=REMEMBER) as visit:
        visit.open()
        visit["#record"].click()
        visit.until("document.querySelector('#clock').textContent === '0:01'")
        visit.page.evaluate("window.stream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        assert visit.trouble() == "microphone-lost"
        expect(visit["#recording"]).to_be_visible()


def test_nothing_is_left_unasked(visit: Visit) -> None:
    """Who leaves with a recording that is nowhere else is asked; who has saved it is not."""
    asks = "dispatchEvent(new Event('beforeunload', { cancelable: true })) === false"
    assert visit.page.evaluate(asks) is False
    visit.record(1.0)
    assert visit.page.evaluate(asks) is True
    with visit.page.expect_download():
        visit["#download"].click()
    assert visit.page.evaluate(asks) is False
