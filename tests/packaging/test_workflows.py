"""GitHub's workflows: what they may do, what they run, and that it is there."""

from __future__ import annotations

import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.iterdir())
USES = re.compile(r"^ *(?:- )?uses: *(.*)$", re.MULTILINE)
PINNED = re.compile(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)")
MADE = "build/"
"""What is below it is made by the workflow itself."""

Workflow = dict[Any, Any]


def text(name: str) -> str:
    """A workflow as it is written, with its comments."""
    return (FOLDER / name).read_text(encoding="utf-8")


def workflow(name: str) -> Workflow:
    """A workflow as it is read. Its `on` is True, as YAML 1.1 has it."""
    read: Workflow = yaml.safe_load(text(name))
    return read


def scripts(name: str) -> Iterator[str]:
    """What a workflow's steps run."""
    for job in workflow(name)["jobs"].values():
        for step in job["steps"]:
            yield from filter(None, [step.get("run")])


def needed(job: dict[str, Any]) -> set[str]:
    """Jobs that a job waits for."""
    names = job.get("needs", [])
    return {names} if isinstance(names, str) else set(names)


def targets() -> set[str]:
    """Targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_every_action_is_pinned(name: str) -> None:
    """By the whole hash of a commit, which nobody can move, with the version beside it to read."""
    used = USES.findall(text(name))
    assert used
    assert [action for action in used if not PINNED.fullmatch(action)] == []


def test_an_action_has_one_version() -> None:
    """The same commit in every workflow, under the same version."""
    pins: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name in NAMES:
        for action, commit, version in PINNED.findall(text(name)):
            pins[action].add((commit, version))
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_job_may_do_only_what_it_says(name: str) -> None:
    """Nothing by default; each job names its permissions, with the reason beside each."""
    read = workflow(name)
    assert read["permissions"] == {}
    for job in read["jobs"].values():
        assert job["permissions"]
        for scope, level in job["permissions"].items():
            lines = re.findall(rf"^ +{scope}: {level}\b(.*)$", text(name), re.MULTILINE)
            assert lines
            assert all(re.fullmatch(r" # to \w.+", line) for line in lines), lines


@pytest.mark.parametrize("name", NAMES)
def test_a_job_has_an_end_and_a_fixed_machine(name: str) -> None:
    """One that hangs is ended, and `latest` changes under no job."""
    for job in workflow(name)["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert not job["runs-on"].endswith("latest")


@pytest.mark.parametrize("name", NAMES)
def test_credentials_are_not_left_in_the_checkout(name: str) -> None:
    """What a later step runs could push with them."""
    for job in workflow(name)["jobs"].values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", NAMES)
def test_scripts_get_what_others_write_as_variables(name: str) -> None:
    """`${{ }}` inside a script would run whatever a branch or a tag is called."""
    assert [script for script in scripts(name) if "${{" in script] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_a_workflow_runs_is_there(name: str) -> None:
    """Targets of make, scripts and files by their paths, and modules."""
    for script in scripts(name):
        assert set(re.findall(r"\bmake ([a-z0-9-]+)", script)) <= targets()
        for path in re.findall(r"(?<![\w./:-])(?:\.ci|k8s|helm|service|tests)/[\w./-]+", script):
            assert (ROOT / path).exists(), path
        for module in re.findall(r"python3? -m (tests\.[\w.]+)", script):
            assert importlib.util.find_spec(module) is not None, module
    for job in workflow(name)["jobs"].values():
        for step in job["steps"]:
            for key in ("context", "file", "cache-dependency-path"):
                path = step.get("with", {}).get(key)
                assert path is None or path.startswith(MADE) or (ROOT / path).exists(), path


def test_the_end_to_end_tests_look_at_what_a_cluster_sees() -> None:
    """Each path for which they run on a pull request matches something."""
    paths = workflow("e2e.yml")[True]["pull_request"]["paths"]
    assert [path for path in paths if not any(ROOT.glob(path))] == []


def test_the_end_to_end_tests_run_on_the_laptop_s_cluster() -> None:
    """On kind as k8s/kind has it: its name, its version of Kubernetes, its addresses."""
    cluster = yaml.safe_load((ROOT / "k8s/kind/cluster.yaml").read_text(encoding="utf-8"))
    [node] = cluster["nodes"]
    [job] = workflow("e2e.yml")["jobs"].values()
    [kind] = [step["with"] for step in job["steps"] if "kind-action" in step.get("uses", "")]
    assert kind["install_only"] is True
    assert node["image"].startswith(f"kindest/node:{kind['kubectl_version']}@sha256:")
    [environment] = [step["env"] for step in job["steps"] if "make e2e" in step.get("run", "")]
    assert environment["CLUSTER_LOAD"].endswith(f" --name {cluster['name']}")
    mapped = {mapping["hostPort"] for mapping in node["extraPortMappings"]}
    urls = [value for key, value in environment.items() if key.endswith("_URL")]
    assert {int(url.rsplit(":", 1)[1]) for url in urls} < mapped
    kustomization = (ROOT / "k8s/kind/gateway/kustomization.yaml").read_text(encoding="utf-8")
    assert f"value: {environment['GATEWAY_PORT']}\n" in kustomization


def test_a_release_signs_what_it_pushes() -> None:
    """Images and chart, by digest, in the job that pushed them and has an identity to sign with."""
    jobs = workflow("release.yml")["jobs"]
    assert workflow("release.yml")[True] == {"push": {"tags": ["v*"]}}
    for name, count in {"image": 2, "chart": 1}.items():
        [(signing, step)] = [
            (number, step)
            for number, step in enumerate(jobs[name]["steps"])
            if "cosign sign --yes" in step.get("run", "")
        ]
        signed = [value for value in step["env"].values() if "outputs.digest }}" in value]
        assert len(signed) == count
        assert signing == len(jobs[name]["steps"]) - 1
        assert jobs[name]["permissions"]["id-token"] == "write"
        assert jobs[name]["permissions"]["packages"] == "write"
    assert jobs["release"]["permissions"] == {"contents": "write"}


def test_a_release_has_images_for_both_architectures() -> None:
    """Server and tools, with SBOM and provenance beside them, and the commit's timestamps."""
    builds = [
        step
        for step in workflow("release.yml")["jobs"]["image"]["steps"]
        if "build-push-action" in step.get("uses", "")
    ]
    containerfile = (ROOT / "k8s/image/Containerfile").read_text(encoding="utf-8")
    for build, target in zip(builds, ("server", "tools"), strict=True):
        given = build["with"]
        assert given["target"] == target
        assert f" AS {target}\n" in containerfile
        assert given["platforms"].split(",") == ["linux/amd64", "linux/arm64"]
        assert given["sbom"] is True
        assert given["provenance"] == "mode=max"
        assert "rewrite-timestamp=true" in given["outputs"]
        assert "SOURCE_DATE_EPOCH" in build["env"]
        arguments = {line.partition("=")[0] for line in given["build-args"].splitlines()}
        assert arguments <= set(re.findall(r"^ARG (\w+)", containerfile, re.MULTILINE))


def test_nothing_is_published_before_the_versions_agree() -> None:
    """Every other job waits for the check, and the release for all of them."""
    jobs = workflow("release.yml")["jobs"]
    needs = {name: needed(job) for name, job in jobs.items()}
    assert needs.pop("check") == set()
    assert all("check" in names for names in needs.values())
    assert needs["release"] == {"check", "image", "chart"}


def test_nothing_is_published_that_was_not_tested() -> None:
    """A tag may be of any commit: the check asks whether CI has passed on it, and reads only."""
    check = workflow("release.yml")["jobs"]["check"]
    assert check["permissions"] == {"actions": "read", "contents": "read"}
    [asking] = [step for step in check["steps"] if "gh run list" in step.get("run", "")]
    for option in ('--commit "$GITHUB_SHA"', "--status success"):
        assert option in asking["run"]
    [named] = re.findall(r"--workflow (\S+)", asking["run"])
    assert "push" in workflow(named)[True]


@pytest.mark.parametrize("name", ["ci.yml", "e2e.yml"])
def test_torch_is_the_cpu_s_in_a_repository_without_variables(name: str) -> None:
    """A variable that nobody has set is empty, and PyPI's own torch brings CUDA."""
    [job] = workflow(name)["jobs"].values()
    pattern = r"\$\{\{ vars\.PIP_EXTRA_INDEX_URL \|\| 'https://\S+/cpu' \}\}"
    assert re.fullmatch(pattern, job["env"]["PIP_EXTRA_INDEX_URL"])


def test_dependabot_looks_where_there_is_something() -> None:
    """At the workflows, the package and the folders of images; monthly, so that it is read."""
    read = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))
    assert read["version"] == 2
    kinds = {update["package-ecosystem"]: update for update in read["updates"]}
    assert kinds.keys() == {"github-actions", "pip", "docker"}
    for folder in kinds["docker"]["directories"]:
        names = {path.name for path in (ROOT / folder.lstrip("/")).iterdir()}
        assert names & {"Dockerfile", "Containerfile"}, folder
