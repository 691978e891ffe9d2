"""training/dvc.yaml in a git repository of its own, with DVC and a remote in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest
import yaml

from service.bundle import open_bundle
from training.config import Config

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "training" / "dvc.yaml"
STAGES = {"configure", "prepare", "train", "evaluate", "export"}

CONFIG = """
[bundle]
name = "tracked"
version = "1.0.0"
licence = "For tests only"
[windows]
window_s = 1.0
hop_s = 0.5
[model]
checkpoint = "checkpoint"
[training]
epochs = 1
batch_size = 4
precision = "fp32"
[evaluation]
resamples = 100
"""

Program = Callable[..., str]


def stages() -> dict[str, dict[str, list[object]]]:
    """The stages as the file has them."""
    found: dict[str, dict[str, list[object]]] = yaml.safe_load(PIPELINE.read_text())["stages"]
    return found


def depends_on(stage: str) -> set[str]:
    """The sections of the configuration that a stage depends on."""
    names: set[str] = set()
    for entry in stages()[stage].get("params", ()):
        assert isinstance(entry, dict)
        for fields in entry.values():
            names |= {field.partition(".")[0] for field in fields}
    return names


def test_every_section_of_the_configuration_is_some_stage_s() -> None:
    """A new one would otherwise change nothing."""
    assert {name for stage in stages() for name in depends_on(stage)} == set(Config.model_fields)


def test_the_training_depends_on_what_it_holds_its_folder_to() -> None:
    """What is called another run there is another run here, and the other way round."""
    after = {"bundle", "evaluation"}
    assert depends_on("train") == set(Config.model_fields) - after


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "export"])
def test_a_stage_depends_on_what_its_clips_are_chosen_by(stage: str) -> None:
    """Clips of validation or test may become others, and the model the same."""
    assert "${data}" in stages()[stage]["deps"]
    assert {"data", "training"} <= depends_on(stage)


def test_code_that_stages_depend_on_is_there() -> None:
    """DVC would refuse to start."""
    code = [
        dep for stage in stages().values() for dep in stage["deps"] if str(dep).startswith("train")
    ]
    assert code
    assert all((ROOT / str(dep)).exists() for dep in code)


MADE_BY = {
    "configure": ("config",),
    "prepare": ("data", "data_report"),
    "train": ("data", "noises", "train"),
    "evaluate": (
        "evaluation.assess",
        "evaluation.noise",
        "evaluation.report",
        "evaluation.scores",
        "export",
        "whisper",
    ),
    "export": ("evaluation.report", "export"),
}
"""The modules that do a stage's work."""


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_all_the_code_that_it_runs(stage: str) -> None:
    """A module that is imported and isn't listed would change results and do nothing again."""
    graph = grimp.build_graph("training", cache_dir=None)
    made_by = {f"training.{name}" for name in MADE_BY[stage]}
    modules = made_by.union(*map(graph.find_upstream_modules, made_by))
    listed = {dep for dep in map(str, stages()[stage]["deps"]) if dep.startswith("training/")}
    missing = []
    for module in modules:
        path = Path(*module.split("."))
        file = path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        if listed.isdisjoint(place.as_posix() for place in (file, *file.parents)):
            missing.append(file.as_posix())
    assert not missing


@pytest.fixture
def project(data: Path, tmp_path: Path) -> Path:
    """A git repository with the code, a configuration and the recordings."""
    folder = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "training", folder / "training", ignore=ignored)
    shutil.copytree(data, folder / "data")
    (folder / "tiny.toml").write_text(CONFIG)
    settings = {"config": "tiny.toml", "data": "data", "run": "runs/tiny"}
    (folder / "training" / "params.yaml").write_text(yaml.safe_dump(settings))
    (folder / ".gitignore").write_text("data/\nruns/\n__pycache__/\n")
    return folder


@pytest.fixture
def program(project: Path, tmp_path: Path) -> Program:
    """Run a program in the project, away from the settings of whoever tests; its output."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "DVC_GLOBAL_CONFIG_DIR": str(home),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "DVC_SYSTEM_CONFIG_DIR": str(home),
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_AUTHOR_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "HOME": str(home),
        # The stages' `python` is this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
    }

    def run(name: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc"] if name == "dvc" else [name]
        done = subprocess.run(
            [*command, *arguments],
            cwd=project,
            env=os.environ | environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{name} {arguments}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run("git", "init", "--quiet")
    run("dvc", "init", "--quiet")
    return run


def ran(output: str) -> set[str]:
    """The stages that `dvc repro` ran."""
    lines = (line for line in output.splitlines() if line.startswith("Running stage"))
    return {line.partition("dvc.yaml:")[2].rstrip("':") for line in lines}


@pytest.mark.timeout(900)
def test_what_changed_is_done_again_and_compared_and_kept(project: Path, program: Program) -> None:
    """All stages, then none, then those that a change asks for; figures of both; and a remote."""

    def reproduce() -> set[str]:
        return ran(program("dvc", "repro", "training/dvc.yaml"))

    def change(line: str, to: str) -> None:
        text = (project / "tiny.toml").read_text()
        assert line in text
        (project / "tiny.toml").write_text(text.replace(line, to))

    assert reproduce() == STAGES
    program("git", "add", ".")
    program("git", "commit", "--quiet", "--message", "First")
    assert reproduce() == set()
    compiled = project / "training" / "augment" / "__pycache__" / "made-by-python.pyc"
    compiled.parent.mkdir(exist_ok=True)
    compiled.touch()
    assert reproduce() == set()

    change("epochs = 1", "epochs = 2")
    assert reproduce() == STAGES - {"prepare"}
    compared = json.loads(program("dvc", "metrics", "diff", "--json"))["runs/tiny/metrics.json"]
    name = next(name for name in compared if name.endswith("validation.nll") or "nll" in name)
    assert compared[name]["old"] != compared[name]["new"]

    # The same training, and so the same model.
    change("[windows]", "[data]\nvalidation_share = 0.3\n[windows]")
    assert reproduce() == STAGES

    change("For tests only", "CC0")
    assert reproduce() == {"configure", "export"}

    bundle = open_bundle(project / "runs" / "tiny" / "bundle")
    assert bundle.manifest.licence == "CC0"
    program("dvc", "remote", "add", "--default", "store", str(project.parent / "remote"))
    program("dvc", "push")
    shutil.rmtree(project / "runs")
    shutil.rmtree(project / ".dvc" / "cache")
    program("dvc", "pull")
    pulled = open_bundle(project / "runs" / "tiny" / "bundle", digest=bundle.digest)
    assert pulled.manifest == bundle.manifest
