"""The same answer alone and under load, and from either runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle import Bundle, Precision
from service.classifier import Classifier, open_classifier
from service.domain import BundleError
from service.precision import candidates
from service.runtime import FIXED_BYTES, ONE_THREAD_BATCH, cpu_features
from service.serving import Served
from tests.support.audio import encoded, speech_like
from tests.support.stand import Stand, standing

logger = logging.getLogger(__name__)

CLIPS = 200
LOGIT_BOUND = 1e-4
"""Between a clip alone and the same clip under load, fp32."""
RUNTIME_BOUND = 1e-3
"""Between OpenVINO and torch, both computing in fp32 with the same fp16-rounded weights."""
FAR = 2.0
"""More than rounding does to a logit of the tiny model, whose labels' spread is 0.25."""
MAX_BATCH = 8
ROOM = {"queue_windows": 100_000, "queue_s": 600.0, "decode_backlog": CLIPS, "deadline_s": 600.0}
"""So that nothing is refused: this is about answers."""


@pytest.fixture(scope="module")
def clips() -> list[bytes]:
    """Clips of 0.5 to 12 s, each another piece of a few voices: synthesis is slow."""
    voices = [speech_like(12.0, seed) for seed in range(6)]
    random = np.random.default_rng(0)
    pieces = []
    for number in range(CLIPS):
        voice = voices[number % len(voices)]
        length = int(random.uniform(0.5, 12.0) * 16_000)
        start = int(random.integers(0, voice.size - length + 1))
        pieces.append(encoded(voice[start : start + length]))
    return pieces


@pytest.fixture(scope="module")
def open_classifiers(tiny: Bundle, classifier: Classifier) -> Callable[[int], Classifier]:
    """Give a classifier with that many streams."""
    two = open_classifier(tiny, streams=2, threads=2)
    return lambda streams: classifier if streams == 1 else two


@pytest.mark.parametrize("fixed_bytes", [0, FIXED_BYTES])
def test_any_number_of_windows_is_scored_as_each_alone(
    tiny: Bundle, fixed_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In networks of fixed batches, of which an odd number needs several, and in one for all."""
    monkeypatch.setattr("service.runtime.FIXED_BYTES", fixed_bytes)
    runner = open_classifier(tiny).runner
    size = tiny.manifest.audio.window.window
    windows = [speech_like(1.0, seed)[:size] for seed in range(2 * MAX_BATCH + 3)]
    alone = [runner([window])[0] for window in windows]
    for count in range(1, len(windows) + 1):
        together = np.array(runner(windows[:count]))
        assert np.abs(together - np.array(alone[:count])).max() <= LOGIT_BOUND


def logits_of(stand: Stand, served: Served) -> NDArray[np.float32]:
    """Give a clip's logits [windows, labels]."""
    return np.array(stand.serving.answers[id(served.heard)], np.float32)


@pytest.mark.asyncio
@pytest.mark.parametrize("streams", [1, 2])
async def test_every_logit_is_the_same_alone_and_under_load(
    streams: int,
    clips: list[bytes],
    open_classifiers: Callable[[int], Classifier],
) -> None:
    """200 clips at once share batches with each other, and none of their logits shows it."""
    under_test = open_classifiers(streams)
    async with standing(under_test, streams=streams, max_batch=MAX_BATCH, **ROOM) as stand:
        far = stand.serving.clock() + 600
        alone = [await stand.serving.classify(clip, deadline=far) for clip in clips]
        batches = len(stand.runner.batches)
        windows = sum(len(served.heard.batch) for served in alone)
        stand.runner.gate.shut()  # so that all are there, however fast the engine is
        loading = [
            asyncio.create_task(stand.serving.classify(clip, deadline=far)) for clip in clips
        ]
        while stand.serving.admission.in_flight < windows:  # noqa: ASYNC110 - nothing tells of permits
            await asyncio.sleep(0.01)
        stand.runner.gate.open()
        together = await asyncio.gather(*loading)
        largest = 0.0
        for solo, loaded in zip(alone, together, strict=True):
            difference = logits_of(stand, solo) - logits_of(stand, loaded)
            largest = max(largest, float(np.abs(difference).max(initial=0.0)))
            assert solo.result.label == loaded.result.label
            assert solo.result.decision == loaded.result.decision
        under_load = stand.runner.batches[batches:]
    logger.info("largest difference of a logit: %.3g", largest)
    assert largest <= LOGIT_BOUND
    assert sum(under_load) == windows
    most = MAX_BATCH if streams == 1 else ONE_THREAD_BATCH
    assert max(under_load) == most
    assert np.mean(under_load) > most / 2, "so this wasn't load"


@pytest.mark.asyncio
async def test_a_lone_window_has_all_threads(tiny: Bundle) -> None:
    """It never comes to the streams of one thread; two windows do, one each."""
    under_test = open_classifier(tiny, streams=2, threads=2, adaptive=True)
    window_s = tiny.manifest.audio.window_s
    async with standing(under_test, streams=2, **ROOM) as stand:
        far = stand.serving.clock() + 600
        one, two = (encoded(speech_like(seconds)) for seconds in (window_s, 1.4 * window_s))
        alone = await stand.serving.classify(one, deadline=far)
        assert (len(alone.heard.batch), stand.runner.batches) == (1, [])
        both = await stand.serving.classify(two, deadline=far)
        assert (len(both.heard.batch), stand.runner.batches) == (2, [1, 1])


@pytest.mark.asyncio
@pytest.mark.parametrize(("streams", "calls"), [(1, 1), (2, 3)])
async def test_the_engine_has_a_batch_ahead_where_it_has_streams(
    streams: int, calls: int, open_classifiers: Callable[[int], Classifier]
) -> None:
    """One; a lone stream has none, and takes all that has come when it is free."""
    clip = encoded(speech_like(1.0))
    async with standing(open_classifiers(streams), streams=streams, **ROOM) as stand:
        stand.runner.gate.shut()
        far = stand.serving.clock() + 600
        asked = [asyncio.create_task(stand.serving.classify(clip, deadline=far)) for _ in range(6)]
        await stand.serving.submitted(6)
        reasons = ("idle", "backlog", "full", "retry")
        sent = [stand.sample("timbre_dispatches_total", reason=reason) for reason in reasons]
        assert sum(sent) == calls
        stand.runner.gate.open()
        await asyncio.gather(*asked)
        assert stand.runner.batches[:calls] == [1] * calls
        assert streams > 1 or stand.runner.batches[1:] == [5]


@pytest.mark.asyncio
async def test_every_logit_is_the_same_as_each_window_s_alone(
    clips: list[bytes], classifier: Classifier
) -> None:
    """Nor do the windows of one clip, which are batched together, change each other."""
    async with standing(classifier, max_batch=MAX_BATCH, **ROOM) as stand:
        far = stand.serving.clock() + 600
        together = await asyncio.gather(
            *(stand.serving.classify(clip, deadline=far) for clip in clips[:40])
        )
        for served in together:
            alone = np.concatenate([classifier.runner([window]) for window in served.heard.batch])
            assert np.abs(logits_of(stand, served) - alone).max() <= LOGIT_BOUND


@pytest.mark.asyncio
async def test_over_http_too(clips: list[bytes], classifier: Classifier) -> None:
    """The probabilities of 200 clips sent at once are those of each clip classified alone."""
    async with standing(classifier, max_batch=MAX_BATCH, **ROOM) as stand:
        answers = await asyncio.gather(
            *(stand.client.post("/v1/classify", content=clip) for clip in clips)
        )
        assert max(stand.runner.batches) == MAX_BATCH
        for clip, answer in zip(clips, answers, strict=True):
            expected = classifier.classify(classifier.hear(clip))
            assert answer.json()["label"] == expected.label
            assert answer.json()["probabilities"] == pytest.approx(
                dict(expected.probabilities), abs=LOGIT_BOUND
            )


@pytest.mark.asyncio
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
async def test_a_precision_keeps_within_its_bound_or_is_not_served(
    precision: Precision, precise: Bundle, clips: list[bytes]
) -> None:
    """Where the CPU computes it, load moves no logit further, and no label that isn't as close.

    Alone with all threads, and under load with one.
    """
    features = cpu_features()
    if precision not in candidates(precise, "auto", runtime="openvino", features=features):
        with pytest.raises(BundleError):
            candidates(precise, precision, runtime="openvino", features=features)
        return
    gate = precise.manifest.precisions[precision].gate
    bound = gate.parity if gate else LOGIT_BOUND
    under_test = open_classifier(precise, precision=precision, streams=2, threads=2, adaptive=True)
    assert under_test.runner.wide is not None
    largest = 0.0
    async with standing(under_test, streams=2, max_batch=MAX_BATCH, **ROOM) as stand:
        far = stand.serving.clock() + 600
        together = await asyncio.gather(
            *(stand.serving.classify(clip, deadline=far) for clip in clips[:100])
        )
        assert max(stand.runner.batches) == ONE_THREAD_BATCH
        for served in together:
            loaded = logits_of(stand, served)
            alone = np.concatenate(
                [under_test.runner.wide([window]) for window in served.heard.batch]
            )
            largest = max(largest, float(np.abs(loaded - alone).max()))
            best, next_best = np.sort(alone, axis=1)[:, -1:-3:-1].T
            moved = loaded.argmax(axis=1) != alone.argmax(axis=1)
            assert not np.any(moved & (best - next_best > 2 * bound))
    logger.info("largest difference of a logit in %s: %.3g", precision, largest)
    assert largest <= bound


def test_reduced_precisions_are_computed_as_such(precise: Bundle, clips: list[bytes]) -> None:
    """Their answers are near those of fp32, but not the same, which would be fp32 by their name."""
    reference = open_classifier(precise)
    batch = reference.hear(clips[0]).batch
    exact = np.array(reference.runner(batch))
    here = candidates(precise, "auto", runtime="openvino", features=cpu_features())
    for precision in set(here) - {"fp32"}:
        reduced = np.array(open_classifier(precise, precision=precision).runner(batch))
        assert 0 < np.abs(reduced - exact).max() < FAR, precision


def test_the_runtimes_agree(
    tiny: Bundle,
    clips: list[bytes],
    classifier: Classifier,
) -> None:
    """OpenVINO says what torch says."""
    reference = open_classifier(tiny, runtime="torch")
    largest = 0.0
    for clip in clips[:30]:
        heard = classifier.hear(clip)
        if heard.batch:
            difference = np.array(classifier.runner(heard.batch)) - np.array(
                reference.runner(heard.batch)
            )
            largest = max(largest, float(np.abs(difference).max()))
    logger.info("largest difference of a logit: %.3g", largest)
    assert 0 < largest <= RUNTIME_BOUND
