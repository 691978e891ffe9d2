"""When the fallback answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fallback import SHORT, Switch

QUEUES = st.lists(st.floats(0, 10), max_size=30)


@pytest.mark.parametrize("above_s", [0.0, -1.0, float("nan")])
def test_a_threshold_is_a_time(above_s: float) -> None:
    """Without a wait there is nothing to fall back from."""
    with pytest.raises(ValueError, match="above 0 s"):
        Switch(above_s)


def test_it_turns_at_the_threshold_and_back_when_the_queue_is_short() -> None:
    """The threshold itself switches, and so does a share SHORT of it; what lies between doesn't."""
    switch = Switch(2.0)
    for queue_s, on in (
        (1.999, False),
        (2.0, True),
        (2.0 * SHORT + 0.001, True),
        (2.0 * SHORT, False),
        (1.999, False),
    ):
        switch.turn(queue_s)
        assert switch.on == on


@given(QUEUES, st.floats(0.1, 5))
def test_between_short_and_long_nothing_changes(queues: list[float], above_s: float) -> None:
    """Whatever came before, a queue between the two keeps the model, and the ends decide it."""
    switch = Switch(above_s)
    for queue_s in queues:
        before = switch.on
        switch.turn(queue_s)
        if queue_s >= above_s:
            assert switch.on
        elif queue_s <= SHORT * above_s:
            assert not switch.on
        else:
            assert switch.on == before
