"""Helm as functions, for the project's own chart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.kubectl import Failed, must, run

CHART = Path(__file__).parents[2] / "helm" / "timbre"
TIMEOUT_S = 120
"""Seconds in which whatever Helm waits for has to be ready."""

Values = Mapping[str, Any]


def install(release: str, namespace: str, values: Values, *, wait: bool = True) -> str:
    """Install the chart, and wait until its pods are ready.

    Raises:
        Failed: Helm ended with an error.
    """
    return _put("install", release, namespace, values, CHART, "--wait" if wait else "")


def upgrade(
    release: str,
    namespace: str,
    values: Values,
    *options: str,
    chart: Path = CHART,
    wait: bool = True,
) -> str:
    """Upgrade a release to exactly these values, unless an option says to keep those it has.

    Raises:
        Failed: Helm ended with an error.
    """
    return _put("upgrade", release, namespace, values, chart, "--wait" if wait else "", *options)


def rollback(release: str, namespace: str, revision: int = 0) -> None:
    """Go back to a revision, by default the one before, and wait until its pods are ready.

    Raises:
        Failed: Helm ended with an error.
    """
    _helm("rollback", release, *([str(revision)] if revision else []), *_where(namespace), "--wait")


def uninstall(release: str, namespace: str) -> None:
    """Uninstall a release and wait until its objects are gone; one that isn't there is gone.

    Raises:
        Failed: Helm ended with an error.
    """
    options = ["--wait", "--cascade", "foreground", "--ignore-not-found"]
    _helm("uninstall", release, *_where(namespace), *options)
    # Helm may return while the Deployment still waits for its pods to end. An install would take
    # it for its own then, and lose it.
    gone = ("--ignore-not-found", "--wait", f"--timeout={TIMEOUT_S}s")
    must("kubectl", "delete", "deployment", release, "--namespace", namespace, *gone)


def test(release: str, namespace: str) -> str:
    """Run the chart's own tests, and give what they printed.

    Raises:
        Failed: one of them failed.
    """
    return _helm("test", release, *_where(namespace), "--logs")


def given(release: str, namespace: str) -> dict[str, Any]:
    """The values that somebody gave, without the chart's own."""
    values = json.loads(
        must("helm", "get", "values", release, "--namespace", namespace, "--output", "json")
    )
    return dict(values or {})


def releases(namespace: str) -> list[str]:
    """Names of the releases of a namespace, failed ones too."""
    states = ("--deployed", "--failed", "--pending", "--uninstalling")
    listed = must("helm", "list", "--namespace", namespace, *states, "--short")
    return listed.split()


def version() -> str:
    """Helm's own version."""
    return run("helm", "version", "--template", "{{.Version}}").stdout


def _put(
    action: str, release: str, namespace: str, values: Values, chart: Path, *options: str
) -> str:
    chosen = [option for option in options if option]
    # JSON is YAML, and Helm reads a file's name as - from its standard input.
    options = (*chosen, "--values", "-")
    try:
        return _helm(
            action, release, str(chart), *_where(namespace), *options, stdin=json.dumps(values)
        )
    except Failed as error:
        raise Failed(f"{error}\n{_state(release, namespace)}") from error


def _state(release: str, namespace: str) -> str:
    """What the release's pods say: Helm only knows that they were not ready in time."""
    where = ("--namespace", namespace, "--selector", f"app.kubernetes.io/instance={release}")
    questions = (("get", "pods"), ("logs", "--prefix", "--tail=20"))
    asked = [run("kubectl", *question, *where) for question in questions]
    return "".join(answer.stdout + answer.stderr for answer in asked)


def _where(namespace: str) -> tuple[str, ...]:
    return ("--namespace", namespace, "--timeout", f"{TIMEOUT_S}s")


def _helm(*arguments: str, stdin: str | None = None) -> str:
    return must("helm", *arguments, stdin=stdin, timeout=TIMEOUT_S + 60)
