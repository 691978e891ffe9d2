"""What the figures depend on besides the emotion: corpus, sex and wording.

The corpora differ in studio, language and labels, so a model can gain by telling them apart
instead of the emotions; and where a sentence is only ever said in one emotion, by its words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.evaluation import figures
from training.evaluation.answers import Answers, figure, headline
from training.evaluation.facts import Confounds, Figure, Headline, Probe
from training.evaluation.scores import Scores
from training.recording import LABELS

MIN_SPEAKERS = 2
"""Of a corpus in the probe: one to fit on, another to ask."""


def confounds(answers: Answers) -> Confounds:
    """Figures by sex, by whether a sentence gives the emotion away, and recall by corpus."""
    shared = answers.scores.sentence_shared
    return Confounds(
        by_sex=_by_kind(answers, answers.scores.sexes),
        by_sentence={
            corpus: kinds
            for corpus, kinds in _by_kind(
                answers, np.select([shared == 1, shared == 0], ["shared", "other"], "")
            ).items()
            if len(kinds) > 1
        },
        recall_by_corpus={LABELS[label]: _recall(answers, label) for label in answers.present},
    )


def _by_kind(answers: Answers, kinds: NDArray[np.str_]) -> dict[str, dict[str, Headline]]:
    """By corpus and kind; clips of no kind ("") are left out."""
    found: dict[str, dict[str, Headline]] = {}
    for corpus in np.unique(answers.scores.corpora):
        inside = (answers.scores.corpora == corpus) & (kinds != "")
        if inside.any():
            found[str(corpus)] = {
                str(kind): headline(answers.where(inside & (kinds == kind)))
                for kind in np.unique(kinds[inside])
            }
    return found


def _recall(answers: Answers, label: int) -> dict[str, Figure]:
    """Recall of one label in each corpus that has it."""
    found = {}
    for corpus, some in answers.by(answers.scores.corpora).items():
        if label in some.present:
            value = figures.recall(some.counts)[label]
            found[corpus] = figure(float(value), figures.recall(some.resampled)[:, label])
    return found


def probe(sets: Sequence[Scores]) -> Probe | None:
    """Tell corpora by the model's answers: how much of the corpus is left in what it says.

    Args:
        sets: clips of as many speakers as there are.

    Returns:
        None where fewer than two corpora have `MIN_SPEAKERS` speakers.
    """
    features = np.concatenate([_mean_logits(scores) for scores in sets])
    corpora = np.concatenate([scores.corpora[scores.spoken] for scores in sets])
    speakers = np.concatenate([scores.speakers[scores.spoken] for scores in sets])
    names = [
        str(corpus)
        for corpus in np.unique(corpora)
        if len(np.unique(speakers[corpora == corpus])) >= MIN_SPEAKERS
    ]
    if len(names) < 2:  # noqa: PLR2004 - nothing to tell apart
        return None
    kept = np.isin(corpora, names)
    features, corpora, speakers = features[kept], corpora[kept], speakers[kept]
    guesses = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)),
        features,
        corpora,
        groups=speakers,
        cv=LeaveOneGroupOut(),
    )
    recalls = recall_score(corpora, guesses, labels=names, average=None)
    return Probe(
        clips=len(corpora),
        corpora=tuple(names),
        balanced_accuracy=float(balanced_accuracy_score(corpora, guesses)),
        chance=1 / len(names),
        recall=dict(zip(names, map(float, recalls), strict=True)),
    )


def _mean_logits(scores: Scores) -> NDArray[np.float64]:
    """Mean over the windows of each clip with speech, [clips, labels].

    Logits, because the engine that serves gives no embedding; before softmax, because it drops
    their level.
    """
    windows = scores.windows[scores.spoken]
    sums = np.add.reduceat(scores.logits.astype(np.float64), np.cumsum(windows) - windows)
    means: NDArray[np.float64] = sums / windows[:, None]
    return means
