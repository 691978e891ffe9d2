"""The chart, rendered by the `helm` program; the same values are rendered once."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.tools import find

CHART = Path(__file__).parents[2] / "helm" / "timbre"
RELEASE, NAMESPACE = "audio-timbre", "audio"
"""The release's name contains the chart's, so that it is the name of everything."""
KUBERNETES = "1.37.0"
"""What the chart is rendered for where a test doesn't say otherwise."""

Manifest = dict[str, Any]
Values = Mapping[str, Any]


class HelmFailed(Exception):
    """Helm refused, and this is what it said."""


def features() -> dict[str, Path]:
    """Values files, one for each feature, by its name."""
    return {
        file.name.removesuffix("-values.yaml"): file
        for file in sorted((CHART / "ci").glob("*-values.yaml"))
    }


def feature(name: str) -> dict[str, Any]:
    """Read the values of a feature."""
    values: dict[str, Any] = yaml.safe_load(features()[name].read_text(encoding="utf-8"))
    return values


def rendered(
    values: Values | None = None,
    *,
    release: str = RELEASE,
    kubernetes: str = KUBERNETES,
    helm: str = "helm",
) -> tuple[Manifest, ...]:
    """Render the chart with these values; every call gives objects of its own.

    Raises:
        HelmFailed: the values don't fit the schema or contradict each other.
    """
    return copy.deepcopy(_read(text(values, release=release, kubernetes=kubernetes, helm=helm)))


def text(
    values: Values | None = None,
    *,
    release: str = RELEASE,
    kubernetes: str = KUBERNETES,
    helm: str = "helm",
) -> str:
    """Render the chart as Helm writes it; errors are those of `rendered`."""
    return _rendered(json.dumps(values or {}), release, kubernetes, helm)


@cache
def _read(rendering: str) -> tuple[Manifest, ...]:
    return tuple(filter(None, yaml.safe_load_all(rendering)))


@cache
def _rendered(values: str, release: str, kubernetes: str, helm: str) -> str:
    command = [helm_program(helm), "template", release, str(CHART), "--namespace", NAMESPACE]
    done = subprocess.run(
        [*command, "--kube-version", kubernetes, "--values", "-"],
        input=values,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise HelmFailed(done.stderr)
    return done.stdout


def helm_program(name: str = "helm") -> str:
    """Give the path of Helm 4, or with helm3 of Helm 3."""
    return str(find(name))


def refusal(values: Values, **options: str) -> str:
    """Give what Helm says to values that it refuses."""
    try:
        rendered(values, **options)
    except HelmFailed as failed:
        return str(failed)
    raise AssertionError(f"Helm took {values}.")


def one(manifests: tuple[Manifest, ...], kind: str, name: str = "") -> Manifest:
    """Give the one object of a kind, or of a kind and a name."""
    [found] = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in {"", manifest["metadata"]["name"]}
    ]
    return found


def kinds(manifests: tuple[Manifest, ...]) -> set[str]:
    """Name the kinds there are."""
    return {manifest["kind"] for manifest in manifests}


def pods(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Give the pods these objects make, by the kind and name of what makes them."""
    found: dict[str, Manifest] = {}
    for manifest in manifests:
        key = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            found[key] = manifest
        elif "template" in manifest.get("spec", {}):
            found[key] = manifest["spec"]["template"]
    return found


def deployment(manifests: tuple[Manifest, ...], track: str = "stable") -> Manifest:
    """Give the Deployment of a track."""
    [found] = [
        manifest
        for manifest in manifests
        if manifest["kind"] == "Deployment" and manifest["metadata"]["labels"].get("track") == track
    ]
    return found


def server(manifests: tuple[Manifest, ...], track: str = "stable") -> Manifest:
    """Give the specification of a serving pod of a track."""
    spec: Manifest = deployment(manifests, track)["spec"]["template"]["spec"]
    return spec


def container(manifests: tuple[Manifest, ...], track: str = "stable") -> Manifest:
    """Give its one container."""
    [found] = server(manifests, track)["containers"]
    return dict(found)
