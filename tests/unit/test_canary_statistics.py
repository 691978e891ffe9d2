"""The canary's statistics: against hand-made and published values, and what always holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from service.canary.statistics import (
    Estimate,
    Sums,
    accuracy,
    by_cluster,
    calibrated_ece,
    confusion,
    disagreement,
    discordance_error,
    draw,
    ece,
    effective,
    equal_mass_bins,
    fixed,
    histogram_mean,
    macro_f1,
    marginal_homogeneity,
    mcnemar,
    minimum_detectable_effect,
    moves,
    paired,
    psi,
    psi_null,
    quantile,
    quantile_ratio,
    rate_difference,
    recalls,
    sequential,
    standardised,
    surpluses,
    total_variation,
    uar,
    weights,
)

EDGES = np.array([1.0, 2.0, 4.0, np.inf])


class TestBounds:
    """How many standard errors a bound is away."""

    def test_one_look_is_students_quantile(self) -> None:
        """1.645 at 5% for much data, 2.132 with four degrees of freedom."""
        assert fixed(0.05) == pytest.approx(1.645, abs=1e-3)
        assert fixed(0.05, 4) == pytest.approx(2.132, abs=1e-3)

    def test_many_looks_cost_some_width(self) -> None:
        """At the planned size a third or so; far from it on either side more."""
        planned = sequential(0.00125, 1)
        assert 1.25 * fixed(0.00125) < planned < 1.4 * fixed(0.00125)
        assert sequential(0.00125, 0.01) > planned < sequential(0.00125, 100)

    def test_few_blocks_widen_as_students_quantile_does(self) -> None:
        """By the ratio of the quantiles."""
        ratio = sequential(0.01, 1, 4) / sequential(0.01, 1)
        assert ratio == pytest.approx(fixed(0.01, 4) / fixed(0.01))

    @pytest.mark.parametrize("alpha", [0.05, 0.01])
    def test_peeking_at_every_look_errs_no_more_often_than_promised(self, alpha: float) -> None:
        """2,000 walks, looked at after each of 2,000 clips; a fixed bound errs far more often."""
        random = np.random.default_rng(1)
        planned, least = 1000, 50
        walks = random.standard_normal((2000, 2 * planned)).cumsum(axis=1)
        clips = np.arange(1, 2 * planned + 1)
        means, errors = walks / clips, 1 / np.sqrt(clips)
        critical = np.array([sequential(alpha, n / planned) for n in clips])
        crossed = (means > critical * errors)[:, least:].any(axis=1).mean()
        naive = (means > fixed(alpha) * errors)[:, least:].any(axis=1).mean()
        assert crossed <= alpha
        assert naive > 3 * alpha

    def test_nothing_seen_in_n_clips_has_the_bound_of_the_rule_of_three(self) -> None:
        """3 / n at 5%, even where nothing differed."""
        assert Estimate(0, 0, samples=300).reach(1.645, 0.05) == pytest.approx(0.01, rel=0.01)

    def test_an_effect_as_large_as_the_detectable_one_is_found_so_often(self) -> None:
        """The bound excludes zero with the power asked for."""
        error, critical, power = 0.01, fixed(0.01), 0.9
        effect = minimum_detectable_effect(error, critical, power)
        assert stats.norm.sf(critical, effect / error) == pytest.approx(power)


class TestScores:
    """Figures of labelled clips, against a table made by hand."""

    TABLE = np.array([[3, 1, 0], [2, 3, 1]], float)
    """Of 4 and 6 clips: the last column is no speech."""

    def test_figures_of_a_hand_made_table(self) -> None:
        """Accuracy 6/10, recalls 3/4 and 3/6, F1 6/9 and 6/10."""
        assert accuracy(self.TABLE) == pytest.approx(0.6)
        assert recalls(self.TABLE) == pytest.approx([0.75, 0.5])
        assert uar(self.TABLE) == pytest.approx(0.625)
        assert macro_f1(self.TABLE) == pytest.approx((6 / 9 + 6 / 10) / 2)

    def test_a_label_without_clips_is_left_out_of_means(self) -> None:
        """Its recall isn't known."""
        table = np.array([[4, 0, 0], [0, 0, 0]], float)
        assert math.isnan(recalls(table)[1])
        assert uar(table) == 1

    def test_clips_become_the_table_of_their_cluster(self) -> None:
        """Sums over a speaker's clips, speakers in the order of their names."""
        one_each = confusion(np.array([0, 1, 0]), np.array([0, 2, 1]), 2)
        sums = by_cluster(["b", "a", "b"], one_each)
        assert sums.tolist() == [[[0, 0, 0], [0, 0, 1]], [[1, 1, 0], [0, 0, 0]]]

    def test_bins_hold_as_many_clips_each(self) -> None:
        """Whatever the confidences are."""
        confidence = np.random.default_rng(0).random(1000) ** 4
        assert np.bincount(equal_mass_bins(confidence)).tolist() == [100] * 10

    def test_ece_is_the_mean_gap_of_the_bins(self) -> None:
        """Two bins, 10 points too sure and 20 points too modest."""
        confidence = np.array([0.6] * 10 + [0.7] * 10)
        right = np.array([True] * 5 + [False] * 5 + [True] * 9 + [False])
        sums = surpluses(confidence, right, 2).sum(axis=0)
        assert ece(sums) == pytest.approx((0.1 + 0.2) / 2)

    def test_a_calibrated_model_shows_an_ece_all_the_same(self) -> None:
        """About sqrt(2 p q bins / (pi n)), and less on more clips."""
        few, many = (calibrated_ece(np.full(n, 0.8), seed=0) for n in (500, 5000))
        assert few == pytest.approx(math.sqrt(2 * 0.16 * 10 / (math.pi * 500)), rel=0.1)
        assert many < few / 2


class TestPaired:
    """Differences on the same clips, and their errors."""

    def test_the_error_is_that_of_independent_speakers(self) -> None:
        """With a clip a speaker it is McNemar's standard error."""
        truth = np.zeros(400, np.intp)
        before, after = truth.copy(), truth.copy()
        before[:30], after[30:50] = 1, 1
        found = _difference(truth, before, after, [str(clip) for clip in range(400)])
        assert found.value == pytest.approx(10 / 400)
        expected = math.sqrt(50 - 100 / 400) / 400
        assert found.error == pytest.approx(expected, rel=0.08)

    def test_clips_of_one_speaker_are_less_evidence(self) -> None:
        """The same clips, but all that change are of few speakers."""
        truth = np.zeros(400, np.intp)
        after = truth.copy()
        after[:40] = 1
        alone = _difference(truth, truth, after, [str(clip) for clip in range(400)])
        together = _difference(truth, truth, after, [str(clip // 20) for clip in range(400)])
        assert together.error > 2 * alone.error
        assert together.degrees == 19

    def test_one_speaker_says_nothing_of_others(self) -> None:
        """The error is infinite."""
        truth = np.zeros(10, np.intp)
        assert math.isinf(_difference(truth, truth, truth, ["a"] * 10).error)

    def test_no_difference_is_no_certainty(self) -> None:
        """The floor is that of half a clip more in each cell."""
        assert discordance_error(0, 0, 98) == pytest.approx(0.01)

    @given(st.integers(0, 50), st.integers(0, 50), st.integers(100, 1000))
    def test_swapping_sides_mirrors_the_difference(self, gained: int, lost: int, n: int) -> None:
        """Value and sign; its error stays."""
        truth = np.zeros(n, np.intp)
        before, after = truth.copy(), truth.copy()
        before[:gained], after[gained : gained + lost] = 1, 1
        speakers = [str(clip % 10) for clip in range(n)]
        one, other = (
            _difference(truth, *sides, speakers) for sides in ((before, after), (after, before))
        )
        assert one.value == pytest.approx(-other.value)
        assert one.error == pytest.approx(other.error)


class TestTables:
    """Answers of two sides without labels."""

    TABLE = np.array(
        [[1520, 266, 124, 66], [234, 1512, 432, 78], [117, 362, 1772, 205], [36, 82, 179, 492]]
    )
    """Stuart 1953: the unaided vision of 7,477 women, right eye by left."""

    def test_mcnemar_is_the_exact_binomial(self) -> None:
        """1 against 5 has p = 14/64; nothing has 1."""
        assert mcnemar(1, 5) == pytest.approx(14 / 64)
        assert mcnemar(0, 0) == 1

    def test_the_published_value_of_stuart_and_maxwell(self) -> None:
        """11.96 with 3 degrees of freedom."""
        expected = stats.chi2.sf(11.957, 3)
        assert marginal_homogeneity(self.TABLE) == pytest.approx(expected, rel=1e-3)

    def test_labels_that_nobody_uses_and_agreement_are_no_trouble(self) -> None:
        """Both would make the test singular."""
        padded = np.pad(self.TABLE, (0, 1))
        assert marginal_homogeneity(padded) == pytest.approx(marginal_homogeneity(self.TABLE))
        assert marginal_homogeneity(np.diag([3, 4, 0])) == 1

    def test_moves_are_what_each_label_gains(self) -> None:
        """Column sums less row sums, of all; they cancel out."""
        found = moves(np.array([[50, 10], [4, 36]]))
        assert [each.value for each in found] == pytest.approx([-0.06, 0.06])

    def test_disagreement_is_the_share_off_the_diagonal(self) -> None:
        """14 of 100; none of 100 still has an error."""
        assert disagreement(np.array([[50, 10], [4, 36]])).value == pytest.approx(0.14)
        assert disagreement(np.array([[60, 0], [0, 40]])).error > 0.01

    def test_what_moves_between_bins(self) -> None:
        """A tenth of all; PSI 0.1 × ln 1.5 of it, roughly."""
        before, after = np.array([5000, 5000]), np.array([6000, 4000])
        assert total_variation(before, after) == pytest.approx(0.1)
        assert psi(before, after) == pytest.approx(0.1 * math.log(1.5), rel=1e-3)

    def test_psi_of_one_population_is_its_null_on_average(self) -> None:
        """(bins − 1)(1/n + 1/m)."""
        random = np.random.default_rng(0)
        share = [0.1, 0.2, 0.3, 0.4]
        found = [
            psi(random.multinomial(500, share), random.multinomial(800, share)) for _ in range(500)
        ]
        assert np.mean(found) == pytest.approx(psi_null(4, 500, 800), rel=0.1)

    def test_a_mean_of_a_histogram_takes_the_middles(self) -> None:
        """And the width of a bin stays in its error."""
        found = histogram_mean(np.array([0, 100, 0]), np.array([-1.0, 0.0, 0.5, 1.0]))
        assert found.value == pytest.approx(0.25)
        assert found.error > 0


class TestLatencies:
    """Quantiles of histograms, and their ratio over blocks."""

    def test_quantiles_lie_within_their_bins(self) -> None:
        """Linear between the edges; what is beyond the last counts as at it; nothing is nan."""
        assert quantile(np.array([4.0, 4, 0, 0]), EDGES, 0.25) == pytest.approx(0.5)
        assert quantile(np.array([4.0, 4, 0, 0]), EDGES, 0.75) == pytest.approx(1.5)
        assert quantile(np.array([0.0, 0, 0, 5]), EDGES, 0.5) == 4
        assert math.isnan(quantile(np.zeros(4), EDGES, 0.5))

    def test_a_common_load_cancels_out(self) -> None:
        """Blocks that are slow for both sides alike leave no doubt about the ratio."""
        quiet, busy = np.array([100, 0, 0, 0]), np.array([0, 50, 50, 0])
        together = np.array([quiet, busy] * 20)
        weighed = weights(40, 500, 0)
        same = draw(together, weighed)
        apart = quantile_ratio(same, draw(together[::-1], weighed), EDGES, 0.5)
        assert quantile_ratio(same, same, EDGES, 0.5).error == pytest.approx(0)
        assert apart.error > 0.1
        assert apart.value == pytest.approx(0)

    def test_its_error_is_that_of_the_quantile(self) -> None:
        """The medians of two uniform samples: sqrt(2 / 4n), in units of the median."""
        random = np.random.default_rng(0)
        edges = np.append(np.linspace(0.01, 1, 100), np.inf)
        blocks = [random.multinomial(100, [0.01] * 100 + [0], size=80) for _ in range(2)]
        weighed = weights(80, 1000, 0)
        found = quantile_ratio(draw(blocks[0], weighed), draw(blocks[1], weighed), edges, 0.5)
        assert found.error == pytest.approx(math.sqrt(2 / (4 * 8000)) / 0.5, rel=0.25)


class TestErrors:
    """Shares of errors of two sides."""

    def test_no_errors_are_no_certainty(self) -> None:
        """One more error and one more success a side, as Agresti and Caffo have it."""
        clips, none = np.full(10, 100), np.zeros(10, np.int64)
        found = rate_difference(clips, clips, none, none)
        share = 1 / 1002
        assert found.value == 0
        assert found.error == pytest.approx(math.sqrt(2 * share * (1 - share) / 1002))

    def test_errors_that_come_together_are_less_evidence(self) -> None:
        """50 errors in one block of ten, or five in each."""
        clips, none = np.full(10, 100), np.zeros(10, np.int64)
        spread = rate_difference(clips, clips, none, np.full(10, 5))
        burst = rate_difference(clips, clips, none, np.array([50] + [0] * 9))
        assert spread.value == burst.value == pytest.approx(0.05)
        assert burst.error > 3 * spread.error


class TestStandardised:
    """Two sides that have different shares of the traffic in each block."""

    def test_both_weigh_as_much_in_every_block(self) -> None:
        """Whatever they have there, and nothing where one has nothing."""
        before, after = np.array([99, 50, 7, 0, 0]), np.array([1, 50, 0, 7, 0])
        weighs = standardised(before, after)
        np.testing.assert_allclose(weighs[0] * before, weighs[1] * after)
        np.testing.assert_allclose(weighs[0] * before, [1.98, 50, 0, 0, 0])

    def test_what_weighs_the_same_counts_in_full(self) -> None:
        """And of what doesn't less."""
        assert effective(np.array([30, 70]), np.array([0.5, 0.5])) == pytest.approx(100)
        assert effective(np.array([30, 70]), np.array([1.0, 0.1])) == pytest.approx(37**2 / 30.7)
        assert effective(np.array([30]), np.array([0.0])) == 0

    def test_the_error_is_that_of_what_is_used(self) -> None:
        """50 blocks with 1,000 and 10 clips, and 50 the other way, say what 1,980 a side do."""
        many, few, none = np.full(50, 1000), np.full(50, 10), np.zeros(100, np.int64)
        found = rate_difference(
            np.concatenate([many, few]), np.concatenate([few, many]), none, none
        )
        share = 1 / 1982
        assert found.error == pytest.approx(math.sqrt(2 * share * (1 - share) / 1982), rel=1e-3)


def _difference(
    truth: np.ndarray[tuple[int], np.dtype[np.intp]],
    before: np.ndarray[tuple[int], np.dtype[np.intp]],
    after: np.ndarray[tuple[int], np.dtype[np.intp]],
    speakers: list[str],
) -> Estimate:
    weighed = weights(len(set(speakers)), 2000, 0)
    sums: list[Sums] = [
        draw(by_cluster(speakers, confusion(truth, side, 2)), weighed) for side in (before, after)
    ]
    return paired(sums[0], sums[1], accuracy)
