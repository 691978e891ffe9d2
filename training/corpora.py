"""What is known of published corpora: how they name files, who speaks, what they annotate.

So that the same clip is described alike whichever way it came: by manifest, in a folder for each
label, or as the corpus was published. Everything here is the authors' own statement; what they
don't state is None, not a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from training.recording import LABELS, Recording, Sex


@dataclass(frozen=True, slots=True)
class Corpus:
    """One published corpus."""

    language: str
    licence: str
    labels: tuple[str, ...] = LABELS
    """Of LABELS, those it annotates: it says nothing of the others."""


CORPORA = {
    "ravdess": Corpus("en", "CC BY-NC-SA 4.0"),
    "tess": Corpus("en", "CC BY-NC-ND 4.0"),
    "savee": Corpus("en", "research use, on registration"),
    "crema-d": Corpus("en", "Open Database License 1.0"),
    "nemo": Corpus("pl", "CC BY-NC-SA 4.0", tuple(x for x in LABELS if x != "disgusted")),
    "aesdd": Corpus("el", "unclear: research use", tuple(x for x in LABELS if x != "neutral")),
    "emo-db": Corpus("de", "unclear: research use"),
}


@dataclass(frozen=True, slots=True)
class Known:
    """What a file's name says of it, in the words of `Recording`."""

    corpus: str
    speaker: str
    label: str
    """As the corpus calls it, in full."""
    sentence: str | None
    sex: Sex | None
    song: bool = False
    """Sung, not spoken: a part of RAVDESS."""


# Livingstone and Russo 2018, doi:10.1371/journal.pone.0196391.
_RAVDESS = re.compile(r"0[13]-(0[12])-(0[1-8])-0[12]-(0[12])-0[12]-(0[1-9]|1\d|2[0-4])")
_RAVDESS_LABELS = dict(
    zip(
        ("01", "02", "03", "04", "05", "06", "07", "08"),
        ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
        strict=True,
    )
)


def _ravdess(path: Path) -> Known | None:
    if not (match := _RAVDESS.fullmatch(path.stem)):
        return None
    channel, emotion, statement, actor = match.groups()
    return Known(
        "ravdess",
        f"ravdess_{actor}",
        _RAVDESS_LABELS[emotion],
        f"ravdess:{statement}",
        "male" if int(actor) % 2 else "female",
        song=channel == "02",
    )


# Pichora-Fuller and Dupuis 2020, doi:10.5683/SP2/E8H2MF: an older and a younger actress. One of its
# files says OA for OAF; numbers before and after are of another distribution.
_TESS = re.compile(
    r"(?:\d+test)?(O|Y)AF?_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)\d*", re.IGNORECASE
)


def _tess(path: Path) -> Known | None:
    if not (match := _TESS.fullmatch(path.stem)):
        return None
    age, word, emotion = match.groups()
    label = "pleasant surprise" if emotion.lower() == "ps" else emotion.lower()
    return Known("tess", f"tess_{age.upper()}AF", label, f"tess:{word.lower()}", "female")


# Haq and Jackson 2010, "Multimodal emotion recognition"; all four speakers are men. As published,
# the speaker is a folder; elsewhere he is put before the name.
_SAVEE = re.compile(r"(?:(DC|JE|JK|KL)_)?(a|d|f|h|n|sa|su)(\d\d)")
_SAVEE_SPEAKERS = {"DC", "JE", "JK", "KL"}
_SAVEE_LABELS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SAVEE_COMMON = 3
"""The first sentences of each emotion are the same ones: 3 common, 2 emotion-specific and 10
generic, by the authors."""
_SAVEE_SAID_AGAIN = {
    f"n{number}": sentence
    for number, sentence in enumerate(
        [
            *("common01", "common02", "common03"),
            *("a04", "a05", "d04", "d05", "f04", "f05", "su04", "su05", "sa04", "sa05"),
            *("h04", "h05"),
        ],
        start=16,
    )
}
"""What neutral clips 16 to 30 say: the common and all emotion-specific sentences. Found by aligning
the clips with each other (docs/data.md); those of surprise follow from the rest."""


def _savee(path: Path) -> Known | None:
    match = _SAVEE.fullmatch(path.stem)
    speaker = (match.group(1) or path.parent.name) if match else None
    if match is None or speaker not in _SAVEE_SPEAKERS:
        return None
    emotion, number = match.group(2), match.group(3)
    if int(number) <= SAVEE_COMMON:
        sentence = f"common{number}"
    else:
        sentence = _SAVEE_SAID_AGAIN.get(f"{emotion}{number}", f"{emotion}{number}")
    return Known("savee", f"savee_{speaker}", _SAVEE_LABELS[emotion], f"savee:{sentence}", "male")


# Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244; sexes: its VideoDemographics.csv. 1001 to 1091.
_CREMA_D = re.compile(r"(10[0-8]\d|109[01])_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(?:LO|MD|HI|XX?)")
_CREMA_D_LABELS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
# fmt: off
_CREMA_D_WOMEN = frozenset({
    2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 18, 20, 21, 24, 25, 28, 29, 30, 37, 43, 46, 47, 49, 52, 53, 54,
    55, 56, 58, 60, 61, 63, 72, 73, 74, 75, 76, 78, 79, 82, 84, 89, 91,
})
# fmt: on


def _crema_d(path: Path) -> Known | None:
    if not (match := _CREMA_D.fullmatch(path.stem)):
        return None
    actor, sentence, emotion = match.groups()
    return Known(
        "crema-d",
        f"crema-d_{actor}",
        _CREMA_D_LABELS[emotion],
        f"crema-d:{sentence}",
        "female" if int(actor) - 1000 in _CREMA_D_WOMEN else "male",
    )


# Christop 2024, arXiv:2404.06292; sexes: data.tsv of github.com/amu-cai/nEMO. Sentence numbers are
# the same for every speaker and emotion.
_NEMO = re.compile(r"([A-Z]{2}0)_(anger|fear|happiness|neutral|sadness|surprised)_(\d{1,2})")
_NEMO_SEXES: dict[str, Sex] = {
    "EB0": "female",
    "IC0": "female",
    "KD0": "female",
    "KS0": "male",
    "MK0": "female",
    "MP0": "male",
    "SM0": "male",
    "TP0": "male",
    "WR0": "male",
}


def _nemo(path: Path) -> Known | None:
    if not (match := _NEMO.fullmatch(path.stem)):
        return None
    speaker, emotion, sentence = match.groups()
    return Known(
        "nemo", f"nemo_{speaker}", emotion, f"nemo:{int(sentence):02}", _NEMO_SEXES.get(speaker)
    )


# Vryzas et al. 2018, doi:10.17743/jaes.2018.0036. Who is a man and who a woman isn't stated by
# number. The twentieth utterance is improvised, so it has no identity.
_AESDD = re.compile(r"([adfhs])(\d\d)(?:_| ?\()0?(\d+)[ab]?\)?")
_AESDD_LABELS = {"a": "anger", "d": "disgust", "f": "fear", "h": "happiness", "s": "sadness"}
_AESDD_IMPROVISED = "20"


def _aesdd(path: Path) -> Known | None:
    if not (match := _AESDD.fullmatch(path.stem)):
        return None
    emotion, utterance, speaker = match.groups()
    sentence = None if utterance == _AESDD_IMPROVISED else f"aesdd:{utterance}"
    return Known("aesdd", f"aesdd_{speaker}", _AESDD_LABELS[emotion], sentence, None)


# Burkhardt et al. 2005, "A database of German emotional speech"; speakers: its documentation.
_EMO_DB = re.compile(r"(03|08|09|1[0-6])([ab]\d\d)([WLEAFTN])[a-z]?")
_EMO_DB_LABELS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "anxiety",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_EMO_DB_WOMEN = {"08", "09", "13", "14", "16"}


def _emo_db(path: Path) -> Known | None:
    if not (match := _EMO_DB.fullmatch(path.stem)):
        return None
    speaker, text, emotion = match.groups()
    return Known(
        "emo-db",
        f"emo-db_{speaker}",
        _EMO_DB_LABELS[emotion],
        f"emo-db:{text}",
        "female" if speaker in _EMO_DB_WOMEN else "male",
    )


_NAMES: dict[str, Callable[[Path], Known | None]] = {
    "ravdess": _ravdess,
    "tess": _tess,
    "savee": _savee,
    "crema-d": _crema_d,
    "nemo": _nemo,
    "aesdd": _aesdd,
    "emo-db": _emo_db,
}


def recognise(path: Path, corpus: str | None = None) -> Known | None:
    """Read a file's name as `corpus` writes them, or as whichever corpus it fits; None: as none.

    Only the name counts, and for SAVEE the name of its folder: nothing is opened.
    """
    if corpus is not None:
        parse = _NAMES.get(corpus)
        return parse(path) if parse else None
    return next((known for parse in _NAMES.values() if (known := parse(path))), None)


def licence(corpus: str) -> str:
    """What the recordings may be used for; `unknown` for a corpus that isn't in CORPORA."""
    return CORPORA[corpus].licence if corpus in CORPORA else "unknown"


def annotated(corpus: str, seen: Collection[str]) -> tuple[str, ...]:
    """Which of LABELS a corpus annotates, so that its silence on the others isn't learned.

    Args:
        corpus: its name.
        seen: labels of its clips, for a corpus that isn't in CORPORA.
    """
    if corpus in CORPORA:
        return CORPORA[corpus].labels
    return tuple(label for label in LABELS if label in seen)


def sentence_is_shared(recording: Recording) -> bool | None:
    """Tell whether its sentence is said in all of its corpus's emotions.

    Where it isn't, a model can tell the emotion by the words: so it is in four fifths of SAVEE's
    clips of our labels. None: the sentence or the corpus isn't known.
    """
    if recording.sentence is None or recording.corpus not in CORPORA:
        return None
    return recording.corpus != "savee" or recording.sentence.startswith("savee:common")
