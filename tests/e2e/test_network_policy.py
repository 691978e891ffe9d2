"""Who reaches what, probed from pods: the chart's policies as the cluster enforces them.

That the gateway comes in, and Prometheus, is shown by test_install.py and test_monitoring.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from tests.e2e import cluster as clusters
from tests.e2e import kubectl
from tests.e2e.cluster import CLIENT, RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.release import SMALL, Install, pods

pytestmark = pytest.mark.needs("network-policy")

LISTENER = "listener"
TESTER = "tester"
LISTENING = 8080
TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
except OSError:
    print("closed")
"""
"""Prints whether a TCP connection comes about; `refused` is by a host that was reached."""
ASK_DNS = """
import socket, struct, sys
name = b"kubernetes.default.svc.cluster.local".split(b".")
question = b"".join(bytes([len(part)]) + part for part in name)
query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + question + b"\\0" + struct.pack(">2H", 1, 1)
server = next(line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver"))
try:
    if sys.argv[1] == "udp":
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asking.settimeout(3)
        asking.sendto(query, (server, 53))
        answer = asking.recv(512)
    else:
        asking = socket.create_connection((server, 53), 3)
        asking.sendall(struct.pack(">H", len(query)) + query)
        answer = asking.recv(514)[2:]
    print("open" if answer[:2] == b"\\0\\7" else "closed")
except OSError:
    print("closed")
"""
"""Prints whether the cluster's DNS server answers, over UDP or TCP."""
LISTEN = (
    f"import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port={LISTENING})"
)


Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A pod from which something is tried, or to which."""

    pod: str
    namespace: str

    @property
    def address(self) -> str:
        """Its IP address."""
        found = kubectl.get("pod", self.pod, "--namespace", self.namespace)
        return str(found["status"]["podIP"])

    def reaches(self, address: str, port: int) -> str:
        """Tell whether a TCP connection comes about: `open`, `refused` or `closed`."""
        return kubectl.python(self.pod, self.namespace, TRY, address, str(port)).strip()


@contextmanager
def pod(cluster: Cluster, name: str, namespace: str, **labels: str) -> Iterator[Place]:
    """A pod with labels, and a web server on LISTENING."""
    image = f"{cluster.repository}:{cluster.tag}"
    made = clusters.client(name, namespace, image, **labels)
    made["spec"]["containers"][0]["command"] = ["python", "-c", LISTEN]
    made["spec"]["containers"][0]["workingDir"] = "/tmp"  # noqa: S108
    kubectl.apply(made)
    place = Place(name, namespace)
    try:
        clusters.wait_ready(name, namespace)
        kubectl.until(
            lambda: (
                kubectl.python(name, namespace, TRY, "127.0.0.1", str(LISTENING)).strip() == "open"
            ),
            "it listens",
        )
        yield place
    finally:
        kubectl.delete("pod", name, "--namespace", namespace)


@pytest.fixture(scope="module")
def stranger(cluster: Cluster) -> Place:
    """A pod of another namespace."""
    return Place(CLIENT, cluster.strangers)


@pytest.fixture(scope="module")
def listener(cluster: Cluster) -> Iterator[Place]:
    """A pod of another namespace that takes connections."""
    with pod(cluster, LISTENER, cluster.strangers) as place:
        yield place


@pytest.fixture(scope="module")
def policed(cluster: Cluster, stranger: Place, listener: Place) -> list[Address]:
    """Deny connections that came about, and see them denied; then nothing is left of the policy.

    What it gives is its API server's address if the cluster polices what pods say to that, too:
    where it runs on the pods' own node, not every cluster does.
    """
    address = listener.address
    assert stranger.reaches(address, LISTENING) == "open"
    assert listener.reaches(*api()) == "open"
    kubectl.apply(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "control", "namespace": cluster.strangers},
            "spec": {
                "podSelector": {"matchLabels": {"app": LISTENER}},
                "policyTypes": ["Ingress", "Egress"],
            },
        }
    )
    try:
        kubectl.until(
            lambda: stranger.reaches(address, LISTENING) == "closed",
            "no cluster here enforces network policies, and E2E_WITHOUT=network-policy leaves them "
            "out: a control policy was not enforced",
            15,
        )
        found = [api()] if listener.reaches(*api()) == "closed" else []
    finally:
        kubectl.delete("networkpolicy", "control", "--namespace", cluster.strangers)
    kubectl.until(lambda: stranger.reaches(address, LISTENING) == "open", "it is lifted", 15)
    return found


def api() -> Address:
    """Address and port of Kubernetes' API, as every pod could reach it."""
    service = kubectl.get("service", "kubernetes", "--namespace", "default")
    return service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]


@pytest.fixture(scope="module")
def server(cluster: Cluster, install: Install) -> Place:
    """One of two pods of a release that nobody but its namespace and its gateway is to reach."""
    install(SMALL, {"replicaCount": 2, "settings": {"precision": cluster.precision}})
    return Place(kubectl.name(pods(cluster)[0]), cluster.namespace)


@pytest.fixture(scope="module")
def other(cluster: Cluster, server: Place) -> Place:
    """The other pod of the release."""
    found = next(each for each in kubectl.names(pods(cluster)) if each != server.pod)
    return Place(found, cluster.namespace)


@pytest.fixture(scope="module")
def tester(cluster: Cluster) -> Iterator[Place]:
    """A pod with the labels of `helm test`."""
    labels = {
        "app.kubernetes.io/name": "timbre",
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/component": "test",
    }
    with pod(cluster, TESTER, cluster.namespace, **labels) as place:
        yield place


def test_flows(
    policed: list[Address],
    cluster: Cluster,
    server: Place,
    other: Place,
    tester: Place,
    stranger: Place,
    listener: Place,
    figures: Figures,
) -> None:
    """Exactly what the chart allows comes about, and everything else is dropped."""
    client = Place(CLIENT, cluster.namespace)
    ours, theirs, tests = server.address, listener.address, tester.address
    names = {server: "server", other: "server", tester: "helm test"}
    names |= {client: "pod beside the release", stranger: "pod of another namespace"}
    flows = [
        (client, "http", ours, 3000, "open"),
        (tester, "http", ours, 3000, "open"),
        (stranger, "http", ours, 3000, "closed"),
        (other, "http of another server", ours, 3000, "closed"),
        (client, "internal port", ours, 3001, "closed"),
        (tester, "internal port", ours, 3001, "closed"),
        (stranger, "internal port", ours, 3001, "closed"),
        (server, "pod of another namespace", theirs, LISTENING, "closed"),
        (server, "helm test", tests, LISTENING, "closed"),
        (tester, "pod of another namespace", theirs, LISTENING, "closed"),
        (client, "helm test", tests, LISTENING, "closed"),
        # That what is closed above could be reached at all.
        (client, "pod of another namespace", theirs, LISTENING, "open"),
        (client, "Kubernetes' API", *api(), "open"),
    ]
    for address in policed:
        flows += [(place, "Kubernetes' API", *address, "closed") for place in (server, tester)]
    # Side by side: one that is dropped takes as long as its caller has patience.
    with ThreadPoolExecutor() as side_by_side:
        states = side_by_side.map(lambda flow: flow[0].reaches(*flow[2:4]), flows)
        found = [
            (names[place], to, expected, state)
            for (place, to, _, _, expected), state in zip(flows, states, strict=True)
        ]
    for protocol in ("udp", "tcp"):
        for place in (server, tester):
            state = kubectl.python(place.pod, place.namespace, ASK_DNS, protocol).strip()
            found.append((names[place], f"DNS over {protocol.upper()}", "open", state))
    for origin, reached, expected, state in found:
        figures.add("Network flows", origin=origin, to=reached, expected=expected, found=state)
    assert [flow for flow in found if flow[2] != flow[3]] == []
