"""One session: what is needed is made, everything is measured in turns, and the raw data kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers import contenders as registry
from benchmarks.peers import environment, machine
from benchmarks.peers.anatomy import HTTP
from benchmarks.peers.clips import wavs
from benchmarks.peers.contenders import Contender
from benchmarks.peers.measure import Bench, engines
from benchmarks.peers.models import CLIPS, Model, describe, prepare
from benchmarks.peers.plan import ONCE, Plan
from benchmarks.peers.results import Results


@dataclass(frozen=True, slots=True)
class Session:
    """What was asked for."""

    plan: Plan
    profile: str
    price: float
    work: Path
    """Where the environment and the models are kept."""
    out: Path
    """Where this session's results go."""
    only: Sequence[str]
    """Names of contenders; empty for all."""
    precisions: Sequence[str]
    peers: Path | None
    """An interpreter that has the peers' requirements; None makes an environment."""
    say: Callable[[str], object]

    def run(self) -> Results:
        """Measure; raw.json grows with every model, so that an end before the end leaves those."""
        self.out.mkdir(parents=True, exist_ok=True)
        cpus = machine.facts()["cpus"]
        rows = {model: self.rows(model) for model in self.plan.models}
        peers = self.peers or environment.interpreter(self.work / "venv", self.say)
        results = Results(
            machine=machine.facts(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            profile=self.profile,
            price=self.price,
            versions={
                "timbre": environment.packages(Path(sys.executable)),
                "peers": environment.packages(peers),
            },
        )
        models = {name: self._model(name, rows[name], peers) for name in self.plan.models}
        results.models = {name: describe(model) for name, model in models.items()}
        results.contenders = list(
            dict.fromkeys(contender for each in rows.values() for contender in each)
        )
        self.say("the machine's peaks")
        used = dict.fromkeys(row.precision for row in results.contenders)
        results.peaks = _child("benchmarks.peers.limits", str(cpus), *used)
        bench = Bench(self.plan, wavs(CLIPS), peers, cpus, self.out / "logs", self.say)
        for name, model in models.items():
            bench.run(model, rows[name], self.rounds(name))
            if any(row.stack == "timbre" for row in rows[name]):
                self.say(f"{name}: where the CPU goes")
                seconds = str(self.plan.bare_s / 2)
                bundle = str(model.bundle)
                results.anatomy[name] = _child(
                    "benchmarks.peers.anatomy", bundle, str(cpus), "--seconds", seconds
                )
                if name in bench.refusal_ms:
                    results.anatomy[name][HTTP] = bench.refusal_ms[name]
            results.cells, results.failures = bench.cells, bench.failures
            results.write(self.out / "raw.json")
        return results

    def turns(self) -> int:
        """Count the servers and bare engines that will be measured."""
        return sum(
            self.rounds(model) * len(rows)
            + sum(self.rounds(model) if e[0] == "openvino" else 1 for e in engines(rows))
            for model in self.plan.models
            for rows in [self.rows(model)]
        )

    def rounds(self, model: str) -> int:
        """Give the rounds of a model."""
        return 1 if model in ONCE else self.plan.rounds

    def rows(self, model: str) -> list[Contender]:
        """Give the contenders of a model that were asked for."""
        every = registry.every(int8="int8" in self.precisions, bf16=machine.has_bf16())
        if model in ONCE and self.plan.models != (model,):
            # Beside the others it only shows what a framework costs.
            every = [replace(row, sweep=False) for row in every if row.precision == "fp32"]
        return [
            row
            for row in every
            if row.precision in self.precisions and (not self.only or row.name in self.only)
        ]

    def _model(self, name: str, rows: Sequence[Contender], peers: Path) -> Model:
        exports = any(row.engine == "onnxruntime" for row in rows)
        int8 = any(row.precision == "int8" for row in rows)
        return prepare(
            name, self.work / "models", peers if exports else None, int8=int8, say=self.say
        )


def _child(module: str, *arguments: str) -> dict[str, float]:
    """Run a measurement in a process of its own, which leaves no threads in this one."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", module, *arguments],
        cwd=environment.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said
