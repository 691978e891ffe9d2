"""What is scored is what is served, and what noise is mixed in has the ratio asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.classifier import Classifier, Heard, open_classifier
from service.domain import Clip, Decision, Samples
from service.voice import FRAME, VoiceActivity
from tests.support.audio import encoded, silence, speech_like
from training import noises
from training.config import ConfigError
from training.evaluation import noise, scores
from training.recording import LABELS, Recording

SECONDS = (1.2, 4.0, 7.5)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """The embedded default model."""
    return open_classifier(open_bundle(DEFAULT_BUNDLE))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Clips of one and of several windows, and one without speech."""
    folder = tmp_path_factory.mktemp("clips")
    sounds = [speech_like(seconds, seed=number) for number, seconds in enumerate(SECONDS)]
    made = []
    for number, sound in enumerate([*sounds, silence(2.0)]):
        path = folder / f"{number}.flac"
        path.write_bytes(encoded(sound, container="FLAC"))
        label = LABELS[number]
        made.append(
            Recording(path, path.name, "savee", "s", "en", label, "validation", "savee:a04", "male")
        )
    return made


@pytest.fixture(scope="module")
def measured(classifier: Classifier, recordings: list[Recording]) -> scores.Scores:
    """Their scores."""
    return scores.measure(classifier, recordings, "clips")


def test_a_score_is_the_served_one(
    classifier: Classifier, recordings: list[Recording], measured: scores.Scores
) -> None:
    """Of clips of one window or several, at the bundle's own temperature."""
    temperature = classifier.runner.bundle.manifest.precisions["fp32"].temperature
    probabilities = measured.probabilities(temperature)
    given = scores.guesses(probabilities)
    for number, recording in enumerate(recordings):
        result = classifier.classify(classifier.hear(recording.path.read_bytes()))
        if result.decision is Decision.NO_SPEECH:
            assert np.isnan(probabilities[number]).all()
            assert given[number] == -1
        else:
            served = [result.probabilities[label] for label in LABELS]
            assert probabilities[number] == pytest.approx(served, abs=1e-5)
            assert LABELS[given[number]] == result.label
    assert measured.spoken.tolist() == [True, True, True, False]
    assert measured.windows.max() > 1


def test_a_recording_that_cannot_be_decoded_is_named(
    classifier: Classifier, recordings: list[Recording], tmp_path: Path
) -> None:
    """Among thousands it would be hard to find."""
    broken = replace(recordings[0], path=tmp_path / "broken.wav")
    broken.path.write_bytes(b"no sound")
    with pytest.raises(ConfigError, match=r"broken\.wav: "):
        scores.measure(classifier, [recordings[1], broken], "clips")


def test_facts_of_a_clip_stay_with_it(measured: scores.Scores) -> None:
    """Its truth, speaker, and whether its words give the emotion away."""
    assert measured.truth.tolist() == [0, 1, 2, 3]
    assert set(measured.sexes) == {"male"}
    assert set(measured.sentence_shared) == {0}
    assert measured.duration_s[:3] == pytest.approx(SECONDS)


def test_scores_are_kept(measured: scores.Scores, tmp_path: Path) -> None:
    """What is read is what was written, so that a report needs no model."""
    scores.save(tmp_path, {"validation": measured})
    again = scores.load(tmp_path)["validation"]
    assert again.names.tolist() == measured.names.tolist()
    assert (again.logits == measured.logits).all()
    assert again.probabilities(1.3) == pytest.approx(measured.probabilities(1.3), nan_ok=True)


def test_no_scores_are_no_scores(tmp_path: Path) -> None:
    """A wrong folder is one sentence."""
    with pytest.raises(ConfigError, match="evaluate first"):
        scores.load(tmp_path)


def test_chosen_clips_keep_their_windows(measured: scores.Scores) -> None:
    """Whichever are chosen, in their order, and joined again."""
    chosen = np.array([False, True, False, True])
    some = measured.where(chosen)
    expected = measured.probabilities(1.0)[chosen]
    assert some.probabilities(1.0) == pytest.approx(expected, nan_ok=True)
    joined = scores.Scores.joined([some, measured])
    assert joined.probabilities(1.0)[2:] == pytest.approx(measured.probabilities(1.0), nan_ok=True)


def test_each_speaker_gives_as_many_clips() -> None:
    """At most so many, spread over all he has."""
    many = [Recording(Path("x"), str(n), "a", "many", "en", "sad", "train") for n in range(200)]
    few = [Recording(Path("x"), str(n), "a", "few", "en", "sad", "train") for n in range(3)]
    chosen = scores.of_each_speaker([*many, *few])
    names = [recording.name for recording in chosen if recording.speaker == "many"]
    assert len(names) == scores.CLIPS_OF_A_SPEAKER
    assert (names[0], names[-1]) == ("0", "199")
    assert [recording for recording in chosen if recording.speaker == "few"] == few


class _Listener:
    """Keeps what it is given to hear, and finds no speech in it."""

    def __init__(self, classifier: Classifier) -> None:
        self.runner = classifier.runner
        self.heard: list[Clip] = []

    def listen(self, clip: Clip) -> Heard:
        self.heard.append(clip)
        return Heard(clip, 0.0, [], [])


def _hum(seconds: float, seed: int) -> Samples:
    return np.random.default_rng(seed).standard_normal(round(16_000 * seconds)).astype(np.float32)


def test_noise_has_the_ratio_asked(
    classifier: Classifier, recordings: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the speech of the clean clip, and the same piece at every ratio."""
    listener = _Listener(classifier)
    monkeypatch.setattr(classifier, "listen", listener.listen)
    ratios = (20.0, 0.0)
    noise.measure(classifier, recordings[:2], {"hum": [_hum(1.0, 0)]}, ratios, seed=0)
    monkeypatch.undo()
    voice = VoiceActivity()
    for number, recording in enumerate(recordings[:2]):
        clean = classifier.hear(recording.path.read_bytes()).clip.samples.astype(np.float64)
        active = np.repeat(voice(clean.astype(np.float32)), FRAME)[: clean.size]
        added = [heard.samples - clean for heard in listener.heard[2 * number : 2 * number + 2]]
        for ratio, mixed in zip(ratios, added, strict=True):
            power = np.mean(clean[active] ** 2) / np.mean(mixed[active] ** 2)
            assert 10 * np.log10(power) == pytest.approx(ratio, abs=0.01)
        assert added[1] == pytest.approx(10 * added[0], abs=1e-5)


def test_noise_is_scored_by_condition(classifier: Classifier, recordings: list[Recording]) -> None:
    """Every clip with every noise at every ratio; hardly any noise changes hardly anything."""
    kinds = {"hum": [_hum(1.0, 0), _hum(2.0, 1)], "hiss": [_hum(0.5, 2)]}
    found = noise.measure(classifier, recordings, kinds, (80.0, -30.0), seed=0)
    assert set(found) == {"hum@80", "hum@-30", "hiss@80", "hiss@-30"}
    clean = scores.measure(classifier, recordings, "clean").probabilities(1.0)[:3]
    assert found["hum@80"].probabilities(1.0)[:3] == pytest.approx(clean, abs=0.02)
    buried = found["hum@-30"]
    assert not buried.spoken.all() or np.abs(buried.probabilities(1.0)[:3] - clean).max() > 0.1
    again = noise.measure(classifier, recordings, kinds, (80.0, -30.0), seed=0)
    assert (again["hiss@-30"].logits == found["hiss@-30"].logits).all()


def test_noises_of_the_report_are_read(tmp_path: Path) -> None:
    """All of each kind, wherever they lie; one that is missing is named."""
    (tmp_path / "esc").mkdir()
    for name in ("exercise_bike.wav", "esc/helicopter-1.wav", "esc/chainsaw-1.wav", "esc/rain.wav"):
        (tmp_path / name).write_bytes(encoded(_hum(0.5, 0)))
    with pytest.raises(ConfigError, match="No recording of baby_cry"):
        noise.read(tmp_path)
    (tmp_path / "baby_cry").mkdir()
    for number in range(2):
        (tmp_path / "baby_cry" / f"{number}.wav").write_bytes(encoded(_hum(0.5, 0)))
    found = noise.read(tmp_path)
    assert {kind: len(some) for kind, some in found.items()} == {
        "exercise_bike": 1,
        "helicopter": 1,
        "chainsaw": 1,
        "baby_cry": 2,
    }


@pytest.mark.parametrize(
    ("path", "kept"), [("esc10/helicopter/1.ogg", True), ("rain/1.ogg", False)]
)
def test_training_hears_no_noise_of_the_report(path: str, kept: bool) -> None:  # noqa: FBT001 - a case
    """Its kinds are known by their names."""
    assert noises.is_kept_for_reports(Path(path)) is kept


def test_what_was_scored_keeps_no_sound() -> None:
    """Thousands of clips would fill the memory with it; all that is counted stays."""
    heard = open_classifier(open_bundle(DEFAULT_BUNDLE)).hear(encoded(speech_like(4.0, seed=1)))
    silent = scores.without_sound(heard)
    assert heard.clip.samples.size > 0
    assert silent.clip.samples.base is None
    assert (silent.clip.samples.size, len(silent.batch)) == (0, 0)
    assert (silent.windows, silent.speech_s) == (heard.windows, heard.speech_s)
    assert silent.clip.duration_s == heard.clip.duration_s
