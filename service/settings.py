"""One frozen settings object, read once from TIMBRE_* variables; docs/settings.md lists them.

No setting may be called PORT, HOST or SERVICE_…: Kubernetes injects such names (TIMBRE_PORT) into
every pod beside a Service called timbre. What they set beside timbre-internal counts as not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyAddress,
    ValidationError,
)

from service.bundle import DEFAULT_BUNDLE
from service.domain import TimbreError, Track
from service.precision import Wish
from service.runtime import cpus

PREFIX = "TIMBRE_"
MAX_STREAMS = 64
CANDIDATES = (Track.CANARY.value, Track.BASELINE.value)
"""What clips may be shadowed to: a new version, and a fresh copy of the old one."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_DEFAULT_PORT = re.compile(r"http://[^/]*:80|https://[^/]*:443")
_ADDRESS = re.compile(r"http://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}/?")
_INJECTED_PORT = re.compile(r"(tcp|udp|sctp)://.*")


class SettingsError(TimbreError):
    """A variable has a value that cannot be used."""

    slug = "settings"
    title = "A setting is wrong"


def _origins(text: object) -> object:
    """Split a list of origins; one that is written as no browser sends it would never match."""
    if not isinstance(text, str):
        return text
    origins = tuple(origin.strip() for origin in text.split(","))
    for origin in origins if origins != ("*",) else ():
        if not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin as browsers send it, such as https://app.example or "
                "http://localhost:8000 (lower case, no path, not the scheme's own port), or * alone"
            )
    return origins


def _candidates(text: object) -> object:
    """Split a list of candidates and where their internal ports are."""
    if not isinstance(text, str):
        return text
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, _, url = pair.strip().partition("=")
        if name not in CANDIDATES or not _is_address(url):
            raise ValueError(
                f"{pair.strip()!r} is none of {' and '.join(CANDIDATES)} with the address of its "
                "internal port, such as canary=http://timbre-canary:3001"
            )
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = url
    return found


def _is_address(url: str) -> bool:
    """Whether a URL is a host's and a port's, and nothing more."""
    try:
        parts = urlsplit(url)
        return _ADDRESS.fullmatch(url) is not None and parts.port != 0
    except ValueError:  # a port above 65,535, or brackets around something else
        return False


class Settings(BaseModel):
    """How this server runs. Each field is the variable TIMBRE_ plus its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: Path = DEFAULT_BUNDLE
    """Folder of the bundle to serve; the embedded default model when not set."""
    fallback_bundle: Path | None = None
    """Folder of a faster model with the same labels, for new clips while the queue is long: answers
    say so, in place of refusals."""
    fallback_queue_s: Annotated[float, Field(gt=0, le=600)] = 1.0
    """Seconds a new clip would wait, from which on the fallback takes it; at half of them the queue
    counts as short again."""
    track: Track = Track.STABLE
    """Which side of a rollout this pod is on: stable, canary or baseline. Told in every answer."""
    runtime: Literal["openvino", "torch"] = "openvino"
    """Engine: openvino serves; torch is the reference and needs the train extra."""
    precision: Wish = "auto"
    """What to compute in: auto takes, of those that the bundle has a gate for, the most
    exact one that no other is 1.1 times as fast as on this machine."""
    ungated: bool = False
    """For benchmarks only: serve a precision whose cost in accuracy nobody measured on such a CPU,
    where it is asked for by name."""
    profile: Literal["adaptive", "latency", "throughput"] = "adaptive"
    """What streams are for where they are not set: latency has one with all threads, throughput
    one for each thread. adaptive has all threads in one while there are fewer windows inside than
    threads, and else one for each; a model of more than 32 MiB has latency's."""
    streams: Annotated[int, Field(ge=0, le=MAX_STREAMS)] = 0
    """Batches that run side by side; 0 leaves it to the profile; torch runs one."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """Threads of openvino over all streams; 0 takes the CPUs this process may use, which a
    container's CPU limit bounds. torch has OMP_NUM_THREADS."""
    cache: Path | None = None
    """Folder to remember speeds in, so that a next start need not measure them; timbre in
    $XDG_CACHE_HOME or ~/.cache when not set."""
    max_batch: Annotated[int, Field(ge=1, le=64)] = 8
    """Windows in a batch at most."""
    queue_windows: Annotated[int, Field(ge=1, le=100_000)] = 128
    """Windows inside at a time, waiting or running; a clip that doesn't fit is refused with 429."""
    queue_s: Annotated[float, Field(gt=0, le=600)] = 4.0
    """Seconds that the windows inside may take, by the rate of late; beyond it a clip is refused
    with 429 rather than answered too late."""
    decoders: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that decode clips, with 15 to 40 MiB of memory each; 0 takes as many as the CPUs
    this process may use."""
    decode_backlog: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Clips that are decoded or wait for it at a time; one more is refused with 429."""
    client_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of TIMBRE_QUEUE_WINDOWS and TIMBRE_DECODE_BACKLOG that one client may fill, one clip at
    least; beyond it this client is refused with 429 while others get in. A client is a token, or
    where there are none a connecting address. 1 lets one client fill them."""
    deadline_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Seconds from the end of a request's headers to its answer; later is 504."""
    body_timeout_s: Annotated[float, Field(gt=0, le=600)] = 15.0
    """Seconds a client may take to send its body, fewer than the deadline's; slower is 408."""
    header_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Seconds a client may take to send a request's headers, or not read its answer; slower is
    hung up on."""
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Connections open at a time; one more costs the one that has kept the server waiting for
    longest. One whose request is complete is never closed for it."""
    drain_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    """Seconds to go on answering after SIGTERM, unready and with `Connection: close`, so that
    load balancers can move on; set it where something balances between servers."""
    stuck_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds after which one engine call counts as stuck and liveness fails."""
    token_file: Path | None = None
    """File of the tokens one of which a request under /v1/ needs, one a line; it is read again
    when it changes. Without it whoever reaches the server may use it."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = ()
    """Origins, between commas, whose pages may call the server from a browser; `*` for any."""
    internal_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port of /metrics and what else no gateway may reach; 0 for none."""
    internal_host: IPvAnyAddress = IPv4Address("127.0.0.1")
    """Address that port is opened on; `timbre serve` takes its --host where this is not set."""
    shadow_urls: Annotated[Mapping[str, str], BeforeValidator(_candidates)] = {}
    """Candidates that score a sample of the live clips too, once these are answered, and where
    their internal ports are. For stable; other tracks shadow to nobody."""
    shadow_sample: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the live clips that candidates are sent."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged; each request is one `info` line."""

    @property
    def bundles(self) -> tuple[Path, ...]:
        """Folders of all bundles that are loaded."""
        return tuple(filter(None, (self.bundle, self.fallback_bundle)))

    @property
    def engine_streams(self) -> int:
        """`streams`, or as many as the profile has at most."""
        by_profile = 1 if self.profile == "latency" else min(self.engine_threads, MAX_STREAMS)
        return self.streams or by_profile

    @property
    def adaptive(self) -> bool:
        """Whether the streams are what the load asks for."""
        return self.profile == "adaptive" and not self.streams

    @property
    def engine_threads(self) -> int:
        """`threads`, or as many as this process may use CPUs."""
        return self.threads or cpus()

    @property
    def decoder_processes(self) -> int:
        """`decoders`, or as many as this process may use CPUs."""
        return self.decoders or cpus()


def variable(field: str) -> str:
    """Name the environment variable of a field."""
    return f"{PREFIX}{field.upper()}"


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a value of the wrong type or out of range; the sentence names the variable.
    """
    given = {
        field: environment[variable(field)]
        for field in Settings.model_fields
        if environment.get(variable(field), "") != ""
    }
    if _INJECTED_PORT.fullmatch(given.get("internal_port", "")):
        del given["internal_port"]  # Kubernetes' own, beside a Service called timbre-internal
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = variable(str(problem["loc"][0]))
        why = problem["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{name}={problem['input']!r}: {why}.") from error
