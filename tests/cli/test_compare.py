"""`timbre compare`, `timbre judge` and `timbre golden` as a user meets them, without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from service.canary import compare
from service.canary.findings import Findings
from service.canary.prometheus import PrometheusFailed
from service.canary.verdict import EXIT_CODES, Outcome
from service.cli import canary, main
from service.cli.compare import compare as command
from service.cli.judge import judge
from tests.support.audio import encoded, speech_like
from tests.support.findings import finding

PAGE = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
PROMETHEUS = ("--prometheus", "http://nowhere.invalid", "--namespace", "audio", "--name", "timbre")


def timbre(*arguments: object, **variables: str) -> Result:
    """Run `timbre` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=variables)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a look finds, or raises; the last is what is asked for."""
    steps: list[Any] = [finding()]

    def look(_comparison: object, _judge: object, weight: int) -> compare.Finding:
        step = steps[-1]
        if isinstance(step, BaseException):
            raise step
        assert weight == step.verdict.weight
        told: compare.Finding = step
        return told

    monkeypatch.setattr(compare.Comparison, "look", look)
    return steps


class TestExitCodes:
    """What a script reads."""

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_a_verdict_is_one(self, outcome: Outcome, found: list[Any]) -> None:
        """Pass 0, fail 1, inconclusive 2."""
        assert EXIT_CODES == {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 2}
        found.append(finding(outcome))
        result = timbre("compare", *PROMETHEUS, "--weight", 10)
        assert result.exit_code == EXIT_CODES[outcome]
        assert result.stdout.startswith(f"{outcome.upper()} at 10%")

    @pytest.mark.parametrize("name", ["compare", "judge"])
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "Give --golden, --prometheus, or both"),
            (["--nonsense"], "No such option"),
            ([*PROMETHEUS, "--weight", "101"], "101 is not in the range"),
            ([*PROMETHEUS, "--since", "yesterday"], "'yesterday' is neither seconds nor a time"),
            ([*PROMETHEUS, "--since", "2999-01-01"], "'2999-01-01' is not in the past"),
            ([*PROMETHEUS, "--candidate-pods", "("], "no regular expression"),
            (["--prometheus", "http://p"], "--prometheus needs --namespace"),
            (["--prometheus", "http://p", "--namespace", "n"], "--prometheus needs --name"),
            ([*PROMETHEUS, "--stable-url", "http://s"], "are for --golden"),
            (["--golden", "g.json", "--stable-url", "http://s"], "--golden needs --stable-url and"),
            (["--prometheus", "nowhere", *PROMETHEUS[2:]], "'nowhere' is no URL"),
            ([*PROMETHEUS, "--policy", "nowhere.toml"], "nowhere.toml"),
            (
                ["--golden", "no.json", "--stable-url", "http://s", "--candidate-url", "http://c"],
                "no.json",
            ),
        ],
    )
    def test_wrong_usage_is_3(self, name: str, arguments: Sequence[str], said: str) -> None:
        """Neither a fail nor inconclusive, as click's own 1 and 2 would be."""
        result = timbre(name, *arguments)
        assert result.exit_code == canary.WRONG == 3
        assert said in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (PrometheusFailed("Prometheus at x: refused."), "Error: Prometheus at x: refused."),
            (click.ClickException("Cannot write x."), "Error: Cannot write x."),
            (KeyError("pod"), "This should not have happened: KeyError('pod')."),
        ],
    )
    def test_an_error_is_3(self, error: Exception, said: str, found: list[Any]) -> None:
        """Whatever it is: a bug must not read as a fail."""
        found.append(error)
        result = timbre("compare", *PROMETHEUS)
        assert result.exit_code == 3
        assert said in result.stderr

    def test_interrupted_is_130(self, found: list[Any]) -> None:
        """As of every program that Ctrl-C ends."""
        found.append(KeyboardInterrupt())
        assert timbre("compare", *PROMETHEUS).exit_code == 130

    @pytest.mark.parametrize("name", ["compare", "judge"])
    def test_a_missing_extra_is_one_sentence(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With what to do."""
        monkeypatch.delitem(sys.modules, "service.canary.checks", raising=False)
        for module in [name for name in sys.modules if name.startswith("service.canary.")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "scipy", None)
        result = timbre(name, *PROMETHEUS)
        assert result.exit_code == 3
        assert (
            "needs the extra `compare` (scipy is missing): "
            "in a checkout of Timbre, pip install '.[compare]'"
        ) in " ".join(result.stderr.split())


class TestWaiting:
    """For how long it looks."""

    @pytest.mark.parametrize(
        ("arguments", "pass_after_s"),
        [
            ([*PROMETHEUS, "--weight", 10, "--block", 20], compare.own_blocks_s(20)),
            ([*PROMETHEUS, "--weight", 0], 0),
        ],
    )
    def test_a_step_s_own_blocks_are_awaited(
        self, arguments: Sequence[object], pass_after_s: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where clients' clips are judged, which came to the candidate at other shares before."""
        asked: list[float] = []

        def wait(_look: object, wait_s: float, **given: Any) -> compare.Finding:  # noqa: ANN401
            asked.extend((wait_s, given["pass_after_s"]))
            return finding(Outcome.PASS)

        monkeypatch.setattr(compare, "wait", wait)
        assert timbre("compare", *arguments, "--wait", 900).exit_code == 0
        assert asked == [900, pass_after_s]


class TestOutput:
    """What it leaves."""

    def test_json_and_a_page_are_written(self, found: list[Any], tmp_path: Path) -> None:
        """Beside the table."""
        assert found
        files = [tmp_path / "a.json", tmp_path / "a.html"]
        result = timbre(
            "compare", *PROMETHEUS, "--weight", 10, "--json", files[0], "--html", files[1]
        )
        assert result.exit_code == 1
        assert Findings.model_validate_json(files[0].read_bytes()).outcome is Outcome.FAIL
        assert "<!doctype html>" in files[1].read_text(encoding="utf-8")
        assert "accuracy" in result.stdout

    def test_json_alone_is_on_standard_output(self, found: list[Any]) -> None:
        """For jq; the table is on standard error then."""
        assert found
        result = timbre("compare", *PROMETHEUS, "--weight", 10, "--json", "-")
        assert json.loads(result.stdout)["outcome"] == "fail"
        assert "FAIL at 10%" in result.stderr

    def test_a_file_that_cannot_be_written_is_3(self, found: list[Any], tmp_path: Path) -> None:
        """The verdict is lost, so there is none."""
        assert found
        result = timbre(
            "compare", *PROMETHEUS, "--weight", 10, "--html", tmp_path / "no" / "a.html"
        )
        assert result.exit_code == 3
        assert "Cannot write" in result.stderr


class TestOptions:
    """How they are given."""

    @pytest.mark.parametrize("made", [command, judge], ids=["compare", "judge"])
    def test_every_one_is_a_variable_too(self, made: click.Command) -> None:
        """TIMBRE_COMPARE_…, as a Job sets them, and help says so."""
        help_text = " ".join(timbre(str(made.name), "--help").stdout.split())
        options = [each for each in made.params if isinstance(each, click.Option)]
        assert len(options) > 13
        for option in options:
            variable = "TIMBRE_COMPARE_" + option.opts[0].removeprefix("--").upper().replace(
                "-", "_"
            )
            assert option.envvar == variable
            assert variable in help_text
            assert option.help

    @pytest.mark.parametrize("made", [command, judge], ids=["compare", "judge"])
    def test_every_one_is_documented(self, made: click.Command) -> None:
        """On its page, with its variable."""
        for option in made.params:
            assert f"`{option.envvar}`" in PAGE
            assert f"`{option.opts[0]}" in PAGE

    def test_variables_are_read(self, found: list[Any]) -> None:
        """All of a Job's."""
        assert found
        names = {
            "PROMETHEUS": "http://nowhere.invalid",
            "NAMESPACE": "audio",
            "NAME": "timbre",
            "WEIGHT": "10",
        }
        variables = {f"TIMBRE_COMPARE_{name}": value for name, value in names.items()}
        assert timbre("compare", **variables).exit_code == 1

    def test_help_teaches(self) -> None:
        """With examples that can be copied, and every exit code."""
        text = timbre("compare", "--help").stdout
        assert "--stable-url http://localhost:3000 --candidate-url http://localhost:3001" in text
        for said in ("(pass)", "(fail)", "(inconclusive)", "3 wrong usage", "TIMBRE_TOKEN"):
            assert said in " ".join(text.split())
        listed = timbre("--help").stdout
        assert all(name in listed for name in ("golden", "compare", "judge"))


class TestGolden:
    """`timbre golden`."""

    @pytest.fixture
    def calls(self, tmp_path: Path) -> Path:
        """A folder for each label."""
        for number, label in enumerate(("sad", "sad", "angry")):
            file = tmp_path / "calls" / label / f"{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(speech_like(0.3, number)))
        return tmp_path / "calls"

    def test_a_set_is_made_and_verified(self, calls: Path, tmp_path: Path) -> None:
        """Both say what is in it; that nobody is named is said."""
        out = tmp_path / "made" / "golden.json"
        made = timbre("golden", "create", calls, "--out", out, "--version", "3")
        assert made.exit_code == 0
        assert made.stdout.startswith("OK made 3 (")
        assert made.stdout.endswith("): 3 clips of 3 speakers, 1 angry, 2 sad\n")
        assert "No two clips have one speaker." in made.stderr
        assert timbre("golden", "verify", out).stdout == made.stdout

    def test_a_set_that_is_not_as_it_was_is_said(self, calls: Path, tmp_path: Path) -> None:
        """Exit code 1, and which file."""
        out = tmp_path / "made" / "golden.json"
        timbre("golden", "create", calls, "--out", out)
        (out.parent / "sad" / "0.wav").write_bytes(b"other")
        result = timbre("golden", "verify", out)
        assert result.exit_code == 1
        assert "0.wav is not the file that the set was made of." in result.stderr

    def test_it_can_be_held_against_training_s_data(self, calls: Path, tmp_path: Path) -> None:
        """By bytes."""
        out = tmp_path / "made" / "golden.json"
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "x.wav").write_bytes(encoded(speech_like(0.3, 9)))
        told = timbre("golden", "create", calls, "--out", out, "--apart-from", tmp_path / "data")
        assert told.exit_code == 0
        assert "None of them is among the 1 files of" in told.stdout
        result = timbre("golden", "verify", out, "--apart-from", calls)
        assert result.exit_code == 1
        assert "of the golden set is" in result.stderr
