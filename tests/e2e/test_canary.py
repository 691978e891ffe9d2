"""New versions under load, brought by rollout.sh: a good one stays, bad ones go by themselves.

Every candidate is stable's own bundle, changed in a pod beside the release and served from a
registry there; what is wrong with one is what its name says.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import cluster as clusters
from tests.e2e import helm, kubectl, load
from tests.e2e.cluster import RELEASE, Cluster, client, wait_ready
from tests.e2e.figures import Figures
from tests.e2e.load import Running, Target
from tests.e2e.release import Install, served
from tests.e2e.test_bundles import PORT, SERVE
from tests.e2e.test_disruption import KILL
from tests.support import registry as oci

SECTION = "Candidates"
ROLLOUT = Path(__file__).parents[2] / "k8s/rollouts/helm/rollout.sh"
REGISTRY = "models"
RATE = 10.0
"""Clips a second, of which a candidate sees enough to be judged within minutes."""
TOO_LOW = 0.2
FAILED, INCONCLUSIVE, OTHER = 1, 2, 3
TIGHT: dict[str, Any] = {
    "replicaCount": 2,
    "resources": {
        "requests": {"cpu": "100m", "memory": "448Mi"},
        "limits": {"cpu": "400m", "memory": "1Gi"},
    },
}
MAKE = """
import re, shutil, sys
from pathlib import Path
import numpy as np
from service.bundle import DEFAULT_BUNDLE, AudioDraft, open_bundle, seal
folder, version, noise = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
shutil.copytree(DEFAULT_BUNDLE, folder)
random = np.random.default_rng(0)
for network in folder.glob("openvino/*.xml"):
    weights = np.fromfile(network.with_suffix(".bin"), np.uint8)
    constant = r'element_type="(f16|f32)" shape="[^"]+" offset="(\\d+)" size="(\\d+)"'
    for kind, offset, size in re.findall(constant, network.read_text()):
        part = weights[int(offset) : int(offset) + int(size)]
        values = part.view(np.float16 if kind == "f16" else np.float32)
        if values.size > 1000:
            drawn = noise * values.std() * random.standard_normal(values.size)
            values += drawn.astype(values.dtype)
    weights.tofile(network.with_suffix(".bin"))
manifest = open_bundle(DEFAULT_BUNDLE).manifest
facts = {name: getattr(manifest, name) for name in AudioDraft.model_fields}
print(seal(folder, AudioDraft.model_validate({**facts, "version": version})).digest)
"""
"""A copy of the embedded bundle under another version; noise in its weights makes it worse, as too
little training would."""

pytestmark = pytest.mark.needs("prometheus")


@pytest.fixture(scope="module")
def installed(install: Install, cluster: Cluster) -> dict[str, Any]:
    """Install stable, and tell it how to compare."""
    return install(
        TIGHT,
        {
            "settings": {"precision": cluster.precision},
            "monitoring": {"annotations": {"enabled": True}},
            "networkPolicy": {"prometheus": [clusters.prometheus_peer()]},
            "shadow": {"sample": 1.0},
            "compare": {
                "enabled": True,
                "image": clusters.tools(),
                "prometheus": {"url": prometheus_url()},
                "waitSeconds": 180,
                "goldenSeconds": 60,
                "blockSeconds": 10,
            },
        },
    )


def prometheus_url() -> str:
    """Prometheus, as a pod of the release reaches it."""
    namespace, service = clusters.prometheus()
    name, _, port = service.partition(":")
    return f"http://{name}.{namespace}:{port}"


@pytest.fixture(scope="module")
def candidates(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Make both models in a registry beside the release; digests by their tags."""
    pod = client(REGISTRY, cluster.namespace, f"{cluster.repository}:{cluster.tag}")
    source = Path(oci.__file__).read_text(encoding="utf-8")
    pod["spec"]["containers"][0]["command"] = ["python", "-c", source + SERVE]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": REGISTRY, "namespace": cluster.namespace},
        "spec": {"selector": {"app": REGISTRY}, "ports": [{"port": PORT}]},
    }
    kubectl.apply(pod, service)
    wait_ready(REGISTRY, cluster.namespace)
    digests = {}
    for tag, version, noise in (("good", "98.0.0", "0"), ("degraded", "99.0.0", "1")):
        folder = f"/tmp/{tag}"  # noqa: S108 - in the pod
        made = kubectl.python(REGISTRY, cluster.namespace, MAKE, folder, version, noise)
        digests[tag] = made.strip()
        where = f"oci://localhost:{PORT}/team/model:{tag}"
        push = ("timbre", "bundle", "push", folder, where, "--insecure")
        kubectl.within(REGISTRY, cluster.namespace, *push)
    yield digests
    kubectl.delete("pod,service", REGISTRY, "--namespace", cluster.namespace)


def bundle(tag: str) -> tuple[str, ...]:
    """Give helm's arguments for a bundle of the registry."""
    at = "canary.bundle"
    return (
        *("--set", f"{at}.source=registry", "--set", f"{at}.registry.insecure=true"),
        *("--set", f"{at}.registry.reference=oci://{REGISTRY}:{PORT}/team/model:{tag}"),
    )


def rollout(cluster: Cluster, action: str, *candidate: str, **variables: str) -> tuple[int, str]:
    """Run rollout.sh to its end; its exit code, and what it and the comparison said."""
    command = [str(ROLLOUT), action, *(["--", *candidate] if candidate else [])]
    environment = os.environ | {"RELEASE": RELEASE, "NAMESPACE": cluster.namespace}
    environment |= {"READY_TIMEOUT": "2m", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    where = ("--namespace", cluster.namespace)
    log = kubectl.run("kubectl", "logs", f"job/{RELEASE}-compare", *where)
    return done.returncode, f"{done.stdout}{done.stderr}\n{log.stdout}"


@contextmanager
def loaded(
    what: str, target: Target, folder: Path, figures: Figures, rate: float = RATE
) -> Iterator[Running]:
    """Do something under load, and hold it to that no clip fails."""
    running = load.arriving(target, folder, rate=rate)
    with load.under(running, 0):
        yield running
    assert running.summary is not None
    figures.add(SECTION, what=what, **running.summary.figures())
    assert running.summary.failed == 0


def canaries(cluster: Cluster) -> list[str]:
    """Names of the canary's pods that nobody has told to end."""
    selector = f"app.kubernetes.io/instance={RELEASE},track=canary"
    return kubectl.names(kubectl.pods(cluster.namespace, selector))


def withdrawn(cluster: Cluster, http: httpx.Client, version: str) -> None:
    """Hold the release to: no canary is left, and stable is what it was."""
    assert not helm.given(RELEASE, cluster.namespace).get("canary", {}).get("enabled")
    kubectl.until(lambda: not canaries(cluster), "the canary's pods are gone")
    assert http.get("/v1/model").json()["version"] == version


@pytest.fixture
def version(installed: dict[str, Any], http: httpx.Client) -> str:
    """The version that stable serves before the test."""
    assert installed
    served(http)
    return str(http.get("/v1/model").json()["version"])


def test_too_little_traffic_is_inconclusive(
    version: str,
    cluster: Cluster,
    candidates: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """The candidate stays where it was, and nothing is promoted."""
    assert candidates
    with loaded("too little traffic", target, tmp_path, figures, rate=TOO_LOW):
        code, said = rollout(cluster, "walk", *bundle("good"), STEPS="0 50")
    assert code == INCONCLUSIVE, said
    assert helm.given(RELEASE, cluster.namespace)["canary"]["weight"] == 0
    assert canaries(cluster)
    code, said = rollout(cluster, "abort")
    assert code == 0, said
    assert version


def test_a_degraded_model_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    candidates: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """By its shadows, before it has answered anybody."""
    assert candidates
    with loaded("degraded", target, tmp_path, figures):
        code, said = rollout(cluster, "walk", *bundle("degraded"))
    assert code == FAILED, said
    withdrawn(cluster, http, version)


def test_a_slow_candidate_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """By its times under traffic, which copies of clips say nothing of."""
    slow = ("--set", "canary.settings.precision=fp32", "--set", "canary.settings.max_batch=1")
    with loaded("slow", target, tmp_path, figures):
        code, said = rollout(cluster, "walk", *slow, STEPS="0 50")
    assert code == FAILED, said
    withdrawn(cluster, http, version)


def test_a_candidate_that_does_not_start_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """Before it is compared: the image has no torch."""
    with loaded("never ready", target, tmp_path, figures):
        code, said = rollout(
            cluster, "walk", "--set", "canary.settings.runtime=torch", READY_TIMEOUT="40s"
        )
    assert code == OTHER, said
    assert "not ready" in said
    withdrawn(cluster, http, version)


def test_a_crashing_candidate_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    candidates: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """By its restarts, while it only gets copies of clips."""
    assert candidates
    over = threading.Event()

    def crash() -> None:
        while not over.wait(20):
            for name in canaries(cluster):
                where = (name, "--namespace", cluster.namespace)
                kubectl.run("kubectl", "exec", *where, "--", "python", "-c", KILL)

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        with loaded("crashing", target, tmp_path, figures):
            code, said = rollout(cluster, "walk", *bundle("good"))
    finally:
        over.set()
        thread.join()
    assert code == FAILED, said
    withdrawn(cluster, http, version)


def test_a_good_candidate_is_promoted(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    candidates: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """Through a share of the clips to all of them, without a clip lost."""
    with loaded("good", target, tmp_path, figures):
        code, said = rollout(cluster, "walk", *bundle("good"), STEPS="0 50 100")
    assert code == 0, said
    about = http.get("/v1/model").json()
    assert about["digest"] == candidates["good"]
    assert about["version"] != version
    kubectl.until(lambda: not canaries(cluster), "the canary's pods are gone")
