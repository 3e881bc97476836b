"""Runs that predict: what ``predict_step`` gets, and what is kept of its outputs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain import Callback, DataModule, Machine, ModelCheckpoint, Options, State, Trainer, build
from fsmtrain.callbacks import EMAWeightAveraging
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import ModelError, OutOfMemoryError, UsageError
from fsmtrain.runtime.evaluation import predict_pass
from tests.models import Linear, Perceptron, Validated, batches, same_bits, stream
from tests.runtime.evaluation.test_host_copies import Event, on_a_busy_device

QUIET: dict[str, Any] = {"runs_dir": None, "quiet": True, "device": "cpu"}


class Predicting(Perceptron):
    """It predicts the output, and says for which batch of which loader."""

    def predict_step(self, batch: Any, batch_nb: int, dataloader_i: int = -1) -> Any:
        assert not self.training
        assert not torch.is_grad_enabled()
        return {"y": self.layer(batch[0]), "at": (dataloader_i, batch_nb)}


def by_hand(model: Predicting, loader: Any, limit: int | None = None) -> list[Any]:
    """The same, as one would write it."""
    model.eval()
    with torch.no_grad():
        outputs = [model.layer(x) for x, _ in loader]
    model.train()
    return outputs[:limit]


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3), limit=st.none() | st.integers(1, 3), streams=st.booleans())
def test_predictions_are_those_of_a_loop_by_hand_over_each_loader(sizes: list[int], limit: int | None, streams: bool) -> None:
    torch.manual_seed(1)
    model = Predicting()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaders = [stream(n) if streams and i % 2 else batches(n) for i, n in enumerate(sizes)]
    predictions = Trainer(**QUIET, limit_predict_batches=limit).predict(model, loaders)
    assert predictions is not None
    lists = [predictions] if len(sizes) == 1 else predictions
    for i, (outputs, loader) in enumerate(zip(lists, loaders, strict=True)):
        assert same_bits([output["y"] for output in outputs], by_hand(model, loader, limit))
        place = -1 if len(sizes) == 1 else i
        assert [output["at"] for output in outputs] == [(place, nb) for nb in range(len(outputs))]
    assert same_bits(before, model.state_dict())
    assert model.training


def test_a_model_without_predict_step_is_called_on_each_batch() -> None:
    model, x = nn.Linear(3, 1), torch.ones(2, 3)
    predictions = Trainer(**QUIET).predict(model, [x, 2 * x])
    assert predictions is not None
    assert same_bits(predictions, [model(x).detach(), model(2 * x).detach()])
    with pytest.raises(TypeError) as caught:
        Trainer(**QUIET).predict(model, batches(2))
    assert "Linear has no predict_step, so it is called on each batch as it is, here a list." in caught.value.__notes__[0]


def test_the_machine_has_the_predictions_and_flags_act_on_it() -> None:
    model = Predicting()
    machine = build(Options(**QUIET, precision="bf16"), model, predict_dataloaders=batches(5), runs="predict")
    assert (machine.predictions, machine.state) == ([], State.START)
    machine.advance()
    machine.advance()
    assert len(machine.predictions) == 1
    assert machine.run().stop_reason is StopReason.TESTED
    assert [output["y"].dtype for output in machine.predictions] == [torch.bfloat16] * 3
    assert build(Options(**QUIET), Validated(), train_dataloader=batches(2), val_dataloaders=[]).predictions == []
    tried = Trainer(**{**QUIET, "fast_dev_run": 2, "overfit_pct": 0.0}).predict(model, batches(9))
    assert tried is not None
    assert len(tried) == 2


def test_overfit_pct_and_percentages_leave_predictions_alone() -> None:
    predictions = Trainer(**QUIET, overfit_pct=0.2, test_percent_check=0.0).predict(Predicting(), stream(9))
    assert predictions is not None
    assert len(predictions) == 5


class Many(Predicting):
    """Outputs of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2))

    def predict_step(self, batch: Any, batch_nb: int) -> Any:  # type: ignore[override]
        self.kept: torch.Tensor
        self.kept.fill_(batch_nb)
        with torch.enable_grad():
            graph = self.layer(batch[0]).requires_grad_()
        packed = pack_sequence([batch[0][0].detach()])
        return [self.kept, {"name": "a", "n": batch_nb, "none": None}, (graph,), packed]


def test_outputs_are_copies_without_a_graph_of_any_nest() -> None:
    predictions = Trainer(**QUIET).predict(Many(), batches(6))
    assert predictions is not None
    for nb, (kept, plain, (graph,), packed) in enumerate(predictions):
        assert kept.tolist() == [nb, nb]
        assert plain == {"name": "a", "n": nb, "none": None}
        assert not graph.requires_grad
        assert isinstance(packed, PackedSequence)


class Stubborn:
    """It cannot be moved."""

    def to(self, device: str) -> Any:
        raise RuntimeError("it stays")


def test_an_output_that_cannot_be_copied_is_an_error_that_says_the_ways_out() -> None:
    class Model(Predicting):
        def predict_step(self, batch: Any, batch_nb: int) -> Any:  # type: ignore[override]
            return {"x": Stubborn()}

    with pytest.raises(ModelError, match=r"predict_step: an output, a Stubborn, cannot .* it stays.* return_predictions=False"):
        Trainer(**QUIET).predict(Model(), batches(2))
    assert Trainer(**QUIET).predict(Model(), batches(2), return_predictions=False) is None


def test_what_is_logged_has_nowhere_to_go_and_is_reported_once() -> None:
    class Model(Predicting):
        def predict_step(self, batch: Any, batch_nb: int) -> Any:  # type: ignore[override]
            self.log("x", 1.0)

    with pytest.warns(UserWarning, match="predict_step: what it logs is not kept") as told:
        assert Trainer(**QUIET).predict(Model(), batches(6)) == [None] * 3
    assert len(told) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda trainer: trainer.predict(), "there is no model yet"),
        (lambda trainer: trainer.predict(Predicting()), "Give Predicting a method predict_dataloader, or pass predict_datal"),
        (lambda trainer: trainer.predict(Linear(), batches(2)), "Linear has no method predict_step, and no forward"),
        (lambda trainer: trainer.predict(Predicting(), []), "there is no loader"),
        (lambda trainer: trainer.predict(Predicting(), batches(0)), "have no batches"),
        (lambda trainer: trainer.predict(Predicting(), batches(2), datamodule=DataModule()), "were both passed"),
        (lambda trainer: build(Options(), Predicting(), runs="guess"), "must be one of 'fit', 'val', 'test', 'predict'"),  # type: ignore[arg-type]
        (lambda trainer: trainer.predict(Predicting(), batches(2), ckpt_path="best"), "ckpt_path"),
    ],
)
def test_what_cannot_be_predicted_says_why(call: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(Trainer(**QUIET))
    assert says in str(caught.value)


class Pair(DataModule):
    """A data module to fit with and to predict on."""

    def train_dataloader(self) -> Any:
        return batches(8)

    def predict_dataloader(self) -> Any:
        return batches(5)


class Plain(Linear):
    """Linear regression that predicts."""

    def predict_step(self, batch: Any, batch_nb: int) -> Any:
        return self.layer(batch[0])


def test_after_a_fit_its_model_and_data_module_are_used_and_saved_weights_if_asked(tmp_path: Path) -> None:
    kept = ModelCheckpoint(dirpath=tmp_path / "kept")
    trainer = Trainer(**QUIET, max_nb_epochs=2, callbacks=[kept])
    model = Plain()
    trainer.fit(model, datamodule=Pair())
    predictions = trainer.predict()
    assert predictions is not None
    assert len(predictions) == 3
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert same_bits(trainer.predict(ckpt_path="last"), predictions)


def test_within_a_fit_predictions_use_the_average_and_training_goes_on_with_the_weights() -> None:
    class Looking(Callback):
        """Predicts at the end of an epoch."""

        def on_epoch_end(self, machine: Machine) -> None:
            before = model.layer.weight.detach().clone()  # type: ignore[operator]
            weights.append((before, trainer.predict(machine.model, [[torch.eye(3)]])))
            assert same_bits(model.layer.weight, before)

    weights: list[Any] = []
    average = EMAWeightAveraging(decay=0.5)
    trainer = Trainer(**QUIET, max_nb_epochs=1, callbacks=[average, Looking()])
    model = Plain()
    trainer.fit(model, batches(8))
    ((weight, (output,)),) = weights
    assert average.average is not None
    module: Any = average.average.module
    torch.testing.assert_close(output, module.layer(torch.eye(3)).detach())
    assert not torch.allclose(output, torch.nn.functional.linear(torch.eye(3), weight, module.layer.bias))


class Stopping(Callback):
    """Does something at a batch, and notes how the run ends."""

    def __init__(self, act: Any) -> None:
        self.act, self.ended = act, -1

    def on_predict_batch_end(  # type: ignore[override]  # the last argument may be left out
        self, machine: Machine, outputs: Any, batch: Any, batch_nb: int
    ) -> None:
        if batch_nb == 1:
            self.act(machine)

    def on_predict_end(self, machine: Machine) -> None:
        self.ended = len(machine.predictions)


def test_a_stop_returns_what_there_is_and_ctrl_c_ends_the_program_after_the_hooks() -> None:
    stopping = Stopping(lambda machine: machine.stop())
    predictions = Trainer(**QUIET, callbacks=[stopping]).predict(Predicting(), batches(8))
    assert predictions is not None
    assert (len(predictions), stopping.ended) == (2, 2)
    interrupted = Stopping(lambda machine: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="To predict anew, build a new machine"):
        Trainer(**QUIET, callbacks=[interrupted]).predict(Predicting(), batches(8))
    assert interrupted.ended == 2


def test_an_error_ends_the_hooks_and_out_of_memory_names_the_batch() -> None:
    def fail(machine: Machine) -> None:
        raise MemoryError("no room")

    failing, model = Stopping(fail), Predicting()
    with pytest.raises(OutOfMemoryError, match=r"batch 1 of the pass: no room.* float32 \(2, 3\)"):
        Trainer(**QUIET, callbacks=[failing]).predict(model, batches(8))
    assert failing.ended == 1
    assert model.training


def test_a_compiled_model_predicts_with_its_compiled_forward() -> None:
    calls = []

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(1)
        return graph.forward

    model = nn.Linear(3, 1)
    compiled = torch.compile(model, backend=backend)
    predictions = Trainer(**QUIET).predict(compiled, [torch.ones(2, 3)])  # type: ignore[arg-type]
    assert (predictions, calls) != (None, [])


class Logger:
    """It is told of nothing."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        raise AssertionError("there are no metrics")

    def close(self) -> None:
        raise AssertionError("it was not opened")


def test_a_run_that_predicts_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Trainer(quiet=True, device="cpu", logger=Logger()).predict(Predicting(), batches(4))
    assert list(tmp_path.iterdir()) == []
    trainer = Trainer(quiet=True, device="cpu", max_nb_epochs=1)
    trainer.fit(Plain(), batches(4))

    def recorded() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = recorded()
    trainer.predict(None, batches(4))
    assert recorded() == before


@pytest.mark.parametrize("stop", [False, True])
def test_outputs_that_arrive_late_are_there_at_the_end_and_none_is_waited_for(
    stop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setattr(predict_pass, "HostCopies", lambda: on_a_busy_device(events))
    stopping = Stopping(lambda machine: machine.stop() if stop else None)
    machine = build(Options(**QUIET), Predicting(), predict_dataloaders=batches(8), runs="predict", callbacks=[stopping])
    for _ in machine:
        assert machine.predictions == [] or machine.state.is_final
        assert machine.state.is_final or not any(event.made for event in events)
    assert len(machine.predictions) == stopping.ended == (2 if stop else 4)


def test_a_batch_of_the_loader_is_moved_and_workers_work() -> None:
    loader = DataLoader(TensorDataset(torch.ones(6, 3), torch.ones(6)), batch_size=2, num_workers=1)
    predictions = Trainer(**QUIET).predict(Predicting(), loader)
    assert predictions is not None
    assert len(predictions) == 3


def test_the_other_engine_predicts_the_same() -> None:
    model, loader = Predicting(), batches(5)
    machine = build(Options(**QUIET), model, predict_dataloaders=loader, runs="predict")
    machine.as_transitions().model.run()
    assert same_bits(machine.predictions, Trainer(**QUIET).predict(model, loader))


@pytest.mark.parametrize("call", ["predict", "validate", "test"])
@pytest.mark.parametrize("seed", [None, 7])
def test_a_pass_within_a_fit_leaves_its_random_numbers_alone(call: str, seed: int | None) -> None:
    class Looking(Callback):
        """Runs a pass of its own at the end of an epoch, over a loader that draws random numbers."""

        def on_epoch_end(self, machine: Machine) -> None:
            getattr(trainer, call)(machine.model, batches(4, shuffle=True))

    weights = []
    for callbacks in ([], [Looking()]):
        torch.manual_seed(3)
        trainer = Trainer(**QUIET, max_nb_epochs=3, seed=seed, callbacks=callbacks)
        model = Predicting()
        trainer.fit(model, batches(8, shuffle=True), [])
        weights.append(model.state_dict())
    assert same_bits(*weights)
