"""From `helm install` in a namespace that enforces the restricted standard to an empty one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.e2e import helm, kubectl
from tests.e2e.cluster import CLIENT, HOST, RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.release import Install, served, the_pod
from tests.support.asking import CLASSIFY, DOCUMENT, check
from tests.support.audio import encoded, speech_like
from tests.support.browser import chromium, visiting
from tests.support.layers import merged

ASK = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=5).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except OSError as error:
        print(type(error).__name__)
"""
"""Prints what each address answers to a GET."""


@pytest.fixture(scope="module", autouse=True)
def values(install: Install) -> dict[str, Any]:
    """Install with the chart's defaults."""
    return install()


def test_the_namespace_takes_the_pods(cluster: Cluster) -> None:
    """The namespace refuses what isn't restricted, and the release's pods run in it."""
    privileged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": cluster.namespace},
        "spec": {
            "containers": [{"name": "c", "image": "none", "securityContext": {"privileged": True}}]
        },
    }
    with pytest.raises(kubectl.Failed, match="PodSecurity"):
        kubectl.apply(privileged)
    assert kubectl.ready(the_pod(cluster))


def test_the_process_is_confined(cluster: Cluster) -> None:
    """The server has a uid of its own and no capabilities, writes to /tmp alone, has no token."""
    program = """
import json, os, pathlib
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
def writable(path):
    try:
        pathlib.Path(path, "probe").write_text("")
    except OSError:
        return False
    return True
print(json.dumps({
    "uid": os.getuid(), "capabilities": int(status["CapEff"], 16), "nnp": int(status["NoNewPrivs"]),
    "seccomp": int(status["Seccomp"]), "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "writable": [path for path in ("/", "/etc", "/home", "/usr", "/tmp") if writable(path)],
}))
"""
    found = json.loads(kubectl.python(kubectl.name(the_pod(cluster)), cluster.namespace, program))
    assert found == {
        "uid": 10001,
        "capabilities": 0,
        "nnp": 1,
        "seccomp": 2,
        "token": False,
        "writable": ["/tmp"],  # noqa: S108
    }


def test_classifies_through_the_gateway(
    http: httpx.Client, https: httpx.Client, speech: bytes
) -> None:
    """The Gateway passes clips on by HTTP and by HTTPS, and answers are as documented."""
    answers = [each.post(CLASSIFY, content=speech) for each in (http, https)]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        check(answer, DOCUMENT)
        assert answer.json()["model"]["track"] == "stable"
    assert answers[0].json()["probabilities"] == answers[1].json()["probabilities"]


@pytest.mark.needs("browser")
def test_the_page_records_through_the_gateway(cluster: Cluster, tmp_path: Path) -> None:
    """By HTTPS browsers give the microphone away; what it hears is answered by the release."""
    microphone = tmp_path / "microphone.wav"
    microphone.write_bytes(encoded(speech_like(3.0), subtype="PCM_16"))
    gateway = urlsplit(cluster.tls_url)
    # The route is asked for by its name, and the certificate vouches for itself alone.
    by_name = f"--host-resolver-rules=MAP {HOST} {gateway.hostname}"
    with (
        sync_playwright() as playwright,
        chromium(playwright, by_name, microphone=microphone) as browser,
        visiting(
            browser, f"https://{HOST}:{gateway.port or 443}", ignore_https_errors=True
        ) as visit,
    ):
        visit.open()
        visit.record(3.0)
        visit["#classify"].click()
        answer = visit.answered()
        assert answer["model"]["track"] == "stable"
        assert answer["audio"]["duration_s"] == pytest.approx(3.0, abs=1.0)
        assert len(answer["segments"]) > 0


def test_classifies_within_the_cluster(
    cluster: Cluster, clip: Path, http: httpx.Client, speech: bytes
) -> None:
    """A pod beside the release classifies by the Service's name, with the same result."""
    copy = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, open('/tmp/clip.wav', 'wb'))"
    kubectl.within(CLIENT, cluster.namespace, "python", "-c", copy, stdin=clip.read_bytes())
    command = ["timbre", "classify", "--url", f"http://{RELEASE}", "/tmp/clip.wav", "--json"]  # noqa: S108
    inside = json.loads(kubectl.within(CLIENT, cluster.namespace, *command))
    outside = http.post("/v1/classify", content=speech).json()
    assert (inside[0] if isinstance(inside, list) else inside)["label"] == outside["label"]


def test_public_paths_only(http: httpx.Client, https: httpx.Client, cluster: Cluster) -> None:
    """The Gateway has the page, the reference and the contract, and nothing for operators."""
    for asking in (http, https):
        public = {path: asking.get(path).status_code for path in ("/", "/docs", "/openapi.json")}
        assert set(public.values()) == {200}, public
        hidden = ["/metrics", "/livez", "/readyz", "/healthz", "/schema.json", "/v1/../metrics"]
        assert {path: asking.get(path).status_code for path in hidden} == dict.fromkeys(hidden, 404)
        assert "timbre_" not in asking.get("//metrics").text
    inside = kubectl.python(CLIENT, cluster.namespace, ASK, f"http://{RELEASE}/metrics")
    assert inside.split() == ["404"]


def test_helm_test_passes(cluster: Cluster) -> None:
    """`helm test` classifies a clip by the Service, and leaves no pod behind."""
    said = helm.test(RELEASE, cluster.namespace)
    assert '"answer"' in said, said
    left = "app.kubernetes.io/component=test"
    kubectl.until(lambda: not kubectl.pods(cluster.namespace, left), "the test's pod is gone")


def test_probes_mean_different_things(cluster: Cluster) -> None:
    """A pod that drains is alive and not ready: it gets nothing new, and is not killed."""
    leaving = the_pod(cluster)
    address = leaving["status"]["podIP"]
    urls = [f"http://{address}:3000/{probe}" for probe in ("livez", "readyz", "v1/model")]
    ask = [CLIENT, cluster.namespace, ASK, *urls]
    assert kubectl.python(*ask).split() == ["200", "200", "200"]
    where = ("--namespace", cluster.namespace)
    kubectl.kubectl("delete", "pod", kubectl.name(leaving), *where, "--wait=false")
    told = kubectl.until(
        lambda: next((line for line in [kubectl.python(*ask).split()] if line[1] != "200"), None),
        "the pod drains",
        5,
    )
    assert told == ["200", "503", "200"]
    kubectl.until(
        lambda: not kubectl.ready(kubectl.get("pod", kubectl.name(leaving), *where)),
        "the kubelet knows that it isn't ready",
        8,
    )
    kubectl.kubectl("wait", "--for=delete", f"pod/{kubectl.name(leaving)}", *where, "--timeout=60s")
    kubectl.kubectl("rollout", "status", f"deployment/{RELEASE}", *where, "--timeout=120s")


def test_own_gateway_redirects(
    cluster: Cluster, values: dict[str, Any], https: httpx.Client, http: httpx.Client, speech: bytes
) -> None:
    """With a Gateway of the release's own, who comes by HTTP is sent to HTTPS."""
    own = {
        "gateway": {
            "enabled": True,
            "className": cluster.gateway_class,
            "http": {"port": cluster.port},
            "https": {"enabled": True, "port": cluster.tls_port, "secretName": "certificate"},
        },
        "httpRoute": {"parentRefs": []},
    }
    helm.upgrade(RELEASE, cluster.namespace, merged(values, own))
    kubectl.until(lambda: http.get("/v1/model").is_redirect, "the redirect is there")
    answer = http.post("/v1/classify", content=speech)
    assert answer.status_code == 301
    assert answer.headers["location"].startswith(f"https://{HOST}")
    kubectl.until(lambda: https.get("/v1/model").is_success, "the route is there")
    assert https.post("/v1/classify", content=speech).status_code == 200
    helm.upgrade(RELEASE, cluster.namespace, values)
    served(http)


def test_uninstall_leaves_nothing(cluster: Cluster, figures: Figures) -> None:
    """`helm uninstall` takes with it every object that the release brought or caused."""
    selector = f"app.kubernetes.io/instance={RELEASE}"
    listed = kubectl.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name")
    kinds = ",".join(kind for kind in listed.split() if not kind.startswith("events"))
    everything = ("get", kinds, "--namespace", cluster.namespace, "--output=name")
    before = kubectl.kubectl(*everything, "--selector", selector).split()
    helm.uninstall(RELEASE, cluster.namespace)
    left = kubectl.until(
        lambda: not kubectl.kubectl(*everything, "--selector", selector).split(), "all is gone"
    )
    assert left
    remaining = {
        each.partition("/")[2]
        for each in kubectl.kubectl(*everything).split()
        if RELEASE in each.partition("/")[2]
    }
    assert remaining == set()
    assert helm.releases(cluster.namespace) == []
    figures.add("Uninstalling", objects_before=len(before), objects_after=0)
