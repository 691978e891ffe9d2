"""Several processes, as torchrun starts them: one run, one bundle, and only the first writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForAudioClassification

from service.bundle import open_bundle
from service.domain import Samples
from training import config, launch, pipeline
from training.config import CONFIGS
from training.run import Run

ROOT = Path(__file__).parents[2]
# Nothing random but what is drawn by clip: one process and two see the same.
CHANGES = [
    "training.epochs=1",
    "training.learning_rate=1e-3",
    "evaluation.resamples=100",
    'teaching.probes=[{checkpoint="checkpoint", layers=[0, 1]}]',
    *(
        f"model.overrides.{part}=0.0"
        for part in (
            *("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"),
            *("final_dropout", "layerdrop"),
        )
    ),
]
BATCH = "training.batch_size={}"

FIRST = """
import sys, time
from pathlib import Path
from training.launch import first_alone, is_first

left = Path(sys.argv[1])
with first_alone():
    if is_first():
        time.sleep(1)
        left.write_text("left by the first")
    else:
        print(left.read_text())
"""


def _two_processes(*arguments: str | Path) -> str:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _logits(model: Path) -> torch.Tensor:
    opened = AutoModelForAudioClassification.from_pretrained(model).eval()
    windows: Samples = np.random.default_rng(0).standard_normal((4, 8000)).astype(np.float32)
    with torch.inference_mode():
        logits: torch.Tensor = opened(torch.from_numpy(windows)).logits
    return logits


@pytest.mark.timeout(900)
def test_two_processes_make_the_bundle_of_one(data: Path, tmp_path: Path) -> None:
    """They share each step: what they learn is what one learns of batches twice as large."""
    changes = [*CHANGES, BATCH.format(3)]
    output = _two_processes(
        *("-m", "training", "run", "smoke", "--data", data, "--run-folder", tmp_path / "two"),
        *(argument for change in changes for argument in ("--set", change)),
    )
    bundle = open_bundle(tmp_path / "two" / "bundle")
    assert output.count(bundle.digest) == 1
    log = (tmp_path / "two" / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in log]
    assert steps == sorted(steps)
    assert steps[-1] == 2  # 12 clips by 2 processes in batches of 3

    found = _logits(tmp_path / "two" / "model")
    learned = {}
    for batch in (6, 3):
        settings = config.load(str(CONFIGS / "smoke.toml"), [*CHANGES, BATCH.format(batch)])
        alone = Run(settings, data, tmp_path / f"one-{batch}")
        pipeline.train(alone)
        learned[batch] = _logits(alone.model)
    away = (learned[3] - learned[6]).abs().max()
    assert away > 1e-3
    assert (found - learned[6]).abs().max() < 0.02 * away


def test_one_process_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a launcher, or as rank 0 of several; no other rank is."""
    monkeypatch.delenv("RANK", raising=False)
    assert launch.is_first()
    monkeypatch.setenv("RANK", "0")
    assert launch.is_first()
    monkeypatch.setenv("RANK", "1")
    assert not launch.is_first()


def test_the_others_wait_for_the_first(tmp_path: Path) -> None:
    """However long it takes, they find what it left."""
    script = tmp_path / "script.py"
    script.write_text(FIRST)
    assert _two_processes(script, tmp_path / "left").count("left by the first") == 1
