"""The precision served: asked for, or the fastest of what was gated and this CPU computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from service.bundle import Bundle, GateFacts, Lost, Precision, PrecisionFacts
from service.domain import BundleError
from service.precision import MIN_GAIN, NEEDS, Choice, candidates, choose
from service.runtime import SPEED_FEATURES
from tests.support.bundles import tiny_bundle, tiny_draft

ALL_FEATURES = tuple(SPEED_FEATURES)
PLAIN_FEATURES = ("avx2", "avx512f")
"""Of a CPU that computes neither bf16 nor int8 as such."""
GATE = GateFacts(
    split="validation",
    clips=9,
    macro_f1_lost=Lost(value=0.001, low=-0.002, high=0.004),
    agreement=0.99,
    parity=0.01,
)


def bundle_with(
    folder: Path, gated: Sequence[Precision] = (), ungated: Sequence[Precision] = ()
) -> Bundle:
    """Seal a bundle with these precisions, fp32 among them only if it is named."""
    fp32 = tiny_draft().precisions["fp32"]
    facts: dict[str, PrecisionFacts] = {
        precision: fp32.model_copy(update={"gate": None if precision == "fp32" else GATE})
        for precision in gated
    }
    return tiny_bundle(folder, precisions=facts | dict.fromkeys(ungated, fp32))


@pytest.fixture
def full(tmp_path: Path) -> Bundle:
    """A bundle with everything, all of it gated."""
    return bundle_with(tmp_path, ("fp32", "bf16", "int8"))


class TestCandidates:
    """What may be served at all."""

    def test_auto_compares_what_is_gated_and_computed_here(self, full: Bundle) -> None:
        """With fp32 among them, to be compared with."""
        found = candidates(full, "auto", runtime="openvino", features=ALL_FEATURES)
        assert list(found) == ["fp32", "bf16", "int8"]

    def test_auto_is_fp32_on_a_cpu_without_anything_else(self, full: Bundle) -> None:
        """What a gate has measured elsewhere doesn't hold on it."""
        for features in ((), PLAIN_FEATURES):
            found = candidates(full, "auto", runtime="openvino", features=features)
            assert list(found) == ["fp32"]

    @pytest.mark.parametrize(
        ("feature", "precision"),
        [(feature, precision) for precision, needs in NEEDS.items() for feature in sorted(needs)],
    )
    def test_one_feature_is_enough(self, full: Bundle, feature: str, precision: Precision) -> None:
        """Each of them, and each is one that is looked for on the machine."""
        assert feature in SPEED_FEATURES
        features = (*PLAIN_FEATURES, feature)
        found = candidates(full, "auto", runtime="openvino", features=features)
        assert list(found) == ["fp32", precision]
        assert candidates(full, precision, runtime="openvino", features=features) == [precision]

    @pytest.mark.parametrize("ungated", [False, True])
    def test_auto_never_takes_an_ungated_precision(self, tmp_path: Path, ungated: bool) -> None:  # noqa: FBT001
        """Not even where benchmarks are allowed to ask for it."""
        bundle = bundle_with(tmp_path, ("fp32",), ungated=("bf16", "int8"))
        found = candidates(
            bundle, "auto", runtime="openvino", features=ALL_FEATURES, ungated=ungated
        )
        assert list(found) == ["fp32"]

    def test_torch_computes_in_fp32_alone(self, full: Bundle) -> None:
        """Whatever the bundle lists for it."""
        assert list(candidates(full, "auto", runtime="torch", features=ALL_FEATURES)) == ["fp32"]
        with pytest.raises(BundleError, match=r"has no bf16 for torch; .* it has \(fp32\)\.$"):
            candidates(full, "bf16", runtime="torch", features=ALL_FEATURES)

    def test_what_is_asked_for_is_all_there_is(self, full: Bundle) -> None:
        """Nothing is compared with it."""
        for precision in NEEDS:
            found = candidates(full, precision, runtime="openvino", features=ALL_FEATURES)
            assert found == [precision]

    def test_a_precision_the_bundle_lacks_is_refused(self, tmp_path: Path) -> None:
        """With what it has, in one sentence."""
        bundle = bundle_with(tmp_path, ("fp32", "bf16"))
        with pytest.raises(BundleError, match=r"has no int8 .* it has \(fp32 and bf16\)\.$"):
            candidates(bundle, "int8", runtime="openvino", features=ALL_FEATURES, ungated=True)

    def test_an_ungated_precision_is_served_only_with_the_switch(self, tmp_path: Path) -> None:
        """And the refusal names it."""
        bundle = bundle_with(tmp_path, ("fp32",), ungated=("int8",))
        with pytest.raises(BundleError, match=r"int8 ungated: .* TIMBRE_UNGATED=true\.$"):
            candidates(bundle, "int8", runtime="openvino", features=ALL_FEATURES)
        found = candidates(bundle, "int8", runtime="openvino", features=ALL_FEATURES, ungated=True)
        assert found == ["int8"]

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    def test_a_cpu_that_does_not_compute_it_makes_it_ungated(
        self, full: Bundle, precision: Precision
    ) -> None:
        """The refusal names what would be needed; benchmarks may have it."""
        needed = ", ".join(sorted(NEEDS[precision]))
        with pytest.raises(BundleError, match=f"{precision} on this CPU, .* none of {needed};"):
            candidates(full, precision, runtime="openvino", features=PLAIN_FEATURES)
        found = candidates(
            full, precision, runtime="openvino", features=PLAIN_FEATURES, ungated=True
        )
        assert found == [precision]

    def test_auto_is_refused_where_nothing_may_be_served(self, tmp_path: Path) -> None:
        """A bundle without fp32, on a CPU that its precision isn't for."""
        bundle = bundle_with(tmp_path, ("int8",))
        assert candidates(bundle, "auto", runtime="openvino", features=ALL_FEATURES) == ["int8"]
        with pytest.raises(BundleError, match=r"no precision for openvino .* it has \(int8\)\.$"):
            candidates(bundle, "auto", runtime="openvino", features=PLAIN_FEATURES)


class TestChoose:
    """The fastest, if it is worth it."""

    def test_what_is_asked_for_is_not_timed(self) -> None:
        """It would be taken however slow it is."""
        assert choose("int8", ["int8"], refuse) == Choice("int8", "asked")

    def test_a_single_candidate_is_not_timed(self) -> None:
        """There is nothing to choose."""
        assert choose("auto", ["fp32"], refuse) == Choice("fp32", "only")

    def test_the_fastest_is_taken(self) -> None:
        """With the figures that it was taken for."""
        timed: Mapping[Precision, float] = {"fp32": 0.0126, "bf16": 0.004, "int8": 0.005}
        choice = choose("auto", list(timed), lambda _: timed)
        assert choice == Choice("bf16", "faster", timed)
        assert (
            choice.why
            == "no other is 1.1 times as fast here (ms a window: fp32 12.6, bf16 4.0, int8 5.0)"
        )

    @pytest.mark.parametrize(
        ("window_s", "precision", "reason"),
        [
            ({"fp32": 1.1, "bf16": 1.0}, "fp32", "no-gain"),
            ({"fp32": 1.101, "bf16": 1.0}, "bf16", "faster"),
            ({"fp32": 9.0, "bf16": 1.1, "int8": 1.0}, "bf16", "faster"),
            ({"fp32": 9.0, "bf16": 1.101, "int8": 1.0}, "int8", "faster"),
            ({"fp32": 1.0, "bf16": 2.0, "int8": 3.0}, "fp32", "no-gain"),
            ({"bf16": 1.1, "int8": 1.0}, "bf16", "no-gain"),
            ({"bf16": 1.101, "int8": 1.0}, "int8", "faster"),
        ],
    )
    def test_a_less_exact_one_must_gain_enough(
        self, window_s: Mapping[Precision, float], precision: Precision, reason: str
    ) -> None:
        """Other answers for a few per cent of speed are no bargain; ties are for exactness."""
        assert MIN_GAIN == 1.1
        choice = choose("auto", list(window_s), lambda _: window_s)
        assert (choice.precision, choice.reason) == (precision, reason)


def refuse(_: Sequence[Precision]) -> Mapping[Precision, float]:
    """Measure nothing, and say so."""
    pytest.fail("this was timed")
