"""One frozen configuration from a TOML file that states only what differs from the defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.domain import WindowSpec

CONFIGS = Path(__file__).parent / "configs"


Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]


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
    """A folder, absolute or in the data root, or with `hub:` before it a model's name on a hub."""
    freeze: Literal["nothing", "front-end", "encoder"] = "front-end"
    """What keeps its weights: a front end that already hears needs no labels to stay so, and with
    few speakers even the layers above may generalise best as they are."""
    overrides: dict[str, float | int | bool] = {}
    """Fields of the transformers configuration to change (dropout, masking …)."""


class Training(_Section):
    """How it is trained."""

    epochs: float = 10
    batch_size: int = 32
    learning_rate: float = 1e-4
    """Of the pre-trained layers."""
    head_learning_rate: float = 1e-3
    """Of the classification head."""
    probe_strength: float | None = 0.01
    """Start the head as a linear probe, with this inverse strength of its L2 penalty; without it
    the head starts at random."""
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes in it (GPU, or CPU with AMX), else fp32."""
    max_clips: int | None = None
    """At most this many clips of each split, evenly spread: for smoke tests."""


class Augmentation(_Section):
    """What happens to a training window; see augment.py for what each promises."""

    noise_probability: Probability = 0.5
    snr_db: tuple[float, float] = (5.0, 25.0)
    speed_probability: Probability = 0.5
    speed: tuple[float, float] = (0.9, 1.1)


class Config(_Section):
    """A whole run."""

    bundle: Identity
    windows: Windows = Windows()
    model: Model
    training: Training = Training()
    augmentation: Augmentation = Augmentation()


def load(source: str) -> Config:
    """Read a configuration: the name of one in training/configs, or a path to a TOML file.

    Raises:
        ConfigError: it is not there, not TOML, or has wrong fields.
    """
    named = CONFIGS / f"{source}.toml"
    path = named if named.is_file() else Path(source)
    try:
        return Config.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise ConfigError(f"No configuration {source!r}: give a file, or one of {known}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}") from error
