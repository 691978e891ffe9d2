"""Several processes, as torchrun starts them: one run, one bundle, and only the first writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.bundle import open_bundle
from training import launch

ROOT = Path(__file__).parents[2]
CHANGES = ["training.epochs=1", "training.batch_size=3", "evaluation.resamples=100"]


@pytest.mark.timeout(900)
def test_torchrun_makes_one_sealed_bundle(data: Path, tmp_path: Path) -> None:
    """Two processes share each step, and leave what one leaves."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["run", "smoke", "--data", str(data), "--run-folder", str(tmp_path / "run")]
    changes = [argument for change in CHANGES for argument in ("--set", change)]
    done = subprocess.run(
        [sys.executable, *command, "-m", "training", *arguments, *changes],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    bundle = open_bundle(tmp_path / "run" / "bundle")
    assert done.stdout.count(bundle.digest) == 1
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in log]
    assert steps == sorted(steps)
    assert steps[-1] == 2  # 12 clips by 2 processes in batches of 3
    assert [folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()] == [
        "checkpoint-2"
    ]


def test_one_process_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher, or as rank 0 of several; no other rank is."""
    monkeypatch.delenv("RANK", raising=False)
    assert launch.is_first()
    monkeypatch.setenv("RANK", "0")
    assert launch.is_first()
    monkeypatch.setenv("RANK", "1")
    assert not launch.is_first()


def test_one_process_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its block runs once."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launch.first_alone():
        ran = True
    assert ran
