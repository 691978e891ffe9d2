"""The laptop's cluster: what its script asks of programs, with others standing in for them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.laptop import KIND, NEEDED, ROOT, Laptop

CONTEXT = "kind-timbre"


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    """With all that is needed, and no cluster yet."""
    return Laptop(tmp_path)


@pytest.fixture
def cluster(laptop: Laptop) -> Laptop:
    """With the cluster, and one beside it whose name is longer."""
    laptop.clusters.write_text("timbre\ntimbre-other\n", encoding="utf-8")
    return laptop


def option(line: str, name: str) -> str:
    """The value of an option in a line of the log."""
    found = re.search(rf"--{name} (\S+)", line)
    assert found, line
    return found[1]


def values(name: str) -> dict[str, Any]:
    """A file of k8s/kind."""
    read: dict[str, Any] = yaml.safe_load((KIND / name).read_text(encoding="utf-8"))
    return read


def test_up_makes_a_cluster_and_what_is_around_it(laptop: Laptop) -> None:
    """The Gateway API before what implements it, and the Gateway last, until it is ready."""
    assert "make deploy" in laptop.do("up").stdout
    created, *_ = laptop.log("kind")[1:]
    assert created.startswith("kind create cluster --config ")
    assert option(created, "config").endswith("k8s/kind/cluster.yaml")
    steps = [
        r"kubectl .*apply --server-side .*/gateway-api/releases/download/v[\d.]+/standard-install",
        r"helm .*traefik traefik --repo https://traefik\.github\.io/charts",
        r"helm .*metrics-server metrics-server --repo",
        r"kubectl .*apply --kustomize .*/k8s/namespace$",
        r"kubectl .*apply --kustomize .*/k8s/kind/gateway$",
        r"kubectl .*wait --for condition=Programmed --namespace gateway gateway/timbre",
    ]
    asked = laptop.log("kubectl", "helm")
    assert len(asked) == len(steps)
    assert [step for step, line in zip(steps, asked, strict=True) if not re.match(step, line)] == []


def test_every_command_names_the_cluster(cluster: Laptop) -> None:
    """Whatever kubectl is set to is left alone."""
    cluster.do("up", MONITORING="yes")
    cluster.do("deploy")
    for line in cluster.log("kubectl", "helm"):
        flag = "context" if line.startswith("kubectl") else "kube-context"
        assert option(line, flag) == CONTEXT


def test_every_chart_has_a_version_and_values_that_are_there(laptop: Laptop) -> None:
    """What was tried yesterday is what is installed tomorrow."""
    laptop.do("up", ENGINES="yes")
    charts = laptop.log("helm")
    named = [line.split("10m ")[1].split()[0] for line in charts]
    assert named == ["traefik", "metrics-server", "flagger"]
    for line in charts:
        assert re.fullmatch(r"\d+\.\d+\.\d+", option(line, "version"))
        written = Path(option(line, "values")).relative_to(laptop.root)
        assert isinstance(yaml.safe_load((ROOT / written).read_text(encoding="utf-8")), dict)


def test_monitoring_is_there_for_who_asks(cluster: Laptop) -> None:
    """Prometheus and the adapter, and the script waits for both."""
    cluster.do("up", MONITORING="no")
    assert [line for line in cluster.log("kubectl") if "--namespace monitoring" in line] == []
    cluster.asked.write_text("", encoding="utf-8")
    assert "http://localhost:9090" in cluster.do("up", MONITORING="yes").stdout
    applied, adapter, *waited = cluster.log("kubectl")[-4:]
    assert applied.endswith("/k8s/kind/monitoring")
    assert adapter.endswith("/k8s/metrics-adapter")
    assert [line.split()[-1] for line in waited] == [
        "deployment/prometheus",
        "deployment/metrics-adapter",
    ]


def test_engines_are_there_for_who_asks(cluster: Laptop) -> None:
    """Flagger and Argo Rollouts, each in the namespace that docs/canary.md lets in."""
    cluster.do("up", ENGINES="no")
    assert [line for line in cluster.log() if "argo" in line or "flagger" in line] == []
    cluster.asked.write_text("", encoding="utf-8")
    cluster.do("up", ENGINES="yes")
    flagger = cluster.log("helm")[-1]
    assert option(flagger, "namespace") == "flagger"
    assert values("flagger.yaml")["meshProvider"] == "gatewayapi:v1"
    namespace, argo, waited = cluster.log("kubectl")[-3:]
    assert option(namespace, "filename").endswith("/k8s/kind/argo-rollouts.yaml")
    assert values("argo-rollouts.yaml")["metadata"]["name"] == option(argo, "namespace")
    assert re.search(r"/argo-rollouts/releases/download/v\d+\.\d+\.\d+/install\.yaml$", argo)
    assert waited.endswith("deployment/argo-rollouts")


def test_a_cluster_that_is_there_is_kept(cluster: Laptop) -> None:
    """Only what is around it is brought up to date."""
    cluster.do("up")
    assert cluster.log("kind") == ["kind get clusters"]
    assert cluster.log("helm")


def test_a_cluster_with_a_longer_name_is_another(laptop: Laptop) -> None:
    """It doesn't stand for the one that is missing."""
    laptop.clusters.write_text("timbre-other\n", encoding="utf-8")
    laptop.do("up")
    assert "kind create cluster" in laptop.log("kind")[1]


def test_deploy_builds_loads_and_installs(cluster: Laptop) -> None:
    """In this order, and says how to ask what it installed."""
    printed = cluster.do("deploy").stdout
    build, load, install = cluster.log("build", "kind", "helm")[1:]
    assert build == "build docker.io/library/timbre timbre.tar"
    assert load.startswith("kind load image-archive --name timbre ")
    assert load.endswith("build/timbre.tar")
    assert re.match(r"helm upgrade --install .* timbre \S+/helm/timbre --namespace timbre", install)
    assert "--set-string image.tag=1.2.3 " in install
    assert Path(option(install, "values")).name == "timbre.yaml"
    assert "curl --data-binary @clip.wav http://localhost:8080/v1/classify" in printed


def test_an_image_that_is_built_is_taken(cluster: Laptop) -> None:
    """ARCHIVE names it; nothing is built."""
    cluster.write("mine.tar", "an image")
    cluster.do("deploy", ARCHIVE="mine.tar")
    assert cluster.log("build") == []
    assert cluster.log("kind")[-1] == "kind load image-archive --name timbre mine.tar"


def test_pods_are_made_anew_when_the_image_is_another(cluster: Laptop) -> None:
    """The tag stays, so that an annotation has to tell builds apart; and only builds."""
    for layers in ("one", "one", "two"):
        cluster.do("deploy", LAYERS=layers)
    first, again, other = (
        re.findall(r"podAnnotations\.timbre/archive=(\d+-\d+)", line)
        for line in cluster.log("helm")
    )
    assert len(first) == 1
    assert first == again != other


def test_deploy_needs_the_cluster(laptop: Laptop) -> None:
    """And says what makes it, before anything is built."""
    done = laptop.run("k8s/kind/cluster.sh", "deploy")
    assert done.returncode == 1
    assert done.stderr == "The cluster timbre isn't there yet: make kind-up makes it.\n"
    assert laptop.log("build", "helm") == []


def test_down_deletes_this_cluster(cluster: Laptop) -> None:
    """By its name, and no other."""
    cluster.do("down")
    assert cluster.log("kind") == ["kind delete cluster --name timbre"]


@pytest.mark.parametrize("action", ["up", "deploy"])
@pytest.mark.parametrize("missing", ["kind", "kubectl", "helm"])
def test_a_missing_program_is_named(tmp_path: Path, action: str, missing: str) -> None:
    """In one sentence that says where to get it, and nothing is done."""
    laptop = Laptop(tmp_path, [name for name in NEEDED if name != missing])
    done = laptop.run("k8s/kind/cluster.sh", action)
    assert done.returncode == 1
    assert re.fullmatch(rf"{missing} is missing, which .*: https://\S+ says how to install it\.\n",
                        done.stderr)  # fmt: skip
    assert laptop.log() == []


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    """A line each, so that nobody installs one thing to hear of the next."""
    done = Laptop(tmp_path, ["docker"]).run("k8s/kind/cluster.sh", "up")
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["kind", "kubectl", "helm"]


@pytest.mark.parametrize("action", ["up", "deploy", "down"])
def test_a_missing_engine_is_named(cluster: Laptop, action: str) -> None:
    """Docker is installed, but its daemon doesn't run, and there is no podman."""
    done = cluster.run("k8s/kind/cluster.sh", action, BROKEN="docker")
    assert done.returncode == 1
    assert "docker or podman, and neither runs here" in done.stderr
    assert cluster.log() == ["docker info"]


def test_podman_stands_in_for_docker(tmp_path: Path) -> None:
    """Told to kind, which would look for docker."""
    laptop = Laptop(tmp_path, ["podman", "kind", "kubectl", "helm"])
    laptop.do("up")
    assert all(line.startswith("kind by podman ") for line in laptop.log("kind"))
    assert laptop.log("kind")


@pytest.mark.parametrize("arguments", [[], ["sideways"]])
def test_anything_else_is_refused(laptop: Laptop, arguments: list[str]) -> None:
    """With what there is."""
    done = laptop.run("k8s/kind/cluster.sh", *arguments)
    assert (done.returncode, done.stderr) == (2, "cluster.sh up | deploy | down\n")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["kind-up"], "kubectl --context kind-timbre wait"),
        (["kind-up", "MONITORING=yes"], "deployment/prometheus"),
        (["kind-up", "ENGINES=yes"], "deployment/argo-rollouts"),
        (["deploy"], "helm upgrade --install"),
        (["deploy", "ARCHIVE=pyproject.toml"], "image-archive --name timbre pyproject.toml"),
        (["kind-down"], "kind delete cluster"),
    ],
)
def test_make_runs_it(cluster: Laptop, command: list[str], expected: str) -> None:
    """Its variables arrive; an environment that is there is taken."""
    cluster.write(".venv/created.stamp", "")
    cluster.write(".venv/base.stamp", "")
    done = cluster.run("make", *command)
    assert done.returncode == 0, done.stderr
    assert expected in "\n".join(cluster.log())


def test_make_help_lists_them(laptop: Laptop) -> None:
    """Beside the others, in columns."""
    printed = laptop.run("make").stdout
    assert re.findall(r"^(kind-up|kind-down|deploy) +[A-Z]", printed, re.MULTILINE)
    columns = {len(line) - len(line.split(maxsplit=1)[1]) for line in printed.splitlines()}
    assert len(columns) == 1


def test_the_ports_of_the_cluster_fit() -> None:
    """From this machine's ports to node ports, and from those to what listens."""
    [node] = values("cluster.yaml")["nodes"]
    mapped = {one["containerPort"]: one["hostPort"] for one in node["extraPortMappings"]}
    assert all(one["listenAddress"] == "127.0.0.1" for one in node["extraPortMappings"])
    traefik = values("traefik.yaml")
    assert traefik["service"]["spec"]["type"] == "NodePort"
    [patch] = values("monitoring/kustomization.yaml")["patches"]
    ports = [one["value"] for one in yaml.safe_load(patch["patch"]) if "nodePort" in one["path"]]
    assert mapped == {
        traefik["ports"]["web"]["nodePort"]: 8080,
        traefik["ports"]["websecure"]["nodePort"]: 8443,
        ports[0]: 9090,
    }
    script = (KIND / "cluster.sh").read_text(encoding="utf-8")
    assert set(re.findall(r"http://localhost:(\d+)", script)) == {"8080", "9090"}
    assert f"CLUSTER={values('cluster.yaml')['name']}\n" in script


def test_the_node_is_pinned() -> None:
    """By digest, with its version to read."""
    [node] = values("cluster.yaml")["nodes"]
    assert re.fullmatch(r"kindest/node:v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", node["image"])
    assert os.access(KIND / "cluster.sh", os.X_OK)
