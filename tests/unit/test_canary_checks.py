"""The judge: what passes, fails and stays open, and what it says of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.canary.checks import judge
from service.canary.observations import Golden, Live, LiveSide, Observations, Side
from service.canary.policy import CheckName, load_policy
from service.canary.verdict import Check, Outcome, Source
from tests.support.canary import (
    CANDIDATE,
    STABLE,
    Hour,
    a_day,
    a_golden,
    a_live,
    known,
    some_pairs,
    swapped,
)

POLICY = load_policy().model_copy(update={"resamples": 300})
PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def check(name: str, observations: Observations, weight: int = 0) -> Check:
    """Judge, and give one of the checks."""
    verdict = judge(observations, POLICY, weight)
    (found,) = (each for each in verdict.checks if each.name == name)
    return found


class TestVerdict:
    """Of all checks together."""

    def test_a_candidate_that_is_as_good_passes_every_step(self) -> None:
        """Golden set and pairs at 0, then live traffic."""
        seen = known(a_golden(), some_pairs(), a_live())
        for weight in POLICY.steps:
            verdict = judge(seen, POLICY, weight)
            assert verdict.outcome is PASS, verdict.reason
            assert verdict.weight == weight
        assert verdict.reason.startswith("Everything passes that a weight of 100% requires: sides")

    def test_one_check_that_fails_fails_it_and_is_named(self) -> None:
        """Whatever else passes."""
        verdict = judge(known(a_golden(lost=0.06), some_pairs()), POLICY, 0)
        assert verdict.outcome is FAIL
        assert verdict.reason.startswith("accuracy fails: The candidate's accuracy is 6 points")
        assert "So do: macro_f1, uar" in verdict.reason

    def test_what_fails_need_not_be_required(self) -> None:
        """A much slower candidate doesn't wait for the step that asks for p95."""
        seen = known(live=a_live(slower=1.5))
        assert CheckName.P95 not in POLICY.step(1).requires
        assert judge(seen, POLICY, 1).outcome is FAIL

    def test_what_is_open_and_not_required_holds_nothing_back(self) -> None:
        """4,000 clips show that errors are no more, and don't tell whether p95 is."""
        seen = known(live=a_live(4000, slower=1.03))
        assert check("p95", seen, 1).outcome is INCONCLUSIVE
        assert judge(seen, POLICY, 1).outcome is PASS

    @pytest.mark.parametrize(
        ("weight", "source", "remedy"),
        [
            (0, Source.GOLDEN, "manifest"),
            (0, Source.SHADOW, "shadow"),
            (10, Source.LIVE, "traffic"),
        ],
    )
    def test_a_source_that_was_not_asked_leaves_it_open(
        self, weight: int, source: Source, remedy: str
    ) -> None:
        """Each required check of it says what to give."""
        everything = {
            Source.GOLDEN: known(pairs=some_pairs()),
            Source.SHADOW: known(a_golden()),
            Source.LIVE: known(a_golden(), some_pairs()),
        }
        verdict = judge(everything[source], POLICY, weight)
        assert verdict.outcome is INCONCLUSIVE
        asked = [each for each in verdict.checks if each.source is source]
        assert asked
        for each in asked:
            assert each.outcome is INCONCLUSIVE
            assert remedy in each.reason
            assert each.effect is None

    def test_nothing_known_is_no_error(self) -> None:
        """It is open."""
        verdict = judge(known(), POLICY, 0)
        assert verdict.outcome is INCONCLUSIVE
        assert verdict.reason.startswith("accuracy is open: No golden set was asked")
        assert judge(known(a_golden(0)), POLICY, 0) == verdict


class TestSides:
    """Whether both sides differ in their bundle only."""

    @pytest.mark.parametrize(
        ("stable", "candidate", "said"),
        [
            (STABLE, replace(CANDIDATE, precisions=("int8",)), "stable fp32, the candidate int8"),
            (STABLE, replace(CANDIDATE, cpu_features=("avx512",)), "CPUs with different"),
            (replace(STABLE, digests=("a", "b")), CANDIDATE, "Pods of stable serve 2"),
            (STABLE, replace(CANDIDATE, digests=()), "what the candidate serves"),
        ],
    )
    def test_other_differences_leave_it_open(
        self, stable: Side, candidate: Side, said: str
    ) -> None:
        """However well the candidate does."""
        seen = Observations(stable, candidate, a_golden(), some_pairs())
        verdict = judge(seen, POLICY, 0)
        assert verdict.outcome is INCONCLUSIVE
        assert said in verdict.checks[0].reason

    def test_the_same_bundle_twice_is_told(self) -> None:
        """It is allowed: an A/A comparison."""
        found = check("sides", Observations(STABLE, STABLE))
        assert found.outcome is PASS
        assert found.reason.endswith("Both serve the bundle sha256:1111: an A/A comparison.")


class TestGolden:
    """A labelled set."""

    def test_a_loss_beyond_the_margin_fails_with_its_figures(self) -> None:
        """In points, with the interval, the margin and McNemar's test."""
        found = check("accuracy", known(a_golden(lost=0.05, gained=0.01)))
        assert found.outcome is FAIL
        assert found.effect == pytest.approx(-0.04)
        assert found.low is not None
        assert found.high is not None
        assert found.low < -0.04 < found.high < 0
        assert found.reason.startswith(
            "The candidate's accuracy is 4 points below stable's (−4.5 to −3); "
            "at most 2 points less is allowed. 60 clips turn right and 300 wrong"
        )

    def test_a_loss_within_the_margin_does_not_fail_however_sure_it_is(self) -> None:
        """Surely worse, surely within: it passes."""
        found = check("accuracy", known(a_golden(lost=0.01)))
        assert found.outcome is PASS
        assert found.high is not None
        assert found.high < 0

    def test_few_clips_leave_it_open_and_say_what_they_would_show(self) -> None:
        """A loss of four points can't be told from none on 300 clips."""
        found = check("accuracy", known(a_golden(300, lost=0.05, gained=0.02)))
        assert found.outcome is INCONCLUSIVE
        assert "which 300 clips don't decide: they would show" in found.reason

    def test_the_least_number_of_clips(self) -> None:
        """One below says nothing, not even figures."""
        assert check("accuracy", known(a_golden(200))).effect is not None
        below = check("accuracy", known(a_golden(199)))
        assert (below.outcome, below.effect) == (INCONCLUSIVE, None)
        assert "from 200 clips on; so far there are 199" in below.reason

    def test_no_difference_on_few_clips_is_not_certain(self) -> None:
        """The interval of an A/A comparison has a width."""
        found = check("accuracy", known(a_golden(300)))
        assert found.outcome is PASS
        assert found.low is not None
        assert found.low < -0.005

    def test_one_speaker_says_nothing_of_others(self) -> None:
        """However many clips there are."""
        found = check("accuracy", known(a_golden(speakers=1)))
        assert found.outcome is INCONCLUSIVE
        assert "one speaker" in found.reason

    def test_one_speaker_of_a_label_says_nothing_of_how_others_sound_so(self) -> None:
        """Neither by its recall nor by means that it is a third of; of other labels all is said."""
        seen = known(_of_speakers(a_golden(), "sad", 1))
        for name in ("recall_sad", "uar", "macro_f1"):
            found = check(name, seen)
            assert found.outcome is INCONCLUSIVE
            assert found.reason.startswith("All clips of sad are of one speaker")
        for name in ("recall_angry", "recall_happy", "accuracy", "ece"):
            assert check(name, seen).outcome is PASS

    @pytest.mark.parametrize("name", ["recall_sad", "uar", "macro_f1"])
    def test_few_speakers_of_a_label_widen_what_rests_on_it(self, name: str) -> None:
        """As Student's t does for so many, and not for all speakers of the set."""
        widths = []
        for speakers in (3, 30):
            found = check(
                name, known(_of_speakers(a_golden(lost=0.04, gained=0.04), "sad", speakers))
            )
            assert found.low is not None
            assert found.effect is not None
            widths.append(found.effect - found.low)
        assert widths[0] > 1.4 * widths[1]

    def test_a_label_without_clips_is_not_asked_for(self) -> None:
        """Models may know more labels than the set has; nothing can be said of those."""
        golden = a_golden()
        more = replace(
            golden,
            labels=(*golden.labels, "smug"),
            stable_probabilities=np.pad(golden.stable_probabilities, ((0, 0), (0, 1))),
            candidate_probabilities=np.pad(golden.candidate_probabilities, ((0, 0), (0, 1))),
        )
        verdict = judge(known(more, some_pairs()), POLICY, 0)
        assert verdict.outcome is PASS, verdict.reason
        assert "recall_smug" not in {each.name for each in verdict.checks}

    def test_each_label_has_its_recall(self) -> None:
        """A label that is lost fails, and the others don't."""
        golden = a_golden()
        candidate = tuple(
            "angry" if truth == "happy" and place % 3 else said
            for place, (truth, said) in enumerate(zip(golden.truth, golden.candidate, strict=True))
        )
        seen = known(replace(golden, candidate=candidate))
        found = {label: check(f"recall_{label}", seen).outcome for label in golden.labels}
        assert found == {"angry": PASS, "happy": FAIL, "sad": PASS}

    def test_clips_without_speech_are_wrong_answers(self) -> None:
        """A candidate that hears none in a tenth of the clips fails."""
        golden = a_golden()
        deaf = tuple("" if place % 10 == 0 else said for place, said in enumerate(golden.candidate))
        assert check("accuracy", known(replace(golden, candidate=deaf))).outcome is FAIL

    def test_overconfidence_fails(self) -> None:
        """The sentence has the error itself, and that of a calibrated model."""
        golden = a_golden()
        scores = np.where(golden.candidate_probabilities > 0.5, 0.98, 0.01)
        found = check("ece", known(replace(golden, candidate_probabilities=scores)))
        assert found.outcome is FAIL
        assert "It is 0.180; a perfectly calibrated model would show 0.0" in found.reason

    def test_latency_is_for_information(self) -> None:
        """A golden set is no load test."""
        golden = a_golden()
        found = check("golden_latency", known(replace(golden, candidate_s=golden.stable_s * 9)))
        assert found.outcome is PASS
        assert "took at most 270 ms, stable's 30 ms; this decides nothing" in found.reason

    @settings(max_examples=20)
    @given(st.floats(0, 0.15), st.floats(0, 0.15))
    def test_swapping_sides_mirrors_effects_and_spares_who_gained(
        self, lost: float, gained: float
    ) -> None:
        """What fails in one direction passes in the other."""
        golden = a_golden(3000, lost=lost, gained=gained)
        for name in ("accuracy", "uar", "recall_sad"):
            one, other = (check(name, known(each)) for each in (golden, swapped(golden)))
            assert one.effect is not None
            assert one.effect == pytest.approx(-(other.effect or 0))
            if one.outcome is FAIL:
                assert other.outcome is PASS

    @settings(max_examples=20)
    @given(st.floats(0, 0.1), st.integers(2, 4))
    def test_more_of_the_same_never_turns_a_verdict_round(self, lost: float, times: int) -> None:
        """A fail stays a fail, a pass a pass; only what was open is decided."""
        golden = a_golden(1500, lost=lost)
        before = check("accuracy", known(golden)).outcome
        after = check("accuracy", known(_repeated(golden, times))).outcome
        assert before in {after, INCONCLUSIVE}

    @settings(max_examples=10)
    @given(st.integers(1, 199), st.floats(0, 0.8))
    def test_too_few_clips_never_decide(self, clips: int, lost: float) -> None:
        """However much worse the candidate is."""
        checks = judge(known(a_golden(clips, lost=lost)), POLICY, 0).checks
        for each in checks:
            if each.name in {"accuracy", "macro_f1", "uar", "ece"}:
                assert each.outcome is INCONCLUSIVE


class TestShadow:
    """Pairs without labels."""

    @settings(max_examples=20)
    @given(st.integers(0, 5000), st.floats(0, 0.5), st.floats(0, 0.4))
    def test_it_never_fails(self, clips: int, differing: float, moved: float) -> None:
        """A change is no harm that is known."""
        verdict = judge(known(pairs=some_pairs(clips, differing=differing, moved=moved)), POLICY, 0)
        assert all(each.outcome is not FAIL for each in verdict.checks)

    def test_what_moves_most_is_named(self) -> None:
        """With the next, PSI beside its null, and Stuart and Maxwell's test."""
        found = check("class_prior", known(pairs=some_pairs(moved=0.2)))
        assert found.outcome is INCONCLUSIVE
        assert abs(found.effect or 0) == pytest.approx(0.2)
        assert "The candidate says happy 20 points less often" in found.reason
        assert "Next sad by 20" in found.reason
        assert "by chance" in found.reason

    def test_changes_within_their_margins_pass(self) -> None:
        """With the interval."""
        found = check("disagreement", known(pairs=some_pairs(differing=0.1)))
        assert found.outcome is PASS
        assert found.effect == pytest.approx(0.1, abs=0.002)
        assert "to 10.1 of 100 clips (8.7 to 11)" in found.reason

    def test_the_least_number_of_pairs(self) -> None:
        """One below says nothing."""
        assert check("disagreement", known(pairs=some_pairs(500))).outcome is PASS
        assert check("disagreement", known(pairs=some_pairs(499))).outcome is INCONCLUSIVE

    def test_more_for_review_is_not_passed(self) -> None:
        """By 30 points."""
        pairs = replace(some_pairs(), decisions=np.array([[1600, 1200], [0, 1200]]))
        found = check("review_rate", known(pairs=pairs))
        assert found.outcome is INCONCLUSIVE
        assert "sends 30 points more clips to review" in found.reason

    def test_decisions_without_any_review_have_not_moved(self) -> None:
        """Nobody has counted what never happened."""
        pairs = replace(some_pairs(), decision_names=("accept",), decisions=np.array([[4000]]))
        found = check("review_rate", known(pairs=pairs))
        assert (found.outcome, found.effect) == (PASS, 0)


class TestLive:
    """Traffic beside a baseline of the same age."""

    def test_a_slower_candidate_fails_with_its_figures(self) -> None:
        """In percent, of the baseline."""
        found = check("p95", known(live=a_live(slower=1.15)), 50)
        assert found.outcome is FAIL
        assert (found.unit, found.margin) == ("ratio", 0.05)
        assert found.low is not None
        assert found.effect == pytest.approx(1.15, abs=0.03)
        assert 1 < found.low < 1.15
        assert "above the baseline's (" in found.reason
        assert found.reason.endswith("at most 5% more is allowed.")

    def test_one_point_of_errors_fails(self) -> None:
        """And none passes."""
        found = check("error_rate", known(live=a_live(10_000, errors=0.01)), 10)
        assert found.outcome is FAIL
        assert check("error_rate", known(live=a_live(10_000)), 10).outcome is PASS

    def test_a_faster_candidate_passes(self) -> None:
        """There is no such thing as too fast."""
        assert check("p95", known(live=a_live(slower=0.8)), 50).outcome is PASS

    @pytest.mark.parametrize(
        ("ours", "theirs", "outcome"), [(0, 0, PASS), (1, 0, FAIL), (2, 2, PASS), (2, 1, FAIL)]
    )
    def test_restarts_are_counted(self, ours: int, theirs: int, outcome: Outcome) -> None:
        """More than the baseline's, and more than is allowed."""
        live = a_live()
        baseline = LiveSide(live.baseline.blocks, theirs)
        seen = known(
            live=replace(live, baseline=baseline, candidate=replace(live.candidate, restarts=ours))
        )
        assert check("restarts", seen, 1).outcome is outcome

    @pytest.mark.parametrize(
        ("restarts", "down", "outcome", "said"),
        [
            (0, 1, PASS, "started again 0 times and 1 is down, the baseline's once; 0 are"),
            (0, 2, FAIL, "started again 0 times and 2 are down, the baseline's once; 0 are"),
            (1, 1, FAIL, "started again once and 1 is down, the baseline's once; 0 are"),
        ],
    )
    def test_a_server_that_is_down_is_no_better_than_one_that_started_again(
        self, restarts: int, down: int, outcome: Outcome, said: str
    ) -> None:
        """It counts as much, and is said apart."""
        live = a_live()
        seen = known(
            live=replace(
                live,
                baseline=replace(live.baseline, restarts=1),
                candidate=replace(live.candidate, restarts=restarts, down=down),
            )
        )
        found = check("restarts", seen, 1)
        assert (found.outcome, found.effect) == (outcome, restarts + down - 1)
        assert said in found.reason

    def test_no_traffic_yet_is_open(self) -> None:
        """Nothing has been counted."""
        live = a_live()
        nothing = Live(live.edges, LiveSide((), 0), LiveSide((), 0))
        assert judge(known(live=nothing), POLICY, 10).outcome is INCONCLUSIVE

    def test_the_least_number_of_clips_is_of_each_side(self) -> None:
        """A candidate with little traffic isn't judged by a baseline with much."""
        live = a_live(2000)
        few = tuple(block for block in live.candidate.blocks if block.start_s < 1500)
        seen = known(live=replace(live, candidate=LiveSide(few, 0)))
        found = check("error_rate", seen, 10)
        assert (found.outcome, found.samples) == (INCONCLUSIVE, 500)

    def test_an_hour_that_is_busy_for_both_is_no_fault_of_who_has_more_clips_then(self) -> None:
        """The baseline has all clips for three quiet hours, and the candidate half in a busy one.

        Everything is slower then, and fails more often, for both sides alike.
        """
        seen = known(live=a_day([Hour(180, 200, 0), Hour(60, 200, 200, took_s=0.125, wrong=0.015)]))
        assert check("p50", seen, 50).outcome is PASS
        assert check("p95", seen, 50).outcome is PASS
        errors = check("error_rate", seen, 50)
        assert errors.outcome is not FAIL
        assert errors.effect == pytest.approx(0, abs=0.003)

    def test_a_slow_candidate_is_no_better_for_having_quiet_hours_only(self) -> None:
        """It is a fifth slower in each block, and as fast as the baseline was in all of them."""
        seen = known(live=a_day([Hour(180, 400, 0, took_s=0.125), Hour(60, 150, 150, slower=1.2)]))
        for name in ("p50", "p95"):
            found = check(name, seen, 50)
            assert found.outcome is FAIL
            assert found.effect == pytest.approx(1.2, abs=0.04)

    def test_any_share_of_the_traffic_is_compared(self) -> None:
        """From 1% to 99%: what a side has more of in a block weighs less."""
        hours = [
            Hour(20, 990, 10),
            Hour(20, 900, 100, took_s=0.2),
            Hour(20, 500, 500, took_s=0.3),
            Hour(20, 10, 990, took_s=0.4),
        ]
        seen = known(live=a_day(hours))
        for name in ("error_rate", "p50"):
            assert check(name, seen, 50).outcome is PASS
        slow = known(live=a_day([replace(hour, slower=1.1) for hour in hours]))
        assert check("p50", slow, 50).effect == pytest.approx(1.1, abs=0.02)

    def test_clips_of_one_side_alone_are_none(self) -> None:
        """Neither to the least number of clips nor to that of blocks."""
        found = check("error_rate", known(live=a_day([Hour(30, 900, 0), Hour(9, 900, 50)])), 10)
        assert (found.outcome, found.samples) == (INCONCLUSIVE, 450)
        found = check("error_rate", known(live=a_day([Hour(30, 900, 0), Hour(4, 900, 800)])), 10)
        assert "from 5 blocks of time on; now there are 4" in found.reason

    def test_few_blocks_of_time_are_not_judged(self) -> None:
        """However many clips they have."""
        live = a_live()
        seen = [known(live=_until(live, 60.0 * blocks)) for blocks in (4, 5)]
        assert "from 5 blocks of time on" in check("error_rate", seen[0], 1).reason
        assert check("error_rate", seen[1], 1).effect is not None

    def test_looking_again_takes_a_wider_interval_than_one_look(self) -> None:
        """Its bounds hold at every look: at the planned size a third wider or so."""
        found = check("error_rate", known(live=a_live(20_000)), 10)
        assert found.low is not None
        assert found.effect is not None
        share = 1 / 20_000 + 0.001
        one_look = 3.02 * (2 * share / 20_000) ** 0.5
        assert 1.1 * one_look < found.effect - found.low < 2 * one_look


def _of_speakers(golden: Golden, label: str, speakers: int) -> Golden:
    """The same, but the clips of a label are evenly of so few speakers."""
    return replace(
        golden,
        speakers=tuple(
            f"speaker {place // len(golden.labels) % speakers}" if truth == label else speaker
            for place, (truth, speaker) in enumerate(
                zip(golden.truth, golden.speakers, strict=True)
            )
        ),
    )


def _until(live: Live, end_s: float) -> Live:
    sides = [
        LiveSide(tuple(block for block in side.blocks if block.start_s < end_s), side.restarts)
        for side in (live.baseline, live.candidate)
    ]
    return Live(live.edges, *sides)


def _repeated(golden: Golden, times: int) -> Golden:
    """The same clips again, of other speakers."""
    return Golden(
        version=golden.version,
        labels=golden.labels,
        truth=golden.truth * times,
        speakers=tuple(f"{name} {k}" for k in range(times) for name in golden.speakers),
        stable=golden.stable * times,
        candidate=golden.candidate * times,
        stable_probabilities=np.tile(golden.stable_probabilities, (times, 1)),
        candidate_probabilities=np.tile(golden.candidate_probabilities, (times, 1)),
        stable_s=np.tile(golden.stable_s, times),
        candidate_s=np.tile(golden.candidate_s, times),
    )
