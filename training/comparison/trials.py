"""The trials of a comparison: each recipe on each fold, from each seed. A trial is a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training import config as configuration
from training import data, pipeline
from training.comparison.figures import Answered
from training.config import Config, ConfigError
from training.evaluation import report, scores
from training.evaluation.answers import Answers
from training.run import LOG, NOTHING_TO_TRAIN_ON, Run
from training.tracking import SUMMARY

GIVEN = "as given"
"""The fold of a recipe that leaves out what its own configuration says."""


@dataclass(frozen=True)
class Trial:
    """One training of a recipe."""

    recipe: str
    fold: str
    """The corpus that is left out of the training, or `GIVEN`."""
    seed: int
    run: Run

    @property
    def judged_by(self) -> str:
        """The set whose clips tell how good it is."""
        return self.run.watched if self.fold == GIVEN else "left-out"


def plan(
    sources: Sequence[str],
    changes: Sequence[str],
    *,
    root: Path,
    runs: Path,
    leave_out: bool,
    seeds: int,
) -> list[Trial]:
    """List the trials, recipe by recipe.

    Args:
        sources: configurations, as `config.load` takes them.
        changes: to each, as `config.load` takes them.
        root: folder with the recordings.
        runs: gets a folder for each trial.
        leave_out: leave each corpus of `train` out in turn; else recipes as they are.
        seeds: trials of each recipe on each fold, with seeds from 0.

    Raises:
        ConfigError: a configuration can't be used, two have the same name or would be judged by
            different clips or resamples, one chooses its epoch by the clips that judge it, or there
            is only one corpus.
    """
    recipes: dict[str, str] = {}
    for source in sources:
        name = Path(source).stem
        if name in recipes:
            raise ConfigError(f"Two configurations are called {name}; rename one.")
        recipes[name] = source
    trials = []
    for name, source in recipes.items():
        corpora = _corpora(configuration.load(source, changes), root) if leave_out else [GIVEN]
        for fold in corpora:
            left_out = [f"data.left_out_corpora={json.dumps([fold])}"] if leave_out else []
            for seed in range(seeds):
                ours = [*changes, *left_out, f"training.seed={seed}"]
                folder = f"{name}-without-{fold}" if leave_out else name
                run = Run(configuration.load(source, ours), root, runs / f"{folder}-seed{seed}")
                trials.append(Trial(name, fold, seed, run))
    _require_same_clips(trials)
    _require_same_resamples(trials)
    _require_unseen_clips(trials)
    return trials


def _require_same_clips(trials: Sequence[Trial]) -> None:
    """Refuse, before anything is trained, what couldn't be compared afterwards."""
    first: dict[str, tuple[str, list[str]]] = {}
    for trial in trials:
        clips = [clip.name for clip in trial.run.sets[trial.judged_by]]
        recipe, expected = first.setdefault(trial.fold, (trial.recipe, clips))
        if clips != expected:
            raise ConfigError(
                f"{recipe} and {trial.recipe} would be judged by different clips; give both the "
                "same [data]."
            )
    folds = {trial.recipe: {t.fold for t in trials if t.recipe == trial.recipe} for trial in trials}
    for recipe, own in folds.items():
        if own != set(first):
            missing = min(set(first) - own)
            raise ConfigError(f"{recipe} has no clips of {missing}; give all the same [data].")


def _require_same_resamples(trials: Sequence[Trial]) -> None:
    """Refuse recipes whose differences couldn't be taken resample by resample."""
    for trial in trials:
        first, ours = (each.run.config.evaluation for each in (trials[0], trial))
        if (ours.seed, ours.resamples) != (first.seed, first.resamples):
            raise ConfigError(
                f"{trials[0].recipe} and {trial.recipe} have another seed or other resamples; give "
                "both the same [evaluation]."
            )


def _require_unseen_clips(trials: Sequence[Trial]) -> None:
    """Refuse recipes that would look better because they choose by the clips that judge them."""
    for trial in trials:
        settings = trial.run.config.training
        chooses = settings.keep == "best" or settings.patience is not None
        if chooses and trial.judged_by == trial.run.watched:
            raise ConfigError(
                f"{trial.recipe} ends its training or keeps its weights by the {trial.judged_by} "
                "clips, which judge it too, and that flatters it. Set training.keep=average (or "
                "last) and leave patience out, or give --leave-out-corpora and "
                "development_speakers in [data]: then it chooses by those speakers."
            )


def _corpora(config: Config, root: Path) -> list[str]:
    """The corpora of a configuration's training clips."""
    clips = data.load(config.data, root)
    corpora = sorted({clip.corpus for clip in clips if clip.split == "train"})
    if not corpora:
        raise ConfigError(NOTHING_TO_TRAIN_ON)
    if len(corpora) == 1:
        raise ConfigError(f"All training clips are {corpora[0]}'s: without it there are none.")
    return corpora


def carry_out(trial: Trial) -> Answered:
    """Train and measure; what is there already of the same configuration and data is kept.

    Returns:
        What it answers at the temperature that its evaluation found.

    Raises:
        ConfigError: the data can't be used, or the trial's folder has another run.
    """
    run = trial.run
    trained = run.model.is_dir()
    pipeline.prepare(run)
    pipeline.train(run)
    if not (trained and run.is_measured()):
        pipeline.evaluate(run)
    found = scores.load(run.scores)[trial.judged_by]
    settings = run.config.evaluation
    probabilities = found.probabilities(report.read(run.folder).temperature)
    answers = Answers(found, probabilities, settings.resamples, settings.seed)
    return Answered(trial.recipe, trial.fold, answers, _train_s(run.folder / LOG))


def _train_s(log: Path) -> float:
    """Seconds that a training took, or the last part of one that was resumed; 0 without steps."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return sum(float(json.loads(line).get(SUMMARY, 0)) for line in lines)
