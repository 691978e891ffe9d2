"""The BentoML service: wiring, readiness, drain. `bentoml serve service.app:Timbre` runs it.

One worker with the runner in its own process, and this project's own batcher, logs, metrics and
limits: docs/design.md has the reasons.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

import bentoml
import uvicorn
from bentoml._internal import server as bentoml_server
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.serving import running_inside_container

# BentoML's supervisor sets this for metrics shared by many workers. There is one here, and values
# in files would cost us the process's own metrics and the freedom of gauges.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import generate_latest

from service import settings as configuration
from service.access import Tokens
from service.bundle import open_bundle
from service.classifier import open_classifier
from service.connections import Connection, Crowd, room_for
from service.decoding.pool import DecoderPool
from service.domain import Track
from service.envelope import JsonFormatter
from service.http import Desk, create_app, create_internal_app
from service.internal import InternalServer, listen
from service.metrics import Metrics
from service.runtime import cpu_features
from service.serving import Model, Serving
from service.shadow import Sender
from service.speeds import cache_folder, choose_precision
from service.startup import verify
from service.supervision import end_with_worker

logger = logging.getLogger("timbre")

settings = configuration.load()
desk = Desk(Tokens(settings.token_file) if settings.token_file else None)
LAST_RESORT_S = 5.0
"""Seconds after our own limits when BentoML's time-out ends a request that they didn't."""
KEEP_ALIVE_S = 120
"""Seconds an idle connection stays open. Gateways and load balancers keep theirs for up to 90 s
and reuse them without asking: a server that closes first loses the request that is on its way."""
SWAGGER_UI = Path(bentoml_server.__file__).parent / "static_content"


crowd = Crowd(settings.max_connections)
"""All connections of the process: they share its file descriptors."""


class _PatientConfig(uvicorn.Config):
    """uvicorn's configuration: idle connections kept, connections bounded, and no web sockets.

    BentoML's worker has a flag for the first, but no variable and no setting: started without the
    flag, as a Bento's image starts it, it would close them after 5 s.
    """

    def load(self) -> None:
        """Load, as uvicorn does before it listens."""
        super().load()
        self.timeout_keep_alive = max(self.timeout_keep_alive, KEEP_ALIVE_S)
        self.ws_protocol_class = None
        self.http_protocol_class = partial(  # type: ignore[assignment]
            Connection, crowd=crowd, patience_s=settings.header_timeout_s
        )


class _ClosingServer(uvicorn.Server):
    """uvicorn's server, which closes the port when it stops taking connections.

    BentoML's supervisor has the socket too: closed here alone, it would go on taking connections
    that nobody answers until the last clip inside is done, and then break them off.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port for everyone, and then do as uvicorn does."""
        for opened in sockets or ():
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        await super().shutdown(sockets)


# BentoML's worker imports this module before it makes either.
uvicorn.Config = _PatientConfig  # type: ignore[misc]
uvicorn.Server = _ClosingServer  # type: ignore[misc]

TRACED = bool(BentoMLContainer.tracing.sample_rate.get())
"""Whether BentoML was told to sample traces; without it spans would be made to be thrown away."""


@bentoml.service(
    name="timbre",
    workers=1,
    # Both are this project's own: BentoML's access log is text, and its metrics take unknown paths
    # for label values, with which a client could fill the memory.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={} if TRACED else {"excluded_urls": ".*"},
    # Ours come first. It can't be switched off, and it keeps 5 KB of every request until it is due,
    # answered or not: so not a second more than needed.
    traffic={"timeout": max(settings.deadline_s, settings.body_timeout_s) + LAST_RESORT_S},
)
@bentoml.asgi_app(
    create_app(desk, cors_origins=settings.cors_origins, reference_assets=SWAGGER_UI), path="/"
)
class Timbre:
    """Loads the bundle, then fills the desk of the HTTP app that is mounted at the root."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def before_workers() -> None:
        """Refuse what is wrong in the supervisor, which then ends with an error of its own.

        Where Kubernetes starts containers anew, it also ends with its worker.
        """
        verify(settings)
        if running_inside_container():
            end_with_worker()

    def __init__(self) -> None:
        """Load and warm up; the server is ready when this returns."""
        try:
            _log_json(settings.log_level)
            crowd.limit = room_for(settings.max_connections)
            _load_tokens(desk.tokens)
            self.internal = _internal_server()
            self.serving = desk.serving = _load()
            desk.shadow = _sender(self.serving)
        except Exception as error:
            logger.critical("cannot start: %s", error)
            _end_supervisor()
            raise
        if settings.drain_s and threading.current_thread() is threading.main_thread():
            _drain_before_exit(self.serving, settings.drain_s)

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # BentoML's have no types
    async def keep(self) -> None:
        """Take what is loaded out of garbage collection, which would hold up every request.

        To go through it takes 0.1 s, and under overload it was gone through every two seconds.
        """
        gc.collect()
        gc.freeze()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def serve_internally(self) -> None:
        """Answer on the internal port, too."""
        if self.internal is not None:
            self.internal.start()

    async def __is_ready__(self) -> bool:
        """Readiness: loaded and not draining. Being busy is no reason to be sent nothing."""
        return self.serving.ready

    async def __is_alive__(self) -> bool:
        """Liveness: the engine is not stuck, decoders can be started. True while draining."""
        return self.serving.alive

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def shutdown(self) -> None:
        """Answer what is inside; the internal port is the last to close."""
        if desk.shadow is not None:
            await desk.shadow.close()
        await self.serving.close()
        if self.internal is not None:
            await self.internal.close()


def _load_tokens(tokens: Tokens | None) -> None:
    """Load the tokens, and say who may use the server."""
    if tokens is None:
        logger.warning("no token is configured: whoever reaches this server may use it")
        return
    tokens.load()
    logger.info("tokens configured: %d, from %s", tokens.count, tokens.file)


def _internal_server() -> InternalServer | None:
    """Open the internal port, where there is one; it is served once the event loop runs."""
    if not settings.internal_port:
        return None
    opened = listen(str(settings.internal_host), settings.internal_port)
    logger.info("internal routes on %s port %d", settings.internal_host, settings.internal_port)
    return InternalServer(create_internal_app(desk), opened)


def _load() -> Serving:
    """Open the bundle, warm the runner up, and tell the metrics what is served."""
    metrics = Metrics()
    # They start while the model loads.
    decoders = DecoderPool(settings.decoder_processes, lost=metrics.decoder_lost)
    model = _model(settings.bundle, settings.engine_streams)
    metrics.model.info(_labels(model))
    fallback = None
    if settings.fallback_bundle is not None:
        # In one queue with the model, so in as many streams.
        streams = model.classifier.runner.runtime.streams
        fallback = _model(settings.fallback_bundle, streams)
        metrics.fallback.info(_labels(fallback))
    metrics.connections.set_function(lambda: float(len(crowd)))
    crowd.hung_up = metrics.hung_up
    metrics.tokens_stale.set_function(lambda: float(desk.tokens is not None and desk.tokens.stale))
    desk.render_metrics = partial(generate_latest, metrics.registry)
    decoders.wait_until_ready()
    logger.info("serving %s %s", model.manifest.name, model.manifest.version)
    return Serving(model, settings, metrics, decoders, fallback=fallback)


def _sender(serving: Serving) -> Sender | None:
    """Make what sends clips to candidates, where this pod is to."""
    if settings.track is not Track.STABLE or not settings.shadow_urls:
        return None
    candidates = ", ".join(settings.shadow_urls)
    logger.info("shadowing %g of the live clips to %s", settings.shadow_sample, candidates)
    return Sender(
        settings.shadow_urls,
        serving.model.manifest.labels,
        serving.metrics,
        sample=settings.shadow_sample,
        busy=lambda: serving.busy,
    )


def _model(folder: Path, streams: int) -> Model:
    """Open a bundle in the precision that is best here, in that many streams, and warm it up."""
    bundle = open_bundle(folder)
    choice = choose_precision(
        bundle,
        settings.precision,
        runtime=settings.runtime,
        streams=1 if settings.adaptive else streams,
        threads=settings.engine_threads,
        ungated=settings.ungated,
        cache=settings.cache or cache_folder(),
    )
    classifier = open_classifier(
        bundle,
        runtime=settings.runtime,
        precision=choice.precision,
        streams=streams,
        threads=settings.engine_threads,
        adaptive=settings.adaptive,
    )
    window_s = classifier.runner.warm_up(settings.max_batch)
    manifest = bundle.manifest
    logger.info(
        "loaded %s %s in %s: %s", manifest.name, manifest.version, choice.precision, choice.why
    )
    return Model(classifier, choice, window_s)


def _labels(model: Model) -> dict[str, str]:
    """What the metrics say of a model."""
    runner = model.classifier.runner
    return {
        "name": model.manifest.name,
        "version": model.manifest.version,
        "digest": runner.bundle.digest,
        "runtime": runner.runtime.name,
        "precision": runner.precision,
        "precision_reason": model.choice.reason,
        "streams": str(runner.runtime.streams),
        "threads": str(runner.runtime.threads),
        "track": settings.track.value,
        "cpu_features": ",".join(cpu_features()),
    }


def _end_supervisor() -> None:
    """End BentoML's supervisor too: it would stay without a worker, and answer nobody."""
    if bentoml.server_context.worker_index:  # 0 where there is no supervisor
        os.kill(os.getppid(), signal.SIGTERM)


def _drain_before_exit(serving: Serving, drain_s: float) -> None:
    """Put `drain_s` of unready but answering time between SIGTERM and the server's own shutdown."""
    exit_now = signal.getsignal(signal.SIGTERM)

    def drain(number: int, _: FrameType | None) -> None:
        if serving.draining or not callable(exit_now):
            return
        serving.draining = True
        logger.info("draining for %g s", drain_s)
        # A second SIGTERM, from this timer, goes to the server.
        signal.signal(number, exit_now)
        timer = threading.Timer(drain_s, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, drain)


def _log_json(level: str) -> None:
    """One JSON line a record, on standard output, for this project's loggers and BentoML's."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # A logger that reaches no handler is not asked at all: our own line has what uvicorn's has.
    logging.getLogger("uvicorn.access").propagate = False
    # A line for each clip that is sent to a candidate.
    logging.getLogger("httpx").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in ("bentoml", "timbre"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(level.upper())
