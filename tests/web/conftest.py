"""What the tests of the page share: a real server with the embedded model, Chromium, and audio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.domain import SAMPLE_RATE
from tests.support.audio import encoded, silence, speech_like
from tests.support.browser import Visit, chromium, visiting
from tests.support.server import Server, serving

MICROPHONE_RATE = 48_000
ELSEWHERE = "--host-resolver-rules=MAP insecure.example 127.0.0.1"
"""An address by http that is not this machine's own by its name, and so is no secure one."""
Visiting = Callable[..., AbstractContextManager[Visit]]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the embedded model, in the precision that needs no measuring."""
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(open_bundle(DEFAULT_BUNDLE), log, TIMBRE_PRECISION="fp32") as server:
        yield server


@pytest.fixture(scope="package")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the microphone hears."""
    path = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    sound = speech_like(6.0, seed=3, rate=MICROPHONE_RATE)
    path.write_bytes(encoded(sound, MICROPHONE_RATE, subtype="PCM_16"))
    return path


# Of the folder, not of the session: while Playwright runs, its event loop does, in this thread.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """What drives browsers."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright: Playwright, microphone: Path) -> Iterator[Browser]:
    """A browser whose user allows the microphone."""
    with chromium(playwright, ELSEWHERE, microphone=microphone) as browser:
        yield browser


@pytest.fixture
def visiting_page(browser: Browser, server: Server) -> Visiting:
    """Visit the page with options of one's own."""
    return partial(visiting, browser, server.url)


@pytest.fixture
def visit(visiting_page: Visiting) -> Iterator[Visit]:
    """The page, open on a desktop."""
    with visiting_page() as visit:
        visit.open()
        yield visit


@pytest.fixture(scope="package")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recordings by name, and files that are none."""
    folder = tmp_path_factory.mktemp("clips")
    talk = [part for seed in range(5) for part in (speech_like(5.0, seed=seed), silence(1.0))]
    long = np.concatenate([*talk, *talk, *talk])
    stereo = np.stack([speech_like(4.0, seed=2, rate=44_100)] * 2, axis=1)
    sides = np.stack([speech_like(70.0, seed=seed, rate=44_100) for seed in (8, 9)], axis=1)
    files = {
        "speech.wav": encoded(speech_like(4.0, seed=1), subtype="PCM_16"),
        "talk.wav": encoded(np.concatenate(talk), subtype="PCM_16"),
        "short.flac": encoded(speech_like(3.0, seed=5), container="FLAC"),
        "stereo.ogg": encoded(stereo, 44_100, container="OGG", subtype="VORBIS"),
        "stereo.mp3": encoded(stereo, 44_100, container="MP3"),
        "silence.wav": encoded(silence(3.0), subtype="PCM_16"),
        "long.wav": encoded(long, subtype="PCM_16"),
        "stereo.wav": encoded(sides, 44_100, subtype="PCM_16"),
        "long.mp3": encoded(long, SAMPLE_RATE, container="MP3"),
        "text.wav": b"this is no recording",
        "video.webm": b"\x1a\x45\xdf\xa3" + bytes(100),
        "huge.bin": b"fLaC" + bytes(10 * 1024 * 1024),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}
