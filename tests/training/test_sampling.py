"""Which clips an epoch hears: every one once, or in the shares that balance asks for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import Sampling
from training.sampling import Draws, Group, chances

GROUPS = [
    *[Group("large", "a", label) for label in (0, 0, 0, 1)],
    *[Group("large", "b", 0)] * 12,
    *[Group("small", "c", 2)] * 4,
]
groups = st.lists(
    st.builds(
        Group,
        corpus=st.sampled_from("xyz"),
        speaker=st.sampled_from("abc"),
        label=st.integers(0, 5),
    ),
    min_size=1,
    max_size=60,
)


def test_unbalanced_every_clip_is_drawn_once() -> None:
    """In an order that differs between epochs."""
    draws = Draws(GROUPS, Sampling(), seed=0)
    first = list(draws)
    draws.epoch = 1
    second = list(draws)
    assert sorted(draw.index for draw in first) == list(range(20))
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert {draw.turn for draw in first} == {0}


@given(groups=groups, power=st.floats(0, 1))
def test_balanced_shares_are_those_asked(groups: list[Group], power: float) -> None:
    """Of corpora by the power of their size; speakers, then labels, alike."""
    shares = chances(groups, Sampling(balanced=True, corpus_power=power))
    sizes = Counter(group.corpus for group in groups)
    whole = sum(size**power for size in sizes.values())
    for corpus, size in sizes.items():
        members = [i for i, group in enumerate(groups) if group.corpus == corpus]
        assert shares[members].sum() == pytest.approx(size**power / whole)
        speakers = {groups[i].speaker for i in members}
        for speaker in speakers:
            theirs = [i for i in members if groups[i].speaker == speaker]
            assert shares[theirs].sum() == pytest.approx(shares[members].sum() / len(speakers))
            labels = {groups[i].label for i in theirs}
            for label in labels:
                alike = [i for i in theirs if groups[i].label == label]
                assert shares[alike].sum() == pytest.approx(shares[theirs].sum() / len(labels))


def test_balanced_drawing_keeps_to_the_shares() -> None:
    """Over many clips, within what chance allows."""
    settings = Sampling(balanced=True, corpus_power=0, clips_per_epoch=20_000)
    drawn = Counter(GROUPS[draw.index] for draw in Draws(GROUPS, settings, seed=0))
    shares = {group: count / 20_000 for group, count in drawn.items()}
    assert shares[Group("small", "c", 2)] == pytest.approx(1 / 2, abs=0.02)
    assert shares[Group("large", "b", 0)] == pytest.approx(1 / 4, abs=0.02)
    assert shares[Group("large", "a", 1)] == pytest.approx(1 / 8, abs=0.02)


def test_a_clip_drawn_again_has_another_turn() -> None:
    """So that it can be heard in another way."""
    settings = Sampling(balanced=True, clips_per_epoch=200)
    draws = list(Draws(GROUPS, settings, seed=0))
    assert len(draws) == 200
    for index in range(20):
        turns = [draw.turn for draw in draws if draw.index == index]
        assert turns == list(range(len(turns)))


@pytest.mark.parametrize("balanced", [False, True])
def test_an_epoch_is_a_function_of_seed_and_epoch(*, balanced: bool) -> None:
    """Whoever comes back to it draws the same."""
    settings = Sampling(balanced=balanced)
    one, other = Draws(GROUPS, settings, seed=3), Draws(GROUPS, settings, seed=3)
    list(one)
    one.epoch = other.epoch = 5
    assert list(one) == list(other)
    assert list(one) != list(Draws(GROUPS, settings, seed=4))


def test_the_shares_sum_to_one() -> None:
    """They are probabilities."""
    assert np.isclose(chances(GROUPS, Sampling(balanced=True)).sum(), 1)
