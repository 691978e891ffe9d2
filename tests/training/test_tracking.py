"""Tracking: files always, an MLflow server where one is named, and no run lost to it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from benchmarks.peers.processes import free_port
from service.bundle import Bundle, open_bundle
from tests.support.models import tiny_model_bundle
from training import launch, mlflow_run, tracking
from training.config import Config, ConfigError, Evaluation, Identity, Model, Training
from training.data_settings import Data
from training.mlflow_run import TRACKING_URI

CONFIG = Config(
    bundle=Identity(name="tracked", version="1.2.3", licence="For tests only"),
    model=Model(checkpoint="checkpoint"),
    training=Training(epochs=1, batch_size=4, precision="fp32"),
)
STARTS_WITHIN_S = 300

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on a database of its own; its address."""
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/store.db"]
    stores += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *stores], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            answers(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server does."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("the MLflow server did not start")


@pytest.fixture
def tracked_at(server: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the server that the environment names."""
    monkeypatch.setenv(TRACKING_URI, server)
    return MlflowClient(server)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Something to register."""
    return tiny_model_bundle(tmp_path_factory.mktemp("bundle"))


def test_without_a_server_there_are_files(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps a line each, final figures in one file, and nothing is sent anywhere."""
    monkeypatch.delenv(TRACKING_URI, raising=False)
    with tracking.tracked(tmp_path, CONFIG, stage="train") as tracker:
        tracker.step(1, {"loss": 0.5})
        tracker.step(2, {"loss": 0.25})
        tracker.figures({"validation": {"accuracy": 0.5, "confusion": [[1]]}})
        tracker.files(tmp_path / "log.jsonl")
        tracker.bundle(bundle)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25},
    ]
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures == {"validation": {"accuracy": 0.5, "confusion": [[1]]}}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log.jsonl", "metrics.json"]


def test_a_resumed_training_takes_up_the_log_where_it_goes_on(tmp_path: Path) -> None:
    """What was logged after the checkpoint is done, and logged, again."""
    with tracking.tracked(tmp_path, CONFIG, stage="train") as tracker:
        for step in (20, 40, 60):
            tracker.step(step, {"loss": 1.0})
        tracker.resume(40)
        tracker.step(60, {"loss": 2.0})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [1.0, 1.0, 2.0]


def test_a_killed_log_is_taken_up(tmp_path: Path) -> None:
    """Half a line is left out, and so is the summary of the end, which comes again."""
    with tracking.tracked(tmp_path, CONFIG, stage="train") as tracker:
        tracker.step(20, {"loss": 1.0})
        tracker.step(20, {"train_runtime": 1.0})
        with (tmp_path / "log.jsonl").open("a") as log:
            log.write('{"step": 20, "lo')
        tracker.resume(20)
        tracker.step(40, {"loss": 2.0})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 20, "loss": 1.0},
        {"step": 40, "loss": 2.0},
    ]


def test_a_training_that_begins_again_has_a_log_of_its_own(tmp_path: Path) -> None:
    """Killed before its first checkpoint, it is looked at once more at step 0."""
    with tracking.tracked(tmp_path, CONFIG, stage="train") as tracker:
        tracker.step(0, {"eval_accuracy": 0.5})
        tracker.resume(0)
        tracker.step(0, {"eval_accuracy": 0.5})
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_the_server_has_settings_steps_figures_and_files(
    tmp_path: Path, tracked_at: MlflowClient
) -> None:
    """All stages of a folder report to one run, which ends as finished."""
    with tracking.tracked(tmp_path, CONFIG, stage="train") as tracker:
        tracker.step(20, {"loss": 0.5})
        tracker.step(40, {"loss": 0.25})
    with tracking.tracked(tmp_path, CONFIG, stage="evaluate") as tracker:
        tracker.figures({"validation": {"per_class": {"sad": {"f1": 0.75}}, "accuracy": 0.5}})
        tracker.files(tmp_path / "metrics.json")
    run = tracked_at.get_run(json.loads((tmp_path / "mlflow.json").read_text())["run_id"])
    assert run.info.run_name == "tracked-1.2.3"
    assert run.info.status == "FINISHED"
    assert run.data.tags["stage"] == "evaluate"
    assert run.data.params["training.batch_size"] == "4"
    assert run.data.params["model.checkpoint"] == "checkpoint"
    assert run.data.metrics["validation/accuracy"] == 0.5
    assert run.data.metrics["validation/per_class/sad/f1"] == 0.75
    history = tracked_at.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(20, 0.5), (40, 0.25)]
    assert [file.path for file in tracked_at.list_artifacts(run.info.run_id)] == ["metrics.json"]


def test_a_bundle_is_a_registered_version(
    tmp_path: Path, tracked_at: MlflowClient, bundle: Bundle
) -> None:
    """It has the bundle's digest, what is fetched verifies against it, and twice is once."""
    for _ in range(2):
        with tracking.tracked(tmp_path / "", CONFIG, stage="export") as tracker:
            tracker.bundle(bundle)
    [version] = tracked_at.search_model_versions("name = 'tiny'")
    assert version.tags == {"digest": bundle.digest, "version": bundle.manifest.version}
    fetched = download_artifacts(
        artifact_uri=f"models:/tiny/{version.version}",
        dst_path=str(tmp_path / "fetched"),
        tracking_uri=os.environ[TRACKING_URI],
        registry_uri=os.environ[TRACKING_URI],
    )
    assert open_bundle(Path(fetched), digest=bundle.digest).manifest == bundle.manifest


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError(), "FAILED"),
        (SystemExit(1), "FAILED"),
        (SystemExit(launch.ENDED), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_how_a_stage_ended_is_told(
    tmp_path: Path, tracked_at: MlflowClient, error: BaseException, status: str
) -> None:
    """And the error goes on to whoever started it."""

    def ends() -> None:
        with tracking.tracked(tmp_path, CONFIG, stage="train"):
            raise error

    with pytest.raises(type(error)):
        ends()
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    assert tracked_at.get_run(run_id).info.status == status


def test_a_run_that_the_server_doesn_t_know_is_begun_anew(
    tmp_path: Path, tracked_at: MlflowClient
) -> None:
    """The folder may come from where another server was."""
    (tmp_path / "mlflow.json").write_text(json.dumps({"run_id": "0" * 32}))
    with tracking.tracked(tmp_path, CONFIG, stage="train"):
        pass
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    assert tracked_at.get_run(run_id).info.status == "FINISHED"


def test_a_server_that_is_away_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, has its files, and says how much was missed."""
    monkeypatch.setenv(TRACKING_URI, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        caplog.at_level(logging.WARNING, "training.mlflow_run"),
        tracking.tracked(tmp_path, CONFIG, stage="train") as tracker,
    ):
        for step in range(100):
            tracker.step(step, {"loss": 0.5})
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 100
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 3  # at the start, at the last try, and what was missed
    assert "the run goes on without it" in warnings[0]
    assert "MLflow missed" in warnings[-1]


def test_what_a_server_missed_is_sent_when_it_is_back(
    tmp_path: Path,
    tracked_at: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In order, and nothing twice."""
    there = MlflowClient.log_batch
    away = True

    def fails(*arguments: object, **options: object) -> object:
        if away:
            raise broken_connection()
        return there(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "log_batch", fails)
    with (
        caplog.at_level(logging.WARNING, "training.mlflow_run"),
        tracking.tracked(tmp_path, CONFIG, stage="train") as tracker,
    ):
        tracker.step(1, {"loss": 1.0})
        tracker.step(2, {"loss": 2.0})
        away = False
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    history = tracked_at.get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0)]
    assert tracked_at.get_run(run_id).data.params["training.batch_size"] == "4"
    assert [record.message[:15] for record in caplog.records] == ["MLflow is away,"]


def broken_connection() -> Exception:
    """What MLflow's client raises when a connection breaks."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    return MlflowException("API request to /log-batch failed: connection refused")


def test_what_a_server_refuses_is_not_sent_for_ever(
    tmp_path: Path, tracked_at: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting cannot change within a run; that is said, and what follows is sent."""
    with tracking.tracked(tmp_path, CONFIG, stage="train"):
        pass
    changed = CONFIG.model_copy(update={"training": Training(epochs=9)})
    with (
        caplog.at_level(logging.WARNING, "training.mlflow_run"),
        tracking.tracked(tmp_path, changed, stage="train") as tracker,
    ):
        tracker.step(1, {"loss": 1.0})
    assert [record.message[:24] for record in caplog.records] == ["MLflow refused a report,"]
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    assert tracked_at.get_run(run_id).data.metrics["loss"] == 1.0


def test_what_may_change_after_the_training_is_no_parameter(
    tmp_path: Path, tracked_at: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow would refuse it, and a hundred others with it."""
    changed = CONFIG.model_copy(
        update={
            "bundle": Identity(name="tracked", version="1.2.4", licence="CC0"),
            "evaluation": Evaluation(resamples=100),
        }
    )
    with caplog.at_level(logging.WARNING, "training.mlflow_run"):
        for config in (CONFIG, changed):
            with tracking.tracked(tmp_path, config, stage="evaluate"):
                pass
    assert not caplog.records
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    names = {name.partition(".")[0] for name in tracked_at.get_run(run_id).data.params}
    assert "training" in names
    assert names.isdisjoint({"bundle", "evaluation"})


def test_words_of_a_source_are_no_names_of_parameters(
    tmp_path: Path, tracked_at: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow takes few characters in those; a table of labels is one parameter."""
    labels = {"anger (cold)": "angry", "Müde?": ""}
    named = CONFIG.model_copy(
        update={
            "data": Data(labels=labels),
            "model": Model(checkpoint="checkpoint", overrides={"mask_time_prob": 0.1}),
        }
    )
    with (
        caplog.at_level(logging.WARNING, "training.mlflow_run"),
        tracking.tracked(tmp_path, named, stage="train"),
    ):
        pass
    assert not caplog.records
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    params = tracked_at.get_run(run_id).data.params
    assert json.loads(params["data.labels"]) == labels
    assert json.loads(params["model.overrides"]) == {"mask_time_prob": 0.1}
    assert params["training.batch_size"] == "4"


def test_a_missing_client_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Naming a server and having no client is a mistake, found while it costs nothing."""
    monkeypatch.setenv(TRACKING_URI, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with (
        pytest.raises(ConfigError, match=r"pip install '\.\[track\]'"),
        tracking.tracked(tmp_path, CONFIG, stage="train"),
    ):
        pass


def test_only_the_first_process_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several, one run is made."""
    monkeypatch.setenv(TRACKING_URI, "http://127.0.0.1:1")
    monkeypatch.setenv("RANK", "1")
    with tracking.tracked(tmp_path, CONFIG, stage="train"):
        pass
    assert not list(tmp_path.iterdir())


def test_parameters_beyond_one_request_are_all_sent(
    tmp_path: Path, tracked_at: MlflowClient
) -> None:
    """MLflow takes 100 at a time."""
    server = mlflow_run.MlflowRun(tmp_path, "many", "train")
    server.settings({f"field.{number}": "x" for number in range(250)})
    server.close("FINISHED")
    run_id = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    assert len(tracked_at.get_run(run_id).data.params) == 250
