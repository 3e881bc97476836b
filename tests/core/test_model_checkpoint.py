"""When a `ModelCheckpoint` saves, by the table alone, and what it refuses. What it keeps is tested with the store."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.interval_guards import every_n_batches
from fsmtrain.core.model_checkpoint import ModelCheckpoint, save_guard
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.errors import OptionsError
from fsmtrain.loop import Loop
from fsmtrain.options import Options

Batch = tuple[int, int]  # epoch, batch


def batches_of(
    rule: ModelCheckpoint, *states: State, guards: Guards | None = None, val: Any = (1,), **flags: Any
) -> list[Batch]:
    """The batches after which a run of 2 epochs of 12 batches visits one of the states."""
    mine = guards or Guards()
    options = Options(**{"max_nb_epochs": 2, "nb_sanity_val_steps": 0, "val_check_interval": 5, **flags})
    loop = Loop(options, Sizes(train=12, val=val), guards=Guards(validate=mine.validate, save=rule.guard(mine)))
    return [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state in states]


def saves(rule: ModelCheckpoint, **given: Any) -> list[Batch]:
    """Those after which it saves."""
    return batches_of(rule, State.SAVE, **given)


intervals = st.none() | st.integers(1, 8)


@given(st.sampled_from([None, "val_loss"]), intervals, intervals, intervals, st.integers(1, 4))
def test_a_save_is_due_when_one_of_the_intervals_is_over(
    monitor: str | None, by_batches: int | None, by_steps: int | None, by_epochs: int | None, window: int
) -> None:
    """Batches count anew in each epoch, steps and epochs in the whole run; an epoch's last batch always ends a window."""
    rule = ModelCheckpoint(monitor=monitor, every_n_batches=by_batches, every_n_steps=by_steps, every_n_epochs=by_epochs)
    if monitor is None and by_batches is by_steps is by_epochs is None:
        by_epochs = 1
    expected, steps = [], 0
    for epoch, nb in [(epoch, nb) for epoch in range(2) for nb in range(12)]:
        has_stepped = (nb + 1) % window == 0 or nb == 11
        steps += has_stepped
        due = [
            monitor is not None and nb in (4, 9),
            by_batches is not None and (nb + 1) % by_batches == 0,
            by_steps is not None and has_stepped and steps % by_steps == 0,
            by_epochs is not None and nb == 11 and (epoch + 1) % by_epochs == 0,
        ]
        expected += [(epoch, nb)] if any(due) else []
    assert saves(rule, accumulate_grad_batches=window) == expected


rules = st.builds(
    ModelCheckpoint,
    monitor=st.sampled_from([None, "val_loss", "val_acc"]),
    every_n_batches=intervals,
    every_n_steps=intervals,
    every_n_epochs=intervals,
)


@given(st.lists(rules, min_size=1, max_size=4), st.integers(1, 4))
def test_several_rules_save_where_one_of_them_does(several: list[ModelCheckpoint], window: int) -> None:
    guard = save_guard([rule.guard(Guards()) for rule in several])
    options = Options(max_nb_epochs=2, nb_sanity_val_steps=0, val_check_interval=5, accumulate_grad_batches=window)
    loop = Loop(options, Sizes(train=12, val=[1]), guards=Guards(save=guard))
    found = [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.SAVE]
    assert found == sorted({batch for rule in several for batch in saves(rule, accumulate_grad_batches=window)})
    plan = loop.plan()
    planned = [nb for group in plan.epochs for _ in range(group.count) for nb in group.epoch.saves]
    assert planned == [nb for _, nb in found]


def test_a_save_before_each_validation_follows_the_user_s_validate_guard() -> None:
    rule = ModelCheckpoint(monitor="val_loss")
    guards = Guards(validate=every_n_batches(4))
    assert saves(rule, guards=guards) == batches_of(rule, State.VAL_CHECK, guards=guards) != []


def test_without_validation_there_is_no_save_before_it() -> None:
    rule = ModelCheckpoint(monitor="val_loss")
    assert saves(rule, val=()) == []
    assert saves(rule, guards=Guards(validate=every_n_batches(4)), val=()) == []


@pytest.mark.parametrize(("seconds", "saved"), [(0.5, [(0, 3)]), (None, [])])
def test_elapsed_time_saves_only_with_every_n_seconds(seconds: float | None, saved: list[Batch]) -> None:
    rule = ModelCheckpoint(every_n_batches=1000, every_n_seconds=seconds)
    loop = Loop(Options(max_nb_epochs=1), Sizes(train=6), guards=Guards(save=rule.guard(Guards())))
    found = []
    for visit in loop:
        visit.signals.save_wanted = visit.batch_nb == 3 and visit.state is not State.SAVE
        found += [(visit.current_epoch, visit.batch_nb)] if visit.state is State.SAVE else []
    assert found == saved


def test_by_default_the_newest_checkpoint_is_kept_and_there_is_no_interval() -> None:
    rule = ModelCheckpoint()
    assert (rule.monitor, rule.mode, rule.save_top_k, rule.has_interval) == (None, "min", 1, False)


@pytest.mark.parametrize("name", ["every_n_batches", "every_n_steps", "every_n_epochs", "every_n_seconds"])
def test_each_interval_is_one(name: str) -> None:
    given: dict[str, Any] = {name: 1}
    assert ModelCheckpoint(**given).has_interval


def test_model_checkpoints_with_equal_fields_are_equal_and_frozen() -> None:
    rule = ModelCheckpoint(every_n_steps=3)
    assert rule == ModelCheckpoint(every_n_steps=3) != ModelCheckpoint(every_n_steps=4)
    with pytest.raises(AttributeError):
        rule.every_n_steps = 4  # type: ignore[misc]


TAKEN = [
    *[("save_top_k", value) for value in (-1, 1, 2)],
    *[(f"every_n_{of}", 1) for of in ("batches", "steps", "epochs")],
    *[("every_n_seconds", value) for value in (0.5, 1)],
    ("monitor", "loss"),
    ("mode", "max"),
]
REFUSED = [
    *[("save_top_k", value) for value in (-2, 0, True, 1.0, None)],
    *[(f"every_n_{of}", value) for of in ("batches", "steps", "epochs") for value in (-1, 0, True, 1.0, "1")],
    *[("every_n_seconds", value) for value in (-1, 0, float("nan"), True, "1")],
    *[("monitor", value) for value in ("", 3)],
    *[("mode", value) for value in ("least", None)],
]


@pytest.mark.parametrize(("name", "value"), TAKEN)
def test_what_has_a_meaning_is_taken(name: str, value: Any) -> None:
    assert getattr(ModelCheckpoint(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_has_none_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=re.escape(f"ModelCheckpoint({name}={value!r})")):
        ModelCheckpoint(**{name: value})
