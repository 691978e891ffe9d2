"""Results and facts → the shapes of contract.py."""

from __future__ import annotations

from service.contract import (
    BATCH,
    FALLBACK,
    SERVER_TIMING,
    AudioReport,
    Classification,
    ModelFacts,
    ModelName,
    PrecisionChoice,
    ScoredLabel,
    SegmentAnswer,
    ShadowAnswer,
    ShadowModel,
    Timing,
)
from service.domain import Result, Track
from service.runtime import cpu_features
from service.serving import Model, Served, Serving

PLACES = 3
"""Decimals of seconds and milliseconds; probabilities keep all of theirs."""


def classification(
    serving: Serving, served: Served, *, request_id: str, total_s: float, timeline: bool
) -> Classification:
    """Answer a request of that id, which has taken `total_s` seconds so far."""
    manifest = served.model.manifest
    result, clip = served.result, served.heard.clip
    return Classification(
        id=request_id,
        model=ModelName(name=manifest.name, version=manifest.version, track=serving.settings.track),
        label=result.label,
        score=result.score,
        decision=result.decision,
        probabilities=result.probabilities,
        top=[ScoredLabel(label=top.label, score=top.score) for top in result.top],
        audio=AudioReport(
            duration_s=round(clip.duration_s, PLACES),
            speech_s=round(served.heard.speech_s, PLACES),
            sample_rate=clip.sample_rate,
            channels=clip.channels,
        ),
        segments=_segments(result) if timeline else None,
        timing_ms=Timing(
            decode=_ms(served.decode_s),
            queue=_ms(served.queue_s),
            inference=_ms(served.inference_s),
            total=_ms(total_s),
        ),
    )


def clip_headers(serving: Serving, served: Served, *, total_s: float) -> dict[str, str]:
    """Say in headers how a clip was served, for answers that have no other place for it."""
    times = {
        "decode": served.decode_s,
        "queue": served.queue_s,
        "inference": served.inference_s,
        "total": total_s,
    }
    headers = {
        SERVER_TIMING: ", ".join(f"{name};dur={_ms(spent)}" for name, spent in times.items())
    }
    if served.model is serving.fallback:
        headers[FALLBACK] = served.model.manifest.name
    if served.dispatch is not None:
        headers[BATCH] = f"{served.dispatch};windows={served.largest_batch}"
    return headers


def ranking(result: Result, top_k: int | None) -> list[ScoredLabel]:
    """All labels, or the first `top_k`, likeliest first: the Hugging Face contract's answer."""
    ranked = sorted(result.probabilities.items(), key=lambda item: -item[1])
    return [ScoredLabel(label=label, score=score) for label, score in ranked[:top_k]]


def shadow(serving: Serving, served: Served) -> ShadowAnswer:
    """Tell another pod what this one makes of its clip."""
    manifest = served.model.manifest
    return ShadowAnswer(
        model=ShadowModel(
            name=manifest.name,
            version=manifest.version,
            track=serving.settings.track,
            digest=served.model.classifier.runner.bundle.digest,
        ),
        label=served.result.label,
        score=served.result.score,
        decision=served.result.decision,
    )


def model_facts(serving: Serving) -> ModelFacts:
    """Tell what is served."""
    facts = _facts(serving.model, serving.settings.track)
    if serving.fallback is None:
        return facts
    fallback = _facts(serving.fallback, serving.settings.track)
    return facts.model_copy(update={"fallback": fallback})


def _facts(model: Model, track: Track) -> ModelFacts:
    runner, manifest, choice = model.classifier.runner, model.manifest, model.choice
    precision = manifest.precisions[runner.precision]
    return ModelFacts(
        name=manifest.name,
        version=manifest.version,
        track=track,
        kind=manifest.kind,
        digest=runner.bundle.digest,
        licence=manifest.licence,
        labels=list(manifest.labels),
        window_s=manifest.audio.window_s,
        hop_s=manifest.audio.hop_s,
        runtime=runner.runtime.name,
        streams=runner.runtime.streams,
        adaptive=runner.wide is not None,
        threads=runner.runtime.threads,
        precision=runner.precision,
        precision_choice=PrecisionChoice(
            reason=choice.reason,
            why=choice.why,
            window_ms={name: _ms(seconds) for name, seconds in choice.window_s.items()},
        ),
        gate=precision.gate.model_dump(mode="json") if precision.gate else None,
        cpu_features=cpu_features(),
        temperature=precision.temperature,
        review_threshold=precision.review_threshold,
        metrics=precision.metrics,
        data=[facts.model_dump(mode="json") for facts in manifest.data],
    )


def _segments(result: Result) -> list[SegmentAnswer]:
    return [
        SegmentAnswer(
            start_s=round(segment.start_s, PLACES),
            end_s=round(segment.end_s, PLACES),
            label=segment.label,
            score=segment.score,
            speech=round(segment.speech, PLACES),
        )
        for segment in result.segments
    ]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, PLACES)
