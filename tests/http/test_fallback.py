"""A faster model takes new clips while the queue is long, and its answers say so."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from service.answers import model_facts
from service.bundle import AudioDraft, Bundle, open_bundle, seal
from service.classifier import Classifier, open_classifier
from service.domain import BundleError
from tests.support.asking import CLASSIFY, HUB, SPEECH, Answer, Standing
from tests.support.models import tiny_model_bundle
from tests.support.stand import Stand

THRESHOLD_S = 5.0


@pytest.fixture(scope="module")
def faster(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another model with a calibration of its own."""
    folder = tmp_path_factory.mktemp("bundles") / "faster"
    return _again(tiny_model_bundle(folder, version="2.0.0", seed=1), name="faster")


@pytest.fixture(scope="module")
def fallback(faster: Bundle) -> Classifier:
    """Its classifier."""
    return open_classifier(faster)


def _again(bundle: Bundle, **changes: object) -> Bundle:
    facts = {name: getattr(bundle.manifest, name) for name in AudioDraft.model_fields}
    fp32 = bundle.manifest.precisions["fp32"]
    own = fp32.model_copy(update={"temperature": 3 * fp32.temperature, "review_threshold": 0.3})
    draft = AudioDraft.model_validate({**facts, "precisions": {"fp32": own}, **changes})
    return seal(bundle.folder, draft)


def _standing(make: Standing, fallback: Classifier) -> AbstractAsyncContextManager[Stand]:
    return make(fallback=fallback, fallback_queue_s=THRESHOLD_S, queue_s=60.0)


async def _in_a_rush(stand: Stand, route: str = CLASSIFY) -> tuple[Answer, Answer]:
    """Have a clip stuck in the engine for longer than the threshold, and then send another."""
    await stand.client.post(CLASSIFY, content=SPEECH)  # now there is a rate
    await stand.serving.submitted()
    stand.runner.gate.shut()
    first = asyncio.create_task(stand.client.post(CLASSIFY, content=SPEECH))
    await stand.serving.submitted()
    stand.serving.skipped_s += THRESHOLD_S
    second = asyncio.create_task(stand.client.post(route, content=SPEECH))
    await stand.serving.submitted()
    assert stand.sample("timbre_fallback_on") == 1
    stand.runner.gate.open()
    return await first, await second


@pytest.mark.asyncio
async def test_a_clip_that_would_wait_goes_to_the_fallback_and_says_so(
    make: Standing, fallback: Classifier
) -> None:
    """Its label, scores and decision are the fallback's; those inside keep their model."""
    async with _standing(make, fallback) as stand:
        first, second = await _in_a_rush(stand)
        assert first.json()["model"] == {"name": "tiny", "version": "1.0.0", "track": "stable"}
        assert "x-model-fallback" not in first.headers
        assert second.json()["model"] == {"name": "faster", "version": "2.0.0", "track": "stable"}
        assert second.headers["x-model-fallback"] == "faster"
        assert second.headers["x-model-version"] == "2.0.0"
        for answer, classifier in ((first, stand.classifier), (second, fallback)):
            expected = classifier.classify(classifier.hear(SPEECH))
            assert answer.json()["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
            assert answer.json()["decision"] == expected.decision
        assert stand.sample("timbre_fallback_clips_total") == 1
        for traffic, clips in (("live", 2), ("fallback", 1)):
            labels = {"route": CLASSIFY, "traffic": traffic}
            assert stand.sample("timbre_request_seconds_count", **labels) == clips
            assert stand.sample("timbre_confidence_count", traffic=traffic) == clips


@pytest.mark.asyncio
async def test_the_better_model_is_back_when_the_queue_is_short(
    make: Standing, fallback: Classifier
) -> None:
    """The last clip of a rush ends it, in the metrics too."""
    async with _standing(make, fallback) as stand:
        await _in_a_rush(stand)
        assert stand.sample("timbre_fallback_on") == 0
        answer = await stand.client.post(CLASSIFY, content=SPEECH)
        assert answer.json()["model"]["name"] == "tiny"
        assert stand.sample("timbre_fallback_clips_total") == 1


@pytest.mark.asyncio
async def test_the_hugging_face_route_says_so_in_a_header(
    make: Standing, fallback: Classifier
) -> None:
    """Its JSON has no place for it."""
    async with _standing(make, fallback) as stand:
        _, second = await _in_a_rush(stand, HUB)
        assert second.headers["x-model-fallback"] == "faster"


@pytest.mark.asyncio
async def test_the_models_facts_have_the_fallback_s(
    make: Standing, fallback: Classifier, faster: Bundle
) -> None:
    """/v1/model tells both; without a fallback it is null."""
    async with _standing(make, fallback) as stand:
        facts = (await stand.client.get("/v1/model")).json()
        assert facts["name"] == "tiny"
        assert facts["fallback"]["digest"] == faster.digest
        assert facts["fallback"]["review_threshold"] == 0.3
        assert facts["fallback"]["fallback"] is None
    async with make() as stand:
        assert model_facts(stand.serving).fallback is None


@pytest.mark.asyncio
async def test_without_a_fallback_clips_wait(make: Standing) -> None:
    """The threshold alone changes nothing."""
    async with make(fallback_queue_s=0.001) as stand:
        answer = await stand.client.post(CLASSIFY, content=SPEECH)
        assert answer.json()["model"]["name"] == "tiny"
        assert stand.sample("timbre_fallback_on") == 0


@pytest.mark.asyncio
async def test_a_fallback_with_other_labels_is_refused(
    make: Standing, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Programs that know one set of labels must not meet another under load."""
    folder = tmp_path_factory.mktemp("bundles") / "other"
    labels = ("angry", "disgusted", "fearful", "happy", "neutral", "bored")
    other = _again(tiny_model_bundle(folder), labels=labels)
    with pytest.raises(BundleError, match="they must be the same"):
        async with make(fallback=open_classifier(open_bundle(other.folder))):
            pass
