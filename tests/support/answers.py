"""What a server says, for tests of those who listen."""

from __future__ import annotations

from service import contract
from service.domain import Decision, Track

FACTS = contract.ModelFacts(
    name="tiny",
    version="1.0.0",
    track=Track.STABLE,
    kind="audio",
    digest="sha256:0",
    licence="none",
    labels=["angry", "sad"],
    window_s=3.0,
    hop_s=1.5,
    runtime="openvino",
    streams=1,
    adaptive=False,
    threads=1,
    precision="fp32",
    precision_choice=contract.PrecisionChoice(reason="asked", why="asked for", window_ms={}),
    gate=None,
    cpu_features=[],
    temperature=1.0,
    review_threshold=0.75,
    metrics={},
    data=[],
)


def classification(duration_s: float = 3.0) -> contract.Classification:
    """Make an answer for a clip that is all speech."""
    segment = contract.SegmentAnswer(
        start_s=0.0, end_s=3.0, label="sad", score=0.6, speech=duration_s
    )
    return contract.Classification(
        id="1",
        model=contract.ModelName(name="tiny", version="1.0.0", track=Track.STABLE),
        label="sad",
        score=0.6,
        decision=Decision.REVIEW,
        probabilities={"angry": 0.4, "sad": 0.6},
        top=[contract.ScoredLabel(label="sad", score=0.6)],
        audio=contract.AudioReport(
            duration_s=duration_s, speech_s=duration_s, sample_rate=16_000, channels=1
        ),
        segments=[segment],
        timing_ms=contract.Timing(decode=1, queue=1, inference=1, total=3),
    )
