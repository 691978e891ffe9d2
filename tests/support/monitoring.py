"""The rules and the dashboard: what they ask Prometheus, in a form that can be checked and asked.

`queries` is for tests against a live Prometheus; the rest tells names and labels out of PromQL, as
far as the chart's own expressions need it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.peers.processes import free_port
from tests.support.server import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]
FILES = ROOT / "helm" / "timbre" / "files"
RULES = FILES / "alerts.yaml"
DASHBOARD = FILES / "dashboard.json"
RUNBOOK = ROOT / "docs" / "alerts.md"
CASES = ROOT / "tests" / "monitoring" / "alerts_test.yaml"

ANY_RELEASE = 'app_kubernetes_io_instance=~".+"'
"""What every selector of the rules has, and the chart replaces by its own release."""

TARGET_LABELS = {
    "namespace",
    "pod",
    "app_kubernetes_io_instance",
    "app_kubernetes_io_part_of",
    "track",
}
"""What a scraped series of a pod has beside the metric's own labels, however it was scraped."""

ON_OCCASION = {
    "timbre_problems_total",
    "timbre_dropped_windows_total",
    "timbre_hung_up_connections_total",
    "timbre_decoder_restarts_total",
    "timbre_shadow_clips_total",
    "timbre_shadow_confidence_difference_bucket",
}
"""What has a series only once it has happened, to a client or a decoder, or for a candidate."""

FOREIGN = {"container_memory_working_set_bytes", "container_spec_memory_limit_bytes"}
"""cAdvisor's, which not every Prometheus scrapes."""

OF_THE_JUDGE = {"timbre_canary_verdict"}
"""The judge's, which is another program than the server."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*(?:\([^)]*\))?")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(?!\s*\(|[a-zA-Z0-9_:])")
_MATCHER = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}

Rule = Mapping[str, Any]


@dataclass(frozen=True)
class Query:
    """An expression that Prometheus can be asked, and where it is from."""

    where: str
    """Such as `alert TimbreSlow` or `dashboard: Memory [A]`; no two are from one place."""
    expr: str
    expects_data: bool
    """Whether a healthy release that has classified and refused a clip gives at least one value."""


@dataclass(frozen=True)
class Selector:
    """A metric's name as an expression reads it, and what it is narrowed by."""

    metric: str
    matchers: str
    """With their braces; empty where there are none."""

    @property
    def labels(self) -> set[str]:
        """The labels that its matchers name."""
        return set(_MATCHER.findall(_STRING.sub("", self.matchers)))


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule of the chart's file, in order."""
    read = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return tuple(rule for group in read["groups"] for rule in group["rules"])


def alerts() -> dict[str, Rule]:
    """The alerts by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def records() -> dict[str, str]:
    """What is recorded: name and expression."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def cases() -> list[dict[str, Any]]:
    """What promtool is given to test."""
    tests: list[dict[str, Any]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    return tests


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana would be given it, but for what the chart fills in."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return read


def panels() -> list[dict[str, Any]]:
    """What the dashboard shows, without the rows that head it."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def selectors(expr: str) -> list[Selector]:
    """What an expression reads, recorded series too."""
    # Strings may have braces and names in them: they are put back where matchers have them.
    strings: list[str] = []

    def hidden(found: re.Match[str]) -> str:
        strings.append(found[0])
        return f"'{len(strings) - 1}'"

    def shown(matchers: str) -> str:
        return re.sub(r"'(\d+)'", lambda found: strings[int(found[1])], matchers)

    bare = re.sub(r"\[[^]]*\]", "", _GROUPING.sub(" ", _STRING.sub(hidden, expr)))
    return [
        Selector(found[1], shown(found[2] or ""))
        for found in _SELECTOR.finditer(bare)
        if found[1].lower() not in _WORDS
    ]


def metric_names(expr: str) -> set[str]:
    """The names of the metrics that an expression reads, recorded ones too."""
    return {selector.metric for selector in selectors(expr)}


def in_full(expr: str) -> str:
    """Put in place of recorded names what is recorded, for a Prometheus without the rules."""
    recorded = records()
    while names := metric_names(expr) & recorded.keys():
        for name in names:
            wanted = re.compile(rf"{re.escape(name)}(?:\{{[^}}]*\}})?(?:\[(\w+)\])?")
            while found := wanted.search(expr):
                # A range of what is not recorded is a subquery.
                over = f"[{found[1]}:]" if found[1] else ""
                expr = f"{expr[: found.start()]}({recorded[name]}){over}{expr[found.end() :]}"
    return expr


def queries(
    namespace: str = "timbre", release: str = "timbre", *, track: str = ".+", interval: str = "2m"
) -> Iterator[Query]:
    """Every expression of rules and dashboard, of one release, that a live Prometheus can be asked.

    Nothing recorded is needed. An alert's own expression is there to be understood, not to have
    data; what it reads is asked beside it.
    """
    own = f'namespace="{namespace}",app_kubernetes_io_instance="{release}"'
    for name, expr in records().items():
        yield Query(f"record {name}", in_full(expr).replace(ANY_RELEASE, own), expects_data=True)
    for name, rule in alerts().items():
        expr = in_full(rule["expr"]).replace(ANY_RELEASE, own)
        yield Query(f"alert {name}", expr, expects_data=False)
        for read in selectors(rule["expr"]):
            if read.metric in records():
                continue
            yield Query(
                f"alert {name} reads {read.metric}",
                f"{read.metric}{read.matchers}".replace(ANY_RELEASE, own),
                expects_data=read.metric not in ON_OCCASION | FOREIGN | OF_THE_JUDGE,
            )
    values = {
        "$namespace": namespace,
        "$release": release,
        "$track": track,
        "$__rate_interval": interval,
    }
    for panel in panels():
        for target in panel["targets"]:
            expr = target["expr"]
            for variable, value in values.items():
                expr = expr.replace(variable, value)
            yield Query(
                f"dashboard: {panel['title']} [{target['refId']}]",
                expr,
                expects_data=not metric_names(expr) & ON_OCCASION,
            )


@contextmanager
def prometheus(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Run a Prometheus of this configuration until it answers and to its end; gives its address.

    Its data are in `folder`/data, which may be there before.
    """
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
        try:
            return httpx.get(f"{url}/-/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    try:
        eventually(ready, "Prometheus is ready")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def program(name: str) -> str:
    """Give the path of `prometheus` or `promtool`; a machine without it fails the test."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(
            f"{name}, which reads the rules as a cluster's Prometheus does, is not on PATH: install"
            " Debian's package prometheus (apt-get install prometheus), or put a release of"
            " Prometheus there.",
            pytrace=False,
        )
    return found


def promtool(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run promtool; all its output is in stdout."""
    return subprocess.run(
        [program("promtool"), *arguments],
        cwd=cwd,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
