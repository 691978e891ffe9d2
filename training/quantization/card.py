"""The card's section on precisions: what each costs, from the same facts as bundle.json."""

from __future__ import annotations

import re
from collections.abc import Mapping

from service.bundle import AudioDraft, Precision, PrecisionFacts

HEADING = "## Precisions"
_SECTION = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BEFORE = re.compile(r"^## Limits$", re.MULTILINE)
_WHAT: Mapping[Precision, str] = {
    "fp32": "what the others are compared with",
    "bf16": "fp32's weights, computed in bf16",
    "int8": "weights of its own, in 8 bits",
}
_COLUMNS = (
    "precision",
    "macro-F1",
    "lost, in points",
    "fp32's label kept",
    "parity",
    "temperature",
    "review threshold",
)
_HOW = """\
What is lost is of the same clips of `{split}` in both precisions, each at its own temperature, \
with its paired 95% interval over speakers within corpora.
Parity is the most that a logit moved between a window alone and in a batch of up to eight.
Only `{split}` was measured in a reduced precision; all other figures of this card are fp32's."""


def with_precisions(card: str, facts: AudioDraft) -> str:
    """Put the section into a card: before its limits, at its end, or where an older one was."""
    section = _section(facts)
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card, count=1)
    if _BEFORE.search(card):
        return _BEFORE.sub(lambda found: section + found[0], card, count=1)
    return f"{card.rstrip()}\n\n{section}"


def _section(facts: AudioDraft) -> str:
    # A manifest's are sorted by name; a reader wants what the others are compared with first.
    known = {name: facts.precisions[name] for name in _WHAT if name in facts.precisions}
    reduced = {name: about for name, about in known.items() if name != "fp32"}
    split = next((about.gate.split for about in reduced.values() if about.gate), None)
    rows = [_row(name, about, split) for name, about in known.items()]
    lines = [
        HEADING,
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{' --- |' * len(_COLUMNS)}",
        *rows,
        "",
        *(f"`{name}` is {_WHAT[name]}." for name in reduced),
    ]
    if split:
        lines.append(_HOW.format(split=split))
    if calibrated := [fact for fact in facts.data if fact.split == "calibration"]:
        clips = ", ".join(f"{fact.clips} of {fact.name}" for fact in calibrated)
        lines.append(f"int8's ranges are of one window each of training speakers' clips: {clips}.")
    if any(about.gate is None for about in reduced.values()):
        lines.append(
            "*Ungated* is for measuring speed: nobody has looked at what its answers are worth, "
            "and its temperature and threshold are fp32's."
        )
    return "\n".join(lines) + "\n\n"


def _row(name: str, about: PrecisionFacts, split: str | None) -> str:
    figures = about.metrics.get(split, {}) if split else {}
    gate = about.gate
    if name == "fp32":
        costs = "– | – | –"
    elif gate is None:
        costs = "*ungated* | – | –"
    else:
        lost = gate.macro_f1_lost
        costs = (
            f"{100 * lost.value:.2f} ({100 * lost.low:.2f} to {100 * lost.high:.2f}) "
            f"| {100 * gate.agreement:.1f}% | {gate.parity:g}"
        )
    return (
        f"| {name} | {_macro_f1(figures)} | {costs} | {about.temperature:g} "
        f"| {about.review_threshold:g} |"
    )


def _macro_f1(figures: Mapping[str, object]) -> str:
    match figures:
        case {"macro_f1": float(value), "intervals": {"macro_f1": [float(low), float(high)]}}:
            return f"{value:.3f} ({low:.3f}–{high:.3f})"
    return "–"
