"""What k8s/ puts around the chart: the namespace, the Gateway, and that the chart fits to both."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.charts import one, rendered
from tests.support.tools import find

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "k8s").rglob("kustomization.yaml"))

Manifest = dict[str, Any]


@cache
def built(folder: str) -> tuple[Manifest, ...]:
    """What kubectl would apply of a folder."""
    done = subprocess.run(
        [find("kubectl"), "kustomize", ROOT / "k8s" / folder],
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(yaml.safe_load_all(done.stdout))


def laptop() -> tuple[Manifest, ...]:
    """The chart as `make deploy` installs it."""
    values = yaml.safe_load((ROOT / "k8s/kind/timbre.yaml").read_text(encoding="utf-8"))
    return rendered(values, release="timbre")


def labels(manifests: tuple[Manifest, ...], kind: str) -> dict[str, str]:
    """Labels of the one object of a kind."""
    found: dict[str, str] = one(manifests, kind)["metadata"]["labels"]
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_folder_can_be_applied(folder: Path) -> None:
    """It builds, and has something in it."""
    assert built(str(folder.relative_to(ROOT / "k8s")))


def test_the_page_names_every_folder() -> None:
    """And no others."""
    page = (ROOT / "k8s/README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "k8s").iterdir() if path.is_dir())


@pytest.mark.parametrize("mode", ["enforce", "audit", "warn"])
def test_the_namespace_is_restricted(mode: str) -> None:
    """What the standard forbids is refused, recorded and told."""
    [namespace] = built("namespace")
    assert namespace["metadata"]["name"] == "timbre"
    assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


@pytest.mark.parametrize("folder", ["gateway", "kind/gateway"])
def test_the_gateway_takes_routes_of_the_namespace(folder: str) -> None:
    """Of namespaces with a label, which k8s/namespace has, and of no others."""
    gateway = one(built(folder), "Gateway")
    for listener in gateway["spec"]["listeners"]:
        namespaces = listener["allowedRoutes"]["namespaces"]
        assert namespaces["from"] == "Selector"
        wanted = namespaces["selector"]["matchLabels"]
        assert wanted
        assert wanted.items() <= labels(built("namespace"), "Namespace").items()


def test_the_gateway_has_its_namespace_with_it() -> None:
    """Not Timbre's: who may install Timbre cannot read the certificate's key."""
    manifests = built("gateway")
    name = one(manifests, "Namespace")["metadata"]["name"]
    assert one(manifests, "Gateway")["metadata"]["namespace"] == name != "timbre"


def test_the_gateway_listens_for_http_and_https() -> None:
    """On the ports of the web; https ends here, with a certificate from a Secret."""
    http, https = one(built("gateway"), "Gateway")["spec"]["listeners"]
    assert (http["protocol"], http["port"]) == ("HTTP", 80)
    assert (https["protocol"], https["port"]) == ("HTTPS", 443)
    assert https["tls"]["mode"] == "Terminate"
    [certificate] = https["tls"]["certificateRefs"]
    assert certificate["kind"] == "Secret"


def test_the_laptop_s_gateway_is_what_its_traefik_can_do() -> None:
    """One listener, on the entry point's port; a class of the name that the chart gives."""
    gateway = one(built("kind/gateway"), "Gateway")
    [listener] = gateway["spec"]["listeners"]
    assert (listener["protocol"], listener["port"]) == ("HTTP", 8000)
    assert gateway["spec"]["gatewayClassName"] == "traefik"


def test_the_laptop_s_route_is_attached_to_its_gateway() -> None:
    """By the name and namespace that k8s/kind/gateway has."""
    [parent] = one(laptop(), "HTTPRoute")["spec"]["parentRefs"]
    gateway = one(built("kind/gateway"), "Gateway")["metadata"]
    assert parent == {"name": gateway["name"], "namespace": gateway["namespace"]}


def test_the_laptop_s_policy_lets_gateway_and_prometheus_in() -> None:
    """By the namespaces that cluster.sh installs them into."""
    script = (ROOT / "k8s/kind/cluster.sh").read_text(encoding="utf-8")
    installed = set(re.findall(r"--namespace (\w+)", script))
    policy = one(laptop(), "NetworkPolicy", "timbre")["spec"]["ingress"]
    peers = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: rule["ports"]
        for rule in policy
        for peer in rule["from"]
        if "namespaceSelector" in peer
    }
    assert peers == {"traefik": [{"port": "http"}], "monitoring": [{"port": "internal"}]}
    assert peers.keys() <= installed
    assert one(built("kind/monitoring"), "Deployment")["metadata"]["namespace"] == "monitoring"


def test_the_laptop_takes_the_image_that_was_loaded() -> None:
    """By the name that cluster.sh has it built under; it is in no registry."""
    script = (ROOT / "k8s/kind/cluster.sh").read_text(encoding="utf-8")
    [name] = re.findall(r"IMAGE=(\S+) ", script)
    [container] = one(laptop(), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"].rpartition(":")[0] == name
    assert container["imagePullPolicy"] == "IfNotPresent"
