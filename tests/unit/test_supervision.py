"""How the supervisor finds its worker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.supervision import TASKS, WORKER, find_worker

ASLEEP = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def child() -> Iterator[int]:
    """Start a child that is called a worker."""
    with subprocess.Popen([*ASLEEP, WORKER.decode()], stdin=subprocess.PIPE) as process:
        yield process.pid


def task(tasks: Path, name: str, *children: int) -> Path:
    """Write what Linux tells of a thread; its list of children."""
    (tasks / name).mkdir(parents=True)
    listed = tasks / name / "children"
    listed.write_text(" ".join(map(str, children)), encoding="ascii")
    return listed


class TestFindWorker:
    """`find_worker`."""

    def test_it_is_among_the_children_of_this_process(self, child: int) -> None:
        """Whichever thread started it."""
        assert find_worker(TASKS) == child

    def test_children_of_other_kinds_are_none(self, tmp_path: Path) -> None:
        """By their command."""
        with subprocess.Popen(ASLEEP, stdin=subprocess.PIPE) as other:
            task(tmp_path, "1", other.pid)
            assert find_worker(tmp_path) is None

    def test_threads_and_children_that_have_ended_hide_nothing(
        self, child: int, tmp_path: Path
    ) -> None:
        """Between the look at what there is and the look at it: the search goes on."""
        gone = task(tmp_path, "1")
        gone.unlink()
        gone.mkdir()  # listed, and then not to be read
        with subprocess.Popen(ASLEEP, stdin=subprocess.PIPE) as ended:
            pass
        task(tmp_path, "2", ended.pid)
        assert find_worker(tmp_path) is None
        task(tmp_path, "3", ended.pid, child)
        assert find_worker(tmp_path) == child
