"""helm and kubectl as a script of the shell meets them, for one release: both are this program.

What there is, is in the file that FAKE_CLUSTER names: `defaults` and `given` are values, the
chart's and the release's, `status` what Helm says of its last revision, and `past` those before it;
`fails` says how a judged upgrade to a weight ends, under `ready` how one does that waits for a
canary's pods, under `rollback` how a rollback does, and under `status` how waiting for pods does;
`scaled` has the pods that a Deployment was given by itself; `cuts` names ends at which everything
that runs is killed, `comparing` for how many looks a comparison runs after that, and `lasting` for
how many Helm does, whose revision then has the status `becomes`; `looks` has the canary's pods as
they are found at one look after another, with their phase and whether they are ready; `log` has
everything that was changed. `blips` has, by the end of an upgrade, the command that fails once
after it, and under `now` the one that fails once at its next call.
`install` puts both where PATH finds them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.layers import merged

NAME = "timbre"
State = dict[str, Any]


class Cut(Exception):
    """Everything that ran is gone, as where a machine is lost."""


def install(folder: Path, state: State) -> dict[str, str]:
    """Put both programs into a folder, and give the variables by which a script finds them."""
    for name in ("helm", "kubectl"):
        program = folder / name
        # Without site-packages it starts in a fifth of the time, and a walk starts it often.
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -m {__name__} {name} "$@"\n')
        program.chmod(0o755)
    file = folder / "state.json"
    whole = {
        "status": "deployed",
        "past": [],
        "fails": {},
        "cuts": [],
        "blips": {},
        "scaled": {},
        "comparing": 0,
        "lasting": 0,
        "looks": [[]],
        "log": [],
        "job": 0,
        "code": 0,
        "generation": 1,
        "lag": 0,
    }
    file.write_text(json.dumps(whole | state))
    return {
        "FAKE_CLUSTER": str(file),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def helm(state: State, arguments: list[str]) -> int:
    """Answer helm's commands that a roll-out needs."""
    match arguments[:2]:
        case ["status", name]:
            return 0 if name == NAME else 1
        case ["version", _]:
            answer = state.get("version", "v4.0.0")
        case ["get", "values"]:
            whole = _values(state) if "--all" in arguments else state["given"] or None
            answer = json.dumps(whole)
        case ["history", _]:
            _pass(state)
            statuses = [each["status"] for each in _revisions(state)]
            numbered = [{"revision": n, "status": each} for n, each in enumerate(statuses, 1)]
            answer = json.dumps(numbered)
        case ["rollback", _]:
            return _rollback(state, arguments)
        case ["upgrade", _]:
            return _upgrade(state, arguments)
        case _:
            raise NotImplementedError(arguments)
    print(answer, end="")  # noqa: T201 - it is a program
    return 0


def _values(state: State) -> State:
    return merged(state["defaults"], state["given"])


def _revisions(state: State) -> list[State]:
    """Give all revisions with their values and status, the newest last."""
    return [*state["past"], {"given": state["given"], "status": state["status"]}]


def _record(state: State, given: State, status: str) -> None:
    """Make a revision; one that is deployed supersedes those that were."""
    state["past"] = _revisions(state)
    state["given"], state["status"] = given, status
    if status == "deployed":
        _supersede(state)


def _end(state: State, status: str) -> None:
    """Say of the revision that is pending how it ended."""
    state["status"] = status
    if status == "deployed":
        _supersede(state)


def _supersede(state: State) -> None:
    for each in state["past"]:
        if each["status"] == "deployed":
            each["status"] = "superseded"


def _pass(state: State) -> None:
    """Bring Helm that goes on without its script nearer to its end."""
    if state["lasting"] and not state["comparing"]:
        state["lasting"] -= 1
        if not state["lasting"]:
            _end(state, state["becomes"])


def _rollback(state: State, arguments: list[str]) -> int:
    state["log"].append({"back": arguments[3:]})
    if code := int(state["fails"].get("rollback", 0)):
        _record(state, state["given"], "failed")
        return code
    _record(state, _revisions(state)[int(arguments[2]) - 1]["given"], "deployed")
    return 0


def _laid(before: State, arguments: list[str]) -> State:
    """Give the values of an upgrade."""
    given: State = {} if "--reset-values" in arguments else before
    for option, value in pairwise(arguments):
        if option == "--values":
            text = sys.stdin.read() if value == "-" else Path(value).read_text(encoding="utf-8")
            given = merged(given, json.loads(text))
        elif option == "--set":
            path, _, to = value.partition("=")
            laid: Any = json.loads(to)
            for key in reversed(path.split(".")):
                laid = {key: laid}
            given = merged(given, laid)
    return given


def _upgrade(state: State, arguments: list[str]) -> int:
    if state["status"].startswith("pending"):
        print("Error: another operation is in progress", file=sys.stderr)  # noqa: T201
        return 1
    # Values that Helm uses again are those of the newest revision that is deployed.
    [before] = [each["given"] for each in _revisions(state) if each["status"] == "deployed"]
    given = _laid(before, arguments)
    if "--dry-run=client" in arguments:
        print(json.dumps({"config": given}))  # noqa: T201
        return 0
    judged = "--no-hooks" not in arguments
    _record(state, given, "pending-upgrade")
    canary = _values(state)["canary"]
    entry = {name: canary[name] for name in ("enabled", "weight", "replicas")}
    flags = {argument for argument in arguments if re.fullmatch("--[a-z-]+", argument)}
    state["log"].append({"judged": judged, "flags": sorted(flags), "values": given, **entry})
    waits = "--wait" in arguments and canary["enabled"]
    end = str(canary["weight"]) if judged else "ready" if waits else ""
    code = state["fails"].get(end, 0)
    if end in state["blips"]:
        state["blips"]["now"] = state["blips"].pop(end)
    state["generation"] += 1
    state["seen"] = state["generation"] - 1 if state["lag"] else state["generation"]
    if judged and canary["enabled"] and _values(state)["compare"]["enabled"]:
        state["job"], state["code"] = state["job"] + 1, code
    if end in state["cuts"]:
        state["cuts"].remove(end)
        raise Cut
    _end(state, "failed" if code else "deployed")
    if code:
        if {"--rollback-on-failure", "--atomic"} & set(arguments):
            _record(state, before, "deployed")
        print("Error: UPGRADE FAILED", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def kubectl(state: State, arguments: list[str]) -> int:
    """Answer kubectl's commands that a roll-out needs."""
    _, _, verb, *rest = arguments
    answers: dict[tuple[str, str], Callable[[], object]] = {
        ("get", "deployments"): lambda: NAME,
        ("get", "deployment"): lambda: _pods(state, rest[1]),
        ("get", "job"): lambda: _comparing(state) if "active" in rest[3] else state["job"] or "",
        ("get", "pods"): lambda: (
            state["code"] if "component=compare" in rest[2] else json.dumps(_canary(state))
        ),
        ("get", "httproute"): lambda: json.dumps(_route(state)),
        ("scale", "deployment"): lambda: _scale(state, rest[1], int(rest[-1])),
        ("rollout", "status"): lambda: "",
    }
    print(answers[verb, rest[0]](), end="")  # noqa: T201
    return int(state["fails"].get("status", 0)) if verb == "rollout" else 0


def _comparing(state: State) -> object:
    """Give the comparison's pods that run; it ends after as many looks as it has."""
    state["comparing"] = max(0, state["comparing"] - 1)
    return 1 if state["comparing"] else ""


def _scale(state: State, name: str, to: int) -> str:
    state["log"].append({"scaled": to, "name": name})
    state["scaled"][name] = to
    return ""


def _pods(state: State, name: str) -> object:
    values = _values(state)
    canary, beside = values["canary"], values["canary"]["baseline"]
    if name == NAME:
        return state["scaled"].get(name, state.get("stable", values["replicaCount"]))
    if not canary["enabled"] or (name.endswith("baseline") and not beside["enabled"]):
        return ""
    if values["autoscaling"]["enabled"]:  # Which hasn't looked at it yet.
        return state["scaled"].get(name, 1)
    return (beside["replicas"] if name.endswith("baseline") else 0) or canary["replicas"]


def _canary(state: State) -> State:
    """Give the canary's pods; the last look is that of all that follow."""
    looks = state["looks"]
    pods = looks.pop(0) if len(looks) > 1 else looks[0]
    return {
        "items": [
            {
                "metadata": {"deletionTimestamp": "now"} if phase == "Going" else {},
                "status": {
                    "phase": phase,
                    "conditions": [{"type": "Ready", "status": str(ready)}],
                },
            }
            for phase, ready in pods
        ]
    }


def _route(state: State) -> State:
    """Give the route; its gateway sees a change after it was asked for `lag` times."""
    if state.get("seen") != state["generation"] and state["lag"] >= 0:
        state["waited"] = state.get("waited", 0) + 1
        if state["waited"] >= state["lag"] > 0:
            state["seen"], state["waited"] = state["generation"], 0
            state["log"].append({"seen": state["generation"]})
    accepted = {"type": "Accepted", "status": "True", "observedGeneration": state.get("seen", 1)}
    return {
        "metadata": {"generation": state["generation"]},
        "status": {"parents": [{"conditions": [accepted]}]},
    }


def _blip(state: State, program: str, arguments: list[str]) -> bool:
    """Whether the command is the one that fails this once."""
    words = [program, *arguments[2 if program == "kubectl" else 0 :]]
    if " ".join(words[:3]) != state["blips"].get("now"):
        return False
    del state["blips"]["now"]
    print("Error: connection refused", file=sys.stderr)  # noqa: T201
    return True


def main() -> None:
    """Run as helm or as kubectl."""
    file = Path(os.environ["FAKE_CLUSTER"])
    state = json.loads(file.read_text(encoding="utf-8"))
    _, program, *arguments = sys.argv
    code, cut = 0, False
    try:
        if _blip(state, program, arguments):
            code = 1
        else:
            code = {"helm": helm, "kubectl": kubectl}[program](state, arguments)
    except Cut:
        cut = True
    file.write_text(json.dumps(state), encoding="utf-8")
    if cut:
        os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(code)


if __name__ == "__main__":
    main()
