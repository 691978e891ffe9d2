"""kubectl as functions: what a person would type, with JSON for answers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

PATIENCE_S = 120.0
"""Seconds after which a cluster that doesn't do what is waited for fails the test."""
_PAUSE_S = 0.25
_Found = TypeVar("_Found")

Object = Any
"""An object of the API, as JSON has it."""


class Failed(RuntimeError):
    """A program ended with an error; the message is what it said."""


def run(
    *command: str, stdin: str | bytes | None = None, timeout: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and give what it said whether it failed or not.

    Raises:
        Failed: it did not end in time.
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(command)}: not within {timeout:g} s") from error
    return subprocess.CompletedProcess(
        command, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def must(*command: str, stdin: str | bytes | None = None, timeout: float = PATIENCE_S) -> str:
    """Run a program that has to succeed, and give what it printed.

    Raises:
        Failed: it did not.
    """
    done = run(*command, stdin=stdin, timeout=timeout)
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | bytes | None = None, timeout: float = PATIENCE_S) -> str:
    """Run kubectl.

    Raises:
        Failed: it ended with an error.
    """
    return must("kubectl", *arguments, stdin=stdin, timeout=timeout)


def get(*arguments: str) -> Object:
    """Read an object, or with a kind alone a list of them."""
    return json.loads(kubectl("get", *arguments, "--output", "json"))


def items(*arguments: str) -> list[Object]:
    """Read the objects of a list."""
    return list(get(*arguments)["items"])


def raw(path: str) -> Object:
    """Ask the API server for a path of its own, or of what it aggregates or proxies."""
    return json.loads(kubectl("get", "--raw", path))


def apply(*objects: Mapping[str, object]) -> None:
    """Create or change objects; each names its namespace."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(listed))


def delete(*arguments: str) -> None:
    """Delete, and wait until it is gone; what isn't there is gone already."""
    kubectl("delete", "--ignore-not-found", "--wait", *arguments, timeout=2 * PATIENCE_S)


def within(pod: str, namespace: str, *command: str, stdin: str | bytes | None = None) -> str:
    """Run a command in a pod's container, and give what it printed.

    Raises:
        Failed: it ended with an error.
    """
    flags = ["--stdin"] if stdin is not None else []
    where = ["--namespace", namespace, pod, *flags, "--"]
    return kubectl("exec", *where, *command, stdin=stdin, timeout=2 * PATIENCE_S)


def python(pod: str, namespace: str, program: str, *arguments: str) -> str:
    """Run a Python program in a pod's container, and give what it printed.

    Raises:
        Failed: it ended with an error.
    """
    return within(pod, namespace, "python", "-c", program, *arguments)


def until(ask: Callable[[], _Found], what: str, seconds: float = PATIENCE_S) -> _Found:
    """Ask until the answer is true, and give it.

    Raises:
        AssertionError: it never was.
    """
    give_up = time.monotonic() + seconds
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < give_up, f"{what}: not within {seconds:g} s"
        time.sleep(_PAUSE_S)  # what is asked for changes on another machine


def pods(namespace: str, selector: str) -> list[Object]:
    """The pods that a selector names and that nobody has told to end, oldest first."""
    found = items("pods", "--namespace", namespace, "--selector", selector)
    living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    return sorted(living, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def name(entity: Object) -> str:
    """An object's name."""
    return str(entity["metadata"]["name"])


def names(objects: Sequence[Object]) -> list[str]:
    """Names of objects."""
    return [name(entity) for entity in objects]


def condition(entity: Object, kind: str) -> bool:
    """Whether a condition of an object's status is true."""
    conditions = entity.get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def ready(pod: Object) -> bool:
    """Whether a pod is Ready."""
    return condition(pod, "Ready")
