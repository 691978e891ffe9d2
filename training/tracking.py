"""What a run reports while it goes: to files in its folder, and to MLflow where a server is named.

The files are always written, so that a run can be read without a server. MLflow comes on top when
MLFLOW_TRACKING_URI is set, and may fail at any time: what could not be sent waits for the next
try, and a training never ends because of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from service.bundle import Bundle
from training import launch
from training.config import Config
from training.mlflow_run import TRACKING_URI, MlflowRun
from training.run import LOG, METRICS, NOT_TRAINED

SUMMARY = "train_runtime"
"""A figure of the line that the Trainer logs when it ends."""
TABLES = {"data.labels", "model.overrides"}
"""Settings whose keys are somebody's words, which MLflow may not take for names of parameters."""


class Tracker:
    """Takes a run's settings, figures and files; see `tracked`."""

    def __init__(self, run: Path, server: MlflowRun | None) -> None:
        self._run = run
        self._server = server

    def settings(self, config: Config) -> None:
        """Report what is trained. MLflow lets no parameter change, so what may isn't among them."""
        if self._server:
            self._server.settings(flattened(config.model_dump(mode="json", exclude=NOT_TRAINED)))

    def resume(self, step: int) -> None:
        """Forget what will be logged again when the training goes on from `step`."""
        log = self._run / LOG
        if log.is_file():
            lines = log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _was_logged_by(step, line)]
            half = log.with_suffix(".part")
            half.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            half.replace(log)

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Report figures of a step of the training; appended to log.jsonl."""
        with (self._run / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **figures}) + "\n")
        if self._server:
            self._server.figures(figures, step)

    def figures(self, figures: Mapping[str, Any]) -> None:
        """Report the run's final figures, nested by set; written to metrics.json."""
        text = json.dumps(figures, indent=2) + "\n"
        (self._run / METRICS).write_text(text, encoding="utf-8")
        if self._server:
            self._server.figures(numbers(figures), 0)

    def files(self, *paths: Path) -> None:
        """Keep copies of files or folders of the run with its figures."""
        if self._server:
            for path in paths:
                self._server.artifact(path)

    def bundle(self, bundle: Bundle) -> None:
        """Keep a copy of the bundle, and register it as a version of the model of its name."""
        if self._server:
            self._server.register(bundle)

    def close(self, status: str) -> None:
        """Send what is still waiting and end with MLflow's name for how it ended."""
        if self._server:
            self._server.close(status)


@contextmanager
def tracked(run: Path, config: Config, *, stage: str) -> Iterator[Tracker]:
    """Track a stage; all stages of a run's folder report to one MLflow run.

    Args:
        run: the run's folder, which is there.
        config: of the run; reported first.
        stage: named in MLflow, so that a run that failed says where.

    Raises:
        ConfigError: an MLflow server is named, but its client isn't installed.
    """
    server = None
    if os.environ.get(TRACKING_URI) and launch.is_first():
        server = MlflowRun(run, f"{config.bundle.name}-{config.bundle.version}", stage)
    tracker = Tracker(run, server)
    try:
        tracker.settings(config)
        yield tracker
    except BaseException as error:
        tracker.close("KILLED" if _was_told_to_end(error) else "FAILED")
        raise
    tracker.close("FINISHED")


def _was_told_to_end(error: BaseException) -> bool:
    if isinstance(error, SystemExit):
        return error.code == launch.ENDED
    return isinstance(error, KeyboardInterrupt)


class Steps(TrainerCallback):
    """Reports what the Trainer logs; from the first process only."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer passes it
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        """Take up the log where the training goes on."""
        if state.is_world_process_zero:
            self._tracker.resume(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer passes it
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        logs: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Report the numbers of a step."""
        if state.is_world_process_zero:
            self._tracker.step(state.global_step, numbers(logs or {}))


def _was_logged_by(step: int, line: str) -> bool:
    try:
        logged = json.loads(line)
    except json.JSONDecodeError:  # a kill left half of it
        return False
    # At step 0 the training begins anew, and ends with its summary, whatever it was resumed from.
    return bool(step > 0 and logged["step"] <= step and SUMMARY not in logged)


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The leaves of a configuration by their dotted names, as text; lists and tables as JSON."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value and f"{prefix}{key}" not in TABLES:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def numbers(nested: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers in nested figures, by their names joined with slashes; lists are left out."""
    flat: dict[str, float] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = float(value)
    return flat
