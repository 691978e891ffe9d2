"""`compare`: which trials there are, and whether their figures tell the better recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.scores import drawn, one_hot, scores_of
from training.__main__ import main
from training.comparison import plot, trials
from training.comparison.figures import Answered, compare
from training.comparison.trials import GIVEN
from training.config import ConfigError
from training.evaluation.answers import Answers
from training.evaluation.scores import Scores
from training.recording import LABELS

pytestmark = [
    # Of torch's tracer, which fixes the window's length as we want it, and of libraries' own past.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TINY = (
    "training.max_steps=1",
    "training.batch_size=4",
    "training.max_clips=12",
    "evaluation.resamples=100",
)
"""Trials that end at once."""


def recipe(folder: Path, name: str, text: str = "") -> str:
    """A configuration of that name on the checkpoint of `data`."""
    file = folder / f"{name}.toml"
    identity = 'name = "tiny"\nversion = "1.0.0"\nlicence = "none"\nlimits = ["worth nothing"]\n'
    file.write_text(f'[bundle]\n{identity}[model]\ncheckpoint = "checkpoint"\n{text}')
    return str(file)


@pytest.mark.parametrize(
    ("leave_out", "seeds", "folds"),
    [(False, 3, [GIVEN] * 3), (True, 1, ["corpus-one", "corpus-two"])],
)
def test_trials_are_runs_of_each_recipe_fold_and_seed(
    data: Path, tmp_path: Path, *, leave_out: bool, seeds: int, folds: list[str]
) -> None:
    """Each in a folder of its own, with its own seed, and without the corpus it leaves out."""
    sources = [recipe(tmp_path, "one"), recipe(tmp_path, "two")]
    planned = trials.plan(
        sources, TINY, root=data, runs=tmp_path / "runs", leave_out=leave_out, seeds=seeds
    )
    assert [(trial.recipe, trial.fold) for trial in planned] == [
        (name, fold) for name in ("one", "two") for fold in folds
    ]
    assert len({trial.run.folder for trial in planned}) == len(planned)
    for trial in planned:
        assert trial.run.config.training.seed == trial.seed
        assert trial.run.config.training.max_steps == 1
        left_out = trial.run.config.data.left_out_corpora
        assert left_out == (() if trial.fold == GIVEN else (trial.fold,))
    assert {trial.seed for trial in planned} == set(range(seeds))


def test_two_recipes_of_one_name_are_refused(data: Path, tmp_path: Path) -> None:
    """Their folders and rows would be the same."""
    (tmp_path / "other").mkdir()
    sources = [recipe(tmp_path, "one"), recipe(tmp_path / "other", "one")]
    with pytest.raises(ConfigError, match="called one; rename one"):
        trials.plan(sources, (), root=data, runs=tmp_path, leave_out=False, seeds=1)


@pytest.mark.parametrize(
    ("leave_out", "other", "said"),
    [
        (False, 'development_speakers = ["two"]', "judged by different clips"),
        (True, 'drop = ["sad"]', "judged by different clips"),
        (
            True,
            'validation_speakers = ["two"]\nsplit = "speakers"',
            "one has no clips of corpus-five",
        ),
    ],
)
def test_recipes_on_other_clips_are_refused_before_a_training(
    data: Path, tmp_path: Path, *, leave_out: bool, other: str, said: str
) -> None:
    """Their difference would be one of clips, not of recipes."""
    sources = [recipe(tmp_path, "one"), recipe(tmp_path, "two", f"[data]\n{other}\n")]
    with pytest.raises(ConfigError, match=said):
        trials.plan(sources, (), root=data, runs=tmp_path, leave_out=leave_out, seeds=1)


@pytest.mark.parametrize("other", ["seed = 1", "resamples = 300"])
def test_recipes_with_other_resamples_are_refused_before_a_training(
    data: Path, tmp_path: Path, other: str
) -> None:
    """A difference of pairs needs the same resamples of both."""
    sources = [recipe(tmp_path, "one"), recipe(tmp_path, "two", f"[evaluation]\n{other}\n")]
    with pytest.raises(ConfigError, match=r"one and two .* the same \[evaluation\]"):
        trials.plan(sources, (), root=data, runs=tmp_path, leave_out=False, seeds=1)


DEVELOPS = '[data]\ndevelopment_speakers = ["two"]\n'


@pytest.mark.parametrize("chooses", ['keep = "best"', "patience = 2"])
@pytest.mark.parametrize(("leave_out", "kept"), [(False, ""), (False, DEVELOPS), (True, "")])
def test_a_recipe_is_not_judged_by_the_clips_it_chooses_by(
    data: Path, tmp_path: Path, *, leave_out: bool, kept: str, chooses: str
) -> None:
    """It would look better than one that doesn't, and be no better on others."""
    sources = [
        recipe(tmp_path, "one", kept),
        recipe(tmp_path, "two", f"{kept}[training]\n{chooses}"),
    ]
    with pytest.raises(ConfigError, match=r"two ends its training .* training\.keep=average"):
        trials.plan(sources, (), root=data, runs=tmp_path, leave_out=leave_out, seeds=1)


def test_a_recipe_may_choose_by_speakers_that_do_not_judge_it(data: Path, tmp_path: Path) -> None:
    """Those it keeps for choices, while it is judged by a corpus that was left out."""
    divided = f'{DEVELOPS}split = "speakers"\nvalidation_speakers = ["three"]\n'
    source = recipe(tmp_path, "one", f'{divided}[training]\nkeep = "best"\n')
    planned = trials.plan([source], (), root=data, runs=tmp_path, leave_out=True, seeds=1)
    assert {trial.fold for trial in planned} == {"corpus-one", "corpus-five"}
    assert {trial.run.watched for trial in planned} == {"development"}


def test_a_single_corpus_cannot_be_left_out(data: Path, tmp_path: Path) -> None:
    """Nothing would be left to train on."""
    source = recipe(tmp_path, "one", '[data]\nleft_out_corpora = ["corpus-two"]\n')
    with pytest.raises(ConfigError, match=r"corpus-one's: without it there are none"):
        trials.plan([source], (), root=data, runs=tmp_path, leave_out=True, seeds=1)


def test_without_training_clips_nothing_can_be_left_out(data: Path, tmp_path: Path) -> None:
    """There would be no fold at all."""
    source = recipe(tmp_path, "one", '[data]\ndevelopment_speakers = ["one", "two"]\n')
    with pytest.raises(ConfigError, match="No clips are left to train on"):
        trials.plan([source], TINY, root=data, runs=tmp_path, leave_out=True, seeds=1)


def answered(recipe: str, found: Scores, fold: str = "fold", train_s: float = 60.0) -> Answered:
    """A trial that said this."""
    return Answered(recipe, fold, Answers(found, found.probabilities(1.0), 200, 0), train_s)


def spoilt(found: Scores, every: int) -> Scores:
    """The same clips, each so-manieth answered with the next label."""
    rows = [
        one_hot(LABELS[(label + (number % every == 0)) % len(LABELS)])
        for number, label in enumerate(found.truth)
    ]
    return scores_of(
        [LABELS[label] for label in found.truth],
        [[row] for row in rows],
        corpora=found.corpora.tolist(),
        speakers=found.speakers.tolist(),
    )


def test_the_better_recipe_gains_what_it_is_better_by() -> None:
    """The difference of the means, with an interval that leaves no doubt of it."""
    clips = drawn(1.0, clips=600)
    worse, better = spoilt(clips, 4), spoilt(clips, 10)
    found = compare([answered("worse", worse), answered("better", better)])
    assert found.recipes["worse"].accuracy.value == pytest.approx(0.75)
    assert found.recipes["worse"].gained is None
    gained = found.recipes["better"].gained
    assert gained is not None
    assert gained["accuracy"].value == pytest.approx(0.15)
    assert 0.1 < gained["accuracy"].low < gained["accuracy"].high < 0.2


def test_recipes_that_answer_alike_differ_by_nothing() -> None:
    """Not by chance either: both are resampled alike."""
    clips = spoilt(drawn(1.0, clips=120), 3)
    gained = compare([answered("a", clips), answered("b", clips)]).recipes["b"].gained
    assert gained is not None
    assert {(f.value, f.low, f.high) for f in gained.values()} == {(0.0, 0.0, 0.0)}


def test_folds_count_alike_and_seeds_are_averaged() -> None:
    """However many clips a fold has; the seconds of all trials are added up."""
    small, large = drawn(1.0, clips=60, seed=1), drawn(1.0, clips=600, seed=2)
    found = compare(
        [
            answered("a", spoilt(small, 2), "small"),
            answered("a", spoilt(small, 4), "small"),
            answered("a", spoilt(large, 1000), "large"),
            answered("a", spoilt(large, 1000), "large"),
        ]
    ).recipes["a"]
    assert found.folds["small"].accuracy == (0.5, 0.75)
    assert (found.folds["small"].clips, found.folds["large"].clips) == (60, 600)
    assert found.accuracy.value == pytest.approx((0.625 + 599 / 600) / 2, abs=1e-4)
    assert found.train_s == 240


def test_the_figure_shows_every_recipe_and_fold() -> None:
    """A row for each fold and one for the mean, a name for each recipe."""
    clips = drawn(1.0, clips=60)
    found = compare(
        [answered(name, clips, fold) for name in ("mine", "theirs") for fold in ("nemo", "tess")]
    )
    svg = plot.figure(found)
    assert all(f">{word}<" in svg for word in ("mine", "theirs", "nemo", "tess", "mean"))
    assert svg == plot.figure(found)


def test_the_command_leaves_a_table_a_figure_and_json(data: Path, tmp_path: Path) -> None:
    """Every corpus is left out in turn; a second start trains and measures nothing."""
    out = tmp_path / "found" / "comparison.json"
    changes = [word for change in TINY for word in ("--set", change)]
    arguments = [
        "compare",
        recipe(tmp_path, "one"),
        "--data",
        str(data),
        "--leave-out-corpora",
        *changes,
    ]
    arguments += ["--runs", str(tmp_path / "runs"), "--out", str(out)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert all(word in result.output for word in ("corpus-one", "corpus-two", "mean", "gain"))
    found = json.loads(out.read_text())
    (name, one), *others = found["recipes"].items()
    assert (name, list(one["folds"]), others) == ("one", ["corpus-one", "corpus-two"], [])
    assert one["train_s"] > 0
    assert "<svg" in out.with_suffix(".svg").read_text()

    measured = sorted((tmp_path / "runs").glob("*/evaluation.json"))
    assert len(measured) == 2
    before = [file.stat().st_mtime_ns for file in measured]
    again = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert again.output.count("is trained already") == 2
    assert [file.stat().st_mtime_ns for file in measured] == before
    assert json.loads(out.read_text()) == found


def test_a_recipe_is_judged_by_the_speakers_it_keeps(data: Path, tmp_path: Path) -> None:
    """As its own configuration says, and not on validation."""
    source = recipe(tmp_path, "one", '[data]\ndevelopment_speakers = ["two"]\n')
    (trial,) = trials.plan([source], TINY, root=data, runs=tmp_path, leave_out=False, seeds=1)
    answers = trials.carry_out(trial).answers
    assert np.unique(answers.scores.speakers).tolist() == ["two"]


def test_clips_that_were_relabelled_are_measured_again(data: Path, tmp_path: Path) -> None:
    """Those of a corpus that was left out too, though none of the training looks at them."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    divided = f'{DEVELOPS}split = "speakers"\nvalidation_speakers = ["three"]\n'
    source = recipe(tmp_path, "one", divided)

    def answers() -> Answers:
        planned = trials.plan(
            [source], TINY, root=root, runs=tmp_path / "runs", leave_out=True, seeds=1
        )
        (trial,) = (trial for trial in planned if trial.fold == "corpus-five")
        return trials.carry_out(trial).answers

    before = answers().scores.truth.tolist()
    manifest = root / "speech" / "manifest.csv"
    clip = "five-sad.flac,corpus-five,five,en,"
    manifest.write_text(manifest.read_text().replace(f"{clip}sad", f"{clip}happy"))
    after = answers().scores.truth.tolist()
    assert before.count(LABELS.index("sad")) == 1
    assert after.count(LABELS.index("sad")) == 0
