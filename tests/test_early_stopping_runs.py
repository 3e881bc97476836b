"""Early stopping in real runs: which validations count, when the run ends, and what it does before."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from fsmtrain import Callback, EarlyStopping, Guards, Machine, State, after_steps
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import MetricError
from tests.models import Linear, TransitionRecorder, batches, machine_of, state_notes, trained

FLAT = (1.0,)
FALLING = tuple(float(-i) for i in range(100))
INF = math.inf
NAN = math.nan


class Scripted(Linear):
    """Returns given values from its checks, one after the other, the last one again and again."""

    def __init__(self, values: Sequence[float], name: str = "val_loss") -> None:
        super().__init__()
        self.values, self.name, self.checks = values, name, 0

    def validation_step(self, batch: Any, batch_nb: int) -> None:
        pass

    def validation_end(self, outputs: Any) -> Any:
        if self.trainer.state is State.SANITY_VAL:
            return {self.name: -1e9}
        self.checks += 1
        return {self.name: self.values[min(self.checks, len(self.values)) - 1]}


def stopped(values: Sequence[float], stopping: EarlyStopping | bool = True, name: str = "val_loss", **options: Any) -> Machine:
    """A run of 4 batches in an epoch and one check at its end, unless the options say otherwise."""
    options = {"max_nb_epochs": 20, "val_check_interval": 1.0, **options}
    return trained(Scripted(values, name), batches(8), batches(2), early_stop_callback=stopping, **options)


# ---- patience


@pytest.mark.parametrize(("patience", "epochs"), [(0, 2), (1, 2), (2, 3), (3, 4), (5, 6)])
def test_a_flat_metric_exhausts_the_patience_in_as_many_validations_after_the_first(patience: int, epochs: int) -> None:
    machine = stopped(FLAT, EarlyStopping(patience=patience))
    assert machine.counters.epochs_done == epochs
    assert machine.stop_reason is StopReason.EARLY_STOPPING


def test_by_default_three_validations_without_an_improvement_end_the_run() -> None:
    assert stopped(FLAT, True).counters.epochs_done == 4
    assert stopped(FLAT, EarlyStopping()).counters.epochs_done == 4


@pytest.mark.parametrize(
    ("values", "epochs"),
    [
        (FALLING, 20),
        ((3, 2, 2, 2, 2), 5),
        ((3, 4, 4, 2, 3, 3, 3), 7),
        ((3, 4, 4, 3, 0), 4),
        ((NAN,), 3),
        ((1, NAN, NAN, NAN), 4),
        ((INF,), 3),
        ((INF, INF, 1, INF, 2, 3), 6),
    ],
    ids=["falling", "flat at last", "an improvement begins anew", "an equal value is none", "nan", "nan later", "inf", "mixed"],
)
def test_checks_without_an_improvement_in_a_row_are_counted(values: Sequence[float], epochs: int) -> None:
    machine = stopped(values, EarlyStopping(patience=3))
    assert machine.counters.epochs_done == epochs


def test_a_step_downward_that_is_smaller_than_min_delta_is_no_improvement() -> None:
    slow = [1.0 - 0.1 * i for i in range(20)]
    assert stopped(slow, EarlyStopping(patience=2, min_delta=0.05)).counters.epochs_done == 20
    assert stopped(slow, EarlyStopping(patience=2, min_delta=0.15)).counters.epochs_done == 20
    assert stopped(slow, EarlyStopping(patience=2, min_delta=0.25)).counters.epochs_done == 3


def test_in_the_mode_max_larger_is_better() -> None:
    assert stopped([-v for v in FALLING], EarlyStopping(patience=2, mode="max")).counters.epochs_done == 20
    assert stopped(FALLING, EarlyStopping(patience=2, mode="max")).counters.epochs_done == 3


def test_any_metric_can_be_watched() -> None:
    rule = EarlyStopping(monitor="accuracy", patience=1, mode="max")
    assert stopped((0.5, 0.6, 0.6), rule, "accuracy").counters.epochs_done == 3


@pytest.mark.parametrize("group", ["log", "progress_bar"])
def test_the_metric_may_be_nested_under_log_or_progress_bar(group: str) -> None:
    class Grouped(Scripted):
        def validation_end(self, outputs: Any) -> Any:
            return {group: super().validation_end(outputs)}

    model = Grouped(FLAT)
    machine = trained(model, batches(4), batches(2), max_nb_epochs=9, early_stop_callback=EarlyStopping(patience=2))
    assert model.checks == 3
    assert machine.stop_reason is StopReason.EARLY_STOPPING


def test_the_average_of_what_validation_step_returns_is_enough() -> None:
    class Stepwise(Linear):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            return {"val_loss": 1.0}

    machine = trained(Stepwise(), batches(4), batches(4), max_nb_epochs=9, early_stop_callback=True, val_check_interval=1.0)
    assert machine.counters.epochs_done == 4


def test_the_sanity_pass_does_not_count() -> None:
    """Its value, far below all others, would leave no improvement to any check."""
    assert stopped(FALLING, EarlyStopping(patience=2), nb_sanity_val_steps=2).counters.epochs_done == 20


def test_a_missing_metric_is_an_error_that_lists_those_there_are() -> None:
    message = r"early_stop_callback monitors 'val_loss', which the validation did not return\. It returned 'accuracy'"
    with pytest.raises(MetricError, match=message) as caught:
        stopped(FLAT, True, "accuracy")
    assert state_notes(caught.value) == ["in state val_check, epoch 0, batch 3, optimizer 0"]
    with pytest.raises(MetricError, match="It returned no metric"):
        trained(Empty(), batches(2), batches(2), max_nb_epochs=1, early_stop_callback=True)


class Empty(Linear):
    """Checks without a metric."""

    def validation_step(self, batch: Any, batch_nb: int) -> None:
        pass


def test_exhausted_patience_is_printed_if_verbose(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "fsmtrain"):
        stopped((2.5, 3.0), EarlyStopping(patience=2, verbose=False))
        assert not caplog.records
        stopped((2.5, 3.0), EarlyStopping(patience=2, verbose=True))
    assert "val_loss" in caplog.text
    assert "2.5" in caplog.text


# ---- the epochs that must, and may, be trained


def test_the_epochs_that_must_be_trained_are_trained() -> None:
    machine = stopped(FLAT, EarlyStopping(patience=2), min_nb_epochs=7)
    assert machine.counters.epochs_done == 7
    assert machine.stop_reason is StopReason.EARLY_STOPPING


def test_checks_before_the_least_number_of_epochs_count_too() -> None:
    assert stopped((*FLAT * 5, 0.0, 0.5, 0.5), EarlyStopping(patience=3), min_nb_epochs=5).counters.epochs_done == 5


def test_an_improvement_takes_an_exhausted_patience_back() -> None:
    values = (1.0, 1.0, 1.0, 1.0, 0.0, 0.5, 0.5, 0.5)
    assert stopped(values, EarlyStopping(patience=2), min_nb_epochs=5).counters.epochs_done == 7


def test_with_all_epochs_done_that_is_the_reason() -> None:
    machine = stopped(FLAT, EarlyStopping(patience=2), max_nb_epochs=3)
    assert machine.counters.epochs_done == 3
    assert machine.stop_reason is StopReason.MAX_EPOCHS


def test_without_any_least_number_a_run_may_end_within_its_first_epoch() -> None:
    visits = TransitionRecorder()
    machine = stopped(FLAT, EarlyStopping(patience=2), min_nb_epochs=0, val_check_interval=1, callbacks=[visits])
    assert (machine.counters.epochs_done, machine.counters.batch_nb) == (0, 2)
    assert visits.states[-3:] == [State.VAL_CHECK, State.EARLY_STOP, State.EPOCH_END]


# ---- a stop in mid-epoch


def scheduled(parameters: Any) -> Any:
    """SGD with a scheduler for each epoch."""
    optimizer = SGD(parameters, lr=1.0)
    return [optimizer], [StepLR(optimizer, 1, gamma=0.5)]


class Ends(Callback):
    """Counts the ends of epochs."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def on_epoch_end(self, machine: Any) -> None:
        self.ends.append(machine.current_epoch)


def test_a_stop_in_mid_epoch_calls_the_epoch_s_hooks_but_steps_no_scheduler_and_counts_no_epoch() -> None:
    model, ends = Scripted((2.0, 1.0, 1.0)), Ends()
    model.configure = scheduled
    options: dict[str, Any] = {"max_nb_epochs": 9, "val_check_interval": 2, "early_stop_callback": EarlyStopping(patience=1)}
    machine = machine_of(model, batches(8), batches(2), min_nb_epochs=0, callbacks=[ends], **options)
    machine.run()
    assert (machine.counters.epochs_done, machine.current_epoch, machine.counters.batch_nb) == (1, 1, 1)
    assert ends.ends == [0, 1]
    assert machine.lr_schedulers[0].last_epoch == 1
    assert machine.state is State.DONE


def test_a_deferred_stop_closes_its_window_first() -> None:
    """The check after batch 2 exhausts the patience; the window of 4 closes with batch 3, and there the run ends."""
    visits = TransitionRecorder()
    machine = stopped(
        (1.0, 1.0),
        EarlyStopping(patience=1),
        min_nb_epochs=0,
        guards=Guards(validate=at_batches_0_and_2),
        accumulate_grad_batches=4,
        callbacks=[visits],
    )
    assert visits.batches_of(State.VAL_CHECK) == [0, 2]
    assert visits.batches_of(State.STEP) == [3]
    assert visits.batches_of(State.EARLY_STOP) == [0, 2, 3]
    assert machine.counters.open_windows == 0
    assert machine.counters.batches_begun == 4
    assert machine.stop_reason is StopReason.EARLY_STOPPING


def at_batches_0_and_2(limits: Any, counters: Any, signals: Any) -> bool:
    return any(counters.batch_nb == b for b in (0, 2))


def test_a_deferred_stop_is_taken_at_the_first_batch_without_an_open_window() -> None:
    """Windows of 3 over 8 batches: the check after batch 3 finds one open, which closes with batch 5."""
    model, visits = Scripted((1.0, 1.0)), TransitionRecorder()
    options = {"max_nb_epochs": 9, "min_nb_epochs": 0, "val_check_interval": 2, "accumulate_grad_batches": 3}
    rule = EarlyStopping(patience=1)
    machine = trained(model, batches(16), batches(2), early_stop_callback=rule, callbacks=[visits], **options)
    assert visits.batches_of(State.STEP) == [2, 5]
    assert visits.batches_of(State.VAL_CHECK) == [1, 3, 5]
    assert machine.counters.batch_nb == 5
    assert machine.counters.open_windows == 0


def test_an_improvement_before_the_window_closes_takes_the_stop_back() -> None:
    model = Scripted((1.0, 1.0, 0.0, 1.0))
    options = {"min_nb_epochs": 0, "max_nb_epochs": 1, "val_check_interval": 1, "accumulate_grad_batches": 4}
    rule = EarlyStopping(patience=1)
    machine = trained(model, batches(16), batches(2), early_stop_callback=rule, **options)
    assert model.checks == 4
    assert machine.counters.batch_nb == 3


def test_after_the_last_batch_the_run_ends_with_the_epoch_and_its_schedulers() -> None:
    model, ends = Scripted(FLAT), Ends()
    model.configure = scheduled
    options = {"max_nb_epochs": 9, "early_stop_callback": EarlyStopping(patience=1), "val_check_interval": 1.0}
    machine = trained(model, batches(8), batches(2), min_nb_epochs=0, callbacks=[ends], **options)
    assert machine.counters.epochs_done == 2
    assert machine.lr_schedulers[0].last_epoch == 2
    assert ends.ends == [0, 1]


# ---- a stop guard beside it


def test_a_stop_guard_ends_the_run_too_and_is_the_reason() -> None:
    machine = stopped(FALLING, True, guards=Guards(stop=after_steps(6)), min_nb_epochs=0)
    assert machine.counters.global_step == 6
    assert machine.stop_reason is StopReason.STOP_GUARD


def test_a_stop_guard_waits_for_the_epochs_that_must_be_trained() -> None:
    machine = stopped(FALLING, True, guards=Guards(stop=after_steps(2)), min_nb_epochs=3)
    assert machine.counters.epochs_done == 3
    assert machine.stop_reason is StopReason.STOP_GUARD
