"""Admission: the work inside has its limit, and who is refused learns when to return."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import DEFAULT_RETRY_S, MAX_RETRY_S, MIN_RETRY_S, Admission, Permit
from service.domain import Overloaded


class Clock:
    """A clock that a test moves."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


def drained_at(windows_per_s: float, *, capacity: int = 100) -> tuple[Admission, Clock]:
    """Build an admission that has drained clips of 10 windows at this rate for a while."""
    clock = Clock()
    admission = Admission(capacity, clock=clock)
    for _ in range(50):
        with admission.admit(10):
            clock.now += 10 / windows_per_s
    return admission, clock


def test_the_last_window_that_fits_is_admitted_and_the_next_refused() -> None:
    """The capacity is met exactly, then a clip of even one window is overload."""
    admission = Admission(8)
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
    admission = Admission(8)
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
    admission = Admission(8)
    with admission.admit(1), pytest.raises(Overloaded):
        admission.admit(9)
    with admission.admit(9):
        assert admission.full
        with pytest.raises(Overloaded):
            admission.admit(1)
    assert admission.in_flight == 0


def test_a_clip_without_windows_is_no_load() -> None:
    """A clip without speech needs no engine and is let in even when it is full."""
    admission = Admission(1)
    for others in (1, 2):
        with admission.admit(others), admission.admit(0):
            assert admission.in_flight == others


def test_a_permit_is_given_back_once() -> None:
    """An early release and the end of `with` don't free the place of another clip."""
    admission = Admission(8)
    admission.admit(3)
    with admission.admit(2) as permit:
        assert permit.windows == 2
        permit.release()
        permit.release()
        assert permit.windows == 0
    permit.release()
    assert admission.in_flight == 3


def test_a_failing_request_gives_its_permit_back() -> None:
    """Whatever is raised inside, the windows are free again."""
    admission = Admission(8)
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
    admission = Admission(capacity)
    permits: list[Permit] = []
    held: dict[int, int] = {}
    admitted = refused = 0
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
                admitted += number
                held[len(permits)] = number
                permits.append(permit)
        elif permits:
            permits[number % len(permits)].release()
            held.pop(number % len(permits), None)
        assert admission.in_flight == sum(held.values())
        assert admission.full == (admission.in_flight >= capacity)
        assert admission.admitted_windows == admitted
        assert admission.refused_windows == refused
        assert MIN_RETRY_S <= admission.retry_after_s <= MAX_RETRY_S


def test_demand_counts_a_clip_refused_unread_as_an_average_clip() -> None:
    """Otherwise overload would look smaller the earlier it is turned away."""
    admission = Admission(8)
    admission.admit(4).release()
    admission.admit(4)
    admission.admit(4)
    for _ in range(10):
        with pytest.raises(Overloaded):
            admission.check()
    assert admission.admitted_windows == 12
    assert admission.refused_windows == pytest.approx(40)


def test_demand_counts_an_unread_clip_as_one_window_before_any_is_known() -> None:
    """A gate that has never seen a clip still counts the refusal."""
    admission = Admission(1)
    admission.admit(1)
    with pytest.raises(Overloaded):
        admission.check()
    assert admission.refused_windows == 1


def test_retry_after_is_a_default_until_something_has_drained() -> None:
    """No rate, no estimate."""
    admission = Admission(8)
    assert admission.retry_after_s == DEFAULT_RETRY_S
    admission.admit(8)
    assert admission.retry_after_s == DEFAULT_RETRY_S


def test_retry_after_is_the_time_to_drain_what_is_in_flight() -> None:
    """At 10 windows a second 60 windows take 6 s."""
    admission, _ = drained_at(10)
    admission.admit(60)
    assert admission.retry_after_s == pytest.approx(6)
    with pytest.raises(Overloaded) as refusal:
        admission.admit(50)
    assert refusal.value.retry_after_s == pytest.approx(6)


def test_idle_time_does_not_slow_the_measured_rate() -> None:
    """After a quiet night the engine is as fast as it was."""
    admission, clock = drained_at(10)
    clock.now += 8 * 3600
    admission.admit(60)
    assert admission.retry_after_s == pytest.approx(6)


def test_the_rate_follows_a_slower_engine() -> None:
    """After some RATE_MEMORY_S of slow work Retry-After tells the new rate, not the old."""
    admission, clock = drained_at(10)
    for _ in range(30):
        with admission.admit(10):
            clock.now += 10
    admission.admit(10)
    assert admission.retry_after_s == pytest.approx(10, rel=0.01)


def test_retry_after_stays_within_its_limits() -> None:
    """A nearly empty queue is no invitation to come back at once, a stall none to go away."""
    admission, clock = drained_at(10)
    assert admission.retry_after_s == MIN_RETRY_S
    admission.admit(100)
    clock.now += 600
    assert admission.retry_after_s == MAX_RETRY_S
    clock.now += 1e6
    assert MIN_RETRY_S <= admission.retry_after_s <= MAX_RETRY_S


def test_sizes_that_make_no_sense_are_refused() -> None:
    """Capacity 1 and 0 windows are the smallest that do."""
    with pytest.raises(ValueError, match="capacity"):
        Admission(0)
    with pytest.raises(ValueError, match="cannot have"):
        Admission(1).admit(-1)
