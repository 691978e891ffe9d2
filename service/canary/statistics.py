"""Differences between two model versions, and how far each may be off. Pure.

Every function gives an `Estimate`: a difference and its standard error. What a decision may read
from it is a bound, `critical` standard errors away: `fixed` for data that is looked at once,
`sequential` for data that is looked at again and again while it grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from service.canary.observations import Counts, Scores

ECE_BINS = 10
FEWEST_CLUSTERS = 2
"""With one speaker, or one block of time, nothing is known of how another would differ."""

Metric: TypeAlias = Callable[[Scores], Scores]
"""From sums over clips, [..., *of a clip], to a figure of them, [...]."""
Places: TypeAlias = NDArray[np.intp]
"""Places in a list of names."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference `value`, its standard `error`, and the `degrees` of freedom of that.

    `samples` are the clips behind it: n clips in which nothing differed don't show that nothing
    ever does, so no bound is nearer than log(1 / alpha) / n (the rule of three, at 5%). It is
    0 where the error has such a floor of its own.
    """

    value: float
    error: float
    degrees: float = math.inf
    samples: int = 0

    def reach(self, critical: float, alpha: float) -> float:
        """How far from `value` the bound is that the truth lies beyond with chance `alpha`."""
        floor = math.log(1 / alpha) / self.samples if self.samples else 0.0
        return max(critical * self.error, floor)


def fixed(alpha: float, degrees: float = math.inf) -> float:
    """Standard errors to a one-sided bound for one look: a quantile of Student's t."""
    return float(stats.t.isf(alpha, degrees))


def sequential(alpha: float, share: float, degrees: float = math.inf) -> float:
    """Standard errors to a one-sided bound that holds at every look, however often one looks.

    The asymptotic confidence sequence by Robbins' normal mixture (Waudby-Smith et al. 2021,
    https://arxiv.org/abs/2103.06476, theorem 2.2), tuned to be narrowest at the planned size.
    Few degrees of freedom widen it as they widen a fixed bound.

    Args:
        alpha: one-sided chance that the truth is ever beyond.
        share: of the planned size that there is now, above 0.
        degrees: of freedom of the standard error.
    """
    surprise = -2 * math.log(2 * alpha)
    mixed = share * (surprise + math.log(surprise + 1))
    width = math.sqrt((1 + 1 / mixed) * (surprise + math.log(mixed + 1)))
    return width * fixed(alpha, degrees) / fixed(alpha)


def minimum_detectable_effect(error: float, critical: float, power: float) -> float:
    """The least true difference whose bound excludes zero with chance `power`."""
    return (critical + fixed(1 - power)) * error


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the clips of each cluster, and over all clips of each bootstrap sample of them."""

    clusters: int
    total: Scores
    """[...]"""
    drawn: Scores
    """[resamples, ...]; the same clusters for all that was drawn by the same weights."""


def weights(clusters: int, resamples: int, seed: int) -> Scores:
    """How often each cluster is in each bootstrap sample, float [resamples, clusters]."""
    random = np.random.default_rng(seed)
    drawn = random.integers(clusters, size=(resamples, clusters))
    cells = drawn + clusters * np.arange(resamples)[:, None]
    times = np.bincount(cells.ravel(), minlength=resamples * clusters)
    return times.reshape(resamples, clusters).astype(float)


def draw(sums: NDArray[np.generic], weighed: Scores) -> Sums:
    """Draw bootstrap samples of clusters, [clusters, ...], as `weights` say."""
    flat = sums.reshape(len(sums), -1).astype(float)
    drawn = (weighed @ flat).reshape(len(weighed), *sums.shape[1:])
    return Sums(len(sums), flat.sum(axis=0).reshape(sums.shape[1:]), drawn)


def by_cluster(clusters: Sequence[str] | NDArray[np.str_], values: Scores) -> Scores:
    """Sum values of clips, [n, ...], over the clusters that they are of, [clusters, ...]."""
    _, places = np.unique(np.array(clusters), return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0))


def paired(
    stable: Sums, candidate: Sums, metric: Metric, samples: int = 0, clusters: int | None = None
) -> Estimate:
    """Candidate's minus stable's figure, its error by a paired bootstrap over clusters.

    Both sides are drawn by the same weights, so that what is hard for both cancels out.

    Args:
        stable: of the clips of each cluster.
        candidate: the same of the same clips.
        metric: makes figures of such sums.
        samples: clips, as `Estimate` has them.
        clusters: that all of the figure rests on, where these are fewer than there are.
    """
    value = float(metric(candidate.total) - metric(stable.total))
    clusters = stable.clusters if clusters is None else clusters
    if clusters < FEWEST_CLUSTERS:
        return Estimate(value, math.inf, 1, samples)
    spread = float(np.nanstd(metric(candidate.drawn) - metric(stable.drawn)))
    return Estimate(value, spread * math.sqrt(clusters / (clusters - 1)), clusters - 1, samples)


def at_least(estimate: Estimate, error: float) -> Estimate:
    """The same with no smaller a standard error."""
    return Estimate(estimate.value, max(error, estimate.error), estimate.degrees, estimate.samples)


def discordance_error(gained: float, lost: float, clips: float) -> float:
    """Standard error of (gained − lost) / clips, of paired answers.

    Half a clip more in each cell of the two by two table keeps it above zero where nothing
    differed (Agresti and Min 2005, https://doi.org/10.1002/sim.1781).
    """
    clips += 2
    gained, lost = gained + 0.5, lost + 0.5
    return math.sqrt(gained + lost - (gained - lost) ** 2 / clips) / clips


def confusion(truth: Places, answers: Places, labels: int) -> Scores:
    """One clip each, [n, labels, labels + 1], truth first; the last answer is no speech."""
    table = np.zeros((truth.size, labels, labels + 1))
    table[np.arange(truth.size), truth, answers] = 1
    return table


def accuracy(table: Scores) -> Scores:
    """Share of right answers of confusions, [..., labels, labels + 1]."""
    return _ratio(_right(table).sum(axis=-1), np.asarray(table.sum(axis=(-2, -1))))


def recalls(table: Scores) -> Scores:
    """Share of each label's clips that are answered so, [..., labels]; nan where it has none."""
    return _ratio(_right(table), table.sum(axis=-1))


def uar(table: Scores) -> Scores:
    """Unweighted average recall: the mean over the labels that there are."""
    return np.asarray(np.nanmean(recalls(table), axis=-1))


def macro_f1(table: Scores) -> Scores:
    """Mean of the labels' F1, of those that are in the truth or the answers."""
    said, true = table[..., :-1].sum(axis=-2), table.sum(axis=-1)
    return np.asarray(np.nanmean(_ratio(2 * _right(table), said + true), axis=-1))


def _right(table: Scores) -> Scores:
    return np.asarray(np.diagonal(table, axis1=-2, axis2=-1))


def _ratio(part: Scores, whole: Scores, of_none: float = math.nan) -> Scores:
    out = np.full(np.shape(whole), of_none)
    return np.asarray(np.divide(part, whole, out=out, where=whole > 0))


def equal_mass_bins(confidence: Scores, bins: int = ECE_BINS) -> Places:
    """The bin of each of n confidences, by rank, so that all bins hold as many."""
    ranks = np.argsort(np.argsort(confidence, kind="stable"), kind="stable")
    return np.asarray(ranks * bins // max(confidence.size, 1), np.intp)


def surpluses(confidence: Scores, right: NDArray[np.bool_], bins: int = ECE_BINS) -> Scores:
    """Each clip's confidence beyond what came true, in the column of its bin, [n, bins + 1].

    The last column counts the clip, which makes sums of them enough for `ece`.
    """
    table = np.zeros((confidence.size, bins + 1))
    table[np.arange(confidence.size), equal_mass_bins(confidence, bins)] = confidence - right
    table[:, -1] = 1
    return table


def ece(sums: Scores) -> Scores:
    """Expected calibration error of summed `surpluses`, [..., bins + 1]."""
    return _ratio(np.abs(sums[..., :-1]).sum(axis=-1), sums[..., -1])


def calibrated_ece(confidence: Scores, seed: int, bins: int = ECE_BINS, draws: int = 200) -> float:
    """The ECE that a perfectly calibrated model would show on so many clips, by chance alone."""
    random = np.random.default_rng(seed)
    right = random.random((draws, confidence.size)) < confidence
    placed = np.eye(bins)[equal_mass_bins(confidence, bins)]
    return float((np.abs((confidence - right) @ placed).sum(axis=1) / confidence.size).mean())


def mcnemar(gained: int, lost: int) -> float:
    """The p-value of McNemar's exact test: as many pairs turn right as turn wrong."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def marginal_homogeneity(table: Counts) -> float:
    """The p-value of Stuart and Maxwell's test, of a square table.

    It asks whether both sides use each label as often. Labels that nobody uses are left out.
    """
    from statsmodels.stats.contingency_tables import SquareTable  # noqa: PLC0415 (takes a second)

    used = (table.sum(axis=0) + table.sum(axis=1)) > 0
    square = table[np.ix_(used, used)]
    if (square == np.diag(np.diag(square))).all():
        return 1.0
    return float(SquareTable(square).homogeneity().pvalue)


def moves(table: Counts) -> list[Estimate]:
    """How much more often the second side gives each label, of pairs in a square table."""
    clips = int(table.sum())
    kept, before, after = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    return [
        Estimate(
            float(gained - lost) / clips,
            discordance_error(float(gained), float(lost), clips),
            samples=clips,
        )
        for gained, lost in zip(after - kept, before - kept, strict=True)
    ]


def disagreement(table: Counts) -> Estimate:
    """Share of pairs off the diagonal; two more of each kind keep its error above zero."""
    clips = int(table.sum())
    differing = clips - int(np.trace(table))
    smoothed = (differing + 2) / (clips + 4)
    error = math.sqrt(smoothed * (1 - smoothed) / (clips + 4))
    return Estimate(differing / clips, error, samples=clips)


def total_variation(before: Counts, after: Counts) -> float:
    """Half of what the shares of bins differ by in all: the least share that has to move."""
    return float(np.abs(after / after.sum() - before / before.sum()).sum() / 2)


def psi(before: Counts, after: Counts) -> float:
    """Population stability index; half a clip more in each bin keeps logarithms finite."""
    first, second = ((side + 0.5) / (side + 0.5).sum() for side in (before, after))
    return float(((second - first) * np.log(second / first)).sum())


def psi_null(bins: int, before: int, after: int) -> float:
    """The PSI to expect of two independent samples of one population (Yurdakul 2018)."""
    return (bins - 1) * (1 / before + 1 / after)


def histogram_mean(counts: Counts, edges: Scores) -> Estimate:
    """Mean of what is counted between edges (one more), each taken to lie in its bin's middle."""
    middles = (edges[1:] + edges[:-1]) / 2
    samples = int(counts.sum())
    mean = float(counts @ middles) / samples
    # A bin's own width is in it, so that clips that are all in one bin aren't all alike.
    variance = float(counts @ (middles - mean) ** 2) / samples + float(np.diff(edges).max()) ** 2
    return Estimate(mean, math.sqrt(variance / samples))


def quantile(counts: Scores, edges: Scores, share: float) -> Scores:
    """Quantiles of histograms, [..., bins], interpolated within their bins as Prometheus does.

    Args:
        counts: in each bin.
        edges: upper ends of the bins; the last may be infinite: what is there counts as at its
            lower end.
        share: which quantile, 0 to 1.

    Returns:
        [...], nan where nothing is counted.
    """
    cumulative = np.cumsum(counts, axis=-1)
    total = cumulative[..., -1:]
    wanted = share * total
    place = np.minimum((cumulative < wanted).sum(axis=-1, keepdims=True), edges.size - 1)
    ends = np.where(np.isfinite(edges), edges, edges[-2])
    starts = np.concatenate([[0.0], ends[:-1]])
    inside = np.take_along_axis(counts, place, axis=-1)
    below = np.take_along_axis(cumulative, place, axis=-1) - inside
    way = np.divide(wanted - below, inside, out=np.zeros(wanted.shape), where=inside > 0)
    found = starts[place] + way * (ends[place] - starts[place])
    return np.where(total > 0, found, np.nan)[..., 0]


def quantile_ratio(baseline: Sums, candidate: Sums, edges: Scores, share: float) -> Estimate:
    """Logarithm of candidate's quantile by baseline's, its error by a bootstrap over blocks.

    A block has what both sides took in one stretch of time, so that a load common to both cancels
    out, as far as both weigh as much in it: see `standardised`.

    Args:
        baseline: histograms, [bins], of each block.
        candidate: the same of the candidate.
        edges: upper ends of the bins.
        share: which quantile.
    """
    return paired(baseline, candidate, lambda counts: np.log(quantile(counts, edges, share)))


def standardised(baseline: Counts, candidate: Counts) -> tuple[Scores, Scores]:
    """What each request of a side weighs in each block of time, so that both have the same blocks.

    Twice the other side's share of the block's requests: 1 where both have as many, and in every
    block both sides weigh as much in all. Pooled plainly, a side that has more of its requests in a
    busy hour looks slow for that (Simpson's paradox). These are Mantel and Haenszel's weights: of
    those that are common to both sides, the ones with the least variance where blocks are alike.

    Args:
        baseline: requests, [blocks].
        candidate: the same of the candidate.

    Returns:
        Two of [blocks]; 0 in a block that only one side has, or none.
    """
    before, after = baseline.astype(np.float64), candidate.astype(np.float64)
    return _ratio(2 * after, before + after, 0.0), _ratio(2 * before, before + after, 0.0)


def effective(requests: Counts, weighs: Scores) -> float:
    """How many requests that all weigh the same would say as much (Kish), of [blocks] each."""
    squares = float((weighs**2 * requests).sum())
    return float((weighs * requests).sum()) ** 2 / squares if squares else 0.0


def rate_difference(
    baseline: Counts, candidate: Counts, baseline_errors: Counts, candidate_errors: Counts
) -> Estimate:
    """Candidate's share of errors minus baseline's, over blocks of time, [blocks] each.

    Both are of the same blocks, by `standardised`. The error is the larger of two: between blocks,
    as errors come together; and between clips, with one more error and one more success on each
    side (Agresti and Caffo 2000, https://doi.org/10.1080/00031305.2000.10474560), so that no errors
    don't mean no doubt.
    """
    blocks = baseline.size
    rates, off, binomial = [], [], 0.0
    for clips, errors, weighs in zip(
        (baseline, candidate),
        (baseline_errors, candidate_errors),
        standardised(baseline, candidate),
        strict=True,
    ):
        wrong, counted = weighs * errors, weighs * clips
        rate = float(wrong.sum() / counted.sum())
        rates.append(rate)
        off.append((wrong - rate * counted) / counted.sum())
        among = effective(clips, weighs)
        share = (rate * among + 1) / (among + 2)
        binomial += share * (1 - share) / (among + 2)
    between = float(((off[1] - off[0]) ** 2).sum()) * blocks / max(blocks - 1, 1)
    error = math.sqrt(max(binomial, between))
    return Estimate(rates[1] - rates[0], error, max(blocks - 1, 1))
