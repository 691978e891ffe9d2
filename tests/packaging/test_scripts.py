"""Every script of the shell, as shellcheck sees it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLCHECK = Path(sysconfig.get_path("scripts")) / "shellcheck"


def scripts() -> list[str]:
    """Those that git knows of or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.sh", ".ci/run"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    return listed.stdout.split()


@pytest.mark.parametrize("name", scripts())
def test_shellcheck_finds_nothing(name: str) -> None:
    """With every check that it has on by default; those switched off are so in the script."""
    done = subprocess.run(
        [SHELLCHECK, "--external-sources", name],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_scripts_are_found() -> None:
    """Among them the one that makes a cluster."""
    assert {".ci/run", "k8s/kind/cluster.sh"} <= set(scripts())
