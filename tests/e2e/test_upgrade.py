"""An operator's own values, when the chart changes under them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.e2e import helm, kubectl
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.release import SMALL, Install, pods
from tests.support.layers import merged

OWN = {
    "settings": {"queue_s": 3, "client_share": 0.5},
    "podAnnotations": {"team": "speech"},
    "podDisruptionBudget": {"maxUnavailable": 2},
    "replicaCount": 2,
}


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The chart's next version, which has another default."""
    chart = tmp_path / "timbre"
    shutil.copytree(helm.CHART, chart)
    about = chart / "Chart.yaml"
    text = about.read_text(encoding="utf-8")
    about.write_text(re.sub(r"(?m)^version: .*$", "version: 99.0.0", text), encoding="utf-8")
    defaults = chart / "values.yaml"
    text, count = re.subn(
        r"(?m)^drainSeconds: .*$", "drainSeconds: 3", defaults.read_text(encoding="utf-8")
    )
    assert count == 1
    defaults.write_text(text, encoding="utf-8")
    return chart


def test_upgrade_keeps_an_operators_values(cluster: Cluster, install: Install, newer: Path) -> None:
    """--reset-then-reuse-values keeps what an operator set and takes the new chart's defaults."""
    install(SMALL, OWN, {"settings": {"precision": cluster.precision}})
    before = helm.given(RELEASE, cluster.namespace)
    one_more = {"settings": {"max_batch": 4}}
    helm.upgrade(RELEASE, cluster.namespace, one_more, "--reset-then-reuse-values", chart=newer)

    assert helm.given(RELEASE, cluster.namespace) == merged(before, one_more)
    where = ("--namespace", cluster.namespace)
    deployment = kubectl.get("deployment", RELEASE, *where)
    assert deployment["spec"]["replicas"] == deployment["status"]["readyReplicas"] == 2
    assert deployment["metadata"]["labels"]["helm.sh/chart"] == "timbre-99.0.0"
    assert deployment["spec"]["template"]["metadata"]["annotations"]["team"] == "speech"
    assert kubectl.get("poddisruptionbudget", RELEASE, *where)["spec"]["maxUnavailable"] == 2
    pod = pods(cluster)[0]
    names = [f"TIMBRE_{name}" for name in ("QUEUE_S", "CLIENT_SHARE", "MAX_BATCH", "DRAIN_S")]
    program = "import os, sys; print(*map(os.environ.get, sys.argv[1:]))"
    found = kubectl.python(kubectl.name(pod), cluster.namespace, program, *names).split()
    assert found == ["3", "0.5", "4", "3"]
