"""The training Job as a cluster would get it: what it may do, and that it fits the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import service
from tests.support import pod_security
from training import config
from training.__main__ import main
from training.whisper import WHEEL

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "training"
NODE = {"cpu": 3.5, "memory_gi": 6}
"""What a node of 4 vCPU and 8 GiB has left for pods."""

Manifest = dict[str, Any]


def rendered() -> list[Manifest]:
    """What kubectl would apply; without kubectl, the files as they are."""
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run(
            [kubectl, "kustomize", str(FOLDER)], check=True, capture_output=True, text=True
        )
        return list(yaml.safe_load_all(done.stdout))
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [one for name in names for one in yaml.safe_load_all((FOLDER / name).read_text())]


@pytest.fixture(scope="module")
def manifests() -> dict[tuple[str, str], Manifest]:
    """By kind and name."""
    return {(one["kind"], one["metadata"]["name"]): one for one in rendered()}


@pytest.fixture(scope="module")
def job(manifests: dict[tuple[str, str], Manifest]) -> Manifest:
    """The Job's specification."""
    spec: Manifest = manifests["Job", "timbre-training"]["spec"]
    return spec


@pytest.fixture(scope="module")
def pod(job: Manifest) -> Manifest:
    """Its pod's."""
    spec: Manifest = job["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    """The one container of it."""
    found: Manifest
    [found] = pod["containers"]
    return found


def test_the_pod_is_allowed_where_pod_security_is_restricted(
    pod: Manifest, container: Manifest
) -> None:
    """Every field that the restricted standard asks for."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"persistentVolumeClaim", "emptyDir"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert "ports" not in container


def test_a_pod_fills_the_claims_before(manifests: dict[tuple[str, str], Manifest]) -> None:
    """It is allowed where the Job is, and writes to the same claims as the same user."""
    [filling] = yaml.safe_load_all((FOLDER / "fill.yaml").read_text(encoding="utf-8"))
    pod, job = filling["spec"], manifests["Job", "timbre-training"]["spec"]["template"]["spec"]
    assert pod_security.violations(pod) == []
    assert pod["securityContext"] == job["securityContext"]

    def claims(spec: Manifest) -> dict[str, str]:
        named = {
            volume["name"]: volume["persistentVolumeClaim"]["claimName"]
            for volume in spec["volumes"]
            if "persistentVolumeClaim" in volume
        }
        mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
        return {mounts[name]["mountPath"]: claim for name, claim in named.items()}

    assert claims(pod) == claims(job)
    assert not [mount for mount in pod["containers"][0]["volumeMounts"] if "readOnly" in mount]
    assert ("Pod", filling["metadata"]["name"]) not in manifests


def test_the_page_s_steps_are_in_an_order_that_works() -> None:
    """The claims, what fills them, the wheel that is pinned too, the end of that, and the Job."""
    page = (ROOT / "docs/kubernetes-training.md").read_text(encoding="utf-8")
    steps = ("volumes.yaml", "kubectl cp DATA/.", WHEEL, "delete pod", "apply --kustomize")
    found = [page.index(step) for step in steps]
    assert found == sorted(found)


def test_it_has_no_token_of_the_cluster(
    manifests: dict[tuple[str, str], Manifest], pod: Manifest
) -> None:
    """Neither by its account nor by the pod."""
    account = manifests["ServiceAccount", pod["serviceAccountName"]]
    assert account["automountServiceAccountToken"] is False
    assert pod["automountServiceAccountToken"] is False


def test_what_it_writes_to_is_mounted(
    manifests: dict[tuple[str, str], Manifest], pod: Manifest, container: Manifest
) -> None:
    """The root is read-only, the data too; runs outlive the pod."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    assert mounts["/data"]["readOnly"] is True
    for path in ("/data", "/runs"):
        claim = volumes[mounts[path]["name"]]["persistentVolumeClaim"]["claimName"]
        assert ("PersistentVolumeClaim", claim) in manifests
    home = next(entry["value"] for entry in container["env"] if entry["name"] == "HOME")
    assert "emptyDir" in volumes[mounts[home]["name"]]


def test_its_arguments_are_the_command_line_s(container: Manifest) -> None:
    """They parse, and name a configuration that there is."""
    assert container["command"] == ["python", "-m", "training"]
    name, *arguments = container["args"]
    context = main.make_context("training", [name])
    command = main.get_command(context, name)
    assert command is not None
    # The folders are the container's; whether they are there is not looked at.
    for parameter in command.params:
        if parameter.name == "root":
            parameter.type = type(parameter.type)(path_type=Path)  # type: ignore[call-arg]
    parsed = command.make_context(name, list(arguments)).params
    assert config.load(parsed["name"]).bundle.name
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(parsed["root"]) in mounted
    assert str(parsed["folder"].parent) in mounted


def test_a_killed_pod_is_started_again(job: Manifest, pod: Manifest) -> None:
    """And goes on from the checkpoint in its run's folder."""
    assert pod["restartPolicy"] == "OnFailure"
    assert job["backoffLimit"] >= 1
    assert job["podReplacementPolicy"] == "Failed"
    assert pod["terminationGracePeriodSeconds"] >= 60


def test_its_log_is_no_film_of_progress_bars(container: Manifest) -> None:
    """By the Job's variables a bar is drawn at its start and end, where it takes seconds."""
    bar = "from tqdm.auto import tqdm; import time; [time.sleep(0.01) for _ in tqdm(range(100))]"
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    done = subprocess.run(
        [sys.executable, "-c", bar],
        env=os.environ | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "100/100" in done.stderr
    assert done.stderr.count("it/s") <= 2


def test_it_fits_a_small_node(container: Manifest) -> None:
    """Requests within what 4 vCPU and 8 GiB leave, and memory bounded."""
    resources = container["resources"]
    assert float(resources["requests"]["cpu"]) <= NODE["cpu"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert float(resources["limits"]["memory"].removesuffix("Gi")) <= NODE["memory_gi"]


def test_tracking_is_optional(container: Manifest) -> None:
    """Without the ConfigMap and the Secret the pod starts all the same."""
    sources = [next(iter(source.values())) for source in container["envFrom"]]
    assert [(source["name"], source["optional"]) for source in sources] == [
        ("timbre-tracking", True),
        ("timbre-tracking", True),
    ]


def test_the_image_is_this_version() -> None:
    """In the kustomization, and in the line that builds it."""
    [image] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["images"]
    assert image == {"name": "timbre-training", "newTag": service.__version__}
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"--tag timbre-training:{service.__version__} " in dockerfile
    assert set(re.findall(r'"/src\[(.*)\]"', dockerfile)) == {"train,track"}
