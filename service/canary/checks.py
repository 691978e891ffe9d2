"""`judge`: everything known of a candidate → pass, fail or inconclusive, with reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from service.canary.golden_checks import GoldenChecks
from service.canary.live_checks import live_checks
from service.canary.observations import Observations, Side
from service.canary.policy import CheckName, Policy
from service.canary.shadow_checks import shadow_checks
from service.canary.verdict import Check, Outcome, Source, Verdict
from service.canary.weighing import missing

SOURCES = {
    CheckName.SIDES: Source.SIDES,
    CheckName.DISAGREEMENT: Source.SHADOW,
    CheckName.CLASS_PRIOR: Source.SHADOW,
    CheckName.CONFIDENCE: Source.SHADOW,
    CheckName.REVIEW_RATE: Source.SHADOW,
    CheckName.ERROR_RATE: Source.LIVE,
    CheckName.P50: Source.LIVE,
    CheckName.P95: Source.LIVE,
    CheckName.RESTARTS: Source.LIVE,
}
"""Of each check; the others are of the golden set."""
REMEDIES = {
    Source.GOLDEN: "No golden set was asked; give its manifest and the URLs of both sides.",
    Source.SHADOW: "There are no shadow pairs; give Prometheus' URL, and let stable shadow the "
    "candidate.",
    Source.LIVE: "No live traffic was seen; give Prometheus' URL, and the candidate a share of the "
    "traffic beside a baseline.",
}
DIGEST_SHOWN = len("sha256:") + 12


def judge(observations: Observations, policy: Policy, weight: int) -> Verdict:
    """Judge a candidate at a weight, in percent of the traffic.

    A check that fails, required or not, fails the candidate; it passes when every check that the
    policy's step requires does. Everything else is inconclusive: too little is known.
    """
    required = policy.step(weight).requires
    known = list(_checks(observations, policy, weight))
    given = {name for name, _ in known}
    known += [
        (name, missing(name, source, REMEDIES[source]))
        for name in required
        if name not in given and (source := SOURCES.get(name, Source.GOLDEN))
    ]
    checks = tuple(check for _, check in known)
    failed = [check for check in checks if check.outcome is Outcome.FAIL]
    open_ = [
        check for name, check in known if name in required and check.outcome is not Outcome.PASS
    ]
    if failed:
        outcome, reason = Outcome.FAIL, _told(failed, "fails")
    elif open_:
        outcome, reason = Outcome.INCONCLUSIVE, _told(open_, "is open")
    else:
        outcome = Outcome.PASS
        reason = f"Everything passes that a weight of {weight}% requires: {', '.join(required)}."
    return Verdict(outcome, weight, reason, checks)


def _told(decisive: list[Check], verb: str) -> str:
    first, *others = decisive
    more = f" So do: {', '.join(check.name for check in others)}." if others else ""
    return f"{first.name} {verb}: {first.reason}{more}"


def _checks(
    observations: Observations, policy: Policy, weight: int
) -> Iterator[tuple[CheckName, Check]]:
    yield CheckName.SIDES, _sides(observations.stable, observations.candidate)
    if observations.golden is not None and observations.golden.truth:
        yield from GoldenChecks(observations.golden, policy, weight)()
    if observations.pairs is not None:
        yield from shadow_checks(observations.pairs, policy, weight)
    if observations.live is not None:
        yield from live_checks(observations.live, policy, weight)


def _sides(stable: Side, candidate: Side) -> Check:
    """Whether the two differ in their bundle only."""
    reason = _unfit(stable, candidate)
    outcome = Outcome.PASS if reason is None else Outcome.INCONCLUSIVE
    return Check(CheckName.SIDES, Source.SIDES, outcome, reason or _comparable(stable, candidate))


def _unfit(stable: Side, candidate: Side) -> str | None:
    """Why the two can't be compared, or None."""
    for name, side in (("stable", stable), ("the candidate", candidate)):
        if not side.digests:
            return f"It isn't known what {name} serves; see that its pods run and are scraped."
        if len(side.digests) > 1:
            return (
                f"Pods of {name} serve {len(side.digests)} different bundles; wait until they "
                "are alike."
            )
    for what, ours, theirs in (
        ("compute in", candidate.precisions, stable.precisions),
        ("run on CPUs with", candidate.cpu_features, stable.cpu_features),
    ):
        if set(ours) != set(theirs):
            return (
                f"The sides {what} different things, which changes answers and speed alike: "
                f"stable {_listed(theirs)}, the candidate {_listed(ours)}."
            )
    return None


def _comparable(stable: Side, candidate: Side) -> str:
    same = (
        f"Both sides compute in {_listed(stable.precisions)} on CPUs with "
        f"{_listed(stable.cpu_features)}."
    )
    if stable.digests != candidate.digests:
        return same
    return f"{same} Both serve the bundle {stable.digests[0][:DIGEST_SHOWN]}: an A/A comparison."


def _listed(values: tuple[str, ...]) -> str:
    return " and ".join(sorted(value or "none that matter" for value in values)) or "nothing known"
