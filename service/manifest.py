"""What bundle.json says: the facts of one model version, checked before anything uses them.

It is JSON from elsewhere, so every field has a type, a range and no neighbours it does not know;
docs/bundle.schema.json is the same as JSON Schema, for programs that are not Timbre.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NoReturn, Self, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from service.domain import BundleError, WindowSpec

FORMAT = 1
"""The version of bundle.json that this code writes, and the newest it reads."""

MANIFEST = "bundle.json"
CARD = "README.md"

SUFFIXES = frozenset(
    {".bin", ".csv", ".json", ".md", ".png", ".safetensors", ".svg", ".txt", ".xml"}
)
"""What a bundle may hold: data only. Pickles (.pkl, .pt, .pth, .ckpt) can run code when read."""

REMEDY = "get the bundle again, or seal it again if it is yours"


def _relative(path: str) -> str:
    """`path` if it is a plain relative POSIX path to a file a bundle may hold."""
    plain = str(PurePosixPath(path)) == path and path.isprintable() and not set(path) & set("\\:")
    if not plain or path.startswith("/") or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is not a relative path inside the bundle")
    return path


def _storable(path: str) -> str:
    if PurePosixPath(path).suffix not in SUFFIXES:
        raise ValueError(f"{path!r} is not data a bundle may hold ({' '.join(sorted(SUFFIXES))})")
    if path == MANIFEST:
        raise ValueError(f"{MANIFEST} cannot list itself")
    return path


def _unique(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("the labels are not unique")
    return labels


def _utc(moment: datetime) -> datetime:
    if moment.utcoffset() != timedelta(0):
        raise ValueError("the time is not UTC")
    return moment.astimezone(UTC)


def _finite(value: JsonValue) -> JsonValue:
    json.dumps(value, allow_nan=False)  # NaN and infinities are not JSON, though parsers take them
    return value


_SEMVER = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)
Text: TypeAlias = Annotated[str, Field(min_length=1, pattern=r"\S")]
Digest: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
RelativePath: TypeAlias = Annotated[str, AfterValidator(_relative)]
FilePath: TypeAlias = Annotated[RelativePath, AfterValidator(_storable)]
Json: TypeAlias = Annotated[JsonValue, AfterValidator(_finite)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=60)]
Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
RuntimeName: TypeAlias = Literal["openvino", "torch"]


class _Facts(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class AudioFacts(_Facts):
    """What the model hears and how it is prepared: the same in training and in serving."""

    sample_rate: Literal[16_000]
    window_s: Seconds
    hop_s: Seconds
    normalisation: Literal["zero-mean-unit-variance"]
    voice_activity: Literal["silero-vad-6.2"]

    @model_validator(mode="after")
    def _hops_within_the_window(self) -> Self:
        _ = self.window  # WindowSpec knows the rule
        return self

    @property
    def window(self) -> WindowSpec:
        """The windows this model is fed."""
        return WindowSpec(self.window_s, self.hop_s)


class Lost(_Facts):
    """What a score falls by, with the 95% interval of that fall; below 0 where it rises."""

    value: float
    low: float
    high: float


class GateFacts(_Facts):
    """What a reduced precision costs against fp32, on the clips by which it was let in."""

    split: Text
    clips: Annotated[int, Field(ge=1)]
    macro_f1_lost: Lost
    """Its interval is paired: both precisions on the same resamples of speakers."""
    agreement: Share
    """Share of the clips that get fp32's label."""
    parity: Annotated[float, Field(ge=0)]
    """The most a logit of a window moved between the window alone and in a batch."""


class PrecisionFacts(_Facts):
    """One precision of the model: its weights per runtime, its calibration and its figures."""

    runtimes: Annotated[Mapping[RuntimeName, RelativePath], Field(min_length=1)]
    """openvino: the .xml, with its .bin beside it; torch: a folder for `from_pretrained`. bf16 has
    fp32's, since it is the same weights computed otherwise."""
    temperature: Annotated[float, Field(gt=0)]
    """Logits are divided by it before softmax."""
    review_threshold: Share
    """A clip whose confidence is below it is marked for review."""
    metrics: Mapping[str, Mapping[str, Json]]
    """Figures of the served score of whole clips, by the set they were measured on."""
    gate: GateFacts | None = None
    """None for fp32, and for an `ungated` precision: one for speed work, not for answers."""


class DataFacts(_Facts):
    """One set of clips that made or measured the model."""

    name: Text
    split: Text
    clips: Annotated[int, Field(ge=0)]
    sha256: Digest
    licence: Text


class FileFacts(_Facts):
    """What a file must be."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class AudioDraft(_Facts):
    """A bundle.json before the files are known; `seal` adds them."""

    format: Literal[1] = 1
    kind: Literal["audio"] = "audio"
    name: Annotated[str, Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=63)]
    version: Annotated[str, Field(pattern=_SEMVER)]
    created: Annotated[AwareDatetime, AfterValidator(_utc)]
    licence: Text
    labels: Annotated[tuple[Text, ...], Field(min_length=2), AfterValidator(_unique)]
    """In the order of the logits."""
    audio: AudioFacts
    precisions: Annotated[Mapping[Precision, PrecisionFacts], Field(min_length=1)]
    reference: Mapping[str, Json]
    """Statistics of the model's inputs and answers on known data, to measure drift against."""
    data: tuple[DataFacts, ...]


class AudioManifest(AudioDraft):
    """bundle.json of a model that hears audio."""

    # A draft has them by default; a file must say them, so that no reader guesses.
    format: Literal[1]
    kind: Literal["audio"]
    files: Mapping[FilePath, FileFacts]
    """Every file of the folder but bundle.json."""

    @model_validator(mode="after")
    def _lists_what_it_needs(self) -> Self:
        needed = {CARD}
        for facts in self.precisions.values():
            for runtime, path in facts.runtimes.items():
                if runtime == "torch":
                    needed |= {f"{path}/config.json", f"{path}/model.safetensors"}
                else:
                    needed |= {path, str(PurePosixPath(path).with_suffix(".bin"))}
        if missing := sorted(needed - set(self.files)):
            raise ValueError(f"{missing[0]} is needed but not listed")
        return self


Manifest: TypeAlias = AudioManifest
"""Any bundle.json. A second kind makes this a union of the two, told apart by `kind`."""

_KINDS: Mapping[str, type[Manifest]] = {"audio": AudioManifest}


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Check the text of a bundle.json; `where` names the bundle in BundleError's sentence."""
    try:
        content: Any = json.loads(raw)
    except (ValueError, RecursionError):
        refuse(where, f"has a {MANIFEST} that is not JSON", REMEDY)
    fields = content if isinstance(content, dict) else {}
    version, kind = fields.get("format"), fields.get("kind")
    if isinstance(version, int) and version > FORMAT:
        refuse(where, f"was made by a newer Timbre (format {version})", "upgrade this one")
    if isinstance(kind, str) and kind not in _KINDS:
        refuse(where, f"is of kind {kind!r}, unknown here", f"use {' or '.join(_KINDS)}")
    model = _KINDS[kind if isinstance(kind, str) else "audio"]
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        refuse(where, f"has a wrong {MANIFEST}: {first_problem(error)}", REMEDY)


def json_schema() -> str:
    """Give the JSON Schema of bundle.json as text; docs/bundle.schema.json is a copy of it."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


def refuse(where: Path | str, what: str, remedy: str) -> NoReturn:
    """Raise BundleError: one sentence that says what is wrong with which bundle, and what to do."""
    raise BundleError(f"The bundle {where} {what}; {remedy}.") from None


def first_problem(error: ValidationError) -> str:
    """Name the first wrong field, what is wrong with it, and how many more there are."""
    problem = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    more = f" (and {count} more)" if (count := error.error_count() - 1) else ""
    return f"{field}: {message}{more}" if field else f"{message}{more}"
