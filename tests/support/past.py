"""A real Prometheus with a written past: what it would have scraped, a sample every 15 s."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.canary.prometheus import Prometheus
from tests.support import monitoring
from tests.support.monitoring import program

SCRAPE_S = 15
SAMPLES = 82
"""20 minutes, and a little."""
BEFORE, AFTER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
"""Digests of stable and of the candidate."""


@dataclass
class Past:
    """Samples, in the order in which they were."""

    begin_s: float
    lines: dict[str, list[str]] = field(default_factory=dict)

    def write(
        self,
        metric: str,
        pod: str,
        values: Sequence[float | None],
        *,
        late: int = 0,
        **labels: str,
    ) -> None:
        """Write a sample each `SCRAPE_S`, the first `late` of them after the past's begin."""
        told = {"namespace": "audio", "pod": pod, "instance": f"{pod}:1", **labels}
        series = ",".join(f'{name}="{value}"' for name, value in told.items())
        for number, value in enumerate(values):
            if value is not None:
                moment = self.begin_s + SCRAPE_S * (late + number)
                line = f"{metric}{{{series}}} {value} {moment:.3f}"
                self.lines.setdefault(metric, []).append(line)

    def server(
        self,
        pod: str,
        digest: str,
        starts: Sequence[float | None],
        *,
        late: int = 0,
        **labels: str,
    ) -> None:
        """Write that a server ran, of these starts in seconds after the past's begin."""
        moments = [None if start is None else self.begin_s + start for start in starts]
        self.write("process_start_time_seconds", pod, moments, late=late, **labels)
        self.write(
            "timbre_model_info",
            pod,
            [None if start is None else 1 for start in starts],
            late=late,
            digest=digest,
            version="1.0.0" if digest == BEFORE else "1.1.0",
            precision="fp32",
            cpu_features="avx2,fma",
            **labels,
        )

    def text(self) -> str:
        """Write it as OpenMetrics."""
        return "\n".join([*(line for lines in self.lines.values() for line in lines), "# EOF\n"])


@contextmanager
def remembering(past: Past, folder: Path) -> Iterator[Prometheus]:
    """Run a Prometheus that has this past and scrapes nobody."""
    (folder / "past.txt").write_text(past.text(), encoding="utf-8")
    subprocess.run(
        [
            *(program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"),
            *(folder / "past.txt", folder / "data"),
        ],
        check=True,
    )
    with monitoring.prometheus({}, folder) as url, Prometheus(url) as prometheus:
        yield prometheus


def ramp(per_sample: int, samples: int = SAMPLES, start: int = 0) -> list[float | None]:
    """Count evenly."""
    return [float(start + per_sample * number) for number in range(samples)]
