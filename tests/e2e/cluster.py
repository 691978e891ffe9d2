"""The cluster under test: two namespaces, a Gateway and a certificate, made and taken away again.

Everything about the cluster comes from the environment, so that the same tests run on any:

    KUBECONFIG       of an administrator
    TIMBRE_IMAGE     the image to install, such as localhost/timbre:0.1.0
    TIMBRE_TOOLS_IMAGE    the image with the tools, by default the other one's name with -tools
    TIMBRE_ARCHIVES  both as archives, to be handed to the command in CLUSTER_LOAD; optional
    GATEWAY_URL, GATEWAY_TLS_URL    where the Gateway's listeners are reached from here
    GATEWAY_CLASS    by default the only one there is
    GATEWAY_PORT, GATEWAY_TLS_PORT  of the listeners, by default 80 and 443
    GATEWAY_PODS     the gateway's pods as NAMESPACE/LABEL=VALUE; by default those of the Service
                     that has the port of GATEWAY_URL as its node port
    E2E_SHARE        of the capacity, offered while pods come and go; by default 0.7
    PROMETHEUS       its Service as NAMESPACE/NAME:PORT, by default monitoring/prometheus:9090
"""

from __future__ import annotations

import base64
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from service.precision import NEEDS
from tests.e2e import kubectl
from tests.e2e.kubectl import Object, must

HOST = "timbre.example"
"""The name that clients ask the Gateway for."""
GATEWAY = "shared"
CERTIFICATE = "certificate"
CLIENT = "client"
"""A pod with the release's own image that does nothing by itself, in each namespace."""
RELEASE = "timbre"
_WAITING = "import time; time.sleep(86400)"


class Unusable(RuntimeError):
    """The cluster or the environment lacks something; the message says what, and what helps."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the tests are, and what they need to know of it."""

    namespace: str
    """Where releases are installed; it enforces the restricted Pod Security Standard."""
    strangers: str
    """A namespace that no release allows anything to."""
    repository: str
    tag: str
    url: str
    tls_url: str
    gateway_class: str
    port: int
    tls_port: int
    certificate: Path
    gateway_peer: Mapping[str, Any]
    """The gateway's pods, as a NetworkPolicy names them."""
    precision: str
    """What a server that is left to itself might choose: told to pods that need not measure it."""

    def values(self) -> dict[str, Any]:
        """Give the values that every release has: the image, a route, and who may come in."""
        return {
            "image": {"repository": self.repository, "tag": self.tag},
            "httpRoute": {
                "enabled": True,
                "hostnames": [HOST],
                "parentRefs": [{"name": GATEWAY}],
            },
            "networkPolicy": {"gateway": [self.gateway_peer]},
        }


@contextmanager
def prepared(folder: Path) -> Iterator[Cluster]:
    """Load the image, make what every test needs, and take it away again.

    Raises:
        Unusable: the environment doesn't say enough.
    """
    repository, _, tag = _variable("TIMBRE_IMAGE").rpartition(":")
    if not repository:
        raise Unusable("TIMBRE_IMAGE has no tag: name the image as REPOSITORY:TAG.")
    for archive in shlex.split(os.environ.get("TIMBRE_ARCHIVES", "")):
        must(*shlex.split(_variable("CLUSTER_LOAD")), archive, timeout=600)
    url, tls_url = _variable("GATEWAY_URL"), _variable("GATEWAY_TLS_URL")
    mark = secrets.token_hex(3)
    namespace, strangers = f"timbre-e2e-{mark}", f"timbre-e2e-{mark}-strangers"
    port = int(os.environ.get("GATEWAY_PORT", "80"))
    tls_port = int(os.environ.get("GATEWAY_TLS_PORT", "443"))
    gateway_class = _gateway_class()
    certificate = _certificate(folder)
    image = f"{repository}:{tag}"
    try:
        kubectl.apply(_namespace(namespace), _namespace(strangers))
        kubectl.apply(
            _secret(namespace, folder),
            _gateway(namespace, gateway_class, port, tls_port),
            client(CLIENT, namespace, image),
            client(CLIENT, strangers, image),
        )
        for where in (namespace, strangers):
            wait_ready(CLIENT, where)
        kubectl.until(
            lambda: kubectl.condition(
                kubectl.get("gateway", GATEWAY, "--namespace", namespace), "Programmed"
            ),
            "the Gateway is programmed",
        )
        yield Cluster(
            namespace=namespace,
            strangers=strangers,
            repository=repository,
            tag=tag,
            url=url,
            tls_url=tls_url,
            gateway_class=gateway_class,
            port=port,
            tls_port=tls_port,
            certificate=certificate,
            gateway_peer=_gateway_peer(url),
            precision=_precision(namespace),
        )
    finally:
        kubectl.delete("namespace", namespace, strangers)


def tools() -> dict[str, str]:
    """The image with the tools, as the chart's values name one."""
    repository, _, tag = _variable("TIMBRE_IMAGE").rpartition(":")
    named = os.environ.get("TIMBRE_TOOLS_IMAGE", f"{repository}-tools:{tag}")
    repository, _, tag = named.rpartition(":")
    return {"repository": repository, "tag": tag}


def client(name: str, namespace: str, image: str, **labels: str) -> dict[str, Any]:
    """A pod as the restricted Pod Security Standard wants it, that waits to be told to end."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, **labels}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "client",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", _WAITING],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "64Mi"},
                        "limits": {"memory": "512Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "volumeMounts": [{"name": "temporary", "mountPath": "/tmp"}],  # noqa: S108
                }
            ],
            "volumes": [{"name": "temporary", "emptyDir": {}}],
        },
    }


def wait_ready(pod: str, namespace: str) -> Object:
    """Wait until a pod is Ready, and give it."""

    def found() -> Object:
        there = kubectl.get("pod", pod, "--namespace", namespace)
        return there if kubectl.ready(there) else None

    return kubectl.until(found, f"{namespace}/{pod} is ready")


def prometheus() -> tuple[str, str]:
    """Namespace and NAME:PORT of Prometheus' Service."""
    namespace, _, service = os.environ.get("PROMETHEUS", "monitoring/prometheus:9090").partition(
        "/"
    )
    return namespace, service


def prometheus_peer() -> dict[str, Any]:
    """Prometheus' pods, as a NetworkPolicy names them."""
    namespace, service = prometheus()
    found = kubectl.get("service", service.partition(":")[0], "--namespace", namespace)
    return _peer(found)


def query(expression: str) -> list[Any]:
    """Ask Prometheus, through the API server; the result as its API gives it."""
    namespace, service = prometheus()
    path = f"/api/v1/namespaces/{namespace}/services/{service}/proxy/api/v1/query"
    answer = kubectl.raw(f"{path}?query={quote(expression, safe='')}")
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise Unusable(f"{name} is not set; tests/e2e/cluster.py says what it is for.")
    return value


def _gateway_class() -> str:
    if named := os.environ.get("GATEWAY_CLASS"):
        return named
    there = kubectl.names(kubectl.items("gatewayclasses"))
    if len(there) != 1:
        raise Unusable(
            f"GATEWAY_CLASS must name one of the cluster's: {', '.join(there) or 'none'}."
        )
    return there[0]


def _gateway_peer(url: str) -> dict[str, Any]:
    if named := os.environ.get("GATEWAY_PODS"):
        namespace, _, label = named.partition("/")
        key, _, value = label.partition("=")
        return _selected(namespace, {key: value})
    port = urlsplit(url).port
    for service in kubectl.items("services", "--all-namespaces"):
        if any(each.get("nodePort") == port for each in service["spec"].get("ports", [])):
            return _peer(service)
    raise Unusable(f"No Service has node port {port}: name the gateway's pods in GATEWAY_PODS.")


def _peer(service: Object) -> dict[str, Any]:
    return _selected(service["metadata"]["namespace"], service["spec"]["selector"])


def _selected(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": dict(labels)},
    }


def _precision(namespace: str) -> str:
    """Find the fastest gated precision that is computed by the node's CPU; bf16, or else fp32."""
    program = "print(open('/proc/cpuinfo').read())"
    flags = set(kubectl.python(CLIENT, namespace, program).split())
    return "bf16" if flags & NEEDS["bf16"] else "fp32"


def _namespace(name: str) -> dict[str, Any]:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _certificate(folder: Path) -> Path:
    """Make a certificate that vouches for itself."""
    subject = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    must("openssl", "req", "-x509", *key, "-days", "2", *subject, *files)
    return folder / "tls.crt"


def _secret(namespace: str, folder: Path) -> dict[str, Any]:
    files = ("tls.crt", "tls.key")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": CERTIFICATE, "namespace": namespace},
        "data": {name: base64.b64encode((folder / name).read_bytes()).decode() for name in files},
    }


def _gateway(namespace: str, gateway_class: str, port: int, tls_port: int) -> dict[str, Any]:
    tls = {"mode": "Terminate", "certificateRefs": [{"name": CERTIFICATE}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY, "namespace": namespace},
        "spec": {
            "gatewayClassName": gateway_class,
            "listeners": [
                {"name": "http", "protocol": "HTTP", "port": port},
                {"name": "https", "protocol": "HTTPS", "port": tls_port, "tls": tls},
            ],
        },
    }
