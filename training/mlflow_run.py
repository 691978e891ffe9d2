"""A run on an MLflow server that may be away: what it can't take now is sent another time."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from service.bundle import Bundle
from training.config import ConfigError
from training.run import MLFLOW_RUN

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

TRACKING_URI = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
DEFAULT_EXPERIMENT = "timbre"
PAUSE_S = 60.0
"""After a failure the server is left alone for so long, in seconds: each try may cost some."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Of MLflow's client, unless the environment has its own: by default it retries for minutes."""
MOST_PARAMETERS = 100
"""In one request, by MLflow's limits; of metrics it takes 1000, which no run has."""
SERVER_FAULT = 500
"""HTTP status from which the fault is the server's and may pass; below, asking again is vain."""

_log = logging.getLogger(__name__)


class MlflowRun:
    """An MLflow run on a server that may be away."""

    def __init__(self, run: Path, name: str, stage: str) -> None:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        try:
            from mlflow import MlflowClient  # noqa: PLC0415 - only where a server is named
        except ImportError as error:
            raise ConfigError(
                f"{TRACKING_URI} is set, but MLflow is not installed: "
                "in a checkout of Timbre, pip install '.[track]', or unset it."
            ) from error
        self._file = run / MLFLOW_RUN
        self._name = name
        self._stage = stage
        self._client: MlflowClient = MlflowClient()
        self._run_id = ""
        self._refused = False
        self._waiting: deque[Callable[[], object]] = deque()
        self._rests_until = 0.0
        self._send(self._open)

    def settings(self, values: Mapping[str, str]) -> None:
        """Send parameters."""
        from mlflow.entities import Param  # noqa: PLC0415 - as above

        params = [Param(key, value) for key, value in values.items()]
        for start in range(0, len(params), MOST_PARAMETERS):
            chunk = params[start : start + MOST_PARAMETERS]
            self._send(partial(self._log, params=chunk))

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Send metrics of a step."""
        from mlflow.entities import Metric  # noqa: PLC0415 - as above

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        self._send(partial(self._log, metrics=metrics))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Send a file, or what is in a folder."""
        if path.is_dir():
            self._send(lambda: self._client.log_artifacts(self._run_id, str(path), folder))
        else:
            self._send(lambda: self._client.log_artifact(self._run_id, str(path), folder))

    def register(self, bundle: Bundle) -> None:
        """Send a bundle, and register it as a version of its model unless it is one."""
        # A folder of its own: what a version was registered with never changes under it.
        folder = f"bundle/{bundle.digest.removeprefix('sha256:')[:12]}"
        self.artifact(bundle.folder, folder)
        self._send(lambda: self._register(bundle, folder))

    def close(self, status: str) -> None:
        """Try once more to send what waits, and end with MLflow's name for how it ended."""
        self._send(lambda: self._client.set_terminated(self._run_id, status), now=True)
        if self._waiting:
            _log.warning(
                "MLflow missed %d reports of %s; the run's folder has what they said.",
                len(self._waiting),
                self._stage,
            )

    def _send(self, action: Callable[[], object], *, now: bool = False) -> None:
        """Do what waits, in order, and then `action`; what fails is done another time."""
        if self._refused:
            return
        self._waiting.append(action)
        if time.monotonic() < self._rests_until and not now:
            return
        while self._waiting and not self._refused:
            try:
                self._waiting[0]()
            except Exception as error:  # noqa: BLE001 - whatever it is, the run is worth more
                if _passes(error):
                    _log.warning("MLflow is away, the run goes on without it: %s", _line(error))
                    self._rests_until = time.monotonic() + PAUSE_S
                    return
                _log.warning("MLflow refused a report, the run goes on: %s", _line(error))
                self._refused |= not self._run_id
            self._waiting.popleft()

    def _open(self) -> None:
        """Go on with the run that an earlier stage began, or begin one."""
        if self._file.is_file():
            run_id = json.loads(self._file.read_text(encoding="utf-8"))["run_id"]
            if self._knows(run_id):
                self._run_id = run_id
                self._client.update_run(run_id, status="RUNNING")
        if not self._run_id:
            experiment = os.environ.get(EXPERIMENT, DEFAULT_EXPERIMENT)
            found = self._client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else self._client.create_experiment(experiment)
            self._run_id = self._client.create_run(number, run_name=self._name).info.run_id
            self._file.write_text(json.dumps({"run_id": self._run_id}) + "\n", encoding="utf-8")
        self._client.set_tag(self._run_id, "stage", self._stage)

    def _knows(self, run_id: str) -> bool:
        """Whether the run is on this server; the folder may come from where another one was."""
        try:
            found = self._client.get_run(run_id)
        except Exception as error:
            if _passes(error):
                raise
            return False
        return bool(found.info.lifecycle_stage == "active")

    def _log(self, *, params: Sequence[Param] = (), metrics: Sequence[Metric] = ()) -> None:
        # The run has its id only when its turn has come.
        self._client.log_batch(self._run_id, metrics=metrics, params=params)

    def _register(self, bundle: Bundle, folder: str) -> None:
        manifest = bundle.manifest
        if not self._client.search_registered_models(f"name = '{manifest.name}'"):
            self._client.create_registered_model(manifest.name)
        versions = self._client.search_model_versions(f"name = '{manifest.name}'")
        if any(version.tags.get("digest") == bundle.digest for version in versions):
            return
        source = f"{self._client.get_run(self._run_id).info.artifact_uri}/{folder}"
        tags = {"digest": bundle.digest, "version": manifest.version}
        self._client.create_model_version(manifest.name, source, self._run_id, tags=tags)


def _passes(error: Exception) -> bool:
    """Whether the same request may succeed another time."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - as above

    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        return status >= SERVER_FAULT
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= SERVER_FAULT
    return isinstance(error, requests.RequestException)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
