"""The command line of training: what it says before anything heavy is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from training import config
from training.__main__ import main

STAGES = ("run", "prepare", "train", "evaluate", "export")


def invoke(*arguments: str) -> tuple[int, str]:
    """Exit code and output."""
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_the_help_teaches() -> None:
    """Examples that can be copied, every stage, and what a configuration is."""
    code, output = invoke("--help")
    assert code == 0
    assert "\n    python -m training run compact --data ../data --run runs/compact\n" in output
    assert all(f"\n  {stage} " in output for stage in STAGES)
    assert "states only what differs" in output


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_explains_itself(stage: str) -> None:
    """What it reads and makes, and the arguments that all share."""
    code, output = invoke(stage, "--help")
    assert code == 0
    for words in ("CONFIG", "--data", "--run", "--set SECTION.FIELD=VALUE", "RUN"):
        assert words in output


@pytest.mark.parametrize("stage", [*STAGES, "distil"])
def test_a_run_can_be_named_under_torchrun(stage: str) -> None:
    """It takes --run for an abbreviation of its own --run-path."""
    assert "--run-folder" in invoke(stage, "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nonsense", "--data", "."], "Error: No configuration 'nonsense': give a file, or"),
        (["run", "smoke", "--data", ".", "--set", "epochs=1"], "write section.field=value"),
        (["run", "smoke", "--data", ".", "--set", "training.epoks=1"], "training.epoks"),
        (["train", "smoke", "--data", ".", "--set", "training.epochs=x"], "training.epochs"),
        (["train", "smoke", "--data", ".", "--set", "bundle.name.x=1"], "name is no section"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: list[str], said: str) -> None:
    """No traceback, and exit code 1."""
    code, output = invoke(*arguments)
    assert (code, output.count("\n")) == (1, 1)
    assert said in output


@pytest.mark.parametrize("arguments", [["compare", "smoke"], ["baselines"]])
def test_what_one_process_does_is_refused_to_several(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would write the same files."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, output = invoke(*arguments, "--data", str(tmp_path))
    assert (code, output.count("\n")) == (1, 1)
    assert f"`{arguments[0]}` is the work of one process" in output


def test_neither_help_nor_a_wrong_argument_waits_for_torch(tmp_path: Path) -> None:
    """In a process of its own, since this one has long loaded it."""
    code = (
        "import sys; from click.testing import CliRunner; from training.__main__ import main\n"
        "for line in (['--help'], ['train', '--help'], ['show', 'smoke'],"
        f" ['run', 'nonsense', '--data', {str(tmp_path)!r}]):\n"
        "    CliRunner().invoke(main, line)\n"
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_configuration_is_shown_with_its_defaults() -> None:
    """As JSON that makes the same configuration again."""
    code, output = invoke("show", "smoke", "--set", "training.epochs=7")
    assert code == 0
    shown = config.Config.model_validate(json.loads(output))
    assert shown == config.load("smoke", ["training.epochs=7"])
    assert shown.training.epochs == 7


def test_changes_are_values_of_toml_or_text() -> None:
    """Numbers, lists and quoted text as TOML has them; what is no TOML is text as it stands."""
    changed = config.load(
        "smoke",
        [
            "model.checkpoint=weights/other",
            'bundle.version="0.2"',
            "augmentation.snr_db=[0, 10]",
            "training.max_clips=5",
        ],
    )
    assert changed.model.checkpoint == "weights/other"
    assert changed.bundle.version == "0.2"
    assert changed.augmentation.snr_db == (0, 10)
    assert changed.training.max_clips == 5
