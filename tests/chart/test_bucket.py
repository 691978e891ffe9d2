"""A bundle from a bucket: the chart's own init containers, run here against a server of S3.

The commands, arguments and variables are those of the rendered pod. Its mounts are folders of the
test, and what it runs is installed beside this Python: Amazon's command line (version 1, which is
the one that PyPI has) and `timbre`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.peers.processes import free_port
from service.bundle import Bundle, open_bundle
from tests.support.audio import encoded, speech_like
from tests.support.charts import Manifest, one, rendered, server
from tests.support.models import tiny_model_bundle
from tests.support.server import PATIENCE_S, eventually, serving
from tests.support.tools import find

FOLDER = "speech/1.2.0"
KEY = "[default]\naws_access_key_id = somebody\naws_secret_access_key = secret\n"


@dataclass(frozen=True)
class Bucket:
    """A bucket called models, with a bundle in a folder of it."""

    endpoint: str
    credentials: Path
    bundle: Bundle

    def put(self, source: Path, folder: str) -> None:
        """Upload a folder, as the bundle's owner does."""
        self.aws("sync", str(source), _url(folder))

    def aws(self, *arguments: str) -> None:
        """Run Amazon's command line as the bucket's owner."""
        done = _run(
            str(find("aws")),
            "s3",
            *arguments,
            AWS_ENDPOINT_URL_S3=self.endpoint,
            AWS_SHARED_CREDENTIALS_FILE=str(self.credentials),
        )
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Pod:
    """A pod of the chart's: its specification, and the folder that stands for its mounts."""

    manifests: tuple[Manifest, ...]
    root: Path

    def start(self) -> list[tuple[str, subprocess.CompletedProcess[str]]]:
        """Run its init containers in their order, up to one that fails, as Kubernetes does."""
        done: list[tuple[str, subprocess.CompletedProcess[str]]] = []
        for container in server(self.manifests)["initContainers"]:
            done.append((container["name"], self._run(container)))
            if done[-1][1].returncode:
                break
        return done

    @property
    def served(self) -> Path:
        """The folder that the server is told of."""
        return Path(self._here(one(self.manifests, "ConfigMap")["data"]["TIMBRE_BUNDLE"]))

    def _run(self, container: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        program, *arguments = map(self._here, [*container["command"], *container["args"]])
        given = {entry["name"]: self._here(entry["value"]) for entry in container.get("env", ())}
        return _run(str(find(program)), *arguments, **given)

    def _here(self, argument: str) -> str:
        return f"{self.root}{argument}" if argument.startswith("/") else argument


def _run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program that knows no credentials but those it is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        command,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A server of S3 on loopback, and the bundle as its owner uploads it."""
    folder = tmp_path_factory.mktemp("bucket")
    bundle = tiny_model_bundle(folder / "tiny")
    credentials = folder / "credentials"
    credentials.write_text(KEY, encoding="utf-8")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [str(find("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def answers() -> bool:
        try:
            return httpx.get(endpoint).is_success
        except httpx.TransportError:
            return False

    try:
        eventually(answers, "the server of S3")
        found = Bucket(endpoint, credentials, bundle)
        found.aws("mb", "s3://models")
        found.put(bundle.folder, FOLDER)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _url(folder: str) -> str:
    return f"s3://models/{folder}"


@pytest.fixture
def pod(bucket: Bucket, tmp_path: Path) -> Callable[..., Pod]:
    """Make a pod that wants the bundle of that digest in a folder of the bucket."""
    for folder, content in (("s3", KEY), ("bundle", None), ("tmp", None)):
        (tmp_path / folder).mkdir()
        if content:
            (tmp_path / folder / "credentials").write_text(content, encoding="utf-8")

    def make(digest: str = bucket.bundle.digest, folder: str = FOLDER) -> Pod:
        s3 = {"url": _url(folder), "endpoint": bucket.endpoint, "credentialsSecret": "models"}
        return Pod(rendered({"bundle": {"source": "s3", "digest": digest, "s3": s3}}), tmp_path)

    return make


def test_it_is_downloaded_checked_and_served(
    bucket: Bucket, pod: Callable[..., Pod], tmp_path: Path
) -> None:
    """A clip is answered by the model of the bucket."""
    started = pod()
    (fetched, downloaded), (checked, verified) = started.start()
    assert (fetched, checked) == ("download-bundle", "verify-bundle")
    assert downloaded.returncode == 0, downloaded.stderr
    assert verified.stdout.startswith(f"OK tiny 1.0.0 {bucket.bundle.digest}")
    with serving(open_bundle(started.served), tmp_path / "log") as server:
        answer = httpx.post(
            f"{server.url}/v1/classify", content=encoded(speech_like(2)), timeout=PATIENCE_S
        )
    assert answer.json()["model"]["name"] == "tiny"


def test_another_than_was_asked_for_is_refused(bucket: Bucket, pod: Callable[..., Pod]) -> None:
    """The server never starts, and a sentence names both digests."""
    wanted = f"sha256:{'0' * 64}"
    *_, (last, refused) = pod(wanted).start()
    assert (last, refused.returncode) == ("verify-bundle", 1)
    assert wanted in refused.stderr
    assert bucket.bundle.digest in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_that_is_damaged_is_refused(
    bucket: Bucket, pod: Callable[..., Pod], tmp_path: Path
) -> None:
    """In a sentence that names it, though bundle.json is the one that was asked for."""
    copy = Path(shutil.copytree(bucket.bundle.folder, tmp_path / "copy"))
    damaged = next(copy.rglob("*.bin"))
    damaged.write_bytes(bytes(damaged.stat().st_size))
    bucket.put(copy, "speech/damaged")
    *_, (last, refused) = pod(folder="speech/damaged").start()
    assert (last, refused.returncode) == ("verify-bundle", 1)
    assert damaged.name in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_folder_that_is_not_there_is_refused(pod: Callable[..., Pod]) -> None:
    """Downloading nothing is no error to `aws`, so that the check has to find it."""
    (_, downloaded), (last, refused) = pod(folder="speech/9.9.9").start()
    assert downloaded.returncode == 0
    assert (last, refused.returncode) == ("verify-bundle", 1)
    assert "has no bundle.json to read" in refused.stderr
