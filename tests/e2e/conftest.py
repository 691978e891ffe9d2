"""What the end-to-end tests share: one cluster, one clip, and the figures of the whole session.

A cluster may lack a part. E2E_WITHOUT names those, between commas, and the tests that need them are
left out, which the run says. A part that is missing without having been named there is an error.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.peers import machine
from service import __version__
from tests.e2e import candidates, coldstart, helm, judged, kubectl
from tests.e2e import cluster as clusters
from tests.e2e.cluster import HOST, RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Target
from tests.e2e.release import SERVERS, Install, aim, pods, served
from tests.e2e.watch import watching
from tests.support import browser
from tests.support.audio import encoded, speech_like
from tests.support.layers import merged

ORDER = (
    *("install", "upgrade", "bundles", "network_policy", "recovery", "monitoring", "resources"),
    *("disruption", "scaling", "canary", "flagger", "argo"),
)
"""Files, the cheap ones first."""
RUNS = Path(__file__).parents[2] / "runs" / "e2e"
PARTS = {
    "network-policy": "enforces network policies",
    "metrics": "serves the metrics API (metrics.k8s.io)",
    "custom-metrics": "serves the custom metrics API (custom.metrics.k8s.io)",
    "prometheus": "has a Prometheus that scrapes annotated pods",
    "flagger": "has Flagger, in the namespace flagger",
    "argo-rollouts": "has Argo Rollouts, in the namespace argo-rollouts",
    "browser": "has a browser beside it (Chromium)",
}
"""What a cluster may be without, and what it then doesn't do."""
APIS = {
    "metrics": "/apis/metrics.k8s.io/v1beta1/nodes",
    "custom-metrics": "/apis/custom.metrics.k8s.io",
    "flagger": "/apis/flagger.app/v1beta1",
    "argo-rollouts": "/apis/argoproj.io/v1alpha1",
}
CLIP_S = 1.0

_left_out = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "needs(part): of the cluster, one of conftest.PARTS")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the cheap ones first, and leave out what E2E_WITHOUT names."""
    config.stash[_left_out] = left_out = {}
    without = {part for part in os.environ.get("E2E_WITHOUT", "").split(",") if part}
    if unknown := without - set(PARTS):
        raise pytest.UsageError(f"E2E_WITHOUT knows {', '.join(PARTS)}, not {', '.join(unknown)}.")
    for part in sorted(without):
        lacking = [item for item in items if part in _needs(item)]
        left_out[part] = len(lacking)
        config.hook.pytest_deselected(items=lacking)
        items[:] = [item for item in items if item not in lacking]
    items.sort(key=lambda item: ORDER.index(item.path.stem.removeprefix("test_")))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out, and where the figures are."""
    for part, count in config.stash.get(_left_out, {}).items():
        line = f"{count} tests left out: E2E_WITHOUT says that no cluster here {PARTS[part]}."
        terminalreporter.write_line(line, yellow=True)
    terminalreporter.write_line(f"Figures are in {RUNS}/report.md.")


def _needs(item: pytest.Item) -> set[str]:
    return {str(part) for marker in item.iter_markers("needs") for part in marker.args}


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """Gather what is measured; it is written even when tests fail."""
    gathered = Figures()
    gathered.add(
        "Session",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        timbre=__version__,
        helm=helm.version(),
        kubernetes=kubectl.raw("/version")["gitVersion"],
        **machine.facts(),
    )
    try:
        yield gathered
    finally:
        gathered.save(RUNS)


@pytest.fixture(scope="session")
def cluster(figures: Figures, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Prepare the cluster, once."""
    with clusters.prepared(tmp_path_factory.mktemp("cluster")) as prepared:
        figures.sections["Session"] = [
            {**figures.rows("Session")[0], "precision": prepared.precision}
        ]
        yield prepared


@pytest.fixture(autouse=True)
def _parts(request: pytest.FixtureRequest) -> None:
    """Fail with a sentence where the cluster lacks a part that the test needs."""
    for part in _needs(request.node):
        try:
            if part in APIS:
                kubectl.raw(APIS[part])
            elif part == "prometheus":
                clusters.query("vector(1)")
            elif part == "browser" and browser.find() is None:
                raise kubectl.Failed("Neither PATH nor CHROMIUM has one.")
        except kubectl.Failed as error:
            pytest.fail(
                f"No cluster here {PARTS[part]}; E2E_WITHOUT={part} leaves this out. {error}"
            )


@pytest.fixture(scope="session")
def speech() -> bytes:
    """A clip of one window."""
    return encoded(speech_like(CLIP_S))


@pytest.fixture(scope="session")
def clip(speech: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clip as a file."""
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    path.write_bytes(speech)
    return path


@pytest.fixture(scope="session")
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    """Ask the Gateway by HTTP."""
    with httpx.Client(base_url=cluster.url, headers={"host": HOST}, timeout=30) as asking:
        yield asking


@pytest.fixture(scope="session")
def https(cluster: Cluster) -> Iterator[httpx.Client]:
    """Ask the Gateway by HTTPS, and believe in nothing but the certificate made for it."""

    def by_name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = HOST

    trusting = ssl.create_default_context(cafile=cluster.certificate)
    with httpx.Client(
        base_url=cluster.tls_url,
        headers={"host": HOST},
        verify=trusting,
        event_hooks={"request": [by_name]},
        timeout=30,
    ) as asking:
        yield asking


@pytest.fixture(scope="module")
def install(cluster: Cluster, http: httpx.Client, figures: Figures) -> Iterator[Install]:
    """Install the release with some values on top of those that every release has here.

    What it returns are all the values. How the first pod came up is noted. A release that is there
    already is upgraded to them. Its end uninstalls the release.
    """

    def put(*layers: helm.Values) -> dict[str, Any]:
        values = merged(cluster.values(), *layers)
        if RELEASE in helm.releases(cluster.namespace):
            helm.upgrade(RELEASE, cluster.namespace, values)
        else:
            with watching("pods", cluster.namespace, SERVERS) as seen:
                helm.install(RELEASE, cluster.namespace, values)
            figures.add("Cold start, in seconds", **coldstart.row(pods(cluster), seen))
        if values["httpRoute"]["enabled"]:
            served(http)
        return values

    yield put
    helm.uninstall(RELEASE, cluster.namespace)


@pytest.fixture
def target(cluster: Cluster, http: httpx.Client, clip: Path) -> Target:
    """Where load goes, and what each answer must have in it."""
    return aim(cluster, http, clip)


@pytest.fixture(scope="module")
def pushed(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Make the candidates; digests by their names."""
    with candidates.pushed(cluster) as digests:
        yield digests


@pytest.fixture(scope="module")
def golden(cluster: Cluster) -> Iterator[str]:
    """Make the golden set; its claim."""
    with candidates.golden(cluster) as claim:
        yield claim
        # A claim stays for as long as a pod has it, which the Job's has though it is over. Helm
        # leaves what is a hook.
        helm.uninstall(RELEASE, cluster.namespace)
        kubectl.delete("job", f"{RELEASE}-compare", "--namespace", cluster.namespace)


@pytest.fixture
def staging(
    request: pytest.FixtureRequest,
    pushed: dict[str, str],
    cluster: Cluster,
    http: httpx.Client,
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> judged.Staging:
    """Have what a module's stage is made of; its SECTION is the one of its figures."""
    assert pushed
    return judged.Staging(cluster, http, target, tmp_path, figures, request.module.SECTION)
