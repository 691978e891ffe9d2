"""The policy: what is required at each weight, and how a file of one's own changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.canary.policy import SHARING_ALPHA, CheckName, PolicyError, load_policy


def test_the_default_has_a_rule_for_every_check_that_measures() -> None:
    """All but the comparison of the sides, which has nothing to measure."""
    policy = load_policy()
    assert set(policy.checks) == set(CheckName) - {CheckName.SIDES}
    assert policy.share_of_alpha == pytest.approx(policy.alpha / len(SHARING_ALPHA))


@pytest.mark.parametrize(
    ("weight", "step"), [(0, 0), (1, 1), (9, 1), (10, 10), (49, 10), (50, 50), (99, 50), (100, 100)]
)
def test_a_weight_has_the_step_at_or_below_it(weight: int, step: int) -> None:
    """On both sides of each step."""
    policy = load_policy()
    assert policy.step(weight) is policy.steps[step]


def test_before_any_traffic_golden_set_and_shadow_are_required() -> None:
    """And under traffic, what only traffic shows."""
    policy = load_policy()
    assert {CheckName.ACCURACY, CheckName.DISAGREEMENT} <= set(policy.step(0).requires)
    assert CheckName.ERROR_RATE not in policy.step(0).requires
    assert CheckName.P95 in policy.step(100).requires


def test_a_step_may_need_more_clips_than_the_rule() -> None:
    """The step's own number stands in place of the rule's."""
    policy = load_policy()
    assert policy.needed(CheckName.ERROR_RATE, 1) == policy.checks[CheckName.ERROR_RATE].samples
    assert policy.needed(CheckName.ERROR_RATE, 50) == 5000


def test_a_file_states_only_what_differs(tmp_path: Path) -> None:
    """Its margin is taken, the same check's samples and all else are the default's."""
    file = tmp_path / "policy.toml"
    file.write_text('[checks.accuracy]\nmargin = 0.05\n[steps.25]\nrequires = ["p95"]\n')
    policy, default = load_policy(file), load_policy()
    assert policy.checks[CheckName.ACCURACY].margin == 0.05
    samples = default.checks[CheckName.ACCURACY].samples
    assert policy.checks[CheckName.ACCURACY].samples == samples
    assert policy.checks[CheckName.UAR] == default.checks[CheckName.UAR]
    assert policy.step(30).requires == (CheckName.P95,)
    assert policy.step(10) == default.step(10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpa = 0.1", "alpa"),
        ("[checks.acuracy]\nmargin = 1", "acuracy"),
        ("[checks.accuracy]\nmargn = 1", "checks.accuracy.margn"),
        ("[checks.accuracy]\nmargin = -1", "greater than or equal to 0"),
        ("[steps.10]\nrequires = []", "steps.10.requires"),
        ("[steps.101]\nrequires = ['p95']", "steps.101"),
        ("alpha = 0.5", "less than 0.5"),
        ("alpha =", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """In one sentence with the file's path."""
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(PolicyError) as error:
        load_policy(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what the system says of it."""
    with pytest.raises(PolicyError, match=r"gone\.toml cannot be read: No such file"):
        load_policy(tmp_path / "gone.toml")
