"""Pod Security at the level `restricted`: what a pod has that the level forbids.

The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/, with
those of the level `baseline`. A namespace that enforces the level refuses a pod of which this says
anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
    }
)
PROFILES = ("RuntimeDefault", "Localhost")

Spec = dict[str, Any]


def violations(pod: Spec) -> list[str]:
    """List what is wrong with a pod's specification, each with where it is."""
    return [*_of_pod(pod), *(wrong for one in containers(pod) for wrong in _of_container(one, pod))]


def containers(pod: Spec) -> list[Spec]:
    """Give all containers of a pod."""
    return [
        container
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for container in pod.get(kind, ())
    ]


def _of_pod(pod: Spec) -> Iterator[str]:
    for namespace in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(namespace):
            yield f"pod: {namespace}"
    for volume in pod.get("volumes", ()):
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']}: {kind}"
    context = pod.get("securityContext", {})
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "pod: hostProcess"
    for sysctl in context.get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"pod: sysctl {sysctl['name']}"


def _of_container(container: Spec, pod: Spec) -> Iterator[str]:
    context = container.get("securityContext", {})
    # What a container doesn't say, its pod says for it.
    both = pod.get("securityContext", {}) | context
    wrong = {
        "privileged": context.get("privileged"),
        "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is not False,
        "runAsNonRoot": both.get("runAsNonRoot") is not True,
        "runAsUser": both.get("runAsUser") == 0,
        "seccompProfile": both.get("seccompProfile", {}).get("type") not in PROFILES,
        "appArmorProfile": both.get("appArmorProfile", {}).get("type") == "Unconfined",
        "procMount": context.get("procMount", "Default") != "Default",
        "drop": "ALL" not in context.get("capabilities", {}).get("drop", ()),
        "add": set(context.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"},
        "seLinuxOptions": both.get("seLinuxOptions"),
        "hostPort": any(port.get("hostPort") for port in container.get("ports", ())),
    }
    for what, is_so in wrong.items():
        if is_so:
            yield f"container {container['name']}: {what}"
