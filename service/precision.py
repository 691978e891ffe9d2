"""Which of a bundle's precisions to serve: the one asked for, or the best of the gated here.

The best is the most exact of those that no other is more than `MIN_GAIN` times as fast as: the most
exact of all, unless another gains as much.

Pure: what the CPU has and how long a window takes are told by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from service.bundle import Bundle, Precision, RuntimeName
from service.manifest import refuse

Wish: TypeAlias = Literal["auto", "fp32", "bf16", "int8"]
"""A precision by name, or auto for the best one here."""

Reason: TypeAlias = Literal["asked", "only", "faster", "no-gain"]
"""Why a precision was chosen: it was asked for; nothing else was gated and is computed by this CPU;
it gains enough on the more exact ones; nothing gains enough on the most exact one."""

# In the order of how exactly they compute.
NEEDS: Mapping[Precision, frozenset[str]] = {
    "fp32": frozenset(),
    "bf16": frozenset({"amx_bf16", "avx512_bf16", "bf16"}),
    "int8": frozenset({"amx_int8", "asimddp", "avx512_vnni", "avx_vnni"}),
}
"""CPU features of which one is needed for a precision's gate to hold. Elsewhere the runtime
computes bf16 in fp32 or imitates it, and sums of int8 may saturate: not what was measured."""

MIN_GAIN = 1.1
"""How many times as fast as a more exact precision another must be, since it changes answers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A precision, and why it is that one."""

    precision: Precision
    reason: Reason = "asked"
    window_s: Mapping[Precision, float] = field(default_factory=dict)
    """Seconds that a window took in each precision that was compared."""

    @property
    def why(self) -> str:
        """Say the reason, with the figures it rests on."""
        if self.reason == "asked":
            return "asked for"
        if self.reason == "only":
            return "no other passed a gate and is computed by this CPU"
        figures = ", ".join(f"{name} {taken * 1e3:.1f}" for name, taken in self.window_s.items())
        return f"no other is {MIN_GAIN:g} times as fast here (ms a window: {figures})"


def candidates(
    bundle: Bundle,
    wish: Wish,
    *,
    runtime: RuntimeName,
    features: Collection[str],
    ungated: bool = False,
) -> Sequence[Precision]:
    """List what may be served for a wish, the most exact first; auto has all to be compared.

    Args:
        bundle: whose precisions.
        wish: from the settings.
        runtime: that will compute; torch does so in fp32 alone.
        features: CPU flags of this machine, as Linux names them.
        ungated: also serve, where it is asked for, what passed no gate that holds on this CPU.

    Raises:
        BundleError: nothing may be served; the sentence says what could be asked for.
    """
    facts = bundle.manifest.precisions
    offered = [
        precision
        for precision in NEEDS
        if precision in facts
        and runtime in facts[precision].runtimes
        and (precision == "fp32" or runtime == "openvino")
    ]
    listed = " and ".join(offered) or "none"
    computed = [each for each in offered if not NEEDS[each] or NEEDS[each] & set(features)]
    gated = [each for each in offered if each == "fp32" or facts[each].gate is not None]
    if wish == "auto":
        if allowed := [each for each in computed if each in gated]:
            return allowed
        refuse(
            bundle.folder,
            f"has no precision for {runtime} that passed a gate and that this CPU computes",
            f"ask for one it has ({listed})",
        )
    if wish not in offered:
        refuse(
            bundle.folder, f"has no {wish} for {runtime}", f"ask for a precision it has ({listed})"
        )
    if wish not in gated and not ungated:
        refuse(
            bundle.folder,
            f"has its {wish} ungated: nobody measured what it costs",
            "take another precision, or for benchmarks only set TIMBRE_UNGATED=true",
        )
    if wish not in computed and not ungated:
        refuse(
            bundle.folder,
            f"cannot be held to its {wish} on this CPU, which has none of "
            f"{', '.join(sorted(NEEDS[wish]))}",
            "take another precision, or for benchmarks only set TIMBRE_UNGATED=true",
        )
    return [wish]


def choose(
    wish: Wish,
    allowed: Sequence[Precision],
    measure: Callable[[Sequence[Precision]], Mapping[Precision, float]],
) -> Choice:
    """Choose among `candidates`' list; only where there is a choice, `measure` times it.

    Args:
        wish: from the settings.
        allowed: what may be served for it, the most exact first.
        measure: gives the seconds that a window takes here in each of some precisions.
    """
    if wish != "auto":
        return Choice(wish)
    if len(allowed) == 1:
        return Choice(allowed[0], "only")
    window_s = measure(allowed)
    enough_s = MIN_GAIN * min(window_s.values())
    chosen = next(precision for precision in allowed if window_s[precision] <= enough_s)
    return Choice(chosen, "no-gain" if chosen == allowed[0] else "faster", window_s)
