"""Every metric's name, labels and help, in one place; docs/metrics.md is tested against it.

Names are the vocabulary of domain.py. Label values are closed sets, never anything a client sends:
an unknown path counts as route "other".
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.batching import BatchObserver, DispatchReason, DropReason

FINE_BUCKETS = (
    *(0.001, 0.002, 0.003, 0.004),
    *(round(10 ** (step / 48), 6) for step in range(-110, 72)),
    *(60.0, 120.0, 300.0, 600.0),
)
"""Seconds, 48 buckets per decade from 5 ms to 30 s, each 4.9% above the last: a quantile
that moves by 10% moves by a bucket at least. Below it milliseconds do, and above it are deadlines
longer than the default's."""
COARSE_BUCKETS = tuple(round(0.001 * 1.25**step, 6) for step in range(48))
"""Seconds, 1 ms to 36 s, each bucket a quarter wider than the last: for what is part of what has
fine ones."""
REFUSAL_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
"""Seconds: a refusal is quick or it is not, and 50 ms is what it may take."""
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
DIFFERENCE_BUCKETS = tuple(step / 40 for step in range(-39, 40, 2))
"""Of confidence; none is at 0, where the differences of two like models are. As some are below 0,
Prometheus' format has no sum of them."""
DURATION_BUCKETS = (0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60)


class Metrics(BatchObserver):
    """The server's metrics in a registry of their own, and the batcher's observer."""

    def __init__(self) -> None:
        """Register everything, with the process's own figures (CPU, memory, file descriptors)."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.model = Info(
            "timbre_model", "The bundle that is served, and in what precision", registry=registry
        )
        self.ready = Gauge("timbre_ready", "1 while clips are taken", registry=registry)
        self.tokens_stale = Gauge(
            "timbre_tokens_stale",
            "1 while the token file cannot be used and the tokens it had before hold",
            registry=registry,
        )
        self.requests = Counter(
            "timbre_requests",
            "Requests answered",
            ["route", "status", "traffic"],
            registry=registry,
        )
        self.connections = Gauge(
            "timbre_connections", "Connections that are open, idle ones too", registry=registry
        )
        self.hung_up_connections = Counter(
            "timbre_hung_up_connections",
            "Connections closed on their clients: slow to send or read, or the room was needed",
            ["reason"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "timbre_request_seconds",
            "Seconds from a request's headers to the end of its answer, of clips classified",
            ["route", "traffic"],
            buckets=FINE_BUCKETS,
            registry=registry,
        )
        self.refusal_seconds = Histogram(
            "timbre_refusal_seconds",
            "Seconds from a request's headers to the end of its refusal with 429, but for shadows",
            buckets=REFUSAL_BUCKETS,
            registry=registry,
        )
        self.problems = Counter(
            "timbre_problems", "Requests refused or failed", ["type"], registry=registry
        )
        self.decisions = Counter(
            "timbre_decisions",
            "Clips classified; label is empty without speech",
            ["decision", "label", "traffic"],
            registry=registry,
        )
        self.confidence = Histogram(
            "timbre_confidence",
            "Calibrated confidence of the best label",
            ["traffic"],
            buckets=[step / 20 for step in range(4, 21)],
            registry=registry,
        )
        self.clip_seconds = Histogram(
            "timbre_clip_seconds",
            "Seconds of audio in a clip",
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.decode_seconds = Histogram(
            "timbre_decode_seconds",
            "Seconds to decode a clip, find its speech and cut its windows, waiting included",
            buckets=COARSE_BUCKETS,
            registry=registry,
        )
        self.decoder_restarts = Counter(
            "timbre_decoder_restarts",
            "Decoder processes that were replaced: died, overran or garbled",
            ["reason"],
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "timbre_queue_seconds",
            "Seconds a clip waited for the engine",
            buckets=FINE_BUCKETS,
            registry=registry,
        )
        self.engine_seconds = Histogram(
            "timbre_engine_seconds",
            "Seconds of one engine call",
            buckets=FINE_BUCKETS,
            registry=registry,
        )
        self.batch_windows = Histogram(
            "timbre_batch_windows", "Windows in a batch", buckets=BATCH_BUCKETS, registry=registry
        )
        self.dispatches = Counter(
            "timbre_dispatches", "Batches, by why they were sent", ["reason"], registry=registry
        )
        self.dropped_windows = Counter(
            "timbre_dropped_windows",
            "Windows that left the queue without being run",
            ["reason"],
            registry=registry,
        )
        self.retried_windows = Counter(
            "timbre_retried_windows",
            "Windows run again, alone, after a failed batch",
            registry=registry,
        )
        self.admitted_windows = Counter(
            "timbre_admitted_windows", "Windows let in", registry=registry
        )
        self.refused_windows = Counter(
            "timbre_refused_windows",
            "Windows refused because the queue was full; an estimate for clips refused unread",
            registry=registry,
        )
        self.in_flight_windows = Gauge(
            "timbre_in_flight_windows", "Windows waiting or running", registry=registry
        )
        self.fallback = Info(
            "timbre_fallback", "The bundle that answers while the queue is long", registry=registry
        )
        self.fallback_on = Gauge(
            "timbre_fallback_on", "1 while new clips go to the fallback", registry=registry
        )
        self.fallback_clips = Counter(
            "timbre_fallback_clips", "Clips that the fallback classified", registry=registry
        )
        self.shadow_clips = Counter(
            "timbre_shadow_clips",
            "Clips of the sample for a candidate, by what became of them",
            ["candidate", "outcome"],
            registry=registry,
        )
        self.shadow_pairs = Counter(
            "timbre_shadow_pairs",
            "Clips that a candidate scored too, by both labels; empty without speech",
            ["candidate", "digest", "stable_label", "candidate_label"],
            registry=registry,
        )
        self.shadow_decisions = Counter(
            "timbre_shadow_decisions",
            "Clips that a candidate scored too, by both decisions",
            ["candidate", "digest", "stable_decision", "candidate_decision"],
            registry=registry,
        )
        self.shadow_confidence_difference = Histogram(
            "timbre_shadow_confidence_difference",
            "A candidate's confidence minus stable's, where both found speech",
            ["candidate", "digest"],
            buckets=DIFFERENCE_BUCKETS,
            registry=registry,
        )
        self.demand = Gauge(
            "timbre_demand",
            "Windows asked for, let in or refused, by what the engine can make; 1 is all it can",
            registry=registry,
        )

    def decoder_lost(self, reason: str) -> None:
        """Count a decoder process that has to be replaced."""
        self.decoder_restarts.labels(reason).inc()

    def hung_up(self, reason: str) -> None:
        """Count a connection that was closed on its client."""
        self.hung_up_connections.labels(reason).inc()

    def dispatched(self, items: int, reason: DispatchReason) -> None:
        """Count a batch."""
        self.batch_windows.observe(items)
        self.dispatches.labels(reason).inc()

    def computed(self, seconds: float) -> None:
        """Record an engine call."""
        self.engine_seconds.observe(seconds)

    def waited(self, seconds: float) -> None:
        """Record a clip's time in the queue."""
        self.queue_seconds.observe(seconds)

    def dropped(self, items: int, reason: DropReason) -> None:
        """Count windows that were not run."""
        self.dropped_windows.labels(reason).inc(items)

    def retried(self, items: int) -> None:
        """Count windows run again."""
        self.retried_windows.inc(items)
