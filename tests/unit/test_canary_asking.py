"""Asking both sides: who is asked what and when, and what is made of the answers."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.canary import asking
from service.canary.asking import JOBS, Asker, NotAnswered, side_of
from service.canary.golden import NAME, GoldenError, GoldenSet
from service.canary.making import create, listed
from service.canary.observations import Side
from service.contract import Classification, ModelFacts
from service.domain import Decision
from tests.support.answers import FACTS, classification
from tests.support.audio import encoded, speech_like

CLIPS = 6
PATIENCE_S = 10.0
HOSTS = ("stable", "candidate")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> GoldenSet:
    """A set of six clips, of which the candidate gets one wrong and hears nothing in another."""
    folder = tmp_path_factory.mktemp("set")
    for number in range(CLIPS):
        file = (
            folder / ("sad" if number % 2 else "angry") / f"speaker{number % 3}" / f"{number}.wav"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(speech_like(0.3, number)))
    return create(listed(folder), folder / NAME, name="calls")


class Servers:
    """Two servers that know the clips by their bytes."""

    def __init__(self, opened: GoldenSet) -> None:
        self.facts: dict[str, ModelFacts] = {
            "stable": FACTS.model_copy(update={"digest": "sha256:a"}),
            "candidate": FACTS.model_copy(
                update={"version": "1.1.0", "labels": ["sad", "angry", "calm"]}
            ),
        }
        self.truth = {opened.data(clip): clip.label for clip in opened.manifest.clips}
        self.places = {opened.data(clip): place for place, clip in enumerate(opened.manifest.clips)}
        self.asked: list[tuple[int, str]] = []
        self.tracks: Counter[tuple[str, str]] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self.busy = 0
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._lock = threading.Lock()

    def asker(self, token: str | None = None) -> Asker:
        """Make who asks them."""
        return Asker(
            "http://stable:3000",
            "http://candidate:3000",
            token=token,
            transport=httpx.MockTransport(self._answer),
        )

    def said(self, host: str, data: bytes) -> Classification:
        """Answer a clip."""
        facts, label, place = self.facts[host], self.truth[data], self.places[data]
        said = classification()
        model = said.model.model_copy(update={"name": facts.name, "version": facts.version})
        timing = said.timing_ms.model_copy(update={"total": 10.0 * (place + 1)})
        update: dict[str, object] = {"model": model, "timing_ms": timing}
        if host == "candidate" and place == 1:
            update |= {"label": None, "score": None, "probabilities": {}, "top": []}
            update |= {"decision": Decision.NO_SPEECH}
        elif host == "candidate":
            update |= {"label": "calm" if place == 2 else label}
            update |= {"probabilities": {"calm": 0.5, "angry": 0.3, "sad": 0.2}}
        else:
            update |= {"label": label}
        return said.model_copy(update=update)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        with self._lock:
            self.tracks[host, request.headers["x-timbre-track"]] += 1
        if request.url.path == "/v1/model":
            return httpx.Response(200, text=self.facts[host].model_dump_json())
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.asked.append((self.places[request.content], host))
            status, self.status = self.status, 200
        if status == HTTPStatus.OK:
            self.may_answer.wait(PATIENCE_S)
        answer = self.said(host, request.content).model_dump_json()
        with self._lock:
            self.at_once -= 1
        return httpx.Response(status, text=answer, headers={"retry-after": "0"})


@pytest.fixture
def servers(opened: GoldenSet) -> Servers:
    """Both."""
    return Servers(opened)


def test_answers_are_in_the_set_s_order_and_labels(opened: GoldenSet, servers: Servers) -> None:
    """With a model's further labels behind them; no speech is no label and no probability."""
    steps: list[int] = []
    asked = servers.asker().ask(opened, lambda: steps.append(1))
    golden = asked.golden
    assert golden.version == opened.title
    assert golden.labels == ("angry", "sad", "calm")
    assert golden.truth == ("angry", "angry", "angry", "sad", "sad", "sad")
    assert golden.speakers == tuple(clip.speaker for clip in opened.manifest.clips)
    assert golden.stable == golden.truth
    assert golden.candidate == ("angry", "", "calm", "sad", "sad", "sad")
    np.testing.assert_array_equal(golden.stable_probabilities, [[0.4, 0.6, 0.0]] * CLIPS)
    np.testing.assert_array_equal(golden.candidate_probabilities[0], [0.3, 0.2, 0.5])
    np.testing.assert_array_equal(golden.candidate_probabilities[1], [0, 0, 0])
    np.testing.assert_allclose(golden.candidate_s, [0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert len(steps) == 2 * CLIPS


def test_both_are_asked_all_and_told_which_they_are(opened: GoldenSet, servers: Servers) -> None:
    """So that live figures leave the set out; a few at a time."""
    servers.asker().ask(opened)
    assert servers.most_at_once <= JOBS
    assert set(servers.tracks) == {("stable", "stable"), ("candidate", "canary")}
    assert Counter(servers.asked) == {(p, h): 1 for p in range(CLIPS) for h in HOSTS}


def test_each_side_is_first_in_turn(
    opened: GoldenSet, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the set's order."""
    monkeypatch.setattr(asking, "JOBS", 1)
    servers.asker().ask(opened)
    first, second = HOSTS
    both = [(first, second), (second, first)]
    assert servers.asked == [(clip, host) for clip in range(CLIPS) for host in both[clip % 2]]


def test_a_busy_server_is_asked_again(opened: GoldenSet, servers: Servers) -> None:
    """A golden set can wait."""
    servers.status = 429
    servers.asker().ask(opened)
    assert len(servers.asked) == 2 * CLIPS + 1


def test_a_refused_clip_stops_it(
    opened: GoldenSet, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the clip and the server; there is no verdict on the rest."""

    class Pool(ThreadPoolExecutor):
        """Else all might be answered before anybody looks at the first."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the pool's own
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            servers.may_answer.set()
            super().shutdown(wait)

    monkeypatch.setattr(asking, "ThreadPoolExecutor", Pool)
    servers.may_answer.clear()
    servers.status = 422
    with pytest.raises(NotAnswered, match=r"angry/.*\.wav was not answered by http://.*:3000"):
        servers.asker().ask(opened)
    assert len(servers.asked) < 2 * CLIPS


def test_another_model_s_answer_is_none(
    opened: GoldenSet, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a fallback's, or that of the other side behind one address."""
    said = servers.said
    monkeypatch.setattr(servers, "said", lambda _host, data: said("stable", data))
    with pytest.raises(NotAnswered, match=r"answered by tiny 1\.0\.0 and not by tiny 1\.1\.0"):
        servers.asker().ask(opened)


def test_what_is_known_of_the_set_is_told(opened: GoldenSet, servers: Servers) -> None:
    """By side: what it was trained on, and labels it doesn't have."""
    lacking = servers.facts["stable"].model_copy(update={"labels": ["angry"]})
    servers.facts["stable"] = lacking
    notes = servers.asker().ask(opened).notes
    assert "stable (tiny 1.0.0) doesn't know the golden set's sad." in notes
    assert sum("isn't recorded" in note for note in notes) == 2


def test_labels_that_the_set_lacks_are_told(opened: GoldenSet, servers: Servers) -> None:
    """A verdict says nothing of them."""
    more = servers.facts["candidate"].model_copy(update={"labels": ["angry", "sad", "smug"]})
    servers.facts["candidate"] = more
    (note,) = [note for note in servers.asker().ask(opened).notes if "has no clips" in note]
    assert note.startswith("The golden set has no clips of smug, so nothing is said of how well")


def test_a_side_can_be_told_by_its_server() -> None:
    """Where no Prometheus is asked."""
    facts = FACTS.model_copy(update={"cpu_features": ["avx2", "fma"]})
    assert side_of(facts) == Side(("1.0.0",), ("sha256:0",), ("fp32",), ("avx2,fma",), 1)


def test_a_clip_that_changes_under_way_is_found(
    opened: GoldenSet, servers: Servers, tmp_path: Path
) -> None:
    """It is verified when it is sent, too."""
    moved = GoldenSet(tmp_path, opened.manifest, opened.digest)
    with pytest.raises(GoldenError, match="No such file"):
        servers.asker().ask(moved)
