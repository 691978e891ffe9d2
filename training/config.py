"""One frozen configuration from a TOML file that states only what differs from the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.domain import WindowSpec
from training.data_settings import Data

CONFIGS = Path(__file__).parent / "configs"
TINY_EN = "tiny.en"
"""Names the checkpoint that is fetched: the encoder of OpenAI's Whisper tiny.en."""


Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Passing: TypeAlias = Annotated[float, Field(gt=0, le=7800)]
"""Hz; what is nearer to 8 kHz leaves no room for a filter to fall."""
Semitones: TypeAlias = Annotated[float, Field(ge=-12, le=12)]
Codec: TypeAlias = Literal["opus", "vorbis", "mp3", "mu-law"]


def _rises(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"give the lower end first, not {bounds[0]:g} before {bounds[1]:g}")
    return bounds


Rising = AfterValidator(_rises)


_Settings = TypeVar("_Settings", bound=BaseModel)


class ConfigError(Exception):
    """A configuration that cannot be used; the message says what to change."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Identity(_Section):
    """What the bundle will be called, and what its card says of it."""

    name: str
    version: str
    licence: str
    limits: tuple[str, ...] = ()
    """Sentences for the card: what is known to be wrong with the data or the model."""


class Windows(_Section):
    """Length and step of the model's windows."""

    window_s: float = 3.0
    hop_s: float = 1.5

    @model_validator(mode="after")
    def _hops_within_the_window(self) -> Self:
        _ = self.spec  # WindowSpec knows the rule
        return self

    @property
    def spec(self) -> WindowSpec:
        """As the serving half takes it."""
        return WindowSpec(self.window_s, self.hop_s)


class Model(_Section):
    """The checkpoint to start from, and what is changed in its configuration."""

    checkpoint: str
    """A folder, absolute, in the data root or where the command runs; `tiny.en`, which is fetched;
    or with `hub:` before it a model's name on a hub."""
    from_scratch: bool = False
    """Take the checkpoint's architecture only, with random weights."""
    freeze: Literal["nothing", "front-end", "encoder"] = "front-end"
    """What keeps its weights: a front end that already hears needs no labels to stay so, and with
    few speakers even the layers above may generalise best as they are."""
    overrides: dict[str, float | int | bool] = {}
    """Fields of the transformers configuration to change (dropout, masking …)."""


class Training(_Section):
    """How it is trained."""

    epochs: Annotated[float, Field(ge=0)] = 10
    """0, without `max_steps`: the head is the probe, and nothing else is trained."""
    max_steps: Annotated[int, Field(gt=0)] | None = None
    """Steps to train for, in place of the epochs."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Of each process."""
    accumulation: Annotated[int, Field(gt=0)] = 1
    """Batches whose gradients make one step."""
    learning_rate: Positive = 1e-4
    """Of the top layer."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """A layer learns so much slower than the one above it, and the front end than the lowest."""
    head_learning_rate: Positive = 1e-3
    """Of the classifier."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls to 0 after the warm-up."""
    probe_strength: Annotated[float, Field(ge=0)] = 0.01
    """Start the head as a linear probe, with this inverse strength of its L2 penalty; with 0 the
    head starts at random."""
    probe_centring: Probability = 0.0
    """Share of the way that each speaker's mean is moved to that of all before the probe is fitted:
    what tells speakers and corpora apart is no emotion."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    label_smoothing: Probability = 0.0
    masked: bool = True
    """Tell a clip's class only from those that its corpus annotates; see objective.py."""
    keep: Literal["last", "best", "average"] = "last"
    """Which weights are the result: the last step's; those of the evaluation with the best
    accuracy; or a moving average over the steps."""
    average_decay: Annotated[float, Field(gt=0, lt=1)] = 0.995
    """Of that average, a step."""
    patience: Annotated[int, Field(gt=0)] | None = None
    """End after so many evaluations without a better accuracy."""
    checkpoint_steps: Annotated[int, Field(gt=0)] | None = None
    """Evaluate and save after so many steps, not after each epoch."""
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes in it (GPU, or CPU with AMX), else fp32."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that make views ahead of the training; 0 where it has the CPU to itself."""
    max_clips: Annotated[int, Field(gt=0)] | None = None
    """At most this many clips of each split, evenly spread: for smoke tests."""


class Sampling(_Section):
    """Which clips an epoch hears; see sampling.py."""

    balanced: bool = False
    """Draw a corpus, one of its speakers, one of the speaker's labels, and then a clip."""
    corpus_power: Probability = 0.5
    """A corpus of n clips is drawn in proportion to n to this power: 1 by size, 0 all alike."""
    clips_per_epoch: Annotated[int, Field(gt=0)] | None = None
    """As many as there are, unless given."""


class Probe(_Section):
    """A frozen checkpoint under a logistic regression; see teachers.py."""

    checkpoint: str
    """As `checkpoint` of the model names one."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    """Whose means over time it hears side by side; 0 is what the lowest layer hears. The layers
    above the highest of them are left out."""
    strength: Positive = 0.001
    """Inverse strength of its L2 penalty."""


class Teaching(_Section):
    """Answers, the mean of all teachers', learned beside the labels (Hinton et al. 2015)."""

    teachers: tuple[str, ...] = ()
    """Models that are trained already, as `checkpoint` of the model names one."""
    probes: tuple[Probe, ...] = ()
    """Fitted first, on the very clips that the model is trained on."""
    share: Probability = 0.5
    """Of the loss."""
    temperature: Positive = 2.0
    """At which answers are compared: the higher, the more the wrong classes count."""

    @model_validator(mode="after")
    def _somebody_teaches(self) -> Self:
        if not self.teachers and not self.probes:
            raise ValueError("name a model in teachers, or a checkpoint in probes")
        return self


class Augmentation(_Section):
    """What happens to a training window and how often; docs/augmentation.md says what each costs.

    A pair is a range to draw from. With every probability and the jitter at 0 a window is a plain
    random crop of the speech.
    """

    jitter_s: Annotated[float, Field(ge=0)] = 0.15
    """The span of the speech is up to so much wider, or up to a frame narrower, on either side."""
    speed_probability: Probability = 0.5
    speed: Annotated[tuple[Positive, Positive], Rising] = (0.9, 1.1)
    """Pitch and tempo together, as a factor."""
    pitch_probability: Probability = 0.2
    pitch_semitones: Annotated[tuple[Semitones, Semitones], Rising] = (-2.0, 2.0)
    """The tempo stays."""
    room_probability: Probability = 0.2
    rt60_s: Annotated[tuple[Positive, Positive], Rising] = (0.15, 0.8)
    """Reverberation time of the room."""
    direct_to_reverberant_db: Annotated[tuple[float, float], Rising] = (0.0, 15.0)
    noise_probability: Probability = 0.5
    snr_db: Annotated[tuple[float, float], Rising] = (5.0, 25.0)
    """Over the speech, not the pauses."""
    telephone_probability: Probability = 0.05
    """The band of a telephone, 300 to 3400 Hz."""
    low_pass_probability: Probability = 0.1
    low_pass_hz: Annotated[tuple[Passing, Passing], Rising] = (2500.0, 7000.0)
    codec_probability: Probability = 0.1
    codecs: Annotated[tuple[Codec, ...], Field(min_length=1)] = ("opus", "vorbis", "mp3", "mu-law")
    """One of them, at a random bit rate of those in training/augment/channel.py."""
    gain_probability: Probability = 0.1
    gain_db: Annotated[tuple[float, float], Rising] = (0.0, 6.0)
    """Over full scale. What is louder saturates; below 0 nothing is heard of it, since windows are
    normalised."""


class Evaluation(_Section):
    """What is asked of the answers, and how surely; it may change after the training."""

    selective_risk: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of wrong answers among the accepted that is allowed; it sets the review threshold."""
    resamples: Annotated[int, Field(ge=100)] = 2000
    """Of the bootstrap behind every interval, and of every null distribution."""
    noise_snr_db: Annotated[tuple[float, ...], Field(min_length=1)] = (20.0, 10.0, 5.0, 0.0)
    """Signal-to-noise ratios of the noise report."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of resamples, nulls and pieces of noise."""


class Config(_Section):
    """A whole run."""

    bundle: Identity
    data: Data = Data()
    windows: Windows = Windows()
    model: Model
    training: Training = Training()
    sampling: Sampling = Sampling()
    teaching: Teaching | None = None
    augmentation: Augmentation = Augmentation()
    evaluation: Evaluation = Evaluation()

    @property
    def checkpoints(self) -> list[str]:
        """What the training starts from and who teaches, as the sections name it."""
        teaching = self.teaching
        probes = [probe.checkpoint for probe in teaching.probes] if teaching else []
        return [self.model.checkpoint, *(teaching.teachers if teaching else ()), *probes]


def load(source: str, changes: Sequence[str] = ()) -> Config:
    """Read a run's configuration; see `read`."""
    return read(Config, source, changes)


def read(kind: type[_Settings], source: str, changes: Sequence[str] = ()) -> _Settings:
    """Read a configuration: the name of one in training/configs, or a path to a TOML file.

    Args:
        kind: what it configures.
        source: the name or the path.
        changes: `section.field=value` each, over what the file says; a value as TOML has it, and
            what is no TOML is taken as text.

    Raises:
        ConfigError: it is not there, cannot be read, is not TOML, or has wrong fields.
    """
    named = CONFIGS / f"{source}.toml"
    path = named if named.is_file() else Path(source)
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _set(fields, change)
        return kind.model_validate(fields)
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise ConfigError(f"No configuration {source!r}: give a file, or one of {known}.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error


def _set(fields: dict[str, Any], change: str) -> None:
    """Change one of the fields read from a file."""
    name, equals, value = change.partition("=")
    *sections, field = name.strip().split(".")
    if not (equals and sections and field):
        raise ConfigError(f"{change!r} changes nothing: write section.field=value.")
    for section in sections:
        fields = fields.setdefault(section, {})
        if not isinstance(fields, dict):
            raise ConfigError(f"{change!r}: {section} is no section.")
    try:
        fields[field] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        fields[field] = value
