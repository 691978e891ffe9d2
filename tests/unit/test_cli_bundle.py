"""`timbre` and `timbre bundle` as a user meets them: output, errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import service
from service.bundle import MANIFEST, Bundle
from service.cli import bundle as bundle_commands
from service.cli import main
from tests.support.bundles import tiny_bundle, tiny_draft
from tests.support.registry import fake_registry


def timbre(*arguments: object) -> Result:
    """Run `timbre` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@click.command(short_help="Says what it is told.")
@click.argument("what")
def further(what: str) -> None:
    """Stand in for a command of another package."""
    click.echo(what)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Make a tiny bundle, and keep the machine's own credentials out of the test."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tiny_bundle(tmp_path / "made", labels=("calm [bold]", "angry"))


def test_help_shows_examples_and_commands() -> None:
    """`timbre --help` and `timbre bundle --help` teach."""
    result = timbre("--help")
    assert result.exit_code == 0
    assert "timbre bundle verify\n" in result.stdout
    assert "Show, verify, push and pull models." in result.stdout
    commands = timbre("bundle", "-h").stdout
    assert all(name in commands for name in ("show", "verify", "push", "pull"))


def test_help_loads_no_subcommand() -> None:
    """`timbre --help` is quick because nothing heavy is imported for it."""
    code = (
        "import sys; from service.cli import main; main(['--help'], standalone_mode=False); "
        "print({'pydantic', 'requests', 'rich', 'openvino', 'bentoml', 'numpy.linalg.lapack'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_version_is_the_package_s() -> None:
    """`timbre --version` is what is installed."""
    assert timbre("--version").stdout == f"timbre, version {service.__version__}\n"


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit code 2, as of every command line."""
    result = timbre("nonsense")
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.stderr


def test_verify_prints_one_line(made: Bundle) -> None:
    """Name, version, digest and extent, to be read or parsed."""
    result = timbre("bundle", "verify", made.folder)
    assert result.exit_code == 0
    assert result.stdout == f"OK tiny 1.2.0 {made.digest} (5 files, 0.0 MB)\n"


def test_verify_says_what_is_wrong_and_fails(made: Bundle) -> None:
    """One sentence on stderr, exit code 1, no traceback."""
    (made.folder / "README.md").unlink()
    result = timbre("bundle", "verify", made.folder)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: The bundle {made.folder} lacks README.md;")
    assert result.stderr.count("\n") == 1


def test_verify_takes_the_very_bundle_that_was_asked_for(made: Bundle) -> None:
    """Another digest is exit code 1, and both are named."""
    assert timbre("bundle", "verify", made.folder, "--digest", made.digest).exit_code == 0
    other = f"sha256:{'0' * 64}"
    result = timbre("bundle", "verify", made.folder, "--digest", other)
    assert result.exit_code == 1
    assert made.digest in result.stderr
    assert other in result.stderr


def test_the_built_in_bundle_is_the_default(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, show and verify look at what ships inside."""
    from service.cli.bundle import bundle  # noqa: PLC0415

    for name in ("show", "verify"):
        folder = next(p for p in bundle.commands[name].params if p.name == "folder")
        assert folder.default == Path(service.__file__).parent / "default_bundle"
        monkeypatch.setattr(folder, "default", made.folder)
        result = timbre("bundle", name)
        assert result.exit_code == 0
        assert made.digest in result.stdout


def test_show_prints_the_facts_as_they_are(made: Bundle) -> None:
    """A table for people; what a bundle says is never taken for markup."""
    shown = timbre("bundle", "show", made.folder).stdout
    for fact in ("1.2.0", "calm [bold], angry", "accuracy 0.71", "temperature 1.5", made.digest):
        assert fact in shown


def test_show_json_is_bundle_json_and_its_digest(made: Bundle) -> None:
    """For programs: everything, under stable names."""
    shown = json.loads(timbre("bundle", "show", made.folder, "--json").stdout)
    assert shown["digest"] == made.digest
    assert shown["manifest"] == json.loads((made.folder / MANIFEST).read_text())


def test_push_and_pull_go_round(made: Bundle, tmp_path: Path) -> None:
    """Push prints the reference by digest, which pull takes."""
    with fake_registry() as registry:
        tagged = f"oci://{registry.host}/team/tiny:1.2.0"
        pushed = timbre("bundle", "push", made.folder, tagged, "--insecure")
        assert pushed.exit_code == 0
        assert pushed.stdout.startswith(f"oci://{registry.host}/team/tiny@sha256:")
        got = tmp_path / "got"
        pulled = timbre("bundle", "pull", pushed.stdout.strip(), got, "--insecure")
        assert pulled.stdout == f"OK tiny 1.2.0 {made.digest} (5 files, 0.0 MB)\n"
        again = timbre("bundle", "pull", tagged, got, "--insecure")
        assert again.exit_code == 1
        assert again.stderr.endswith("or add --force to replace it.\n")
        assert timbre("bundle", "pull", tagged, got, "--insecure", "--force").exit_code == 0


def test_show_says_by_what_a_precision_was_let_in() -> None:
    """Its gate's figures, of the one that is built in."""
    told = " ".join(timbre("bundle", "show").stdout.split())
    assert "bf16 gate macro-F1 lost -0.35 points (-1.03 to 0.28), 99.2% of 831 validation" in told


def test_show_says_that_a_precision_is_ungated(tmp_path: Path) -> None:
    """So that nobody takes it for a model to serve."""
    fp32 = tiny_draft().precisions["fp32"]
    made = tiny_bundle(tmp_path, precisions={"fp32": fp32, "bf16": fp32})
    assert "bf16 gate none: ungated" in " ".join(
        timbre("bundle", "show", made.folder).stdout.split()
    )


class TestFurtherCommands:
    """Commands of `timbre bundle` that other packages add by an entry point."""

    @pytest.fixture
    def declared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that loads, and one whose package lacks something."""
        entries = [
            EntryPoint("loads", "tests.unit.test_cli_bundle:further", "timbre.bundle"),
            EntryPoint("lacks", "tests.nothing_of_the_kind:further", "timbre.bundle"),
        ]
        monkeypatch.setattr(bundle_commands, "entry_points", lambda **_: entries)

    @pytest.mark.usefixtures("declared")
    def test_they_are_among_the_others(self) -> None:
        """Listed with their own line, and called with their own arguments."""
        told = timbre("bundle", "--help").stdout
        assert "Says what it is told." in told
        assert "verify" in told
        assert timbre("bundle", "loads", "hello").stdout == "hello\n"

    @pytest.mark.usefixtures("declared")
    def test_one_that_cannot_be_loaded_says_what_to_install(self) -> None:
        """And keeps nobody from the help of the others."""
        assert "Needs the extra `train`." in timbre("bundle", "--help").stdout
        result = timbre("bundle", "lacks", "folder", "--to", "int8")
        assert result.exit_code == 1
        assert "in a checkout of Timbre, pip install '.[train]'" in result.stderr
