"""A training that is killed goes on to the same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from training.checkpoints import CHECKPOINTS, COMPLETE
from training.launch import ENDED

CONFIG = """
[bundle]
name = "killed"
version = "0.0.1"
licence = "For tests only"
[windows]
window_s = 1.0
hop_s = 0.5
[model]
checkpoint = "checkpoint"
freeze = "nothing"
[model.overrides]
final_dropout = 0.3
[training]
epochs = 30
batch_size = 2
checkpoint_steps = 4
precision = "fp32"
keep = "average"
average_decay = 0.9
[sampling]
balanced = true
[augmentation]
speed_probability = 1.0
noise_probability = 1.0
room_probability = 0.5
[[teaching.probes]]
checkpoint = "checkpoint"
layers = [0, 1]
"""
STEPS_AN_EPOCH = 6
TIMEOUT_S = 300


def _start(config: Path, data: Path, run: Path) -> subprocess.Popen[bytes]:
    command = ["train", str(config), "--data", str(data), "--run", str(run)]
    with (run.parent / f"{run.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "training", *command], stdout=log, stderr=log
        )


def _finish(config: Path, data: Path, run: Path) -> dict[str, bytes]:
    process = _start(config, data, run)
    assert process.wait(TIMEOUT_S) == 0, (run.parent / f"{run.name}.log").read_text()
    weights = load_file(run / "model" / "model.safetensors")
    return {name: weight.numpy().tobytes() for name, weight in weights.items()}


@pytest.mark.timeout(3 * TIMEOUT_S)
def test_a_killed_training_ends_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    """To the bit, though it was killed in the middle of an epoch, and told to end in another.

    Everything that chance has a say in is on: balanced drawing, augmentation, dropout; and the
    result is the average over the steps, which must go on as well, taught by the same teachers.
    """
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    expected = _finish(config, data, tmp_path / "whole")

    killed = tmp_path / "killed"
    process = _start(config, data, killed)
    assert 8 % STEPS_AN_EPOCH
    _wait(process, killed, 8)
    process.send_signal(signal.SIGKILL)
    process.wait()

    process = _start(config, data, killed)
    _wait(process, killed, 16)
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == ENDED
    assert not (killed / "model").exists()

    assert _finish(config, data, killed) == expected


def _wait(process: subprocess.Popen[bytes], run: Path, step: int) -> None:
    """Wait until a training has a whole checkpoint of a step."""
    checkpoint = run / CHECKPOINTS / f"checkpoint-{step}"
    deadline = time.monotonic() + TIMEOUT_S
    while not (checkpoint / COMPLETE).is_file():
        assert process.poll() is None, "it ended before it was to"
        assert time.monotonic() < deadline
        time.sleep(0.01)
