"""`timbre serve`: what it checks, what it becomes, and the real server it becomes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from benchmarks.peers.processes import free_port
from service.bundle import DEFAULT_BUNDLE, Bundle
from service.cli import main
from service.cli import serve as serve_module
from tests.support.audio import encoded, speech_like
from tests.support.tokens import FIRST, Secret

ROOT = Path(__file__).parents[2]
START = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import service.cli as cli; cli.main()"
SERVING = '"message": "serving '


def timbre(*arguments: object) -> Result:
    """Run `timbre` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


class Server:
    """A `timbre serve` that is ready."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.log: list[str] = []
        self._serving_or_ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_until_ready(self) -> None:
        """Wait for the line that says what is served, or the end of what it says."""
        self._serving_or_ended.wait(timeout=60)
        assert any(SERVING in line for line in self.log), "".join(self.log)
        assert httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200, "".join(self.log)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if SERVING in line:
                self._serving_or_ended.set()
        self._serving_or_ended.set()


@contextmanager
def served(folder: Path, *arguments: object) -> Iterator[Server]:
    """Serve from `folder`, as a process group of its own, like a shell's."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", START, "serve", "--port", str(port), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            server = Server(process, f"http://127.0.0.1:{port}")
            server.wait_until_ready()
            yield server
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def elsewhere(tiny_model: Bundle, tmp_path: Path) -> Path:
    """Make a folder whose own `service` is not ours, and where the bundle's path is relative."""
    (tmp_path / "service.py").write_text("raise SystemExit('the wrong service')")
    (tmp_path / "model").symlink_to(tiny_model.folder)
    return tmp_path


def test_it_serves_from_any_folder_and_ends_on_sigterm(elsewhere: Path) -> None:
    """Ready, it classifies as offline does; on SIGTERM it answers what is inside and exits 0."""
    clip = elsewhere / "clip.wav"
    clip.write_bytes(encoded(speech_like(3, 1)))
    with served(elsewhere, "--bundle", "model") as server:
        online = timbre("classify", clip, "--json", "--timeline", "--url", server.url)
        offline = timbre("classify", clip, "--json", "--timeline", "--bundle", elsewhere / "model")
        assert online.exit_code == offline.exit_code == 0
        told, expected = json.loads(online.stdout), json.loads(offline.stdout)
        assert told.pop("probabilities") == pytest.approx(expected.pop("probabilities"), abs=1e-4)
        assert told["label"] == expected["label"]
        assert told["audio"] == expected["audio"]
        assert len(told["segments"]) == len(expected["segments"])

        # The server says 100 when it has begun to read the request: from here it is inside.
        body = clip.read_bytes()
        with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0), 30) as line:
            line.sendall(
                b"POST /v1/classify HTTP/1.1\r\nhost: timbre\r\nexpect: 100-continue\r\n"
                b"content-length: %d\r\n\r\n" % len(body)
            )
            assert line.recv(1024).startswith(b"HTTP/1.1 100")
            server.process.terminate()
            line.sendall(body)
            answer = http.client.HTTPResponse(line)
            answer.begin()
            assert answer.status == 200
            assert json.loads(answer.read())["label"] == told["label"]
        assert server.process.wait(timeout=30) == 0, server.log


def test_it_ends_on_ctrl_c(elsewhere: Path) -> None:
    """A terminal sends SIGINT to all its processes: exit code 0 and no traceback."""
    with served(elsewhere, "--bundle", "model") as server:
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(timeout=30) == 0, server.log
    assert not [line for line in server.log if "Traceback" in line]


class TestBecoming:
    """What the process becomes."""

    @pytest.fixture
    def became(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        """Record what would be executed."""
        seen: dict[str, object] = {}

        def execve(_: str, arguments: list[str], environment: Mapping[str, str]) -> None:
            seen.update(arguments=arguments, environment=environment)

        monkeypatch.setattr(os, "execve", execve)
        return seen

    def test_bentoml_is_told_where_and_how(
        self, tiny_model: Bundle, became: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Address, idle time-out and bundle; nothing is reported to anybody."""
        monkeypatch.chdir(tiny_model.folder.parent)
        port = free_port()
        result = timbre("serve", "--host", "localhost", "--port", port, "--bundle", "bundle")
        assert result.exit_code == 0
        arguments, environment = became["arguments"], became["environment"]
        assert isinstance(arguments, list)
        assert isinstance(environment, Mapping)
        options = dict(zip(arguments[6::2], arguments[7::2], strict=True))
        assert options == {
            "--host": "127.0.0.1",
            "--port": str(port),
            "--working-dir": str(ROOT),
        }
        assert environment["TIMBRE_INTERNAL_HOST"] == "127.0.0.1"
        assert "TIMBRE_TOKEN_FILE" not in environment
        assert environment["TIMBRE_BUNDLE"] == str(tiny_model.folder)
        assert environment["BENTOML_DO_NOT_TRACK"] == "True"

    def test_the_internal_port_is_opened_where_the_other_is(
        self, tiny_model: Bundle, became: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On the address of --host, unless it is told another."""
        monkeypatch.setenv("TIMBRE_BUNDLE", str(tiny_model.folder))
        for told, host in (("", "0.0.0.0"), ("127.0.0.2", "127.0.0.2")):  # noqa: S104
            monkeypatch.setenv("TIMBRE_INTERNAL_HOST", told)
            assert timbre("serve", "--host", "0.0.0.0", "--port", free_port()).exit_code == 0  # noqa: S104
            environment = became["environment"]
            assert isinstance(environment, Mapping)
            assert environment["TIMBRE_INTERNAL_HOST"] == host

    def test_a_token_file_is_found_from_where_the_user_is(
        self,
        tiny_model: Bundle,
        became: dict[str, object],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """By its own path: what a link leads to may change."""
        monkeypatch.setenv("TIMBRE_BUNDLE", str(tiny_model.folder))
        monkeypatch.setenv("TIMBRE_TOKEN_FILE", "tokens")
        monkeypatch.chdir(tmp_path)
        assert Secret(tmp_path, FIRST).file.is_symlink()
        assert timbre("serve", "--port", free_port()).exit_code == 0
        environment = became["environment"]
        assert isinstance(environment, Mapping)
        assert environment["TIMBRE_TOKEN_FILE"] == str(tmp_path / "tokens")

    def test_the_three_useful_addresses_are_told(
        self, tiny_model: Bundle, became: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In one line that a terminal makes links of, also for every interface and IPv6."""
        monkeypatch.setenv("TIMBRE_BUNDLE", str(tiny_model.folder))
        port = free_port()
        result = timbre("serve", "--host", "0.0.0.0", "--port", port)  # noqa: S104
        assert became
        assert result.stderr == (
            f"Timbre on http://localhost:{port} (try it) http://localhost:{port}/docs (reference) "
            f"http://localhost:{port}/v1/classify (POST a clip)\n"
        )
        assert "http://[::1]:80/docs" in serve_module._welcome("::1", 80)


class TestChecks:
    """What is wrong is one sentence, before anything is started."""

    @pytest.fixture(autouse=True)
    def _bundle(self, tiny_model: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIMBRE_BUNDLE", str(tiny_model.folder))

    def test_a_wrong_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It names the variable and its value."""
        monkeypatch.setenv("TIMBRE_STREAMS", "many")
        result = timbre("serve")
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: TIMBRE_STREAMS='many': ")
        assert result.stderr.count("\n") == 1

    def test_a_missing_bundle(self, tmp_path: Path) -> None:
        """It says where was looked, and how to say where to look."""
        result = timbre("serve", "--bundle", tmp_path)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: The bundle {tmp_path} has no bundle.json to read")
        assert result.stderr.count("\n") == 1

    def test_a_missing_fallback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is looked for when the server starts, and not when the queue is long."""
        monkeypatch.setenv("TIMBRE_FALLBACK_BUNDLE", str(tmp_path))
        result = timbre("serve", "--port", free_port())
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: The bundle {tmp_path} has no bundle.json to read")

    def test_a_fallback_that_would_come_too_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Clips that would wait so long are refused."""
        monkeypatch.setenv("TIMBRE_FALLBACK_BUNDLE", str(DEFAULT_BUNDLE))
        monkeypatch.setenv("TIMBRE_FALLBACK_QUEUE_S", "3")
        monkeypatch.setenv("TIMBRE_QUEUE_S", "3")
        result = timbre("serve", "--port", free_port())
        assert result.exit_code == 1
        assert "TIMBRE_FALLBACK_QUEUE_S=3 must be below TIMBRE_QUEUE_S=3" in result.stderr

    def test_a_body_that_may_come_as_late_as_the_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A slow client's 408 would be the server's 504."""
        monkeypatch.setenv("TIMBRE_DEADLINE_S", "15")
        result = timbre("serve", "--port", free_port())
        assert result.exit_code == 1
        assert "TIMBRE_BODY_TIMEOUT_S=15 must be below TIMBRE_DEADLINE_S=15: " in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_port_that_is_taken(self) -> None:
        """Another server's port is named, and the option to choose another."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            result = timbre("serve", "--port", port)
        assert result.exit_code == 1
        assert f"Cannot listen on 127.0.0.1 port {port}" in result.stderr
        assert "--port" in result.stderr

    def test_an_internal_port_that_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By another server, or by this one."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            monkeypatch.setenv("TIMBRE_INTERNAL_PORT", str(port))
            result = timbre("serve", "--port", free_port())
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: Cannot listen on 127.0.0.1 port {port} for /metrics: Address already in use; "
            "TIMBRE_INTERNAL_PORT chooses another port, 0 none.\n"
        )
        result = timbre("serve", "--port", port)
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: TIMBRE_INTERNAL_PORT={port} is the public port; take another.\n"
        )

    def test_a_token_file_that_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """It says what to write into one."""
        monkeypatch.setenv("TIMBRE_TOKEN_FILE", str(tmp_path / "tokens"))
        result = timbre("serve", "--port", free_port())
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: The token file {tmp_path / 'tokens'} cannot be")
        assert result.stderr.count("\n") == 1

    @pytest.mark.parametrize("wrong", [("--host", "nowhere"), ("--port", "0"), ("--port", "65536")])
    def test_a_wrong_address(self, wrong: tuple[str, str]) -> None:
        """Wrong usage: exit code 2."""
        assert timbre("serve", *wrong).exit_code == 2

    def test_help_teaches(self) -> None:
        """An example to copy, and where the other settings are."""
        told = timbre("serve", "--help").stdout
        assert "curl --data-binary @clip.wav http://localhost:3000/v1/classify" in told
        assert "docs/settings.md" in told
