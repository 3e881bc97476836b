"""Metrics of training over an epoch: what `log` asks for, what is monitored, their names, weights, record and resuming."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fsmtrain import Callback, EarlyStopping, Machine, ModelCheckpoint, Trainer
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import FsmtrainWarning, MetricError, ModelError
from tests.models import Linear, Validated, batches, machine_of, slow_descent, trained
from tests.views.recording.recorded_runs import read_json_lines


class Given(Validated):
    """Logs given values, the next one in each batch, with options; or returns them."""

    def __init__(self, values: Any, configure: Any = slow_descent, *, returns: bool = False, **options: Any) -> None:
        super().__init__(configure)
        self.given, self.options, self.returns = itertools.cycle(values), options, returns

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        value = next(self.given)
        if self.returns:
            return {"loss": self.loss(batch), "log": {"m": value}}
        self.log("m", value, **self.options)
        return self.loss(batch)


def metrics_of(model: Any, nb: int = 5, **flags: Any) -> dict[str, float]:
    """Return the metrics of a run over `nb` samples in batches of 2, the last one of 1."""
    return trained(model, batches(nb), **{"max_nb_epochs": 1, **flags}).result.metrics


@given(
    values=st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    tensors=st.booleans(),
    reduce=st.sampled_from(["mean", "sum", "min", "max"]),
)
def test_a_metric_on_epoch_is_reduced_over_the_samples_of_the_epoch(values: list[float], tensors: bool, reduce: str) -> None:
    expected = {
        "mean": (2 * values[0] + 2 * values[1] + values[2]) / 5,
        "sum": sum(values),
        "min": min(values),
        "max": max(values),
    }[reduce]
    given_values = [torch.tensor(value, dtype=torch.float64) for value in values] if tensors else values
    metrics = metrics_of(Given(given_values, on_step=False, on_epoch=True, reduce=reduce))
    assert metrics == {"m": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"m": 4.0}),
        ({"on_epoch": True}, {"m_step": 4.0, "m_epoch": 2.0}),
        ({"on_step": True, "on_epoch": True}, {"m_step": 4.0, "m_epoch": 2.0}),
        ({"on_step": False, "on_epoch": True}, {"m": 2.0}),
        ({"on_step": None, "on_epoch": None, "batch_size": 3}, {"m": 4.0}),
        ({"on_step": False, "on_epoch": True, "batch_size": 1}, {"m": 7 / 3}),
    ],
)
def test_names_are_those_of_lightning(options: dict[str, Any], names: dict[str, float]) -> None:
    assert metrics_of(Given([1.0, 2.0, 4.0], **options)) == pytest.approx(names)


def test_a_returned_weight_counts_in_the_mean_and_each_epoch_begins_anew() -> None:
    class Weighted(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("m", batch_nb + 10 * self.current_epoch, on_step=False, on_epoch=True)
            return {"loss": self.loss(batch), "weight": batch_nb}

    assert metrics_of(Weighted(), max_nb_epochs=2)["m"] == pytest.approx(10 + 5 / 3)


def test_the_record_has_a_row_of_each_epoch_and_no_row_of_a_metric_with_logger_false(tmp_path: Path) -> None:
    class Several(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log_dict({"a": batch_nb, "b": 2.0}, on_epoch=True)
            self.log("c", batch_nb, on_step=False, on_epoch=True, prog_bar=True)
            self.log("hidden", 1.0, logger=False)
            self.log("hidden_too", 1.0, logger=False, on_epoch=True)
            return self.loss(batch)

        def on_epoch_end(self) -> None:
            self.log("in_hook", self.trainer.metrics["c"], on_step=False, on_epoch=True)

    machine = trained(Several(), batches(4), max_nb_epochs=2, runs_dir=tmp_path)
    rows = read_json_lines(tmp_path / "0" / "metrics.jsonl")
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [(row["epoch"], row["batch"], row["step"]) for row in epochs] == [(0, 1, 2), (1, 1, 4)]
    assert [row["values"] for row in epochs] == [{"a_epoch": 0.5, "b_epoch": 2.0, "c": 0.5, "in_hook": 0.5}] * 2
    assert [sorted(row["values"]) for row in rows if row["kind"] == "train"] == [["a_step", "b_step", "loss"]] * 4
    assert {"hidden", "hidden_too_step", "hidden_too_epoch"} <= machine.metrics.keys()
    assert float(machine.progress_bar_metrics["c"]) == 0.5


def test_nothing_is_kept_of_a_metric_that_is_neither_monitored_nor_asked_for() -> None:
    machine = machine_of(Given([1.0]), batches(4), max_nb_epochs=1)
    for _ in machine:
        assert machine._run.epoch_metrics.names == set()


# ---- monitors


def stopping(monitor: str, **given: Any) -> EarlyStopping:
    """Return a rule that stops after one value without improvement."""
    return EarlyStopping(monitor, patience=1, **given)


@pytest.mark.parametrize("monitor", ["m", "m_epoch"])
@pytest.mark.parametrize("options", [{}, {"on_epoch": True}, {"on_step": False, "on_epoch": True}, {"returns": True}])
@pytest.mark.parametrize("val", [None, batches(2)])
def test_early_stopping_is_fed_once_an_epoch_by_a_metric_of_training(monitor: str, options: Any, val: Any) -> None:
    if monitor == "m_epoch" and options.get("on_step") is False:
        return
    values = [9.0, 1.0, 5.0, 2.0, 4.0, 4.0, 0.0, 0.0]  # means 5, 3.5, 4
    flags = {"max_nb_epochs": 4, "early_stop_callback": stopping(monitor), "nb_sanity_val_steps": 0}
    machine = trained(Given(values, **options), batches(4), val, **flags)
    assert machine.result.stop_reason is StopReason.EARLY_STOPPING
    assert machine.counters.epochs_done == 3


def test_the_loss_can_be_monitored_and_is_the_mean_over_samples() -> None:
    model = Linear(lambda parameters: SGD(parameters, lr=0.0))
    machine = trained(model, batches(5), max_nb_epochs=9, early_stop_callback=stopping("loss"))
    assert machine.counters.epochs_done == 2
    with torch.no_grad():
        [everything] = batches(5, 5)
        expected = float(model.loss(everything))
    patience = machine._run.early_stopping
    assert patience is not None
    assert patience.best == pytest.approx(expected)


def test_min_nb_epochs_holds_for_a_monitor_of_training() -> None:
    flags = {"max_nb_epochs": 9, "min_nb_epochs": 5, "early_stop_callback": stopping("m")}
    assert trained(Given([1.0]), batches(4), **flags).counters.epochs_done == 5


def test_a_value_of_a_validation_wins_over_training() -> None:
    class Both(Given):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("m", -self.global_step)

    machine = trained(Both([1.0]), batches(4), batches(2), max_nb_epochs=4, early_stop_callback=stopping("m"))
    assert machine.result.stop_reason is StopReason.MAX_EPOCHS


def test_what_on_epoch_end_logs_can_be_monitored() -> None:
    class Counting(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            machine.log("own", abs(machine.current_epoch - 1))

    flags = {"max_nb_epochs": 9, "early_stop_callback": stopping("own"), "callbacks": [Counting()]}
    for val in (None, batches(2)):
        assert trained(Validated(), batches(4), val, **flags).counters.epochs_done == 3


def test_a_plateau_scheduler_gets_the_mean_of_training() -> None:
    def with_plateau(parameters: Any) -> Any:
        optimizer = slow_descent(parameters)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": ReduceLROnPlateau(optimizer, patience=0, factor=0.5), "monitor": "m"},
        }

    for val in (None, batches(2)):
        machine = machine_of(Given([3.0, 3.0, 1.0, 3.0, 3.0, 3.0], with_plateau), batches(4), val, max_nb_epochs=3)
        assert machine.plan().scheduler_steps == (3,)
        machine.run()
        assert machine.optimizers[0].param_groups[0]["lr"] == 0.05  # the third mean, 3, is no improvement on 2


@pytest.mark.parametrize("val", [None, batches(2)])
def test_a_model_checkpoint_ranks_the_last_checkpoint_of_each_epoch(tmp_path: Path, val: Any) -> None:
    rule = ModelCheckpoint(monitor="m", dirpath=tmp_path, save_top_k=1)
    machine = trained(Given([3.0, 3.0, 1.0, 2.0, 3.0, 3.0]), batches(4), val, max_nb_epochs=3, callbacks=[rule])
    best = machine.best_checkpoint
    assert best is not None
    fresh = machine_of(Given([0.0]), batches(4), val, max_nb_epochs=3, callbacks=[rule])
    fresh.resume(best)
    assert fresh.counters.current_epoch == 1


def test_a_metric_that_neither_validation_nor_training_has_is_an_error_that_lists_both() -> None:
    for flags in ({"early_stop_callback": stopping("typo")}, {"callbacks": [ModelCheckpoint(monitor="typo")]}):
        with pytest.raises(MetricError, match=r"'typo'.*It returned 'val_loss'.*Training has 'm'"):
            trained(Given([1.0]), batches(4), batches(2), max_nb_epochs=1, **flags)


def test_a_metric_that_training_has_not_is_a_warning_if_there_is_nothing_to_validate() -> None:
    with pytest.warns(FsmtrainWarning, match=r"'typo', so it cannot act: there is nothing to validate, and training has 'm'"):
        machine = trained(Given([1.0]), batches(4), max_nb_epochs=3, early_stop_callback=stopping("typo"))
    assert machine.counters.epochs_done == 3


def test_no_warning_of_a_monitor_of_training(recwarn: pytest.WarningsRecorder) -> None:
    for monitor in ("m", "loss"):
        trained(Given([1.0]), batches(4), batches(2), max_nb_epochs=9, early_stop_callback=EarlyStopping(monitor))
        trained(Given([1.0]), batches(4), max_nb_epochs=9, early_stop_callback=EarlyStopping(monitor))
    assert [str(w.message) for w in recwarn if "monitors" in str(w.message) or "never act" in str(w.message)] == []


# ---- misuse


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_step": False}, r"on_step=False\): then it would be kept nowhere.*on_epoch=True"),
        ({"reduce": "median"}, r"reduce='median'\): must be one of 'mean', 'sum', 'min', 'max'"),
        ({"batch_size": -1}, r"batch_size=-1\): .*an int >= 0"),
        ({"batch_size": 2.0}, r"batch_size=2.0\): .*an int >= 0"),
        ({"on_epoch": 1}, r"on_epoch=1\): must be True or False"),
    ],
)
def test_options_without_a_meaning_are_errors(options: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        metrics_of(Given([1.0], **options))


@pytest.mark.parametrize("options", [{"on_step": True}, {"on_epoch": False}])
def test_a_metric_of_a_pass_has_one_value(options: Any) -> None:
    class Wrong(Validated):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("m", 1.0, **options)

    with pytest.raises(ModelError, match="one value, of the whole pass"):
        trained(Wrong(), batches(2), batches(2))


def test_another_reduction_of_the_same_metric_is_an_error() -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("m", 1.0, on_epoch=True, reduce="max" if batch_nb else "min")
            return self.loss(batch)

    with pytest.raises(ModelError, match=r"reduce='max'\): it had reduce='min' before"):
        metrics_of(Wrong())


def test_on_epoch_in_a_hook_after_the_last_epoch_is_an_error() -> None:
    class Late(Callback):
        def on_run_end(self, machine: Machine) -> None:
            machine.log("m", 1.0, on_epoch=True)

    with pytest.raises(ModelError, match="no epoch of training ends after this"):
        trained(Linear(), batches(2), max_nb_epochs=1, callbacks=[Late()])


def test_log_dict_of_something_else_is_an_error() -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log_dict(["a"])

    with pytest.raises(ModelError, match=r"log_dict\(\['a'\]\): must be a dict"):
        trained(Wrong(), batches(2))


def test_a_validation_reduces_and_weighs_as_log_says() -> None:
    class Passes(Validated):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("most", batch_nb, reduce="max")
            self.log("mean", batch_nb, batch_size=batch_nb)
            self.log("hidden", 1.0, logger=False)

    metrics = trained(Passes(), batches(2), batches(8), max_nb_epochs=1).result.metrics
    assert metrics == {"most": 3.0, "mean": 14 / 6, "hidden": 1.0}


def test_a_trainer_has_log_dict_too() -> None:
    class Logs(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.trainer.log_dict({"a": 1.0, "b": 2.0})
            return self.loss(batch)

    trainer = Trainer(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=None)
    assert trainer.fit(Logs(), batches(2)).metrics == {"a": 1.0, "b": 2.0}
