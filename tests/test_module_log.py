"""``self.log``: where a metric goes, by the method in which it is logged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fsmtrain import Callback, EarlyStopping, Machine, Trainer
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import MetricError, ModelError
from fsmtrain.runtime.metrics.logged_metrics import logged_scalar
from tests.models import Linear, Plain, Validated, batches, machine_of, slow_descent, trained
from tests.views.recording.recorded_runs import read_json_lines


class Logging(Linear):
    """A model that logs in every step method, and returns as little as it can."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.log("seen", batch_nb)
        self.log("shown", torch.tensor(batch_nb), prog_bar=True)
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.log("val_loss", float(batch_nb), prog_bar=True)
        self.log("quiet", 1.0)

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.log("test_loss", 10.0 * batch_nb)
        return {"returned": 2.0}


def test_what_training_step_logs_counts_as_its_log_dict_and_the_last_value_stays() -> None:
    machine = trained(Logging(), batches(6), max_nb_epochs=1)
    assert machine.result.metrics == {"seen": 2.0, "shown": 2.0}
    assert {name: float(value) for name, value in machine.progress_bar_metrics.items()} == {"shown": 2.0}


def test_what_validation_and_test_steps_log_is_averaged_over_the_pass() -> None:
    machine = trained(Logging(), batches(2), batches(6), batches(8), max_nb_epochs=1, nb_sanity_val_steps=0)
    metrics = machine.result.metrics
    assert (metrics["val_loss"], metrics["test_loss"], metrics["returned"]) == (1.0, 15.0, 2.0)
    assert "quiet" not in machine.progress_bar_metrics
    assert float(machine.progress_bar_metrics["val_loss"]) == 1.0


def test_the_sanity_pass_throws_away_what_is_logged_in_it() -> None:
    assert trained(Logging(), batches(2), batches(6), max_nb_epochs=0).result.metrics == {}


def test_what_validation_end_logs_is_a_metric_of_the_validation_beside_what_the_steps_logged() -> None:
    class Ending(Logging):
        def validation_end(self, outputs: Any) -> Any:
            self.log("best", 7.0)
            return {"returned": 8.0}

    metrics = trained(Ending(), batches(2), batches(6), max_nb_epochs=1).result.metrics
    assert {"val_loss": 1.0, "quiet": 1.0, "best": 7.0, "returned": 8.0}.items() <= metrics.items()


def test_early_stopping_and_a_plateau_scheduler_find_what_a_step_logged() -> None:
    def with_plateau(parameters: Any) -> Any:
        optimizer = slow_descent(parameters)
        return [optimizer], [ReduceLROnPlateau(optimizer, patience=0, factor=0.5)]

    stopping = EarlyStopping(monitor="val_loss", patience=3)
    machine = trained(Logging(with_plateau), batches(2), batches(6), max_nb_epochs=9, early_stop_callback=stopping)
    assert machine.result.stop_reason is StopReason.EARLY_STOPPING
    assert machine.optimizers[0].param_groups[0]["lr"] < 0.1
    with pytest.raises(MetricError, match="'val_loss', 'quiet'"):
        trained(Logging(), batches(2), batches(6), early_stop_callback=EarlyStopping(monitor="missing"))


def test_self_log_in_a_hook_logs_at_the_current_step(tmp_path: Any) -> None:
    class Hooks(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            machine.log("epochs", machine.current_epoch, prog_bar=True)

    machine = trained(Linear(), batches(4), max_nb_epochs=2, callbacks=[Hooks()], runs_dir=tmp_path)
    assert machine.result.metrics == {"epochs": 1.0}
    values = [row["values"] for row in read_json_lines(tmp_path / "0" / "metrics.jsonl")]
    assert [each["epochs"] for each in values if "epochs" in each] == [0.0, 1.0]


def test_a_module_that_knows_nothing_of_this_package_logs_through_its_trainer() -> None:
    class Knowing(Plain):
        trainer: Any

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.trainer.log("seen", batch_nb)
            return super().training_step(batch, batch_nb)

    assert trained(Knowing(), batches(6), max_nb_epochs=1).result.metrics == {"seen": 2.0}


def test_a_trainer_logs_for_the_run_that_is_under_way() -> None:
    trainer = Trainer(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=None)
    assert trainer.fit(Logging(), batches(6)).metrics["seen"] == 2.0
    assert trainer.test(test_dataloaders=batches(4))["test_loss"] == 5.0


def test_outside_of_a_run_nothing_is_done() -> None:
    model = Logging()
    model.training_step(next(iter(batches(2))), 0)
    machine = machine_of(model, batches(2))
    machine.log("early", 1.0)
    assert machine.metrics == {}


@pytest.mark.parametrize("value", ["text", None, torch.ones(2), [1.0], {"a": 1}])
def test_a_value_that_is_no_number_is_an_error_that_names_the_metric(value: Any) -> None:
    class Wrong(Validated):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("accuracy", value)

    with pytest.raises(ModelError, match=r"log\('accuracy', \.\.\.\): the value is a "):
        trained(Wrong(), batches(2))


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_that_is_no_text_is_an_error(name: Any) -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log(name, 1.0)

    with pytest.raises(ModelError, match="a metric needs a name"):
        trained(Wrong(), batches(2))


def test_a_logged_metric_keeps_no_graph() -> None:
    class Graph(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = self.loss(batch)
            self.log("train_loss", loss)
            return loss

    [value] = trained(Graph(), batches(2), max_nb_epochs=1).metrics.values()
    assert isinstance(value, torch.Tensor)
    assert not value.requires_grad


@pytest.mark.parametrize(("option", "word"), [("reduce_fx", "reduce='max'"), ("sync_dist", "one process"), ("bar", "prog_bar")])
def test_an_option_that_log_does_not_have_is_an_error_that_says_what_holds_here(option: str, word: str) -> None:
    class Asking(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("seen", 1.0, **{option: True})  # type: ignore[arg-type]

    with pytest.raises(ModelError, match=rf"log\('seen', \.\.\., {option}=True\): there is no such option\..*{word}"):
        trained(Asking(), batches(2))


def test_a_switch_of_log_must_be_a_bool() -> None:
    class Asking(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.log("seen", 1.0, prog_bar="yes")  # type: ignore[arg-type]

    with pytest.raises(ModelError, match="prog_bar='yes'\\): must be True or False"):
        trained(Asking(), batches(2))


def test_a_value_that_is_no_number_is_refused_with_the_way_to_a_writer() -> None:
    with pytest.raises(ModelError, match=r"log\('digits', ...\): .* TensorBoardLogger\(folder\).writer.add_images"):
        logged_scalar("digits", torch.ones(8, 1, 8, 8))
