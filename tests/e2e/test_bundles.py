"""A bundle that isn't the image's own: from a registry, and from a volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import helm, kubectl, volumes
from tests.e2e.cluster import RELEASE, Cluster, client, wait_ready
from tests.e2e.release import SMALL, Install, container, pods
from tests.support import registry as oci
from tests.support.layers import merged

REGISTRY = "registry"
PORT = 5000
VERSION = "99.0.0"
"""Of the bundle under test, which else is the image's own."""
OTHER = f"sha256:{'0' * 64}"
SEAL = f"""
import shutil, sys
from pathlib import Path
from service.bundle import DEFAULT_BUNDLE, AudioDraft, open_bundle, seal
folder = Path(sys.argv[1])
shutil.copytree(DEFAULT_BUNDLE, folder)
manifest = open_bundle(folder).manifest
facts = {{name: getattr(manifest, name) for name in AudioDraft.model_fields}}
print(seal(folder, AudioDraft.model_validate({{**facts, "version": "{VERSION}"}})).digest)
"""
SERVE = f"""
handler = type("Handler", (_Handler,), {{"registry": FakeRegistry("")}})
ThreadingHTTPServer(("0.0.0.0", {PORT}), handler).serve_forever()
"""


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    """The release's image."""
    return f"{cluster.repository}:{cluster.tag}"


@pytest.fixture(scope="module")
def pushed(cluster: Cluster, image: str) -> Iterator[str]:
    """Run a registry beside the release, push the bundle there, and give its digest."""
    pod = client(REGISTRY, cluster.namespace, image)
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
    digest = kubectl.python(REGISTRY, cluster.namespace, SEAL, "/tmp/model").strip()  # noqa: S108
    where = f"oci://localhost:{PORT}/team/model:1"
    push = ("timbre", "bundle", "push", "/tmp/model", where, "--insecure")  # noqa: S108
    kubectl.within(REGISTRY, cluster.namespace, *push)
    yield digest
    kubectl.delete("pod,service", REGISTRY, "--namespace", cluster.namespace)


@pytest.fixture(scope="module")
def claimed(cluster: Cluster) -> Iterator[str]:
    """Put the bundle on a volume of a node, claim it beside the release, and give its digest."""
    with volumes.claimed("models", cluster) as write:
        yield write(SEAL, f"{volumes.FOLDER}/speech/1").strip()
        helm.uninstall(RELEASE, cluster.namespace)


def _serves(http: httpx.Client, digest: str) -> None:
    """Wait until the release answers with the bundle under test."""

    def asked() -> Any:  # noqa: ANN401 - an answer's JSON
        answer = http.get("/v1/model")
        return answer.is_success and answer.json()["digest"] == digest and answer.json()

    about = kubectl.until(asked, f"the release serves {digest}")
    assert about["version"] == VERSION


def _from_registry(digest: str) -> dict[str, Any]:
    """Give values of a bundle that a pod pulls when it starts."""
    where = f"oci://{REGISTRY}:{PORT}/team/model:1"
    return {
        "bundle": {
            "source": "registry",
            "digest": digest,
            "registry": {"reference": where, "insecure": True},
        }
    }


def test_a_bundle_from_a_registry(
    cluster: Cluster, install: Install, http: httpx.Client, pushed: str
) -> None:
    """Pulled and verified before the server starts, through the network policy's one way out."""
    install(SMALL, _from_registry(pushed), {"settings": {"precision": cluster.precision}})
    _serves(http, pushed)


def test_another_bundle_than_the_digest_s_never_starts(
    cluster: Cluster, install: Install, http: httpx.Client, pushed: str
) -> None:
    """The pod that would serve it says why, and the old one goes on."""
    values = install(SMALL, _from_registry(pushed), {"settings": {"precision": cluster.precision}})
    wrong = merged(values, _from_registry(OTHER))
    with pytest.raises(kubectl.Failed):
        helm.upgrade(RELEASE, cluster.namespace, wrong, "--timeout", "20s")
    (young,) = [pod for pod in pods(cluster) if not kubectl.ready(pod)]
    where = ("--namespace", cluster.namespace)
    said = kubectl.kubectl("logs", kubectl.name(young), *where, "--container", "pull-bundle")
    assert f"is bundle {pushed}, not the expected {OTHER}" in said
    _serves(http, pushed)
    helm.rollback(RELEASE, cluster.namespace)


def test_a_bundle_from_a_volume(
    cluster: Cluster, install: Install, http: httpx.Client, claimed: str
) -> None:
    """Mounted read-only, and held to its digest by a container before the server's."""
    volume = {"source": "pvc", "pvc": {"claimName": "models", "path": "speech/1"}}
    install(
        SMALL,
        {"bundle": {"digest": claimed, **volume}},
        {"settings": {"precision": cluster.precision}},
    )
    _serves(http, claimed)
    (pod,) = pods(cluster)
    assert container(pod)["restartCount"] == 0
    said = kubectl.kubectl(
        *("logs", kubectl.name(pod), "--namespace", cluster.namespace),
        *("--container", "verify-bundle"),
    )
    assert claimed in said
