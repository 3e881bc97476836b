"""Early stopping: what counts as an improvement, how long patience lasts; runs share nothing."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.early_stopping import EarlyStopping, Patience
from fsmtrain.errors import OptionsError

Mode = Literal["min", "max"]

metrics = st.lists(st.integers(-5, 5).map(float) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=25)
rules = st.builds(
    EarlyStopping,
    min_delta=st.sampled_from([0.0, 0.5, 1.0, 2.5, -1.0]),
    patience=st.integers(0, 5),
    mode=st.sampled_from(["min", "max"]),
)


def test_the_defaults_are_the_documented_ones() -> None:
    assert EarlyStopping() == EarlyStopping(monitor="val_loss", min_delta=0.0, patience=3, verbose=False, mode="min")


def test_the_monitor_may_be_passed_by_position() -> None:
    assert EarlyStopping("accuracy", mode="max") == EarlyStopping(monitor="accuracy", mode="max")
    with pytest.raises(OptionsError, match="monitor=3"):
        EarlyStopping(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "min_delta", "current", "best", "improved"),
    [
        ("min", 0.0, 0.9, 1.0, True),
        ("min", 0.0, 1.0, 1.0, False),
        ("min", 0.0, 1.1, 1.0, False),
        ("min", 0.5, 0.5, 1.0, False),  # exactly min_delta better is not better
        ("min", 0.5, 0.25, 1.0, True),
        ("max", 0.0, 1.1, 1.0, True),
        ("max", 0.0, 1.0, 1.0, False),
        ("max", 0.5, 1.5, 1.0, False),
        ("max", 0.5, 1.75, 1.0, True),
        ("min", 0.0, math.nan, 1.0, False),
        ("max", 0.0, math.nan, 1.0, False),
        ("min", 0.0, -math.inf, 1.0, True),
        ("max", 0.0, math.inf, 1.0, True),
        ("min", 0.0, math.inf, math.inf, False),
        ("min", 0.0, 1e300, math.inf, True),
        ("max", 0.0, -1e300, -math.inf, True),
    ],
)
def test_better_is_better_by_more_than_min_delta(
    mode: Mode, min_delta: float, current: float, best: float, improved: bool
) -> None:
    assert EarlyStopping(mode=mode, min_delta=min_delta).improved(current, best) is improved


@given(rules, metrics)
def test_patience_is_exhausted_after_so_many_validations_in_a_row_without_an_improvement(
    rule: EarlyStopping, values: list[float]
) -> None:
    """Held against a list of what improved, kept by hand."""
    sign = 1 if rule.mode == "min" else -1
    best, better = math.inf, [True]
    patience = Patience(rule)
    for value in values:
        better.append(sign * value + rule.min_delta < best)
        if better[-1]:
            best = sign * value
        in_a_row = better[::-1].index(True)
        assert patience.feed(value) == patience.exhausted == (in_a_row >= max(1, rule.patience))
        assert (patience.best, patience.wait) == (sign * best, in_a_row)


@given(rules, metrics)
def test_smaller_is_better_and_larger_is_better_are_mirror_images(rule: EarlyStopping, values: list[float]) -> None:
    mirrored = attrs.evolve(rule, mode="max" if rule.mode == "min" else "min")
    one, other = Patience(rule), Patience(mirrored)
    assert [one.feed(value) for value in values] == [other.feed(-value) for value in values]


def test_the_first_validation_counts() -> None:
    patience = Patience(EarlyStopping(patience=2))
    assert [patience.feed(math.nan), patience.feed(math.nan)] == [False, True]


@pytest.mark.parametrize("checks", [0, 1])
def test_patience_of_zero_acts_as_one(checks: int) -> None:
    patience = Patience(EarlyStopping(patience=checks))
    assert not patience.exhausted
    assert [patience.feed(value) for value in (1.0, 1.0, 0.5, 0.5)] == [False, True, False, True]


def test_exhausted_patience_stays_so_until_an_improvement() -> None:
    patience = Patience(EarlyStopping(patience=2))
    assert [patience.feed(value) for value in (1, 2, 3, 4, 5, 0.5, 1)] == [False, False, True, True, True, False, False]


def test_small_improvements_are_measured_from_the_best_and_add_up() -> None:
    patience = Patience(EarlyStopping(min_delta=0.1, patience=9))
    for value in (1.0, 0.95, 0.91, 0.85):
        patience.feed(value)
    assert (patience.best, patience.wait) == (0.85, 0)


def test_two_runs_share_a_rule_and_no_memory() -> None:
    rule = EarlyStopping(patience=1)
    one, other = Patience(rule), Patience(rule)
    one.feed(math.nan)
    assert (one.exhausted, other.exhausted) == (True, False)


def test_the_rule_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        EarlyStopping().patience = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("monitor", ""),
        ("monitor", None),
        ("monitor", 3),
        ("min_delta", math.nan),
        ("min_delta", 10**400),
        ("min_delta", math.inf),
        ("min_delta", "0.1"),
        ("min_delta", True),
        ("min_delta", None),
        ("patience", -1),
        ("patience", 1.0),
        ("patience", True),
        ("patience", None),
        ("mode", "auto"),
        ("mode", None),
        ("mode", "MIN"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_its_name_and_value(field: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"EarlyStopping({field}={value!r})")):
        EarlyStopping(**{field: value})
