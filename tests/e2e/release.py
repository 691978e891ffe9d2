"""The release that tests install: its pods, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.e2e import kubectl
from tests.e2e.cluster import HOST, RELEASE, Cluster
from tests.e2e.kubectl import Object
from tests.e2e.load import Target
from tests.support.asking import CLASSIFY

SERVERS = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=server"
SMALL: dict[str, Any] = {
    "resources": {
        "requests": {"cpu": "100m", "memory": "384Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
}
"""Pods of which several fit beside everything else, and that start as fast as they can."""

Install = Callable[..., dict[str, Any]]
"""Takes layers of values and gives the values in full."""


def pods(cluster: Cluster) -> list[Object]:
    """The servers that nobody has told to end, oldest first."""
    return kubectl.pods(cluster.namespace, SERVERS)


def the_pod(cluster: Cluster) -> Object:
    """The one server that is Ready."""
    (pod,) = [pod for pod in pods(cluster) if kubectl.ready(pod)]
    return pod


def again(pod: Object) -> Object:
    """Read a pod again."""
    return kubectl.get("pod", kubectl.name(pod), "--namespace", pod["metadata"]["namespace"])


def container(pod: Object) -> Object:
    """The state of a pod's server."""
    (status,) = pod["status"]["containerStatuses"]
    return status


def served(http: httpx.Client) -> None:
    """Wait until the Gateway passes on to the release."""
    kubectl.until(lambda: http.get("/v1/model").is_success, "the gateway has the route")


def aim(cluster: Cluster, http: httpx.Client, clip: Path) -> Target:
    """Send a clip where load goes; every further answer must have the label of this one."""
    answer = http.post(CLASSIFY, content=clip.read_bytes()).raise_for_status()
    label = answer.json()["label"]
    # As it is written in the answer, space or none.
    spellings = (f'"label":"{label}"', f'"label": "{label}"')
    expected = next(spelling for spelling in spellings if spelling in answer.text)
    return Target(cluster.url, HOST, clip, expected)
