"""What a file's name says of a recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.corpora import Known, annotated, licence, recognise, sentence_is_shared
from training.recording import LABELS, Recording


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (
            "Actor_12/03-01-06-01-02-01-12.wav",
            Known("ravdess", "ravdess_12", "fearful", "ravdess:02", "female"),
        ),
        (
            "03-01-08-01-01-01-01.wav",
            Known("ravdess", "ravdess_01", "surprised", "ravdess:01", "male"),
        ),
        (
            "03-02-05-01-01-01-03.wav",
            Known("ravdess", "ravdess_03", "angry", "ravdess:01", "male", song=True),
        ),
        ("OAF_back_angry.wav", Known("tess", "tess_OAF", "angry", "tess:back", "female")),
        ("OA_bite_neutral48.opus", Known("tess", "tess_OAF", "neutral", "tess:bite", "female")),
        ("YAF_dog_ps.wav", Known("tess", "tess_YAF", "pleasant surprise", "tess:dog", "female")),
        ("100testYAF_hall_sad8.flac", Known("tess", "tess_YAF", "sad", "tess:hall", "female")),
        ("DC_a01.wav", Known("savee", "savee_DC", "anger", "savee:common01", "male")),
        ("KL/sa04.wav", Known("savee", "savee_KL", "sadness", "savee:sa04", "male")),
        ("JE_n17.wav", Known("savee", "savee_JE", "neutral", "savee:common02", "male")),
        ("JE_n27.wav", Known("savee", "savee_JE", "neutral", "savee:sa04", "male")),
        ("JE_n15.wav", Known("savee", "savee_JE", "neutral", "savee:n15", "male")),
        ("1001_DFA_ANG_XX.wav", Known("crema-d", "crema-d_1001", "anger", "crema-d:DFA", "male")),
        (
            "1091_IEO_HAP_HI.wav",
            Known("crema-d", "crema-d_1091", "happiness", "crema-d:IEO", "female"),
        ),
        ("EB0_anger_7.wav", Known("nemo", "nemo_EB0", "anger", "nemo:07", "female")),
        ("WR0_surprised_64.wav", Known("nemo", "nemo_WR0", "surprised", "nemo:64", "male")),
        ("a01 (5).wav", Known("aesdd", "aesdd_5", "anger", "aesdd:01", None)),
        ("a06_5b.flac", Known("aesdd", "aesdd_5", "anger", "aesdd:06", None)),
        ("s20 (2).wav", Known("aesdd", "aesdd_2", "sadness", None, None)),
        ("03a01Fa.wav", Known("emo-db", "emo-db_03", "happiness", "emo-db:a01", "male")),
        ("16b10Wb.wav", Known("emo-db", "emo-db_16", "anger", "emo-db:b10", "female")),
    ],
)
def test_a_name_says_who_speaks_what_and_how(path: str, known: Known) -> None:
    """For every corpus, as published and as passed on."""
    assert recognise(Path(path)) == known
    assert recognise(Path(path), known.corpus) == known


@pytest.mark.parametrize(
    "path",
    ["speech.wav", "a01.wav", "XX/a01.wav", "1092_DFA_ANG_XX.wav", "03-01-09-01-01-01-01.wav"],
)
def test_other_names_say_nothing(path: str) -> None:
    """No speaker, emotion or number that its corpus doesn't have is made up."""
    assert recognise(Path(path)) is None


def test_a_name_is_read_as_the_corpus_that_is_asked_for() -> None:
    """And not as another whose names look alike."""
    assert recognise(Path("DC/a01.wav"), "tess") is None
    assert recognise(Path("DC/a01.wav"), "nobody-s") is None


def test_crema_d_has_43_women_and_48_men() -> None:
    """As its authors state."""
    sexes = [
        known.sex for n in range(1, 92) if (known := recognise(Path(f"{1000 + n}_DFA_ANG_XX")))
    ]
    assert (sexes.count("female"), sexes.count("male")) == (43, 48)


def _said(corpus: str, sentence: str | None) -> Recording:
    return Recording(Path("x"), "x", corpus, "s", "en", "sad", "train", sentence=sentence)


def test_most_of_savee_s_sentences_are_not_shared() -> None:
    """Only the common ones are said in every emotion."""
    names = [f"DC_{e}{n:02}" for e in ("a", "d", "f", "h", "sa") for n in range(1, 16)]
    names += [f"DC_n{n:02}" for n in range(1, 31)]
    found = [recognise(Path(name)) for name in names]
    shared = [sentence_is_shared(_said("savee", known.sentence)) for known in found if known]
    assert (shared.count(True), shared.count(False)) == (21, 84)


def test_what_is_not_known_is_not_called_shared() -> None:
    """Neither an unknown sentence nor one of an unknown corpus."""
    assert sentence_is_shared(_said("tess", "tess:dog")) is True
    assert sentence_is_shared(_said("tess", None)) is None
    assert sentence_is_shared(replace(_said("mine", "mine:1"))) is None


def test_a_corpus_annotates_what_it_states_or_shows() -> None:
    """The table counts for published corpora, the clips for others; in the order of LABELS."""
    assert annotated("nemo", {"sad"}) == tuple(x for x in LABELS if x != "disgusted")
    assert annotated("mine", {"sad", "angry"}) == ("angry", "sad")


def test_a_corpus_that_is_not_known_has_no_known_licence() -> None:
    """It is not called free."""
    assert licence("tess") == "CC BY-NC-ND 4.0"
    assert licence("mine") == "unknown"
