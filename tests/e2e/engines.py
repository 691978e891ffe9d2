"""Engines in the cluster that move the clips on the judge's word, as k8s/rollouts has it.

A candidate is an upgrade of the release.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from tests.e2e import candidates, helm, kubectl, timeline
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.judged import PODS, ROLLOUTS, Stage
from tests.e2e.kubectl import Object
from tests.e2e.timeline import Seen
from tests.e2e.watch import reading, watching

OUTCOMES = ("fail", "pass", "inconclusive")
LOOK_EVERY_S = 10
"""Seconds from one look of the judge's to the next."""
ENGINE_S = 480
"""Seconds in which an engine has to come to an end."""
_LISTEN = """
import sys, time, urllib.error, urllib.request
url = f"http://localhost:3002/verdict?weight={sys.argv[1]}"
last = ""
while True:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = answer.read().decode()
    except urllib.error.HTTPError:  # the first look isn't over
        told = ""
    if told and told != last:
        print(told, flush=True)
    last = told
    time.sleep(1)
"""


def values(name: str, namespace: str) -> dict[str, Any]:
    """Give the values of a release whose clips an engine moves, which runs in that namespace."""
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return {
        "rollout": {"engine": name},
        "autoscaling": {"enabled": True, "minReplicas": PODS, "maxReplicas": PODS},
        "judge": {"enabled": True, "everySeconds": LOOK_EVERY_S},
        "networkPolicy": {"rollouts": [peer]},
    }


def placed(file: str, cluster: Cluster) -> Object:
    """Read a file of k8s/rollouts, for the release in the tests' namespace."""
    judge = f"//{RELEASE}-judge."
    text = (ROLLOUTS / file).read_text(encoding="utf-8")
    read = yaml.safe_load(text.replace(f"{judge}{RELEASE}:", f"{judge}{cluster.namespace}:"))
    read["metadata"]["namespace"] = cluster.namespace
    return read


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a candidate; it grows as it is seen."""

    found: list[Object]
    """By the judge, at its looks."""
    seen: list[Seen]
    """The engine's object."""

    def values(self, *path: str) -> list[Any]:
        """Give the values that a field of the engine's object had."""
        return timeline.values(self.seen, *path)

    @property
    def phase(self) -> str:
        """What it has come to, in the engine's words; nothing while it hasn't begun."""
        phases = self.values("status", "phase")
        return phases[-1] if len(phases) > 1 else ""

    @property
    def looks(self) -> list[Object]:
        """The judge's findings, of looks at which it knew of the candidate."""
        return [each for each in self.found if each["checks"]]

    @property
    def outcomes(self) -> set[str]:
        """Verdicts that there were."""
        return {each["outcome"] for each in self.looks}

    @property
    def failing(self) -> dict[str, str]:
        """Checks that failed at any look, and their sources."""
        checks = [check for each in self.looks for check in each["checks"]]
        return {check["name"]: check["source"] for check in checks if check["outcome"] == "fail"}

    @property
    def reason(self) -> str:
        """Why the candidate failed, the first time, or passed, the last; else what is missing."""
        by = {name: [each for each in self.looks if each["outcome"] == name] for name in OUTCOMES}
        told = [*by["fail"][:1], *by["pass"][-1:], *by["inconclusive"][-1:]]
        return str(told[0]["reason"]) if told else ""

    @property
    def clips(self) -> int:
        """Clients' clips that the candidate has answered, as far as the judge saw."""
        live = [each["live"] for each in self.looks if each["live"]]
        return max((each["candidate"]["requests"] for each in live), default=0)

    def row(self) -> dict[str, object]:
        """Give what is noted of it."""
        return {"ends": self.phase, "clips of its own": self.clips, "because": self.reason}


@dataclass(frozen=True, slots=True)
class Engine(Stage):
    """Where an engine in the cluster moves the clips, and what an upgrade brings is a candidate."""

    kind: str
    """Of the object by which the engine is told what to do; it has the release's name."""
    ends: frozenset[str]
    """Phases in which it has nothing more to do."""
    weight: int
    """At which the judge is listened to."""

    @contextmanager
    def followed(self) -> Iterator[Course]:
        """See what becomes of the next candidate."""
        namespace = self.cluster.namespace
        with listening(namespace, self.weight) as found, watching(self.kind, namespace) as seen:
            course = Course(found, seen)
            try:
                yield course
            finally:
                # pytest shows it of a test that fails
                print(course.row(), course.failing, [each["reason"] for each in found])  # noqa: T201

    def upgrade(self, tag: str) -> None:
        """Make a bundle what the release is to serve; one that was tried before is new again."""
        again = ("--set-string", f"podAnnotations.brought={secrets.token_hex(3)}")
        options = ("--reset-then-reuse-values", *candidates.values(tag, at="bundle"), *again)
        helm.upgrade(RELEASE, self.cluster.namespace, {}, *options, wait=False)

    def wait(self, course: Course) -> None:
        """Wait until the engine has come to an end."""
        kubectl.until(lambda: course.phase in self.ends, "the engine is done", ENGINE_S)

    def bring(self, what: str, tag: str) -> Course:
        """Bring a candidate while clips arrive, to whatever end."""
        with self.followed() as course, self.loaded(what) as noted:
            self.upgrade(tag)
            self.wait(course)
            noted.update(course.row())
        return course


@contextmanager
def listening(namespace: str, weight: int) -> Iterator[list[Object]]:
    """Gather what the judge finds at a weight, in a list that grows while this is entered.

    It begins when the judge knows of no candidate any more.
    """
    found: list[Object] = []
    where = ("--namespace", namespace, f"deployment/{RELEASE}-judge")
    command = ("kubectl", "exec", *where, "--", "python", "-c", _LISTEN, str(weight))
    with reading(command, lambda line: found.append(json.loads(line))):
        kubectl.until(lambda: found and not found[-1]["checks"], "the last candidate is forgotten")
        found.clear()
        yield found
