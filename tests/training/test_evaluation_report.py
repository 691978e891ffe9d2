"""From scores to the report, the card and the part in bundle.json: the same numbers in each."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from service.bundle import DataFacts
from tests.support.scores import drawn, one_hot, scores_of
from training import config
from training.config import ConfigError
from training.evaluation import report
from training.evaluation.assess import TRAIN_SAMPLE, Measured, assess
from training.evaluation.facts import Evaluation, json_schema
from training.evaluation.scores import Scores
from training.recording import LABELS

SCHEMA = Path(__file__).parents[2] / "docs" / "evaluation.schema.json"
ABOUT = Measured("made-here", "1.2.3", "fp32", "hubert", 9_700_000, "validation")
SETTINGS = config.Evaluation(resamples=200)
FIVE = tuple(label for label in LABELS if label != "neutral")
CONFIG = config.Config(
    bundle=config.Identity(
        name="made-here", version="1.2.3", licence="For tests only", limits=("It is made up.",)
    ),
    model=config.Model(checkpoint="checkpoint"),
)


def _sets() -> dict[str, Scores]:
    return {
        TRAIN_SAMPLE: drawn(1.0, 300, seed=2),
        "test": drawn(3.0, 200, seed=1, corpora=1, labels=FIVE),
        "validation": drawn(1.4, 600),
    }


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Of made-up answers in three sets and in noise."""
    sets = _sets()
    noisy = {
        f"{kind}@{ratio}": drawn(1.4 + (20 - ratio) / 5, 600)
        for kind in ("chainsaw", "baby_cry")
        for ratio in (20, 0)
    }
    return assess(ABOUT, sets, SETTINGS, noisy)


@pytest.fixture(scope="module")
def written(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report."""
    folder = tmp_path_factory.mktemp("report")
    report.write(evaluation, folder)
    return folder


def test_what_is_written_is_read_again(evaluation: Evaluation, written: Path) -> None:
    """To the last digit: the card made later has the numbers of the report."""
    assert report.read(written) == evaluation


def test_the_schema_is_documented(written: Path) -> None:
    """docs/evaluation.schema.json is what the code writes, and takes an evaluation.json."""
    assert SCHEMA.read_text(encoding="utf-8") == json_schema(), (
        "write it again: python -c 'from training.evaluation import facts; "
        'print(facts.json_schema(), end="")\' > docs/evaluation.schema.json'
    )
    content = json.loads((written / report.JSON).read_text())
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))


def test_the_same_scores_give_the_same_bytes(
    evaluation: Evaluation, written: Path, tmp_path: Path
) -> None:
    """So that two runs can be compared file by file."""
    report.write(evaluation, tmp_path)
    for file in (*written.glob("*.*"), *written.glob("figures/*")):
        assert (tmp_path / file.relative_to(written)).read_bytes() == file.read_bytes()


def test_nothing_is_fitted_on_test() -> None:
    """Another test set changes its own figures only."""
    sets = _sets()
    one = assess(ABOUT, sets, SETTINGS)
    other = assess(ABOUT, {**sets, "test": drawn(1.0, 100, seed=5)}, SETTINGS)
    assert one.sets["test"] != other.sets["test"]
    assert (one.temperature, one.threshold, one.probe) == (
        other.temperature,
        other.threshold,
        other.probe,
    )
    assert one.sets["validation"] == other.sets["validation"]


def test_masking_helps_where_a_label_is_missing(evaluation: Evaluation) -> None:
    """It is given for such a set only, and named; nobody is called neutral there."""
    test = evaluation.sets["test"]
    assert test.labels == FIVE
    assert test.masked is not None
    assert test.masked.accuracy.value > test.pooled.accuracy.value
    assert evaluation.sets["validation"].masked is None


def test_every_figure_lies_in_its_interval_or_near(evaluation: Evaluation) -> None:
    """An interval is of the figure beside it."""
    for found in evaluation.sets.values():
        for figure in (found.pooled.accuracy, found.pooled.uar, found.served.nll):
            assert figure.low < figure.value < figure.high
        for mean in (found.corpora_mean.accuracy, found.corpora_mean.macro_f1):
            assert mean.low < mean.value < mean.high


def test_each_corpus_and_speaker_has_its_figures() -> None:
    """So that a good one doesn't hide a bad one, and their mean counts them alike."""
    scores = scores_of(
        ["angry"] * 4,
        [[one_hot("angry")]] * 3 + [[one_hot("sad")]],
        corpora=["good", "good", "good", "bad"],
        speakers=["x", "y", "y", "z"],
    )
    found = assess(ABOUT, {"validation": scores}, SETTINGS).sets["validation"]
    assert found.by_corpus["good"].accuracy.value == 1
    assert found.by_corpus["bad"].accuracy.value == 0
    assert found.by_speaker["y"].clips == 2
    assert found.pooled.accuracy.value == 0.75
    assert found.corpora_mean.accuracy.value == 0.5


def test_a_clip_without_speech_is_wrong_and_counted() -> None:
    """It lowers accuracy and coverage, and NLL leaves it out."""
    scores = scores_of(["angry"] * 2, [[one_hot("angry", 9.0)], []], speakers=["x", "y"])
    found = assess(ABOUT, {"validation": scores}, SETTINGS).sets["validation"]
    assert (found.pooled.accuracy.value, found.pooled.no_speech) == (0.5, 1)
    assert found.confusion.counts[0] == (1, 0, 0, 0, 0, 0, 1)
    assert found.served.nll.value < 0.1
    assert found.selection.all.coverage.value == 0.5


def test_a_set_without_any_speech_is_refused() -> None:
    """There is nothing to judge, and something wrong with the recordings."""
    with pytest.raises(ConfigError, match="No speech was found in any clip of validation"):
        assess(ABOUT, {"validation": scores_of(["sad"], [[]])}, SETTINGS)


def test_the_probe_tells_what_logits_tell() -> None:
    """Corpora whose level differs are told apart; corpora alike are not."""
    alike = drawn(1.0, 600)
    shift = np.where(alike.corpora == "corpus-0", 0.0, 8.0)
    apart = replace(alike, logits=(alike.logits + shift[:, None]).astype(np.float32))
    told = assess(ABOUT, {"validation": apart}, SETTINGS).probe
    missed = assess(ABOUT, {"validation": alike}, SETTINGS).probe
    assert told is not None
    assert missed is not None
    assert told.balanced_accuracy > 0.99
    assert missed.balanced_accuracy < 0.6
    assert missed.chance == 0.5


def test_a_corpus_of_one_speaker_is_not_probed() -> None:
    """It would be the speaker that is told."""
    assert assess(ABOUT, {"validation": drawn(1.0, 99, speakers=1)}, SETTINGS).probe is None


def test_sex_and_sentences_are_told_apart(evaluation: Evaluation) -> None:
    """All clips of a corpus are in one group or another."""
    found = evaluation.confounds["validation"]
    clips = evaluation.sets["validation"].by_corpus["corpus-0"].clips
    assert set(found.by_sex["corpus-0"]) == {"female", "male"}
    assert set(found.by_sentence["corpus-0"]) == {"shared", "other"}
    assert sum(group.clips for group in found.by_sex["corpus-0"].values()) == clips
    assert sum(group.clips for group in found.by_sentence["corpus-0"].values()) == clips


def test_noise_is_reported_by_kind_and_together(evaluation: Evaluation) -> None:
    """With clean first, and the ratios in falling order."""
    noise = evaluation.noise
    assert noise is not None
    assert [(found.noise, found.snr_db) for found in noise.conditions] == [
        ("clean", None),
        ("baby_cry", 20),
        ("baby_cry", 0),
        ("chainsaw", 20),
        ("chainsaw", 0),
    ]
    assert [(found.noise, found.snr_db) for found in noise.pooled] == [("all", 20), ("all", 0)]
    assert noise.pooled[0].figures.clips == 1200
    assert noise.pooled[0].figures.accuracy.value > noise.pooled[1].figures.accuracy.value


class _Page(HTMLParser):
    """Collects ids and addresses, and counts open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        for name in ("src", "href", "xlink:href"):
            if not (given.get(name) or "#").startswith("#"):
                self.fetched.append(str(given[name]))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other(written: Path) -> None:
    """Every tag is closed, ids are unique, and nothing is fetched but pictures within it."""
    page = _Page()
    page.feed((written / report.HTML).read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith("data:image/png") for address in page.fetched)


def test_the_page_has_the_numbers_of_the_json(written: Path) -> None:
    """The headline of each set, the threshold and the noise."""
    page = (written / report.HTML).read_text(encoding="utf-8")
    content = json.loads((written / report.JSON).read_text())
    figures = [found["pooled"]["macro_f1"] for found in content["sets"].values()]
    figures += [found["figures"]["accuracy"] for found in content["noise"]["conditions"]]
    for figure in figures:
        assert f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})" in page
    assert f"review threshold {content['threshold']['value']}" in page


def test_there_are_three_confusion_figures_a_set(written: Path) -> None:
    """Counts, shares by row and shares by column, as files too."""
    names = {path.stem for path in (written / "figures").glob("*.svg")}
    for name in ("validation", "test", TRAIN_SAMPLE):
        for kind in ("counts", "recall", "precision"):
            assert f"{name}-confusion-{kind}" in names


def test_confusion_shares_are_recall_and_precision(evaluation: Evaluation) -> None:
    """On the diagonal, of rows and of columns."""
    found = evaluation.sets["validation"]
    for number, label in enumerate(LABELS):
        row = found.by_class[label]
        assert found.confusion.by_row[number][number] == row.recall.value
        assert found.confusion.by_column[number][number] == row.precision.value


def test_the_card_has_the_figures_and_the_licences(evaluation: Evaluation) -> None:
    """Of validation and test, not of what it was trained on; and its limits."""
    facts = DataFacts(name="corpus-0", split="train", clips=9, sha256="0" * 64, licence="CC0")
    card = report.model_card(CONFIG, evaluation, [facts])
    pooled = evaluation.sets["test"].pooled.macro_f1
    assert f"{pooled.value:.3f} ({pooled.low:.3f}–{pooled.high:.3f})" in card
    assert "test, labels it hasn't masked" in card
    assert TRAIN_SAMPLE not in card
    for words in ("CC0", "It is made up.", "For tests only", "In noise"):
        assert words in card
    # A table broken by a template's stray line would show as text.
    assert not re.search(r"\n\n\|[^\n]*\n(?!\| ---)", card)


def test_the_card_says_what_augmentation_did(evaluation: Evaluation) -> None:
    """Whatever its probabilities are, none among them."""
    settings = config.Augmentation(noise_probability=0.25, speed_probability=0)
    changed = CONFIG.model_copy(update={"augmentation": settings})
    card = report.model_card(changed, evaluation, [])
    assert "25% of them mixed with noise" in card
    assert "played at" not in card


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        ("last", "The last step's weights were kept"),
        ("average", "a moving average over the steps"),
        ("best", "the best accuracy on `validation` were kept, which flatters"),
    ],
)
def test_the_card_says_what_was_kept_and_drawn(
    evaluation: Evaluation, keep: str, sentence: str
) -> None:
    """Whether figures chose the weights, how clips were drawn, and who else taught."""
    changed = CONFIG.model_copy(
        update={
            "training": config.Training.model_validate({"keep": keep, "masked": False}),
            "sampling": config.Sampling(balanced=True, corpus_power=0.25),
            "teaching": config.Teaching(teachers=("a", "b"), share=0.4),
        }
    )
    card = report.model_card(changed, evaluation, [])
    assert sentence in card
    assert "to the power of 0.25" in card
    assert "40% of the loss is the distance from the mean answer of 2 teachers" in card
    assert "frozen encoders" not in card
    assert "only from those that its corpus has clips of" not in card
    assert "only from those that its corpus has clips of" in report.model_card(
        CONFIG, evaluation, []
    )


def test_the_card_says_which_teachers_are_probes(evaluation: Evaluation) -> None:
    """Beside those that are trained models."""
    probes = [config.Probe(checkpoint=name, layers=(1,)) for name in "bc"]
    teaching = config.Teaching(teachers=("a",), probes=tuple(probes))
    changed = CONFIG.model_copy(update={"teaching": teaching})
    card = report.model_card(changed, evaluation, [])
    assert "the mean answer of 3 teachers" in card
    assert "frozen encoders under probes of the same clips: 2 of them" in card


def _card(evaluation: Evaluation, **training: object) -> str:
    settings = config.Training.model_validate(training)
    identity = CONFIG.bundle.model_copy(update={"licence": "CC0"})
    changed = CONFIG.model_copy(update={"training": settings, "bundle": identity})
    return report.model_card(changed, evaluation, [])


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        ({"epochs": 3, "batch_size": 8}, "for 3 epochs: batch 8, learning"),
        ({"epochs": 0.5}, "for 0.5 epochs: "),
        ({"max_steps": 70}, "for 70 steps: "),
        ({"epochs": 9, "patience": 2}, "for up to 9 epochs: "),
        ({"batch_size": 8, "accumulation": 4}, "batch 8 (4 of them a step), learning"),
    ],
)
def test_the_card_says_how_long_it_was_trained(
    evaluation: Evaluation, training: dict[str, Any], sentence: str
) -> None:
    """By steps where they are set, and with all that makes a step."""
    assert sentence in _card(evaluation, **training)


@pytest.mark.parametrize("keep", ["last", "average", "best"])
def test_an_end_by_figures_is_no_secret(evaluation: Evaluation, keep: str) -> None:
    """With patience they chose the epoch, whichever weights of it are kept."""
    untouched = "no epoch was chosen by its figures."
    assert (untouched in _card(evaluation, keep=keep)) is (keep != "best")
    patient = _card(evaluation, keep=keep, patience=2)
    assert untouched not in patient
    assert "after 2 evaluations without a better accuracy on `validation`" in patient
    assert patient.count("which flatters it") == 1


def test_the_card_names_the_model_that_was_measured(evaluation: Evaluation) -> None:
    """Not the one that the project ships."""
    card = _card(evaluation)
    assert f"`{ABOUT.architecture}`, 9.7 M parameters" in card
    assert "wav2vec2" not in card


def test_the_card_says_no_more_of_licences_than_is_known(evaluation: Evaluation) -> None:
    """Data that allows everything forbids nothing."""
    licence = _card(evaluation).partition("## Licence")[2]
    assert "CC0." in licence
    assert "commercial" not in licence


@pytest.mark.parametrize("source", ["compact", "smoke", "thesis"])
def test_limits_have_no_figures_of_their_own(source: str) -> None:
    """Those of one training would stand in the card of the next, beside its tables."""
    for limit in config.load(source).bundle.limits:
        assert not re.search(r"\d+(\.\d+)?\s?%|0\.\d", limit)


def test_the_bundle_carries_the_headline(evaluation: Evaluation) -> None:
    """Of the sets that count, with intervals, and no curve or figure of a speaker."""
    metrics = report.compact(evaluation)
    assert set(metrics) == {"validation", "test"}
    pooled = evaluation.sets["validation"].pooled
    found = metrics["validation"]
    assert found["accuracy"] == pooled.accuracy.value
    assert found["intervals"]["accuracy"] == [pooled.accuracy.low, pooled.accuracy.high]
    assert found["cross_fitted"]["ece"] > 0
    assert found["per_corpus"]["corpus-0"]["clips"] == 300
    assert "cross_fitted" not in metrics["test"]
    assert len(json.dumps(metrics)) < 6000


def test_the_reference_adds_up(evaluation: Evaluation) -> None:
    """Predicted shares of the labels sum to 1, deciles rise."""
    reference = evaluation.reference
    prior, deciles = reference["predicted_prior"], reference["confidence_deciles"]
    assert isinstance(prior, dict)
    assert isinstance(deciles, list)
    assert sum(map(float, map(str, prior.values()))) == pytest.approx(1, abs=1e-3)
    assert deciles == sorted(map(float, map(str, deciles)))
