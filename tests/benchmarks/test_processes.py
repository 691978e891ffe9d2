"""A measured server leaves nothing behind, however the measurement ends."""

from __future__ import annotations

import itertools
import socket
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from benchmarks.peers import processes
from benchmarks.peers.processes import PORTS, NotServing, family, free_port, serving

SERVER = textwrap.dedent(
    """
    import http.server, subprocess, sys
    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    subprocess.Popen(wait, start_new_session=True)
    http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
    """
)
"""With a child that has left its group."""


def test_a_port_stays_free_until_it_is_listened_on() -> None:
    """Neither the system's own choices nor the next ask give it to anybody else."""
    given = {free_port() for _ in range(1000)}
    assert len(given) == 1000
    assert given < set(PORTS)


def test_a_port_that_is_listened_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is taken, and an end of them is said."""
    taken, free = free_port(), free_port()
    monkeypatch.setattr(processes, "_PORTS", itertools.cycle([taken, free]))
    with socket.create_server(("127.0.0.1", taken)):
        assert free_port() == free
        monkeypatch.setattr(processes, "_PORTS", itertools.cycle([taken]))
        with pytest.raises(NotServing, match="No port of 20000 to 29999 is free"):
            free_port()


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, RuntimeError])
def test_a_server_goes_with_all_its_processes(
    tmp_path: Path, end: type[BaseException] | None
) -> None:
    """At the end, on Ctrl-C and after an error alike."""
    port, members = free_port(), list[psutil.Process]()
    command = [sys.executable, "-c", SERVER, str(port)]

    def measure() -> None:
        with serving(command, {}, port, "/", tmp_path / "log") as server:
            members.extend(family(server.process))
            assert server.cpu_s() > 0
            assert server.memory() > 0
            if end is not None:
                raise end

    if end is None:
        measure()
    else:
        with pytest.raises(end):
            measure()
    assert len(members) == 2
    _, alive = psutil.wait_procs(members, timeout=5)
    assert not alive


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    """What it wrote is there."""
    log = tmp_path / "logs" / "log"
    command = [sys.executable, "-c", "raise SystemExit('no model')"]
    with (
        pytest.raises(NotServing, match=r"exited with 1; see .*log"),
        serving(command, {}, free_port(), "/", log),
    ):
        pass
    assert "no model" in log.read_text()
