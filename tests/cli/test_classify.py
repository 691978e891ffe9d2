"""`timbre classify` as a user meets it: output, totals, errors and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from service import recordings
from service.bundle import Bundle
from service.classifier import open_classifier
from service.cli import main
from tests.support.answers import FACTS, classification
from tests.support.audio import encoded, silence, speech_like

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with two clips of speech, one of silence, and one that is no audio."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "later").mkdir()
    (folder / "a.wav").write_bytes(encoded(speech_like(2.5, 1)))
    (folder / "b.mp3").write_bytes(encoded(speech_like(1, 2, 44_100), 44_100, container="MP3"))
    (folder / "later" / "c.flac").write_bytes(encoded(silence(2), container="FLAC"))
    (folder / "later" / "d.wav").write_bytes(b"nonsense")
    return folder


@pytest.fixture
def classify(tiny_model: Bundle, monkeypatch: pytest.MonkeyPatch) -> Classify:
    """Run `timbre classify` in this process, with the tiny model unless told otherwise."""
    monkeypatch.setenv("TIMBRE_BUNDLE", str(tiny_model.folder))
    monkeypatch.setenv("COLUMNS", "100")
    return Classify()


class Classify:
    """Calls the command."""

    def __call__(self, *arguments: object, terminal: bool = False) -> Result:
        """Run it, as at a terminal or as in a pipe."""
        return CliRunner().invoke(
            main,
            ["classify", *map(str, arguments)],
            env={"FORCE_COLOR": "1" if terminal else None, "TERM": "xterm"},
        )


class TestOutput:
    """The forms of output."""

    def test_in_a_pipe_each_file_is_a_line(self, classify: Classify, calls: Path) -> None:
        """Fields between tabs, files in order; no colours, no header, no failed files."""
        result = classify(calls)
        lines = [line.split("\t") for line in result.stdout.splitlines()]
        assert [line[0] for line in lines] == [
            str(calls / name) for name in ("a.wav", "b.mp3", "later/c.flac")
        ]
        path, label, score, decision, duration, speech = lines[0]
        assert label in {"angry", "disgusted", "fearful", "happy", "neutral", "sad"}
        assert 0 < float(score) <= 1
        assert decision in {"accept", "review"}
        assert (path, duration) == (str(calls / "a.wav"), "2.500")
        assert 2 < float(speech) <= 2.5
        assert lines[2][1:] == ["-", "-", "no_speech", "2.000", "0.000"]
        assert "\x1b" not in result.output

    def test_at_a_terminal_it_is_a_table(self, classify: Classify, calls: Path) -> None:
        """With headings, colours and units; a failed file has its row too."""
        shown = classify(calls, terminal=True)
        for text in ("emotion", "confidence", "decision", "2.5 s", "%", "no speech", "failed"):
            assert text in shown.stdout
        assert "\x1b[31mfailed" in shown.stdout
        assert "Classifying" in shown.stderr

    def test_the_table_s_time_line_has_a_row_a_window(
        self, classify: Classify, calls: Path
    ) -> None:
        """1 s windows every 0.5 s of 2.5 s of speech are four or five."""
        shown = classify(calls / "a.wav", "--timeline", terminal=True).stdout
        assert shown.count(" to ") in {4, 5}
        assert "0.0 s to 1.0 s" in shown

    def test_json_has_everything(self, classify: Classify, calls: Path) -> None:
        """An object a file; a failed one has an error with a stable type instead."""
        result = classify(calls, "--json", "--timeline")
        clip, _, quiet, bad = map(json.loads, result.stdout.splitlines())
        assert list(clip) == [
            *("path", "label", "score", "decision", "probabilities", "audio", "segments")
        ]
        assert clip["probabilities"][clip["label"]] == clip["score"]
        assert sum(clip["probabilities"].values()) == pytest.approx(1)
        assert clip["audio"]["sample_rate"] == 16_000
        assert clip["audio"]["channels"] == 1
        assert list(clip["segments"][0]) == ["start_s", "end_s", "label", "score", "speech_s"]
        assert (quiet["label"], quiet["decision"]) == (None, "no_speech")
        assert bad["path"] == str(calls / "later" / "d.wav")
        assert bad["error"]["type"] == "not-audio"

    def test_json_without_timeline_has_no_segments(self, classify: Classify, calls: Path) -> None:
        """They are many; they are given when asked for."""
        assert "segments" not in json.loads(classify(calls / "a.wav", "--json").stdout)

    def test_csv_has_a_row_a_file(self, classify: Classify, calls: Path) -> None:
        """With every label's probability, and the error of a failed file."""
        rows = list(csv.DictReader(io.StringIO(classify(calls, "--csv").stdout)))
        assert [Path(row["path"]).name for row in rows] == ["a.wav", "b.mp3", "c.flac", "d.wav"]
        assert float(rows[0][f"p_{rows[0]['label']}"]) == float(rows[0]["score"])
        assert rows[2]["label"] == ""
        assert (rows[0]["error"], rows[3]["label"]) == ("", "")
        assert rows[3]["error"].startswith("The body does not start like an audio file")

    def test_csv_of_the_time_line_has_a_row_a_window(self, classify: Classify, calls: Path) -> None:
        """With the file's path in each."""
        shown = classify(calls / "a.wav", "--csv", "--timeline").stdout
        rows = list(csv.DictReader(io.StringIO(shown)))
        assert len(rows) in {4, 5}
        assert {row["path"] for row in rows} == {str(calls / "a.wav")}
        assert float(rows[0]["end_s"]) == pytest.approx(1.0, abs=0.2)

    def test_parquet_has_typed_columns(
        self, classify: Classify, calls: Path, tmp_path: Path
    ) -> None:
        """The rows of the CSV; missing values are null."""
        file = tmp_path / "calls.parquet"
        result = classify(calls, "--parquet", file)
        assert result.stdout == ""
        table = pq.read_table(file)
        assert str(table.schema.field("score").type) == "double"
        assert str(table.schema.field("sample_rate").type) == "int32"
        rows = table.to_pylist()
        assert [row["sample_rate"] for row in rows] == [16_000, 44_100, 16_000, None]
        assert rows[0]["error"] is None

    def test_parquet_without_pyarrow_names_the_extra(
        self, classify: Classify, calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """One sentence, before any work is done."""
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        result = classify(calls, "--parquet", tmp_path / "calls.parquet")
        assert result.exit_code == 1
        assert "in a checkout of Timbre, pip install '.[parquet]'" in result.stderr

    def test_a_parquet_file_that_cannot_be_written_is_told(
        self, classify: Classify, calls: Path, tmp_path: Path
    ) -> None:
        """Before any work is done."""
        result = classify(calls, "--parquet", tmp_path / "missing" / "calls.parquet")
        assert result.exit_code == 1
        assert "Cannot write" in result.stderr

    def test_odd_names_stay_on_their_line(
        self, classify: Classify, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Tabs, line ends and bytes that are no text are escaped; other letters are kept."""
        monkeypatch.setenv("COLUMNS", "500")  # no folder's name is so long that a line is broken
        odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xc3\xa9\ta\nb\xff[red].wav"))
        odd.write_bytes((calls / "a.wav").read_bytes())
        (line,) = classify(tmp_path).stdout.splitlines()
        assert line.split("\t")[0] == f"{tmp_path}/é\\ta\\nb\\xff[red].wav"
        assert "[red].wav" in classify(odd, terminal=True).stdout


class TestOutcome:
    """Totals, errors and exit codes."""

    def test_many_files_have_totals(self, classify: Classify, calls: Path) -> None:
        """Files, seconds of audio, how fast, and how many of each decision and label."""
        told = classify(calls).stderr
        assert "4 files, 5.5 s of audio in" in told
        assert "real-time factor" in told
        assert "1 no_speech" in told
        assert "1 failed" in told

    def test_one_file_has_none(self, classify: Classify, calls: Path) -> None:
        """What is in its line is all there is to say; exit code 0."""
        result = classify(calls / "a.wav")
        assert (result.exit_code, result.stderr) == (0, "")

    def test_a_bad_file_is_reported_and_the_rest_done(
        self, classify: Classify, calls: Path
    ) -> None:
        """Unreadable and missing files: a line each on standard error, exit code 1."""
        missing = calls / "missing.wav"
        result = classify(missing, calls / "later" / "d.wav", calls / "a.wav")
        assert result.exit_code == 1
        first, second, *_ = result.stderr.splitlines()
        assert first == f"{missing}: No such file or directory."
        assert second.startswith(f"{calls / 'later' / 'd.wav'}: The body does not start like")
        assert len(result.stdout.splitlines()) == 1

    def test_all_done_is_exit_code_0(self, classify: Classify, calls: Path) -> None:
        """No speech is an answer, not a failure."""
        assert classify(calls / "a.wav", calls / "later" / "c.flac").exit_code == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("--json", "--csv", "a.wav"),
            ("--csv", "--parquet", "x", "a.wav"),
            ("--url", "http://host", "--bundle", "x", "a.wav"),
            ("--url", "http://host", "--precision", "fp32", "a.wav"),
            ("--precision", "fp16", "a.wav"),
            ("--jobs", "0", "a.wav"),
        ],
    )
    def test_wrong_usage_is_exit_code_2(
        self, classify: Classify, arguments: tuple[str, ...]
    ) -> None:
        """With a hint at the help."""
        result = classify(*arguments)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr

    def test_a_folder_without_recordings_is_wrong_usage(
        self, classify: Classify, tmp_path: Path
    ) -> None:
        """It says what is looked for."""
        result = classify(tmp_path)
        assert result.exit_code == 2
        assert ".flac .mp3 .oga .ogg .opus .wav" in result.stderr

    def test_a_wrong_bundle_or_server_is_one_sentence(
        self, classify: Classify, calls: Path, tmp_path: Path
    ) -> None:
        """Exit code 1, no traceback."""
        for arguments in (("--bundle", tmp_path), ("--url", "nonsense")):
            result = classify(calls, *arguments)
            assert result.exit_code == 1
            assert result.stderr.startswith("Error: ")
            assert result.stderr.count("\n") == 1

    def test_a_precision_the_bundle_lacks_is_one_sentence(
        self, classify: Classify, calls: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As an option or as the server's variable; fp32 and auto are there."""
        clip = calls / "a.wav"
        exact = classify(clip).stdout
        for precision in ("fp32", "auto"):
            assert classify(clip, "--precision", precision).stdout == exact
        refused = classify(clip, "--precision", "int8")
        assert refused.exit_code == 1
        assert "has no int8 for openvino; ask for a precision it has (fp32)." in refused.stderr
        monkeypatch.setenv("TIMBRE_PRECISION", "int8")
        assert classify(clip).stderr == refused.stderr
        assert classify(clip, "--precision", "fp32").stdout == exact

    def test_help_teaches(self, classify: Classify) -> None:
        """Examples, and what the exit codes mean."""
        told = classify("--help").stdout
        assert "timbre classify calls/ --csv > calls.csv" in told
        assert "Exit code: 0" in told


def test_a_long_recording_is_one_clip(
    classify: Classify, tiny_model: Bundle, tmp_path: Path
) -> None:
    """Offline there is no limit: the answer is that of windows over the whole recording."""
    path = tmp_path / "long.flac"
    path.write_bytes(encoded(speech_like(61, 3), container="FLAC"))
    said = json.loads(classify(path, "--json", "--timeline").stdout)
    classifier = open_classifier(tiny_model)
    heard = classifier.listen(recordings.read(path))
    expected = classifier.classify(heard)
    assert said["label"] == expected.label
    assert said["score"] == pytest.approx(expected.score, abs=1e-4)
    assert len(said["segments"]) == len(heard.windows) > 110
    assert said["audio"]["duration_s"] == 61.0


class TestTokens:
    """A server that asks for a token gets the one in TIMBRE_TOKEN."""

    @pytest.fixture
    def url(self) -> Iterator[str]:
        """A server that lets in who has the token."""
        with ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    def test_it_is_sent(
        self, classify: Classify, calls: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when it was read from a file with the end of its line."""
        for held in ("the-token", " the-token\n"):
            monkeypatch.setenv("TIMBRE_TOKEN", held)
            result = classify(calls / "a.wav", "--url", url)
            assert (result.exit_code, result.stderr) == (0, "")

    def test_who_is_not_let_in_is_told_in_one_line(
        self, classify: Classify, calls: Path, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before any file is sent, and without the token."""
        for held, said in (
            ("", "lets nobody in without one; put it into the variable TIMBRE_TOKEN."),
            ("another", "does not accept the one in TIMBRE_TOKEN."),
        ):
            monkeypatch.setenv("TIMBRE_TOKEN", held)
            result = classify(calls, "--url", url)
            assert result.exit_code == 1
            assert result.stderr == f"Error: A token is needed: {url} {said}\n"

    def test_it_is_no_argument(self, classify: Classify, calls: Path, url: str) -> None:
        """Arguments can be read by everybody on the machine, and stay in a shell's history."""
        assert classify(calls, "--url", url, "--token", "the-token").exit_code == 2
        assert "TIMBRE_TOKEN" in classify("--help").stdout


class _Halting(BaseHTTPRequestHandler):
    """Answers the first clip, and keeps the others waiting until the test is over."""

    clips = 0
    waiting = threading.Event()
    over = threading.Event()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        """Say nothing."""

    def do_GET(self) -> None:
        """Tell the model's facts."""
        self._say(FACTS.model_dump_json())

    def do_POST(self) -> None:
        """Take a clip."""
        self.rfile.read(int(self.headers["content-length"]))
        type(self).clips += 1
        if self.clips > 1:
            self.waiting.set()
            self.over.wait(timeout=60)
        self._say(classification().model_dump_json())

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class _Guarded(_Halting):
    """Answers who has the token, all clips at once."""

    def do_GET(self) -> None:
        """Tell the model's facts."""
        if self._let_in():
            self._say(FACTS.model_dump_json())

    def do_POST(self) -> None:
        """Take a clip."""
        self.rfile.read(int(self.headers["content-length"]))
        if self._let_in():
            self._say(classification().model_dump_json())

    def _let_in(self) -> bool:
        if self.headers["authorization"] == "Bearer the-token":
            return True
        self.send_error(401)
        return False


def test_interrupt_ends_at_once_with_what_is_done(tmp_path: Path) -> None:
    """Ctrl-C while a server takes its time: the finished files are told, exit code 130."""
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).write_bytes(encoded(np.zeros(16_000, np.float32)))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Halting) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import service.cli as c; c.main()"
        # A shell has it ignored in what it starts in the background, tests among it.
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + code
        with subprocess.Popen(
            [sys.executable, "-c", code, "classify", str(tmp_path), "--url", url, "--jobs", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert _Halting.waiting.wait(timeout=60)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)
            finally:
                _Halting.over.set()
                process.kill()
        server.shutdown()
    assert process.returncode == 130
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(tmp_path / "a.wav")]
    assert "Interrupted: 2 of 3 files not done." in err
    assert "1 files, 3.0 s of audio" in err
    assert "Traceback" not in err
