"""Who is compared: how each is started and asked, with which engine, precision and layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from benchmarks.peers.models import Model

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
Engine: TypeAlias = Literal["torch", "onnxruntime", "openvino"]
Layout: TypeAlias = Literal["one", "many"]
"""One engine on all CPUs, best for latency; or an engine (a stream, in Timbre) per CPU of one
thread each, best for throughput."""

ENGINES: Mapping[str, str] = {
    "torch": "torch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
THESIS_WORKERS = 3
_PEER = "benchmarks.peers.servers"
_BOUNDARY = "benchmark-of-peers"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is started: the interpreters, the port and the CPUs it may use."""

    peers: Path
    port: int
    cpus: int


Command: TypeAlias = Callable[["Contender", Place], list[str]]


@dataclass(frozen=True, slots=True)
class Stack:
    """A way to serve: what is named in the tables, how it is started, and how it is asked."""

    title: str
    command: Command
    health: str
    path: str = "/predict"
    form: bool = False
    """Whether a clip is the file of a multipart form, where a stack is built for that; else it is
    the whole body."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A stack with an engine at a precision: a row of a table."""

    stack: str
    engine: Engine
    precision: Precision
    layout: Layout = "one"
    sweep: bool = field(default=False, compare=False)
    """Whether it is measured at every number of clients and by Poisson arrivals too."""

    @property
    def name(self) -> str:
        """Its name in options and raw data."""
        parts = [self.stack, self.engine, self.precision]
        return "-".join(parts + ["many"] * (self.layout == "many"))

    @property
    def title(self) -> str:
        """Its name in tables."""
        return STACKS[self.stack].title + (", an engine per CPU" if self.layout == "many" else "")

    def command(self, place: Place) -> list[str]:
        """Give the command line that serves it."""
        return STACKS[self.stack].command(self, place)

    def environment(self, model: Model, cpus: int) -> dict[str, str]:
        """Give the variables of its server."""
        if self.stack == "timbre":
            return {
                "TIMBRE_BUNDLE": str(model.bundle),
                "TIMBRE_PRECISION": self.precision,
                "TIMBRE_UNGATED": "true",
                "TIMBRE_PROFILE": "throughput" if self.layout == "many" else "adaptive",
                "TIMBRE_THREADS": str(cpus),
                "TIMBRE_LOG_LEVEL": "warning",
            }
        if self.stack == "thesis":
            return {"BENCH_MODEL": str(model.folder)}  # and torch takes all CPUs in each worker
        workers = cpus if self.layout == "many" else 1
        threads = str(cpus // workers)
        return {
            "BENCH_MODEL": str(model.folder),
            "BENCH_ENGINE": self.engine,
            "BENCH_PRECISION": self.precision,
            "BENCH_WORKERS": str(workers),
            "BENCH_THREADS": threads,
            "OMP_NUM_THREADS": threads,
        }

    def request(self, clip: bytes) -> bytes:
        """Write the whole HTTP request for a clip."""
        stack = STACKS[self.stack]
        body, kind = (_form(clip), f"multipart/form-data; boundary={_BOUNDARY}")
        if not stack.form:
            body, kind = clip, "audio/wav"
        head = (
            f"POST {stack.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def scores(body: bytes) -> dict[str, float]:
    """Read an answer: the probability of each label, whichever of the two shapes it has."""
    answer = json.loads(body)
    if isinstance(answer, dict):
        return dict(answer["probabilities"])
    return {entry["label"]: entry["score"] for entry in answer}


def _form(clip: bytes) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\n"
        'content-disposition: form-data; name="file"; filename="clip.wav"\r\n'
        "content-type: audio/wav\r\n\r\n"
    )
    return head.encode() + clip + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _workers(contender: Contender, place: Place) -> str:
    return str(place.cpus if contender.layout == "many" else 1)


def _thesis(_: Contender, place: Place) -> list[str]:
    return _gunicorn("thesis_app", str(THESIS_WORKERS), place)


def _flask(contender: Contender, place: Place) -> list[str]:
    return _gunicorn("flask_app", _workers(contender, place), place)


def _gunicorn(app: str, workers: str, place: Place) -> list[str]:
    bind = f"127.0.0.1:{place.port}"
    options = ["-w", workers, "-b", bind, "--timeout", "300", "--log-level", "warning"]
    return [str(place.peers), "-m", "gunicorn", *options, f"{_PEER}.{app}:app"]


def _fastapi(contender: Contender, place: Place) -> list[str]:
    options = ["--port", str(place.port), "--workers", _workers(contender, place)]
    quiet = ["--no-access-log", "--log-level", "warning"]
    return [str(place.peers), "-m", "uvicorn", f"{_PEER}.fastapi_app:app", *options, *quiet]


def _litserve(_: Contender, place: Place) -> list[str]:
    return [str(place.peers), "-m", f"{_PEER}.litserve_app", str(place.port)]


def _bentoml(_: Contender, place: Place) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--timeout-keep-alive", "75"]
    return [str(place.peers), "-m", "bentoml", "serve", f"{_PEER}.bentoml_app:Api", *options]


def _timbre(_: Contender, place: Place) -> list[str]:
    program = Path(sys.executable).with_name("timbre")
    return [str(program), "serve", "--port", str(place.port)]


STACKS: Mapping[str, Stack] = {
    "thesis": Stack("Flask, gunicorn -w 3, pipeline", _thesis, "/health", form=True),
    "flask": Stack("Flask, gunicorn", _flask, "/health"),
    "fastapi": Stack("FastAPI", _fastapi, "/health"),
    "litserve": Stack("LitServe, batches of 8", _litserve, "/health", form=True),
    "bentoml": Stack("BentoML runner, batches of 8", _bentoml, "/readyz", form=True),
    "timbre": Stack("Timbre", _timbre, "/readyz", path="/v1/classify"),
}


def every(*, int8: bool = True, bf16: bool = False) -> list[Contender]:
    """List whom a model is measured with, in the order of the tables.

    The layout `many` is measured where it can be somebody's best: in int8, or where that isn't
    measured in fp32; Flask has no other.
    """
    rows = [*_fp32(), *(_bf16() if bf16 else ())]
    return [*rows, *(_int8() if int8 else _many("fp32"))]


def _fp32() -> Iterator[Contender]:
    yield Contender("thesis", "torch", "fp32", sweep=True)
    for stack in ("fastapi", "litserve", "bentoml"):
        yield Contender(stack, "onnxruntime", "fp32", sweep=True)
    yield Contender("flask", "openvino", "fp32", "many")
    for stack in ("fastapi", "litserve", "bentoml"):
        yield Contender(stack, "openvino", "fp32")
    yield Contender("timbre", "openvino", "fp32", sweep=True)


def _bf16() -> Iterator[Contender]:
    yield Contender("flask", "openvino", "bf16", "many")
    for stack in ("fastapi", "litserve", "bentoml", "timbre"):
        yield Contender(stack, "openvino", "bf16")


def _int8() -> Iterator[Contender]:
    yield Contender("fastapi", "onnxruntime", "int8")
    yield Contender("flask", "openvino", "int8", "many")
    for stack in ("fastapi", "litserve", "bentoml"):
        yield Contender(stack, "openvino", "int8")
    yield Contender("timbre", "openvino", "int8", sweep=True)
    yield from _many("int8")


def _many(precision: Precision) -> Iterator[Contender]:
    for stack in ("fastapi", "litserve", "bentoml", "timbre"):
        yield Contender(stack, "openvino", precision, "many")
