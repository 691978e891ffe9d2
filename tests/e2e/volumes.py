"""A volume of a node that is claimed beside the release, and a pod that writes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e import kubectl
from tests.e2e.cluster import Cluster, client, wait_ready

FOLDER = "/node"
"""Where the writing pod has the volume."""

Write = Callable[..., str]
"""Takes a Python program and its arguments, runs it in the writing pod, and gives what it said."""


@contextmanager
def claimed(claim: str, cluster: Cluster) -> Iterator[Write]:
    """Make a volume and a claim of this name; both end with what was written, when no pod uses it.

    It is on the node itself: a cluster for tests may have no storage class. A pod that may write
    there is one that the release's namespace would refuse.
    """
    name = f"{cluster.namespace}-{claim}"
    path = {"hostPath": {"path": f"/tmp/{name}", "type": "DirectoryOrCreate"}}  # noqa: S108
    writer = client(name, "default", f"{cluster.repository}:{cluster.tag}")
    writer["spec"]["securityContext"] = {"runAsUser": 0}
    container = writer["spec"]["containers"][0]
    container["resources"]["limits"]["memory"] = "1Gi"
    container["volumeMounts"].append({"name": "node", "mountPath": FOLDER})
    writer["spec"]["volumes"].append({"name": "node", **path})
    try:
        kubectl.apply(writer)
        node = wait_ready(name, "default")["spec"]["nodeName"]
        kubectl.apply(*_volume(name, claim, cluster.namespace, path, node))
        yield lambda program, *arguments: kubectl.python(name, "default", program, *arguments)
    finally:
        # A claim stays for as long as a pod uses it.
        kubectl.delete("persistentvolumeclaim", claim, "--namespace", cluster.namespace)
        kubectl.delete("persistentvolume", name)
        empty = ("--namespace", "default", "--", "sh", "-c", f"rm -r {FOLDER}/*")
        kubectl.run("kubectl", "exec", name, *empty)
        kubectl.delete("pod", name, "--namespace", "default")


def _volume(
    name: str, claim: str, namespace: str, path: dict[str, Any], node: str
) -> list[dict[str, Any]]:
    """Make a volume of a path on a node, and a claim that it alone satisfies."""
    size = {"storage": "1Gi"}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    common = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": size,
                "accessModes": common["accessModes"],
                "persistentVolumeReclaimPolicy": "Retain",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
                **path,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {**common, "resources": {"requests": size}},
        },
    ]
