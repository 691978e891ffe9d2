"""Recordings: what is found, how long ones are cut, how answers are merged."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import audio, recordings
from service.domain import (
    SAMPLE_RATE,
    Clip,
    Decision,
    LabelScore,
    NotAudio,
    Result,
    Segment,
    TimbreError,
)
from service.recordings import Answer, Outcome, Unreadable
from service.voice import VoiceActivity
from tests.support.audio import encoded, silence, speech_like


def answered(speech_s: float, **probabilities: float) -> Answer:
    """Make a piece's answer with one segment; without probabilities, nobody speaks in it."""
    if not probabilities:
        return Answer(Result(None, None, Decision.NO_SPEECH), 60.0, speech_s, SAMPLE_RATE, 1)
    label = max(probabilities, key=lambda name: probabilities[name])
    score = probabilities[label]
    result = Result(
        label=label,
        score=score,
        decision=Decision.ACCEPT,
        probabilities=probabilities,
        top=(LabelScore(label, score),),
        segments=(Segment(1.0, 4.0, label, score, speech_s),),
    )
    return Answer(result, 60.0, speech_s, SAMPLE_RATE, 1)


RECORDING = Clip(np.zeros(1, np.float32), 120.0, 44_100, 2)


class TestSupport:
    """The helper that all tests of the whole path stand on."""

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("seconds", [1, 3, 25])
    def test_speech_like_audio_is_taken_for_speech(self, seconds: float, seed: int) -> None:
        """At least 80% of the frames, whoever speaks and however long."""
        assert VoiceActivity()(speech_like(seconds, seed)).mean() >= 0.8

    def test_silence_is_not(self) -> None:
        """Not one frame."""
        assert not VoiceActivity()(silence(3)).any()


class TestFind:
    """`find`."""

    def test_searches_folders_to_the_bottom_in_order(self, tmp_path: Path) -> None:
        """Files with a suffix of audio, in capitals too; nothing else."""
        for name in ("b.wav", "a/z.MP3", "a/y.opus", "a/b/x.flac", "a/n.txt", "a/.wav", "t.oga"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / "folder.wav").mkdir()
        found = [str(path.relative_to(tmp_path)) for path in recordings.find([tmp_path])]
        assert found == ["a/b/x.flac", "a/y.opus", "a/z.MP3", "b.wav", "t.oga"]

    def test_takes_named_files_as_they_are(self, tmp_path: Path) -> None:
        """Any suffix, in the order given, each once; a missing one is left to whoever opens it."""
        (tmp_path / "a.wav").touch()
        odd, missing = tmp_path / "recording.bin", tmp_path / "missing.wav"
        odd.touch()
        assert recordings.find([odd, missing, tmp_path, odd]) == [odd, missing, tmp_path / "a.wav"]


class TestRead:
    """`read` and `clip_bytes`."""

    def test_has_no_limit_that_matters(self, tmp_path: Path) -> None:
        """More than a server takes is read whole, to the samples that `decode` gives."""
        path = tmp_path / "long.flac"
        path.write_bytes(encoded(speech_like(61), container="FLAC"))
        clip = recordings.read(path)
        assert clip.duration_s == 61.0
        whole = audio.decode(path.read_bytes(), max_duration_s=100)
        np.testing.assert_array_equal(clip.samples, whole.samples)

    def test_names_what_the_system_says(self, tmp_path: Path) -> None:
        """A missing file is a refusal, not a traceback."""
        for take in (recordings.read, recordings.clip_bytes):
            with pytest.raises(Unreadable, match=r"^No such file or directory\.$"):
                take(tmp_path / "missing.wav")

    @pytest.mark.parametrize(("samples", "fits"), [(480_000, True), (480_001, False)])
    def test_clips_are_as_long_as_a_server_takes(
        self, tmp_path: Path, samples: int, *, fits: bool
    ) -> None:
        """60 s go as they are, a sample more doesn't."""
        path = tmp_path / "clip.flac"
        path.write_bytes(encoded(np.zeros(samples, np.float32), 8000, container="FLAC"))
        assert recordings.clip_bytes(path) == (path.read_bytes() if fits else None)

    @pytest.mark.parametrize("more", [0, 1])
    def test_clips_have_as_many_bytes_as_a_server_takes(self, tmp_path: Path, more: int) -> None:
        """10 MiB go as they are, a byte more doesn't, even of a file that is short."""
        path = tmp_path / "clip.wav"
        sound = encoded(silence(1))
        path.write_bytes(sound + bytes(audio.MAX_BODY_BYTES - len(sound) + more))
        assert (recordings.clip_bytes(path) is None) == bool(more)

    def test_what_is_no_audio_is_left_to_the_server(self, tmp_path: Path) -> None:
        """It knows best what is wrong with it."""
        path = tmp_path / "clip.wav"
        path.write_bytes(b"nonsense")
        assert recordings.clip_bytes(path) == b"nonsense"


class TestPieces:
    """`pieces` and `as_flac`."""

    @settings(max_examples=30)
    @given(count=st.integers(1, 200 * SAMPLE_RATE))
    def test_cover_every_sample_once(self, count: int) -> None:
        """No piece is longer than a server takes, none of several shorter than 3 s."""
        pieces = recordings.pieces(np.zeros(count, np.float32))
        assert pieces[0][0] == 0
        assert pieces[-1][1] == count
        assert all(before[1] == after[0] for before, after in pairwise(pieces))
        lengths = [stop - start for start, stop in pieces]
        assert max(lengths) <= 60 * SAMPLE_RATE
        assert len(pieces) == 1 or min(lengths) >= 3 * SAMPLE_RATE

    def test_are_cut_between_words(self) -> None:
        """The quietest moment before the limit is the place, wherever it is."""
        said = (speech_like(52, 1), silence(0.5), speech_like(20, 2))
        (_, cut), _ = recordings.pieces(np.concatenate(said))
        assert 52.0 < cut / SAMPLE_RATE < 52.5

    def test_travel_losslessly(self) -> None:
        """A piece comes out of its FLAC as it went in, to half a step of 16 bits."""
        piece = speech_like(2)
        heard = audio.decode(recordings.as_flac(piece))
        np.testing.assert_allclose(heard.samples, piece, atol=0.5001 / 2**15)


class TestMerge:
    """`merge`."""

    def test_weighs_pieces_by_their_speech(self) -> None:
        """Probabilities are the mean over seconds of speech; the recording's facts are its own."""
        parts = [(0.0, answered(30, angry=0.9, sad=0.1)), (60.0, answered(10, angry=0.1, sad=0.9))]
        merged = recordings.merge(parts, RECORDING, 0.75)
        assert merged.result.probabilities == pytest.approx({"angry": 0.7, "sad": 0.3})
        assert merged.result.label == "angry"
        assert merged.result.score == pytest.approx(0.7)
        assert (merged.duration_s, merged.speech_s) == (120.0, 40.0)
        assert (merged.sample_rate, merged.channels) == (44_100, 2)

    def test_moves_segments_onto_the_recording(self) -> None:
        """Each piece's segments begin where the piece does."""
        parts = [(0.0, answered(3, angry=1.0)), (57.5, answered(3, angry=1.0))]
        segments = recordings.merge(parts, RECORDING, 0.75).result.segments
        assert [(part.start_s, part.end_s) for part in segments] == [(1.0, 4.0), (58.5, 61.5)]

    @pytest.mark.parametrize(
        ("threshold", "decision", "top"),
        [
            (0.7, Decision.ACCEPT, ["sad"]),
            (0.71, Decision.REVIEW, ["sad", "angry"]),
        ],
    )
    def test_decides_anew(self, threshold: float, decision: Decision, top: list[str]) -> None:
        """By the model's threshold on the merged confidence; for review, the top two are given."""
        parts = [(0.0, answered(1, angry=0.3, sad=0.7))]
        result = recordings.merge(parts, RECORDING, threshold).result
        assert result.decision is decision
        assert [item.label for item in result.top] == top

    def test_pieces_without_speech_count_for_nothing(self) -> None:
        """Silence between two speakers changes no probability; silence alone is no_speech."""
        spoken, quiet = answered(5, angry=0.8, sad=0.2), answered(0.1)
        merged = recordings.merge([(0.0, quiet), (60.0, spoken)], RECORDING, 0.75)
        assert merged.result.probabilities == pytest.approx({"angry": 0.8, "sad": 0.2})
        nothing = recordings.merge([(0.0, quiet), (60.0, quiet)], RECORDING, 0.75).result
        assert nothing.decision is Decision.NO_SPEECH
        assert nothing.label is None


class TestEach:
    """`each`."""

    paths = tuple(Path(f"{number}.wav") for number in range(20))

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_keeps_the_order_and_does_the_rest(self, jobs: int) -> None:
        """A file that fails is an outcome like another."""

        def answer(path: Path) -> Answer:
            if path.stem == "7":
                raise NotAudio("no")
            return answered(float(path.stem), sad=1.0)

        outcomes = list(recordings.each(self.paths, answer, jobs=jobs))
        assert [outcome.path for outcome in outcomes] == list(self.paths)
        assert isinstance(outcomes[7].answer, NotAudio)
        speech = [o.answer.speech_s for o in outcomes if not isinstance(o.answer, TimbreError)]
        assert speech == [float(number) for number in range(20) if number != 7]

    def test_works_side_by_side(self) -> None:
        """Three jobs are inside at a time: each waits for the other two."""
        together = threading.Barrier(3)

        def answer(_: Path) -> Answer:
            together.wait(timeout=10)
            return answered(1, sad=1.0)

        assert len(list(recordings.each(self.paths[:6], answer, jobs=3))) == 6

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_a_fault_is_not_hidden(self, jobs: int) -> None:
        """What is no refusal is raised where the outcomes are read."""

        def answer(_: Path) -> Answer:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            list(recordings.each(self.paths, answer, jobs=jobs))

    def test_closing_starts_no_more(self) -> None:
        """After an interrupt only what is under way is finished."""
        started: list[Path] = []
        second, go_on = threading.Event(), threading.Event()

        def answer(path: Path) -> Answer:
            started.append(path)
            if len(started) > 1:
                second.set()
                go_on.wait(timeout=10)
            return answered(1, sad=1.0)

        before = threading.active_count()
        outcomes = recordings.each(self.paths, answer, jobs=2)
        assert isinstance(next(outcomes), Outcome)
        assert second.wait(timeout=10)
        workers = [t for t in threading.enumerate() if "work" in t.name][-2:]
        outcomes.close()
        go_on.set()
        for worker in workers:
            worker.join(timeout=10)
        assert threading.active_count() == before
        assert len(started) <= 3
