"""What goes over the wire: the answers' shapes, and the OpenAPI document made of them.

Answers are serialised from these models, so the document can't say one thing and the server
another; tests hold the rest (routes, statuses, headers) against the running app.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import models_json_schema

from service import __version__
from service.audio import ACCEPTED, MAX_BODY_BYTES, MAX_DURATION_S
from service.domain import Decision, Track
from service.manifest import Precision
from service.precision import Reason
from service.problems import STATUS, Problem, Unauthorized


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ModelName(_Answer):
    """Which model answered."""

    name: str
    version: str
    track: Track


class ScoredLabel(_Answer):
    """A label with its probability."""

    label: str
    score: float = Field(ge=0, le=1)


class AudioReport(_Answer):
    """What was heard."""

    duration_s: float
    speech_s: float
    """Seconds of speech found."""
    sample_rate: int
    """Of the file, in Hz."""
    channels: int


class SegmentAnswer(_Answer):
    """A window's result on the time line; no label and score without speech."""

    start_s: float
    end_s: float
    label: str | None
    score: float | None
    speech: float
    """Seconds of speech in it."""


class Timing(_Answer):
    """Where the time went, in milliseconds."""

    decode: float
    queue: float
    inference: float
    total: float


class Classification(_Answer):
    """The emotion of a clip."""

    id: str
    """The request's id."""
    model: ModelName
    label: str | None
    """The likeliest emotion; null without speech."""
    score: float | None
    """Its calibrated probability: of clips like the model's validation set that score 0.8, about
    80% have this label; elsewhere it may say too much."""
    decision: Decision
    """accept; review when the score is below the model's threshold; no_speech."""
    probabilities: Mapping[str, float]
    """Of every label; empty without speech."""
    top: list[ScoredLabel]
    """The label, or the top two when the decision is review."""
    audio: AudioReport
    segments: list[SegmentAnswer] | None = None
    """The time line, when asked for with timeline=true."""
    timing_ms: Timing


class ShadowModel(ModelName):
    """Which bundle scored a shadow clip."""

    digest: str = Field(pattern="^sha256:[0-9a-f]{64}$")
    """sha256 of its bundle.json, as in /v1/model."""


class ShadowAnswer(_Answer):
    """What a candidate makes of a clip that another pod has answered; on the internal port."""

    model: ShadowModel
    label: str | None
    score: float | None = Field(ge=0, le=1)
    decision: Decision


class PrecisionChoice(_Answer):
    """Why the precision is what it is."""

    reason: Reason
    """asked for; only: nothing else was gated and is computed by this CPU; faster here than more
    exact ones; no-gain: the most exact, and nothing is fast enough to be worth other answers."""
    why: str
    """The reason in words, with its figures."""
    window_ms: Mapping[Precision, float]
    """Milliseconds a window took in each precision that was compared; empty where none was."""


class ModelFacts(_Answer):
    """The facts of the bundle that is served."""

    name: str
    version: str
    track: Track
    kind: str
    digest: str
    """sha256 of bundle.json, which covers every file of the bundle."""
    licence: str
    labels: list[str]
    window_s: float
    hop_s: float
    runtime: str
    streams: int
    """Batches that run side by side at most."""
    adaptive: bool
    """Whether one batch has all threads while fewer windows are inside than there are streams."""
    threads: int
    """Of the runtime, over all streams."""
    precision: Precision
    """What the model is computed in."""
    precision_choice: PrecisionChoice
    gate: Mapping[str, JsonValue] | None
    """What the precision costs against fp32, as bundle.json has it; null for fp32, and for one that
    nobody measured, which is served for benchmarks only."""
    cpu_features: list[str]
    """Instruction sets of this machine that decide how fast a precision is."""
    temperature: float
    review_threshold: float
    metrics: Mapping[str, Mapping[str, JsonValue]]
    """Figures by the set they were measured on."""
    data: list[Mapping[str, JsonValue]]
    """What the model was trained and measured on."""
    fallback: ModelFacts | None = None
    """The faster model that answers while the queue is long; null where there is none."""


class HubParameters(BaseModel):
    """Parameters of the Hugging Face contract."""

    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(default=None, ge=1)
    function_to_apply: Literal["softmax"] | None = None
    """Only softmax: the probabilities are calibrated, and no other function has a meaning."""


class HubRequest(BaseModel):
    """The JSON form of the Hugging Face contract."""

    model_config = ConfigDict(extra="forbid")

    inputs: str
    """The file, base64-encoded."""
    parameters: HubParameters | None = None


RAW_TYPES = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "application/octet-stream")
REQUEST_ID = "x-request-id"
MODEL_VERSION = "x-model-version"
SERVER_TIMING = "server-timing"
BATCH = "x-batch"
FALLBACK = "x-model-fallback"
TRACK = "x-timbre-track"
"""Of a request: the side of a rollout that a gateway may lead it to."""

_TEXT = {"type": "string"}
_HEADERS = {
    REQUEST_ID: {"description": "The request's id, taken over when it was sent.", "schema": _TEXT},
    MODEL_VERSION: {"description": "Version of the model that is served.", "schema": _TEXT},
}
_CLIP_HEADERS = {
    **_HEADERS,
    SERVER_TIMING: {
        "description": "Where the time went, in milliseconds: `decode`, `queue`, `inference`, "
        "`total`, each as `name;dur=1.5` (W3C Server Timing).",
        "schema": _TEXT,
    },
    FALLBACK: {
        "description": "Name of the faster model that answered because the queue was long; not "
        "sent otherwise.",
        "schema": _TEXT,
    },
    BATCH: {
        "description": "The largest batch with a window of the clip: why it was sent and its "
        "windows, its neighbours' included, such as `full;windows=8` (RFC 9651). `idle`: at once "
        "into a free engine; `backlog`: its share of what had queued; `full`: the most a batch may "
        "have; `retry`: alone after a failed one. Not sent for a clip without speech.",
        "schema": _TEXT,
    },
}


def openapi(*, tokens: bool) -> dict[str, Any]:
    """Build the OpenAPI 3.1 document of a server that asks for tokens, or of one that doesn't."""
    refused = (UNAUTHORIZED,) if tokens else ()
    classify_problems = _problems((*refused, *CLASSIFY_STATUSES))
    models = (Classification, ModelFacts, ScoredLabel, HubRequest, Problem)
    _, definitions = models_json_schema(
        [(model, "validation" if model is HubRequest else "serialization") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    binary = {"schema": {"type": "string", "format": "binary"}}
    raw = dict.fromkeys(RAW_TYPES, binary)
    multipart = {
        "schema": {
            "type": "object",
            "properties": {"file": {"type": "string", "format": "binary"}},
            "required": ["file"],
        }
    }
    limits = (
        f"{ACCEPTED}; 8 to 192 kHz, at most 8 channels, {MAX_DURATION_S:g} s and "
        f"{MAX_BODY_BYTES // 2**20} MiB."
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Timbre",
            "version": __version__,
            "summary": "Emotion recognition for audio",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/v1/classify": {
                "post": {
                    "operationId": "classify",
                    "tags": ["Clips"],
                    "summary": "Classify the emotion of a clip",
                    "description": f"Send the file as the body, or as multipart form field "
                    f"`file`. {limits}",
                    "parameters": [
                        {
                            "name": "timeline",
                            "in": "query",
                            "description": "Also give each window's result.",
                            "schema": {"type": "boolean", "default": False},
                        },
                        *_REQUEST_PARAMETERS,
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {**raw, "multipart/form-data": multipart},
                    },
                    "responses": {
                        "200": _answer("The emotion", "Classification", _CLIP_HEADERS),
                        **classify_problems,
                    },
                }
            },
            "/v1/audio-classification": {
                "post": {
                    "operationId": "audioClassification",
                    "tags": ["Clips"],
                    "summary": "Classify, by the Hugging Face inference contract",
                    "description": "For huggingface_hub's InferenceClient(model=URL). An empty "
                    f"list means that no speech was found. {limits}",
                    "parameters": [*_REQUEST_PARAMETERS],
                    "requestBody": {
                        "required": True,
                        "content": {
                            **raw,
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/HubRequest"}
                            },
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "Labels, likeliest first",
                            "headers": _CLIP_HEADERS,
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "array",
                                        "items": {"$ref": "#/components/schemas/ScoredLabel"},
                                    }
                                }
                            },
                        },
                        **classify_problems,
                    },
                }
            },
            "/v1/model": {
                "get": {
                    "operationId": "model",
                    "tags": ["Model"],
                    "summary": "The facts of the model that is served",
                    "parameters": [*_REQUEST_PARAMETERS],
                    "responses": {
                        "200": _answer("The facts", "ModelFacts", _HEADERS),
                        **_problems((*refused, 503)),
                    },
                }
            },
        },
        "components": {
            "schemas": definitions["$defs"],
            **({"securitySchemes": _SECURITY_SCHEMES} if tokens else {}),
        },
        **({"security": [{name: [] for name in _SECURITY_SCHEMES}]} if tokens else {}),
    }


_REQUEST_ID_PARAMETER = {
    "name": REQUEST_ID,
    "in": "header",
    "description": "An id to find the request by; up to 128 letters, digits, '.', '_', ':', '-'.",
    "schema": {"type": "string"},
}
_TRACK_PARAMETER = {
    "name": TRACK,
    "in": "header",
    "description": "Ask for one side of a rollout, to try it: "
    + ", ".join(f"`{track}`" for track in Track)
    + ". A gateway may route by it; a server answers whatever reaches it, and only counts such "
    "requests apart. Anything else counts as not sent.",
    "schema": {"type": "string"},
}
_REQUEST_PARAMETERS = (_REQUEST_ID_PARAMETER, _TRACK_PARAMETER)
_SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token that the server's operator gave out.",
    }
}
UNAUTHORIZED = STATUS[Unauthorized.slug]
"""Answered by servers with tokens only."""
CLASSIFY_STATUSES = tuple(
    sorted({status for status in STATUS.values() if status not in {UNAUTHORIZED, 404, 405}})
)


def _answer(description: str, model: str, headers: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    wait = {"retry-after": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    own = {
        UNAUTHORIZED: {"www-authenticate": {"description": "RFC 6750.", "schema": _TEXT}},
        429: wait,
        503: wait,
    }
    return {
        str(status): {
            "description": "; ".join(sorted({s for s, code in STATUS.items() if code == status})),
            "headers": {**_HEADERS, **own.get(status, {})},
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in statuses
    }
