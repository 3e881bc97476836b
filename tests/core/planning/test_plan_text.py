"""A plan's text, and the difference of two, as a person reads them."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from fsmtrain import Guards, Options, after_batches, every_n_batches, plan
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.core.sizes import Schedule
from fsmtrain.early_stopping import EarlyStopping


def rows(planned: Plan) -> dict[str, str]:
    """What the text says under each name."""
    split = (line.split("  ", 1) for line in str(planned).splitlines())
    return {name: said.lstrip() for name, said in split}


def at_triangular_numbers(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb in (0, 2, 5, 9, 14, 20, 27, 35, 44)


def test_the_whole_text_of_a_plan() -> None:
    options = Options(max_nb_epochs=3, accumulate_grad_batches=4, val_check_interval=0.25)
    assert f"\n{plan(options, train=45, val=[2, 3], test=[1])}\n" == dedent("""
        sanity pass             5 batches
        epochs                  3
        global_step at the end  36
        optimizer 0             36 steps
        validations             12 of 5 batches
        test                    1 batch
        epochs 0 to 2           45 batches; windows: 11 of 4, 1 of 1; validations: 4, after 11, 22, 33, 44
    """)


def test_the_plan_text_of_one_batch_uses_the_singular() -> None:
    assert rows(plan(Options(max_nb_epochs=1), train=1, val=[1])) == {
        "sanity pass": "1 batch",
        "epochs": "1",
        "global_step at the end": "1",
        "optimizer 0": "1 step",
        "validations": "1 of 1 batch",
        "epoch 0": "1 batch; windows: 1 of 1; validations: 1, after 1",
    }


@pytest.mark.parametrize("precision", ["32", "16"])
def test_the_plan_text_without_epochs_lists_only_the_passes(precision: str) -> None:
    given: dict[str, Any] = {"max_nb_epochs": 0, "precision": precision}
    assert str(plan(Options(**given), train=45)) == "sanity pass  none\nepochs       none"


def test_the_plan_text_says_at_most_and_names_the_minimum() -> None:
    options = Options(
        max_nb_epochs=2000,
        precision="16",
        early_stop_callback=EarlyStopping(patience=3),
        accumulate_grad_batches={0: 1, 1: 4},
        val_check_interval=10,
    )
    schedulers = [
        Schedule(),
        Schedule(frequency=3),
        Schedule(needs_validation=True),
        Schedule(interval="step", optimizer_i=1),
        Schedule(interval="step", frequency=1000),
    ]
    guards = Guards(step={1: every_n_batches(5)}, save=every_n_batches(100))
    assert rows(plan(options, train=1201, val=[1], optimizers=2, schedulers=schedulers, guards=guards)) == {
        "sanity pass": "1 batch",
        "epochs": "2,000; may be fewer, at least 1",
        "global_step at the end": "962,720; may be fewer, at least 1,201",
        "optimizer 0": "602,900 steps; may be fewer, at least 0",
        "optimizer 1": "482,000 steps; may be fewer, at least 0",
        "scheduler 0": "2,000 steps, one after every epoch; may be fewer, at least 1",
        "scheduler 1": "666 steps, one after every 3 epochs; may be fewer, at least 0",
        "scheduler 2": "2,000 steps, one after every epoch, if it had a validation; may be fewer, at least 1",
        "scheduler 3": "482,000 steps, one after every step of optimizer 1; may be fewer, at least 0",
        "scheduler 4": "602 steps, one after every 1,000 steps of optimizer 0; may be fewer, at least 0",
        "validations": "240,000 of 1 batch; may be fewer, at least 120",
        "early stopping": "may end the training, at the earliest after 1,201 batches of epoch 0 (global_step 1,201)",
        "fp16": "may skip steps; if a guard counts steps, this plan assumes that none is skipped",
        "epoch 0": (
            "1,201 batches; windows of optimizer 0: 1,201 of 1; windows of optimizer 1: 240 of 5, 1 of 1; "
            "validations: 120, after 10, 20, 30, 40, ..., 1,200; checkpoints: 12, after 100, 200, 300, 400, ..., 1,200"
        ),
        "epochs 1 to 1,999": (
            "1,201 batches; windows of optimizer 0: 300 of 4, 1 of 1; windows of optimizer 1: 240 of 5, 1 of 1; "
            "validations: 120, after 10, 20, 30, 40, ..., 1,200; checkpoints: 12, after 100, 200, 300, 400, ..., 1,200"
        ),
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"on_nonfinite": "raise"}, None),
        ({"on_nonfinite": "skip"}, "may skip steps; {}"),
        ({"on_nonfinite": "rollback"}, "may return to a checkpoint, at most 3 times, and then skip steps; {}"),
        (
            {"on_nonfinite": "rollback", "max_nb_rollbacks": 1},
            "may return to a checkpoint, at most 1 time, and then skip steps; {}",
        ),
        ({"on_nonfinite": "rollback", "max_nb_epochs": 0}, None),
    ],
)
def test_the_plan_text_names_the_effect_of_on_nonfinite(given: dict[str, Any], told: str | None) -> None:
    found = rows(plan(Options(**{"max_nb_epochs": 2, **given}), train=3))
    means = "if a guard counts steps, this plan assumes that none is skipped"
    assert found.get("on_nonfinite") == (told and told.format(means))
    assert "fp16" not in found


@pytest.mark.parametrize(
    ("train", "windows", "saves"),
    [
        (21, "1 of 1, 1 of 2, 1 of 3, 1 of 4, 1 of 5, 1 of 6", "6, after 1, 3, 6, 10, 15, 21"),
        (28, "1 of 1, 1 of 2, 1 of 3, 1 of 4, ..., 1 of 7", "7, after 1, 3, 6, 10, 15, 21, 28"),
        (36, "1 of 1, 1 of 2, 1 of 3, 1 of 4, ..., 1 of 8", "8, after 1, 3, 6, 10, 15, 21, 28, 36"),
        (46, "1 of 1, 1 of 2, 1 of 3, 1 of 4, ..., 1 of 1", "9, after 1, 3, 6, 10, ..., 45"),
    ],
)
def test_long_lists_are_shortened_to_their_beginning_and_end(train: int, windows: str, saves: str) -> None:
    guards = Guards(step={0: at_triangular_numbers}, save=at_triangular_numbers)
    told = rows(plan(Options(max_nb_epochs=1), train=train, guards=guards))["epoch 0"]
    assert told == f"{train} batches; windows: {windows}; checkpoints: {saves}"


@pytest.mark.parametrize(("kinds", "more"), [(12, None), (13, "28 more epochs of 1 kind"), (14, "28 more epochs of 2 kinds")])
def test_of_more_than_twelve_kinds_of_epochs_the_rest_is_counted(kinds: int, more: str | None) -> None:
    windows = {epoch: epoch + 1 for epoch in range(kinds)}
    told = rows(plan(Options(max_nb_epochs=40, accumulate_grad_batches=windows), train=20))
    assert told.get("...") == more
    assert sum(name.startswith("epoch ") for name in told) == (11 if more is None else 12)


@pytest.mark.parametrize(
    ("epochs", "every", "names"),
    [
        (12, 3, ["epochs 0 to 1, 3 to 4, 6 to 7, 9 to 10", "epochs 2, 5, 8, 11"]),
        (13, 3, ["epochs 0 to 1, 3 to 4, 6 to 7, 9 to 10, 12", "epochs 2, 5, 8, 11"]),
        (15, 3, ["epochs 0 to 1, 3 to 4, 6 to 7, 9 to 10, 12 to 13", "epochs 2, 5, 8, 11, 14"]),
        (21, 3, ["epochs 0 to 1, 3 to 4, 6 to 7, 9 to 10, 12 to 13, 15 to 16, 18 to 19", "epochs 2, 5, 8, 11, ..., 20"]),
        (30, 3, ["epochs 0 to 1, 3 to 4, 6 to 7, 9 to 10, 12 to 13, 15 to 16, ..., 27 to 28", "epochs 2, 5, 8, 11, ..., 29"]),
        (2001, 1000, ["epochs 0 to 998, 1,000 to 1,998, 2,000", "epochs 999, 1,999"]),
    ],
)
def test_equal_epochs_are_listed_by_their_indices(epochs: int, every: int, names: list[str]) -> None:
    planned = plan(Options(max_nb_epochs=epochs, check_val_every_n_epoch=every), train=3, val=[1])
    assert [name for name in rows(planned) if name.startswith("epochs ")] == names


def test_the_text_of_an_epoch_that_ends_early_names_the_reason() -> None:
    planned = plan(Options(max_nb_epochs=9, min_nb_epochs=0), train=10, guards=Guards(stop=after_batches(13)))
    assert rows(planned)["epoch 1"] == "3 batches; windows: 3 of 1; ends early: Guards(stop=...)"


def test_the_difference_names_what_only_one_of_two_plans_has() -> None:
    options = Options(max_nb_epochs=1)
    assert plan(options, train=9).diff(plan(options, train=9, test=[2])) == "test: none -> 2 batches"
    assert plan(options, train=9, test=[2]).diff(plan(options, train=9)) == "test: 2 batches -> none"


def test_the_difference_names_equal_epochs_by_the_first_of_them_in_either_plan() -> None:
    late, early = (plan(Options(max_nb_epochs=9, accumulate_grad_batches={0: 1, k: 3}), train=9) for k in (5, 2))
    for here, there, change in ((late, early, "5 to 8 -> 2 to 8"), (early, late, "2 to 8 -> 5 to 8")):
        assert f"epochs like epoch 2: {change}" in here.diff(there).splitlines()


def test_a_plan_under_truncated_bptt_says_which_number_of_splits_it_assumes_and_that_there_may_be_others() -> None:
    text = str(plan(Options(max_nb_epochs=1, truncated_bptt_steps=5), train=9, splits=3))
    assert "assumes 3 splits in each batch; a batch may have any number" in text
    assert "splits" not in str(plan(Options(max_nb_epochs=1), train=9))
    assert "None" not in str(plan(Options(max_nb_epochs=1), train=9))
    assert "assumes that it never does" in str(plan(Options(max_nb_epochs=1), train=9, may_return_none=True))
    unknown = str(plan(Options(max_nb_epochs=1, truncated_bptt_steps=5), train=9))
    assert "9 steps times the splits of each batch" in unknown
    assert "plan(splits=5)" in unknown
    accumulated = str(plan(Options(max_nb_epochs=1, truncated_bptt_steps=5, accumulate_grad_batches=2), train=9))
    assert "5 steps or more, by the splits of each batch" in accumulated
