"""Sizes and schedules: which are refused, and how often a schedule acts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.interval_guards import after_batches
from fsmtrain.core.sizes import Schedule, Sizes
from fsmtrain.errors import SizesError
from fsmtrain.loop import Loop
from fsmtrain.options import Options

SIZES = [(0, True), (1, True), (None, True), (-1, False), (True, False), (2.0, False), ("2", False)]
COUNTS = [(1, True), (2, True), (0, False), (-1, False), (True, False), (1.0, False), (None, False)]


@pytest.mark.parametrize(
    ("name", "value", "is_taken"),
    [
        *[("train", value, is_taken) for value, is_taken in SIZES],
        *[(name, [3, value], is_taken) for name in ("val", "test") for value, is_taken in SIZES],
        *[(name, value, is_taken) for name in ("optimizers", "splits") for value, is_taken in COUNTS],
    ],
)
def test_a_size_is_a_whole_number_in_its_range_or_is_refused_by_its_name(name: str, value: Any, is_taken: bool) -> None:
    """The first that is wrong is named: a loader of several by its own size."""
    if is_taken:
        assert getattr(Sizes(**{name: value}), name) == (tuple(value) if isinstance(value, list) else value)
    else:
        wrong = value[1] if isinstance(value, list) else value
        with pytest.raises(SizesError, match=f"Sizes\\({name}={wrong!r}\\)"):
            Sizes(**{name: value})


@pytest.mark.parametrize("value", ["12", b"12"])
def test_a_text_is_no_list_of_loaders(value: Any) -> None:
    with pytest.raises(SizesError, match="must be a number of batches"):
        Sizes(val=value)


def test_default_sizes_have_one_optimizer_and_no_loaders() -> None:
    sizes = Sizes()
    assert (sizes.train, sizes.val, sizes.test, sizes.optimizers, sizes.splits) == (0, (), (), 1, 1)
    assert (sizes.schedulers, sizes.fits) == ((), True)


ranges = st.builds(lambda first, step, count: range(first, first + step * count, step), *3 * [st.integers(1, 12)])


@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), st.lists(ranges, max_size=3))
def test_a_schedule_acts_as_often_as_it_is_due(frequency: int, steps: int, epochs: int, checks: list[range]) -> None:
    """By the steps of its own optimizer, by epochs, or by those of the epochs that had a check."""
    done = [[99, steps], epochs, checks, 0]
    by_step = Schedule(optimizer_i=1, interval="step", frequency=frequency)
    by_epoch, by_check = Schedule(frequency=frequency), Schedule(frequency=frequency, needs_validation=True)
    assert by_step.steps(*done) == sum(map(by_step.is_due, range(1, steps + 1)))  # type: ignore[arg-type]
    assert by_epoch.steps(*done) == sum(map(by_epoch.is_due, range(1, epochs + 1)))  # type: ignore[arg-type]
    assert by_check.steps(*done) == len([epoch for part in checks for epoch in part if (epoch + 1) % frequency == 0])  # type: ignore[arg-type]


def test_a_default_schedule_follows_the_first_optimizer_after_each_epoch_without_end() -> None:
    schedule = Schedule()
    assert schedule.steps([7, 8], 3, [], 0) == 3
    assert (schedule.optimizer_i, schedule.length, schedule.raises_after_end) == (0, None, False)


def test_an_epoch_that_ends_early_counts_for_no_scheduler_though_it_had_a_validation() -> None:
    """Epochs 0 and 1 end with a check each; in epoch 2 there is one after its fourth batch, and the run ends in its fifth."""
    options = Options(max_nb_epochs=9, min_nb_epochs=0, val_check_interval=4)
    schedulers = [Schedule(needs_validation=True), Schedule(needs_validation=True, frequency=2), Schedule()]
    loop = Loop(options, Sizes(train=8, val=[1], schedulers=schedulers), guards=Guards(stop=after_batches(21)))
    planned = loop.plan()
    assert (planned.validations, planned.scheduler_steps) == (5, (2, 1, 2))
