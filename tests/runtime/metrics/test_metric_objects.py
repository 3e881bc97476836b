"""Metric objects logged as they are: a stand-in with torchmetrics' protocol, and torchmetrics itself where it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fsmtrain import Callback, EarlyStopping, Machine, ModelCheckpoint, Trainer
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.metric_objects import MetricObjects
from tests.models import GatheredMean, Linear, Validated, batches, machine_of, slow_descent, trained


def means() -> list[Any]:
    """Return the classes with which each test runs: the stand-in, and torchmetrics' mean where it is installed."""
    try:
        return [GatheredMean, importlib.import_module("torchmetrics").MeanMetric]
    except ImportError:
        return [GatheredMean]


each_mean = pytest.mark.parametrize("mean", means())


class Measured(Validated):
    """Logs a metric object in training and validation, which gathers the indices of the batches."""

    def __init__(self, mean: Any = GatheredMean, *, calls: bool = True, **options: Any) -> None:
        super().__init__(slow_descent)
        self.of_training, self.of_validation, self.options, self.calls = mean(), mean(), options, calls

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        value = torch.tensor([float(batch_nb + 10 * self.current_epoch)])
        if self.calls:
            self.of_training(value)
        else:
            self.of_training.update(value)
        self.log("m", self.of_training, **self.options)
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.of_validation.update(torch.tensor([float(batch_nb)] * (batch_nb + 1)))
        if batch_nb == 0:
            self.log("val_m", self.of_validation, prog_bar=True)

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.validation_step(batch, batch_nb)


@each_mean
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"m": 12.0}),
        ({"on_epoch": True}, {"m_step": 12.0, "m_epoch": 11.0}),
        ({"on_step": False, "on_epoch": True}, {"m": 11.0}),
    ],
)
def test_it_is_computed_and_reset_at_the_end_of_each_epoch(mean: Any, options: Any, expected: Any) -> None:
    model = Measured(mean, **options)
    assert trained(model, batches(6), max_nb_epochs=2).result.metrics == expected
    assert model.of_training.metric_state["total" if mean is GatheredMean else "weight"] == 0


@each_mean
def test_it_is_computed_and_reset_at_the_end_of_each_pass(mean: Any) -> None:
    model = Measured(mean)
    machine = trained(model, batches(6), batches(6), batches(4), max_nb_epochs=2, val_check_interval=1)
    assert machine.result.metrics["val_m"] == pytest.approx(2 / 3)  # of the test: 0, 1, 1
    assert float(machine.progress_bar_metrics["val_m"]) == pytest.approx(2 / 3)
    assert machine._run.validation_metrics["val_m"] == pytest.approx(8 / 6)  # 0, 1, 1, 2, 2, 2


def test_early_stopping_can_monitor_one_of_training_and_one_of_validation() -> None:
    flags = {"max_nb_epochs": 9, "val_check_interval": 1.0}
    for monitor in ("m", "val_m"):
        stopping = EarlyStopping(monitor, patience=1)
        machine = trained(Measured(), batches(6), batches(6), **flags, early_stop_callback=stopping)
        assert machine.result.stop_reason is StopReason.EARLY_STOPPING
        assert machine.counters.epochs_done == 2


def test_on_epoch_end_finds_its_value_and_can_log_one_that_training_only_updated() -> None:
    found: list[Any] = []

    class InHook(Measured):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.of_training.update(torch.tensor([float(batch_nb)]))
            return self.loss(batch)

        def on_epoch_end(self) -> None:
            self.log("m", self.of_training)

    class Looking(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            found.append(machine.metrics.get("m"))

    model = InHook()
    assert trained(model, batches(6), max_nb_epochs=2).result.metrics == {"m": 1.0}
    trained(Measured(on_step=False, on_epoch=True), batches(6), max_nb_epochs=1, callbacks=[Looking()])
    assert found == [1.0]


def test_a_run_that_is_stopped_and_resumed_within_epoch_and_pass_ends_with_the_same_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Moving(Measured):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            super().validation_step(batch, batch_nb * self.global_step)

    def machine(*callbacks: object) -> Machine:
        model = Moving(on_epoch=True)
        return machine_of(
            model, batches(8), batches(6), max_nb_epochs=2, val_check_interval=2, callbacks=[ModelCheckpoint(), *callbacks]
        )

    class StopIn(Callback):
        def __init__(self, visit: int) -> None:
            self.left = visit

        def on_transition(self, machine: Machine, transition: Any) -> None:
            self.left -= transition.source in (State.TRAIN_BATCH, State.VAL_CHECK)
            if self.left == 0:
                machine.stop()

    whole = machine()
    whole.run()
    for visit in range(1, 20, 2):
        stopped = machine(StopIn(visit))
        stopped.run()
        assert stopped.state is State.STOPPED
        resumed = machine()
        resumed.resume()
        resumed.run()
        assert resumed.result.metrics == whole.result.metrics, visit


def test_a_pass_that_is_stopped_leaves_the_object_empty_for_the_next_one() -> None:
    model = Measured()

    class Stopping(Callback):
        def on_transition(self, machine: Machine, transition: Any) -> None:
            if transition.source is State.VAL_CHECK:
                machine.stop()

    trainer = Trainer(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=None, callbacks=[Stopping()], nb_sanity_val_steps=0)
    trainer.fit(model, batches(2), batches(6))
    again = Trainer(quiet=True, device="cpu", runs_dir=None)
    assert again.validate(model, batches(6)) == {"val_m": pytest.approx(8 / 6)}


def test_an_object_that_is_no_module_of_the_model_is_an_error_that_names_the_way_out() -> None:
    class Outside(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("m", GatheredMean(), on_step=False, on_epoch=True)

    with pytest.raises(ModelError, match=r"log\('m', metric\): this GatheredMean is not a module of Outside.*self\.m = "):
        trained(Outside(), batches(2))


def test_an_object_that_was_updated_and_not_called_has_no_value_of_the_batch() -> None:
    with pytest.raises(ModelError, match=r"has no value of this batch.*on_step=False, on_epoch=True"):
        trained(Measured(calls=False), batches(2))


def test_an_object_that_computes_several_numbers_is_an_error() -> None:
    class Several(GatheredMean):
        def compute(self) -> Any:
            return torch.ones(3)

    with pytest.raises(ModelError, match=r"Several.compute\(\) returned a tensor of shape \(3,\)"):
        trained(Measured(Several, on_step=False, on_epoch=True), batches(2), max_nb_epochs=1)


def test_an_object_that_gathers_something_else_cannot_take_over_a_saved_state() -> None:
    objects = MetricObjects(nn.ModuleDict({"m": GatheredMean()}))
    state = objects.state_dict()
    state["m"]["gathered"]["more"] = torch.ones(())
    with pytest.raises(Exception, match="it is the state of another metric"):
        objects.load_state_dict(state)


def test_a_collection_of_torchmetrics_whose_metrics_share_their_state_is_the_same_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    monkeypatch.chdir(tmp_path)

    class Classified(Linear):
        def __init__(self) -> None:
            super().__init__()
            kinds = torchmetrics.classification
            several = {
                "p": kinds.BinaryPrecision(),
                "r": kinds.BinaryRecall(),
                "f": kinds.BinaryF1Score(),
                "a": kinds.BinaryAUROC(),
            }
            self.scores = torchmetrics.MetricCollection(several, prefix="val_")
            self.train_scores = self.scores.clone(prefix="train_")

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.train_scores.update(self.layer(batch[0]).sigmoid(), batch[1] > 0)
            self.log_dict(self.train_scores, on_step=False, on_epoch=True)
            return self.loss(batch)

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            self.scores.update(self.layer(batch[0]).sigmoid(), batch[1] > 0)
            self.log_dict(self.scores)

    def machine(epochs: int) -> Machine:
        torch.manual_seed(0)
        rule = ModelCheckpoint(every_n_batches=3)
        return machine_of(Classified(), batches(20), batches(12), max_nb_epochs=epochs, val_check_interval=2, callbacks=[rule])

    whole = machine(2)
    whole.run()
    stopped = machine(2)
    for transition in stopped:
        if transition.source is State.VAL_CHECK and stopped.counters.batches_begun == 14 and stopped.counters.eval_nb == 3:
            stopped.stop()
    assert stopped.state is State.STOPPED
    resumed = machine(2)
    resumed.resume()
    resumed.run()
    assert resumed.result.metrics == whole.result.metrics
    assert {"val_p", "val_a", "train_f"} <= resumed.result.metrics.keys()
