"""Admission: the work inside has its limit, and who is refused learns when to return."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import (
    ASKED_MEMORY_S,
    DEFAULT_RETRY_S,
    MAX_RETRY_S,
    MIN_RETRY_S,
    Admission,
    Permit,
)
from service.domain import Overloaded


class Clock:
    """A clock that a test moves."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_the_last_window_that_fits_is_admitted_and_the_next_refused() -> None:
    """The capacity is met exactly, then a clip of even one window is overload."""
    admission = Admission(8, backlog=100)
    admission.admit(5)
    with pytest.raises(Overloaded):
        admission.admit(4)
    admission.admit(3)
    assert admission.full
    with pytest.raises(Overloaded):
        admission.admit(1)
    assert admission.in_flight == 8


def test_the_gate_closes_only_when_not_one_window_fits() -> None:
    """A header-time check passes at capacity - 1 and refuses at capacity."""
    admission = Admission(8, backlog=100)
    admission.admit(7)
    admission.check()
    last = admission.admit(1)
    with pytest.raises(Overloaded) as refusal:
        admission.check()
    assert refusal.value.retry_after_s >= MIN_RETRY_S
    last.release()
    admission.check()


def test_a_clip_larger_than_the_capacity_has_the_place_to_itself() -> None:
    """It would never be served otherwise; beside anything else it is refused."""
    admission = Admission(8, backlog=100)
    with admission.admit(1), pytest.raises(Overloaded):
        admission.admit(9)
    with admission.admit(9):
        assert admission.full
        with pytest.raises(Overloaded):
            admission.admit(1)
    assert admission.in_flight == 0


def test_a_clip_without_windows_is_no_load() -> None:
    """A clip without speech needs no engine and is let in even when it is full."""
    admission = Admission(1, backlog=100)
    for others in (1, 2):
        with admission.admit(others), admission.admit(0):
            assert admission.in_flight == others


def test_a_permit_is_given_back_once() -> None:
    """An early release and the end of `with` don't free the place of another clip."""
    admission = Admission(8, backlog=100)
    admission.admit(3)
    with admission.admit(2) as permit:
        assert permit.places == 2
        permit.release()
        permit.release()
        assert permit.places == 0
    permit.release()
    assert admission.in_flight == 3


def test_a_failing_request_gives_its_permit_back() -> None:
    """Whatever is raised inside, the windows are free again."""
    admission = Admission(8, backlog=100)
    with pytest.raises(KeyError), admission.admit(8):
        raise KeyError
    assert admission.in_flight == 0


@given(
    capacity=st.integers(1, 20),
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 25)), max_size=60),
)
def test_in_flight_is_the_sum_of_the_permits_held(
    capacity: int, moves: list[tuple[bool, int]]
) -> None:
    """After any admissions and releases, repeated ones too, the books balance."""
    admission = Admission(capacity, backlog=100)
    permits: list[Permit] = []
    held: dict[int, int] = {}
    refused = 0
    for arrives, number in moves:
        if arrives:
            before = admission.in_flight
            try:
                permit = admission.admit(number)
            except Overloaded:
                refused += number
                assert before > 0
                assert before + number > capacity
            else:
                assert number == 0 or before == 0 or before + number <= capacity
                held[len(permits)] = number
                permits.append(permit)
        elif permits:
            permits[number % len(permits)].release()
            held.pop(number % len(permits), None)
        assert admission.in_flight == sum(held.values())
        assert admission.full == (admission.in_flight >= capacity)
        assert admission.refused_windows == refused
        assert MIN_RETRY_S <= admission.retry_after_s <= MAX_RETRY_S


def test_the_last_clip_that_fits_is_decoded_and_the_next_refused() -> None:
    """The backlog is met exactly, and a clip that has been decoded makes room for one."""
    admission = Admission(100, backlog=2)
    first, _ = admission.expect(), admission.expect()
    for refused in (admission.check, admission.expect):
        with pytest.raises(Overloaded, match="2 of 2 clips"):
            refused()
    first.release()
    admission.check()


def test_clips_being_decoded_are_expected_to_be_average_ones() -> None:
    """With 10 of 16 windows free and clips of 3, the gate closes behind the fourth clip."""
    admission = Admission(16, backlog=100)
    admission.admit(3).release()
    for _ in range(2):
        admission.admit(3)
    permits = [admission.expect() for _ in range(4)]
    with pytest.raises(Overloaded):
        admission.check()
    permits[0].release()
    admission.check()


def test_a_decoded_clip_is_admitted_whatever_is_expected() -> None:
    """Its work is done and its size known: expectations are for who has not begun."""
    admission = Admission(8, backlog=100)
    admission.admit(2)
    for _ in range(3):
        admission.expect()
    assert admission.full
    admission.admit(6)
    assert admission.in_flight == 8


class TestShares:
    """One client may fill its share of the places, and no more while others get in."""

    def test_the_last_window_of_a_share_is_admitted_and_the_next_refused(self) -> None:
        """Half of 8 windows is 4, whatever others have."""
        admission = Admission(8, backlog=100, client_share=0.5)
        admission.admit(3, "greedy")
        with pytest.raises(Overloaded, match="This client has 3 windows"):
            admission.admit(2, "greedy")
        last = admission.admit(1, "greedy")
        with pytest.raises(Overloaded, match="50% of the server's 8 windows"):
            admission.check("greedy")
        admission.check("modest")
        admission.admit(4, "modest")
        last.release()
        admission.check("greedy")

    def test_the_last_clip_of_a_share_is_decoded_and_the_next_refused(self) -> None:
        """Decoding is shared out as windows are."""
        admission = Admission(100, backlog=4, client_share=0.5)
        first, _ = admission.expect("greedy"), admission.expect("greedy")
        with pytest.raises(Overloaded, match="2 clips being decoded"):
            admission.expect("greedy")
        admission.expect("modest")
        first.release()
        admission.expect("greedy")

    def test_the_smallest_share_is_one_clip_at_a_time(self) -> None:
        """However long: who has nothing inside is never refused for a share."""
        admission = Admission(100, backlog=100, client_share=0.001)
        with admission.expect("one"), pytest.raises(Overloaded):
            admission.expect("one")
        with admission.admit(20, "one"), pytest.raises(Overloaded):
            admission.admit(1, "one")
        admission.expect("one")

    def test_without_shares_one_client_may_have_it_all(self) -> None:
        """The default."""
        admission = Admission(8, backlog=2)
        with admission.expect("one"), admission.expect("one"):
            admission.admit(8, "one")
        with pytest.raises(Overloaded, match="8 of 8 windows"):
            admission.check("one")

    @given(
        share=st.floats(0.01, 1),
        moves=st.lists(
            st.tuples(st.sampled_from("eaer"), st.integers(0, 9), st.sampled_from("abc")),
            max_size=60,
        ),
    )
    def test_shares_hold_and_who_holds_nothing_is_forgotten(
        self, share: float, moves: list[tuple[str, int, str]]
    ) -> None:
        """After any expectations, admissions and releases, of any clients."""
        admission = Admission(12, backlog=4, client_share=share)
        permits: list[tuple[str, str, Permit]] = []
        for move, number, client in moves:
            if move == "r" and permits:
                permits.pop(number % len(permits))[2].release()
            elif move in "ea":
                of = admission.expect if move == "e" else partial(admission.admit, number)
                with suppress(Overloaded):
                    permits.append((move, client, of(client)))
            for one in "abc":
                clips = [p.places for kind, who, p in permits if (kind, who) == ("e", one)]
                windows = [p.places for kind, who, p in permits if (kind, who) == ("a", one)]
                assert sum(clips) <= max(1, math.ceil(share * 4))
                assert sum(windows) <= max(share * 12, *windows, 0)
            holders = {who for _, who, permit in permits if permit.places}
            assert set(admission._clients) == holders
        for _, _, permit in permits:
            permit.release()
        assert admission._clients == {}
        assert admission.in_flight == 0


def test_demand_counts_a_clip_refused_unread_as_an_average_clip() -> None:
    """Otherwise overload would look smaller the earlier it is turned away."""
    admission = Admission(8, backlog=100)
    admission.admit(4).release()
    admission.admit(4)
    admission.admit(4)
    for _ in range(10):
        with pytest.raises(Overloaded):
            admission.check()
    assert admission.refused_windows == pytest.approx(40)


def test_demand_counts_an_unread_clip_as_one_window_before_any_is_known() -> None:
    """A gate that has never seen a clip still counts the refusal."""
    admission = Admission(1, backlog=100)
    admission.admit(1)
    with pytest.raises(Overloaded):
        admission.check()
    assert admission.refused_windows == 1


def test_what_is_asked_for_is_known_by_the_second() -> None:
    """Windows let in and refused, in time, as smoothed over ASKED_MEMORY_S."""
    clock = Clock()
    admission = Admission(4, backlog=100, clock=clock)
    admission.admit(4)
    with pytest.raises(Overloaded):
        admission.admit(3)
    with pytest.raises(Overloaded):
        admission.check()
    assert admission.asked_per_s == pytest.approx((4 + 3 + admission._average) / ASKED_MEMORY_S)
    clock.now += 100 * ASKED_MEMORY_S
    assert admission.asked_per_s == pytest.approx(0)


def test_retry_after_is_a_default_while_no_rate_is_known() -> None:
    """No rate, no estimate."""
    admission = Admission(8, backlog=100)
    assert admission.queue_s is None
    assert admission.retry_after_s == DEFAULT_RETRY_S
    admission.admit(8)
    assert admission.retry_after_s == DEFAULT_RETRY_S


def test_retry_after_is_the_time_to_drain_what_is_in_flight() -> None:
    """At 10 windows a second 60 windows take 6 s, and twice as long at half of the rate."""
    rate = 10.0
    admission = Admission(100, backlog=100, takes_s=lambda windows: windows / rate)
    assert admission.queue_s == 0
    admission.admit(60)
    assert admission.queue_s == pytest.approx(6)
    assert admission.retry_after_s == pytest.approx(6)
    with pytest.raises(Overloaded) as refusal:
        admission.admit(50)
    assert refusal.value.retry_after_s == pytest.approx(6)
    rate = 5.0
    assert admission.retry_after_s == pytest.approx(12)


def test_retry_after_stays_within_its_limits() -> None:
    """A nearly empty queue is no invitation to come back at once, a slow one none to go away."""
    rate = 10.0
    admission = Admission(100, backlog=100, takes_s=lambda windows: windows / rate)
    assert admission.retry_after_s == MIN_RETRY_S
    admission.admit(100)
    rate = 1e-9
    assert admission.retry_after_s == MAX_RETRY_S


def test_sizes_that_make_no_sense_are_refused() -> None:
    """Capacity 1 and 0 windows are the smallest that do."""
    with pytest.raises(ValueError, match="capacity"):
        Admission(0, backlog=100)
    with pytest.raises(ValueError, match="backlog"):
        Admission(1, backlog=0)
    for share in (0.0, 1.001):
        with pytest.raises(ValueError, match="share"):
            Admission(1, backlog=1, client_share=share)
    with pytest.raises(ValueError, match="cannot have"):
        Admission(1, backlog=100).admit(-1)


def test_a_clip_that_would_wait_too_long_is_refused() -> None:
    """At 10 windows a second 50 in flight are 5 s: the limit itself refuses, a window less not."""
    admission = Admission(100, backlog=100, longest_s=5.0, takes_s=lambda windows: windows / 10)
    admission.admit(49)
    admission.check()
    admission.admit(1)
    for late in (admission.check, lambda: admission.admit(1)):
        with pytest.raises(Overloaded, match="50 windows are in flight, which take 5 s"):
            late()
    admission.admit(0).release()


@pytest.mark.parametrize("longest_s", [0.0, -1.0, float("nan")])
def test_some_wait_must_be_allowed(longest_s: float) -> None:
    """Or nobody would get in."""
    with pytest.raises(ValueError, match="longest_s"):
        Admission(1, backlog=1, longest_s=longest_s)
