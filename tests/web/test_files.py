"""Files: one, several, and longer than the server takes; the command line answers alike."""

from __future__ import annotations

import base64
import csv
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from service import audio, recordings
from service.domain import SAMPLE_RATE
from tests.support.audio import encoded
from tests.support.browser import PHONE, Visit
from tests.support.server import PATIENCE_S, Server
from tests.web.conftest import Visiting

pytestmark = pytest.mark.needs_chromium

SAME = 1e-6
"""Of a probability: the same sums in another order."""
DECODED = 5e-4
"""Of a probability, where the browser decodes instead of libsndfile; 5e-5 was seen."""
DROP = """
([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const type of ["dragover", "drop"]) {
    const event = new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer });
    document.querySelector("main").dispatchEvent(event);
  }
}
"""

CUT = """
async (data) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const shorts = new Int16Array(bytes.buffer);
  const { pieces } = await import("/web/clips.js");
  return pieces(Float32Array.from(shorts, (sample) => sample / 32768));
}
"""
RATE = """
async (data) => {
  const { rateOf } = await import("/web/rate.js");
  return rateOf(Uint8Array.from(atob(data), (c) => c.charCodeAt(0)));
}
"""
AS_BASE64 = """
const asBase64 = (blob) =>
  new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(blob);
  });
"""
ENCODE = f"""
async (samples) => {{
  {AS_BASE64}
  const {{ wav }} = await import("/web/wav.js");
  return asBase64(wav([Float32Array.from(samples)], 44100));
}}
"""
RECORD_WEBM = f"""
async () => {{
  {AS_BASE64}
  const stream = await navigator.mediaDevices.getUserMedia({{ audio: true }});
  const recorder = new MediaRecorder(stream);
  const chunks = [];
  recorder.ondataavailable = ({{ data }}) => chunks.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  setTimeout(() => recorder.stop(), 2000);
  await stopped;
  stream.getTracks().forEach((track) => track.stop());
  return asBase64(new Blob(chunks));
}}
"""

SLOWLY = """
const decode = OfflineAudioContext.prototype.decodeAudioData;
window.slow = false;
window.held = [];
window.decoded = 0;
OfflineAudioContext.prototype.decodeAudioData = async function (data) {
  if (window.slow) await new Promise((go) => window.held.push(go));
  const buffer = await decode.call(this, data);
  window.decoded += 1;
  return buffer;
};
"""
"""A browser that while it is slow decodes nothing until it is let go."""


def by_command_line(server: Server, *files: Path, output: str) -> str:
    """Classify the same files by `timbre classify`."""
    command = [str(Path(sys.executable).with_name("timbre")), "classify", "--url", server.url]
    options = [output, *(["--timeline"] if output == "--json" else [])]
    return subprocess.run(
        [*command, *options, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,  # one of several files may be wrong
    ).stdout


def same(answer: Mapping[str, Any], said: Mapping[str, Any], tolerance: float = SAME) -> None:
    """Hold the page's answer against the command line's."""
    assert (answer["label"], answer["decision"]) == (said["label"], said["decision"])
    assert answer["probabilities"] == pytest.approx(said["probabilities"], abs=tolerance)
    assert answer["audio"]["duration_s"] == pytest.approx(said["audio"]["duration_s"], abs=0.001)
    ours, theirs = answer["segments"], said["segments"]
    assert [segment["label"] for segment in ours] == [segment["label"] for segment in theirs]
    for time in ("start_s", "end_s"):
        times = [segment[time] for segment in theirs]
        assert [segment[time] for segment in ours] == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize("name", ["speech.wav", "short.flac", "stereo.ogg", "stereo.mp3"])
def test_a_file_goes_out_as_it_is(
    visit: Visit, server: Server, clips: dict[str, Path], name: str
) -> None:
    """In every format, and the answer is the command line's."""
    visit.choose(clips[name])
    said = json.loads(by_command_line(server, clips[name], output="--json"))
    answer = visit.answered()
    same(answer, said)
    assert answer["audio"] == pytest.approx(said["audio"])


@pytest.mark.parametrize("name", ["long.wav", "stereo.wav", "long.mp3"])
def test_a_long_file_is_split_and_merged(
    visit: Visit, server: Server, clips: dict[str, Path], name: str
) -> None:
    """At the places where the command line splits it, and to the same answer."""
    visit.choose(clips[name])
    answer = visit.answered()
    said = json.loads(by_command_line(server, clips[name], output="--json"))
    same(answer, said, DECODED)
    assert answer["audio"] == pytest.approx(said["audio"], abs=0.05)
    assert answer["pieces"] == 2
    expect(visit["#answer code"]).to_contain_text("timbre classify")
    visit.shot(f"answer-{name.replace('.', '-')}")


@pytest.mark.parametrize("kind", ["noise with pauses", "silence", "a buzz"])
@pytest.mark.parametrize("samples", [60 * SAMPLE_RATE, 60 * SAMPLE_RATE + 1, 150 * SAMPLE_RATE])
def test_cuts_are_the_command_line_s(visit: Visit, kind: str, samples: int) -> None:
    """At the quietest place, at the last of equals, and not at all up to the limit."""
    random = np.random.default_rng(samples)
    loud = np.repeat(random.random(samples // 4000 + 1), 4000)[:samples]
    sounds = {
        "noise with pauses": loud * random.normal(0, 3000, samples),
        "silence": np.zeros(samples),
        "a buzz": np.resize([9000.0] * 80 + [-9000.0] * 80, samples),
    }
    shorts = sounds[kind].astype("<i2")
    ours = visit.page.evaluate(CUT, base64.b64encode(shorts.tobytes()).decode())
    theirs = recordings.pieces((shorts / 32_768).astype(np.float32))
    assert list(map(tuple, ours)) == theirs
    assert (len(ours) == 1) == (samples <= audio.MAX_DURATION_S * SAMPLE_RATE)


@pytest.mark.parametrize("rate", [8_000, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_24"), ("WAVEX", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)],
)
def test_a_file_s_own_rate_is_known(
    visit: Visit, container: str, subtype: str | None, rate: int
) -> None:
    """By its header, in each of the server's formats; MP3 has none above 48 kHz."""
    if container == "MP3":
        rate = min(rate, 48_000)
    data = encoded(np.zeros(rate, np.float32), rate, container=container, subtype=subtype)
    assert visit.page.evaluate(RATE, base64.b64encode(data[:4096]).decode()) == rate


@pytest.mark.parametrize(
    ("head", "rate"),
    [
        (b"OggS" + bytes(22) + b"\x01\x13OpusHead" + bytes(20), 48_000),
        (b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + b"\xff\xf3\x64\xc4", 24_000),
        (
            b"ID3\x04\0\0\0\0\x01\x00"
            + bytes(128)
            + b"fLaC".ljust(18, b"\0")
            + (44_100 << 12).to_bytes(4, "big"),
            44_100,
        ),
        (b"RIFF\0\0\0\0WAVELIST\4\0\0\0....fmt ", None),
        (b"", None),
        (b"fLaC", None),
        (b"\x1a\x45\xdf\xa3....", None),
    ],
)
def test_odd_headers(visit: Visit, head: bytes, rate: int | None) -> None:
    """With tags before them, cut off, or of something else."""
    assert visit.page.evaluate(RATE, base64.b64encode(head).decode()) == rate


def test_samples_become_a_wav_file(visit: Visit) -> None:
    """Of 16 bits: what was 16 bits before stays, halves go to the even, what is too loud is cut."""
    shorts = [0, 1, -32_768, 32_767, 32_768, 50_000, -50_000, 0.5, 1.5, -0.5, -1.5, 0.6]
    samples = [short / 32_768 for short in shorts]
    encoded_here = base64.b64decode(visit.page.evaluate(ENCODE, samples))
    read, rate = soundfile.read(io.BytesIO(encoded_here), dtype="int16")
    assert rate == 44_100
    assert read.tolist() == [0, 1, -32_768, 32_767, 32_767, 32_767, -32_768, 0, 2, 0, -2, 1]


@pytest.mark.parametrize("padding", [0, audio.MAX_BODY_BYTES], ids=["small", "large"])
def test_what_only_the_browser_reads(visit: Visit, tmp_path: Path, padding: int) -> None:
    """A recorder's WebM is sent as WAV, and no command is shown: none would give the same.

    Nor where the server didn't say so, having never seen the file, which is too large for it.
    """
    file = tmp_path / "memo.webm"
    void = b"\xec\x01" + padding.to_bytes(7, "big") + bytes(padding)  # WebM's own way to pad
    file.write_bytes(base64.b64decode(visit.page.evaluate(RECORD_WEBM)) + void)
    visit.choose(file)
    answer = visit.answered()
    assert answer["converted"] is True
    assert answer["audio"]["duration_s"] == pytest.approx(2.0, abs=0.7)
    expect(visit["[data-copy='answer.command']"]).to_have_count(0)


def test_the_limits_are_the_server_s(visit: Visit) -> None:
    """The page splits by the numbers of service.audio and service.recordings."""
    ours = visit.page.evaluate("import('/web/clips.js').then((clips) => ({ ...clips }))")
    assert ours["SAMPLE_RATE"] == SAMPLE_RATE
    assert ours["MAX_BODY_BYTES"] == audio.MAX_BODY_BYTES
    assert ours["MAX_DURATION_S"] == audio.MAX_DURATION_S
    for name in ("SEARCH_S", "QUIET_S", "SHORTEST_S"):
        assert ours[name] == getattr(recordings, name)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_file_at_the_limit_of_bytes(visiting_page: Visiting, tmp_path: Path, extra: int) -> None:
    """With one byte more it is not even sent."""
    file = tmp_path / "large.flac"
    file.write_bytes(b"fLaC".ljust(audio.MAX_BODY_BYTES + extra, b"\0"))
    with visiting_page() as visit:
        visit.open()
        sent = []
        visit.page.on("request", lambda request: sent.append(request.method))
        visit.choose(file)
        assert visit.trouble() == ("too-long-here" if extra else "not-audio")
        assert sent.count("POST") == 1 - extra


def test_a_file_is_dropped(visit: Visit, clips: dict[str, Path]) -> None:
    """Anywhere on the page."""
    data = base64.b64encode(clips["speech.wav"].read_bytes()).decode()
    visit.page.evaluate(DROP, ["dropped.wav", data])
    assert visit.answered()["label"]
    expect(visit["#answer .subject"]).to_have_text("dropped.wav")


def test_no_speech(visit: Visit, clips: dict[str, Path]) -> None:
    """It is said in words, without bars or a time line."""
    visit.choose(clips["silence.wav"])
    assert visit.answered()["decision"] == "no_speech"
    expect(visit["#verdict"]).to_have_text("No speech found")
    expect(visit["#answer .bars"]).to_have_count(0)
    visit.shot("answer-no-speech")


def test_the_answer_is_all_there(visit: Visit, clips: dict[str, Path]) -> None:
    """Emotion, confidence, decision, a bar a class, a button a segment, the model, the time."""
    visit.choose(clips["talk.wav"])
    answer = visit.answered()
    percents = [f"{score:.0%}" for score in sorted(answer["probabilities"].values(), reverse=True)]
    assert visit["#answer .bars li > span:last-child"].all_inner_texts() == percents
    segments = visit["#answer .track button"]
    expect(segments).to_have_count(len(answer["segments"]))
    assert visit["#answer tbody tr"].count() == len(answer["segments"])
    segments.nth(1).hover()
    start, end = (answer["segments"][1][key] for key in ("start_s", "end_s"))
    expect(visit["#answer .detail"]).to_contain_text(f"0:{start:04.1f} to 0:{end:04.1f}")
    model = answer["model"]
    details = visit["#answer dl"].inner_text()
    assert f"{model['name']} {model['version']} ({model['track']})" in details
    assert "ms on the server" in details


@pytest.mark.parametrize(
    ("name", "to", "window"),
    [
        ("desktop", "body", {"viewport": {"width": 1120, "height": 1290}}),
        (
            "phone",
            "#answer",
            {
                "viewport": PHONE,
                "color_scheme": "dark",
                "locale": "es-ES",
                "device_scale_factor": 2,
            },
        ),
    ],
)
def test_a_picture_of_it(
    visiting_page: Visiting, clips: dict[str, Path], name: str, to: str, window: dict[str, object]
) -> None:
    """Those in the README, docs/web, are made of these."""
    with visiting_page(**window) as visit:
        visit.open()
        visit.choose(clips["talk.wav"])
        visit["#answer"].wait_for()
        visit[to].evaluate("(element) => element.scrollIntoView()")
        visit.page.mouse.move(0, 0)
        visit.shot(f"readme-{name}", whole=False)


def test_a_segment_can_be_heard(visit: Visit, clips: dict[str, Path]) -> None:
    """Pressing it plays that part of the recording, and no more."""
    visit.page.evaluate(
        "HTMLMediaElement.prototype.play = function () { window.heard = this;"
        " this.pause = () => (window.paused = true); return Promise.resolve(); }"
    )
    visit.choose(clips["talk.wav"])
    segment = visit.answered()["segments"][2]
    visit["#answer .track button"].nth(2).click()
    start, end = segment["start_s"], segment["end_s"]
    assert visit.page.evaluate("window.heard.currentTime") == pytest.approx(start)
    at = """(time) => {
      window.paused = false;
      Object.defineProperty(window.heard, "currentTime", { value: time, configurable: true });
      window.heard.dispatchEvent(new Event("timeupdate"));
      return window.paused;
    }"""
    assert visit.page.evaluate(at, end - 0.1) is False
    assert visit.page.evaluate(at, end + 0.1) is True


def test_the_command_gives_the_same(visit: Visit, clips: dict[str, Path]) -> None:
    """Pasted into a terminal beside the file."""
    visit.choose(clips["speech.wav"])
    answer = visit.answered()
    visit["[data-copy='answer.command']"].click()
    command = visit.page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=clips["speech.wav"].parent,
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    said = json.loads(done.stdout)
    assert {part: said[part] for part in ("label", "probabilities", "segments")} == {
        part: answer[part] for part in ("label", "probabilities", "segments")
    }


def test_several_files(visit: Visit, server: Server, clips: dict[str, Path]) -> None:
    """A row each; one that fails stops none; the tables to take away are the command line's."""
    names = ["speech.wav", "short.flac", "text.wav", "silence.wav", "long.wav", "stereo.ogg"]
    files = [clips[name] for name in names]
    visit.choose(*files)
    visit["[data-action='files.csv']:not([disabled])"].wait_for()
    states = [row.get_attribute("data-state") for row in visit["#files tbody tr"].all()]
    assert states == ["failed" if name == "text.wav" else "done" for name in names]
    visit.shot("files")

    with visit.page.expect_download() as download:
        visit["[data-action='files.csv']"].click()
    text = download.value.path().read_bytes().decode()
    ours = list(csv.reader(io.StringIO(text, newline="")))
    theirs = list(csv.reader(io.StringIO(by_command_line(server, *files, output="--csv"))))
    assert ours[0] == theirs[0]
    for our, their in zip(ours[1:], theirs[1:], strict=True):
        assert (our[0], our[1], our[3]) == (Path(their[0]).name, their[1], their[3])
        assert bool(our[-1]) == bool(their[-1])
        if our[2]:
            assert float(our[2]) == pytest.approx(float(their[2]), abs=SAME)

    with visit.page.expect_download() as download:
        visit["[data-action='files.json']"].click()
    told = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert [row["path"] for row in told] == names
    assert told[2]["error"]["type"] == "not-audio"

    visit["#files [data-row='0']"].click()
    expect(visit["#answer .subject"]).to_have_text("speech.wav")


def test_files_that_failed_are_tried_again(visiting_page: Visiting, clips: dict[str, Path]) -> None:
    """Those alone, when the server is back."""
    with visiting_page() as visit:
        visit.open()
        visit.page.route("**/v1/classify*", lambda route: route.abort())
        visit.choose(clips["speech.wav"], clips["short.flac"])
        visit["[data-action='files.retry']:not([disabled])"].wait_for()
        expect(visit["#files [data-state=failed]"]).to_have_count(2)
        visit.page.unroute("**/v1/classify*")
        visit["[data-action='files.retry']"].click()
        expect(visit["#files [data-state=done]"]).to_have_count(2)


def test_another_file_while_one_is_decoded(visiting_page: Visiting, clips: dict[str, Path]) -> None:
    """The first is given up: neither its answer nor its progress comes later."""
    with visiting_page(script=SLOWLY) as visit:
        visit.open()
        visit.page.evaluate("window.slow = true")
        visit.choose(clips["long.wav"])
        visit.until("window.held.length === 1")
        visit.page.evaluate("window.slow = false")
        visit.choose(clips["speech.wav"])
        visit["#answer"].wait_for()
        visit.page.evaluate("window.held[0]()")
        visit.until("window.decoded === 3")  # the long one twice: to cut it, and to send it
        expect(visit["#status"]).to_have_text("")
        expect(visit["#answer .subject"]).to_have_text("speech.wav")


def test_who_records_waits_for_no_file(visit: Visit, clips: dict[str, Path]) -> None:
    """What is being classified is given up, and what the page says is of the recording."""
    visit.page.route("**/v1/classify*", lambda _: None)
    visit.choose(clips["speech.wav"])
    expect(visit["#status"]).to_contain_text("speech.wav")
    with visit.page.expect_event("requestfailed"):
        visit["#record"].click()
    expect(visit["#status"]).to_have_text("Recording.")
    expect(visit["[data-busy]"]).to_have_count(0)


def test_the_row_pressed_last_is_shown(visiting_page: Visiting, clips: dict[str, Path]) -> None:
    """However long the browser takes for the waveform of the one before."""
    with visiting_page(script=SLOWLY) as visit:
        visit.open()
        visit.choose(clips["speech.wav"], clips["short.flac"])
        expect(visit["#files [data-state=done]"]).to_have_count(2)
        visit.page.evaluate("window.slow = true")
        visit["#files [data-row='0']"].click()
        visit.until("window.held.length === 1")
        visit.page.evaluate("window.slow = false")
        visit["#files [data-row='1']"].click()
        expect(visit["#answer .subject"]).to_have_text("short.flac")
        visit.page.evaluate("window.held[0]()")
        visit.until("window.decoded === 2")
        expect(visit["#answer .subject"]).to_have_text("short.flac")
