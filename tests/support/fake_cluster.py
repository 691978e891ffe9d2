"""helm and kubectl as a script of the shell meets them, for one release: both are this program.

What there is, is in the file that FAKE_CLUSTER names: `defaults` and `given` are values, the
chart's and the release's; `fails` says how a judged upgrade to a weight ends, and under `ready` how
one does that waits for a canary's pods; `looks` has the canary's pods as they are found at one look
after another, with their phase and whether they are ready; `log` has everything that was changed.
`install` puts both where PATH finds them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.layers import merged

NAME = "timbre"
State = dict[str, Any]


def install(folder: Path, state: State) -> dict[str, str]:
    """Put both programs into a folder, and give the variables by which a script finds them."""
    for name in ("helm", "kubectl"):
        program = folder / name
        # Without site-packages it starts in a fifth of the time, and a walk starts it often.
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -m {__name__} {name} "$@"\n')
        program.chmod(0o755)
    file = folder / "state.json"
    whole = {
        "fails": {},
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
            print(state.get("version", "v4.0.0"), end="")  # noqa: T201 - it is a program
            return 0
        case ["get", "values"]:
            whole = _values(state) if "--all" in arguments else state["given"] or None
            print(json.dumps(whole))  # noqa: T201
            return 0
        case ["history", _]:
            state.setdefault("revisions", []).append(state["given"])
            print(json.dumps([{"revision": len(state["revisions"])}]))  # noqa: T201
            return 0
        case ["rollback", _]:
            state["given"] = state["revisions"][int(arguments[2]) - 1]
            state["log"].append({"back": arguments[3:]})
            return 0
        case ["upgrade", _]:
            return _upgrade(state, arguments)
    raise NotImplementedError(arguments)


def _values(state: State) -> State:
    return merged(state["defaults"], state["given"])


def _upgrade(state: State, arguments: list[str]) -> int:
    before = state["given"]
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
    if "--dry-run=client" in arguments:
        print(json.dumps({"config": given}))  # noqa: T201
        return 0
    judged = "--no-hooks" not in arguments
    state["given"] = given
    canary = _values(state)["canary"]
    entry = {name: canary[name] for name in ("enabled", "weight", "replicas")}
    flags = {argument for argument in arguments if re.fullmatch("--[a-z-]+", argument)}
    state["log"].append({"judged": judged, "flags": sorted(flags), "values": given, **entry})
    waits = "--wait" in arguments and canary["enabled"]
    end = str(canary["weight"]) if judged else "ready" if waits else ""
    code = state["fails"].get(end, 0)
    state["generation"] += 1
    state["seen"] = state["generation"] - 1 if state["lag"] else state["generation"]
    if judged and canary["enabled"] and _values(state)["compare"]["enabled"]:
        state["job"], state["code"] = state["job"] + 1, code
    if code:
        if {"--rollback-on-failure", "--atomic"} & set(arguments):
            state["given"] = before
        print("Error: UPGRADE FAILED", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def kubectl(state: State, arguments: list[str]) -> int:
    """Answer kubectl's commands that a roll-out needs."""
    _, _, verb, *rest = arguments
    answers: dict[tuple[str, str], Callable[[], object]] = {
        ("get", "deployments"): lambda: NAME,
        ("get", "deployment"): lambda: _pods(state, rest[1]),
        ("get", "job"): lambda: state["job"] or "",
        ("get", "pods"): lambda: (
            state["code"] if "component=compare" in rest[2] else json.dumps(_canary(state))
        ),
        ("get", "httproute"): lambda: json.dumps(_route(state)),
        ("scale", "deployment"): lambda: state["log"].append({"scaled": int(rest[-1])}),
        ("rollout", "status"): lambda: "",
    }
    print(answers[verb, rest[0]](), end="")  # noqa: T201
    return 0


def _pods(state: State, name: str) -> object:
    values = _values(state)
    canary, beside = values["canary"], values["canary"]["baseline"]
    if name == NAME:
        return state.get("stable", values["replicaCount"])
    if not canary["enabled"] or (name.endswith("baseline") and not beside["enabled"]):
        return ""
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


def main() -> None:
    """Run as helm or as kubectl."""
    file = Path(os.environ["FAKE_CLUSTER"])
    state = json.loads(file.read_text(encoding="utf-8"))
    _, program, *arguments = sys.argv
    code = {"helm": helm, "kubectl": kubectl}[program](state, arguments)
    file.write_text(json.dumps(state), encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
