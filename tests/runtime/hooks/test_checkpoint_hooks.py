"""What ``on_save_checkpoint`` writes is in the checkpoint and comes back wherever a run is stopped; setup, teardown, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fsmtrain import Callback, Machine, ModelCheckpoint, State, Trainer, build
from fsmtrain.errors import CheckpointError, FsmtrainError
from tests.models import Validated, batches, flags, machine_of, same_bits, weights


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Memory(Validated):
    """Scales its loss by how many batches it has seen, which only `on_save_checkpoint` saves."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.sums = 0, torch.zeros(())

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen += 1
        self.sums = self.sums + batch[0].sum()
        return self.loss(batch) * (1 + self.seen / 10) + self.layer.bias.sum() * self.sums / 100  # type: ignore[operator]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"seen": self.seen, "sums": self.sums}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen, self.sums = checkpoint["seen"], checkpoint["sums"]


class Counting(Callback):
    """Counts val batches; two of them have a count each."""

    def __init__(self, by: int) -> None:
        self.by, self.count = by, 0

    def on_validation_batch_end(self, machine: Machine, outputs: Any, batch: Any, batch_nb: int) -> None:  # type: ignore[override]
        self.count += self.by

    def on_save_checkpoint(self, machine: Machine, checkpoint: dict[str, Any]) -> None:
        checkpoint["count"] = self.count

    def on_load_checkpoint(self, machine: Machine, checkpoint: dict[str, Any]) -> None:
        self.count = checkpoint["count"]


class StopAt(Callback):
    """Stops the run after so many transitions."""

    def __init__(self, n: int | None) -> None:
        self.n, self.seen = n, 0

    def on_transition(self, machine: Machine, transition: Any) -> None:
        self.seen += 1
        if self.seen == self.n:
            machine.stop()


def run_of(n: int | None = None, wrap: Callable[[nn.Module], Any] = lambda model: model) -> tuple[Machine, Any, Any, StopAt]:
    torch.manual_seed(0)
    first, second, stop = Counting(1), Counting(10), StopAt(n)
    given = flags(max_nb_epochs=2, val_check_interval=2, seed=1, nb_sanity_val_steps=1)
    return (
        build(
            given,
            wrap(Memory()),
            train_dataloader=batches(6),
            val_dataloaders=batches(4),
            callbacks=[first, second, stop, ModelCheckpoint()],
        ),
        first,
        second,
        stop,
    )


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda model: model, torch.compile], ids=["plain", "compiled"])
def test_what_hooks_save_comes_back_wherever_a_run_is_stopped(wrap: Any) -> None:
    if wrap is torch.compile:
        with torch._dynamo.config.patch(disable=True):
            what_hooks_save_comes_back(wrap)
    else:
        what_hooks_save_comes_back(wrap)


def what_hooks_save_comes_back(wrap: Any) -> None:
    """Stop a run at every few transitions, and resume it."""
    whole, first, second, stop = run_of(wrap=wrap)
    whole.run()
    assert second.count == 10 * first.count > 0
    for n in range(1, stop.seen, 3 if wrap is not torch.compile else 11):
        stopped, *_ = run_of(n, wrap)
        stopped.run()
        resumed, again, other, _ = run_of(wrap=wrap)
        resumed.resume()
        resumed.run()
        assert same_bits(weights(resumed.model), weights(whole.model)), n
        assert (again.count, other.count) == (first.count, second.count), n
        assert resumed.model.seen == 6


def test_what_no_checkpoint_can_hold_is_an_error_that_names_the_hook() -> None:
    class Wrong(Validated):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["machine"] = object()

    with pytest.raises(CheckpointError, match="model: on_save_checkpoint wrote what no checkpoint can hold: machine"):
        machine_of(Wrong(), batches(2), max_nb_epochs=1, callbacks=[ModelCheckpoint()]).run()


def test_a_checkpoint_without_anything_of_a_hook_does_not_call_it() -> None:
    torch.manual_seed(0)
    machine_of(Validated(), batches(4), max_nb_epochs=1, callbacks=[ModelCheckpoint()]).run()

    class Late(Validated):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            raise AssertionError

    machine = machine_of(Late(), batches(4), max_nb_epochs=2, callbacks=[ModelCheckpoint()])
    machine.resume("checkpoints")
    machine.run()


def test_a_file_of_weights_has_what_the_model_wrote_and_a_model_from_it_gets_that_before_the_weights() -> None:
    class Growing(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.width = 3

        def on_fit_start(self) -> None:
            self.width = 4

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["width"] = self.width

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.width = checkpoint["width"]

    trainer = Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False, callbacks=[ModelCheckpoint(dirpath="c")])
    trainer.fit(Growing(), batches(4), [])
    trainer.save_checkpoint("weights.pt")
    for path in (Path("weights.pt"), *Path("c").glob("0*")):
        assert Growing.load_from_checkpoint(path).width == 4
    content = torch.load("weights.pt")
    torch.save({**content, "pytorch-lightning_version": "2.5", "width": 7}, "lightning.ckpt")
    assert Growing.load_from_checkpoint("lightning.ckpt").width == 7


# ---- setup, teardown, on_exception


class Life(Validated):
    """Gets its layer and its data in `setup`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.fails = False

    def setup(self, stage: str) -> None:
        self.calls.append(("setup", stage))
        self.layer = nn.Linear(3, 1)

    def train_dataloader(self) -> Any:
        self.calls.append("train_dataloader")
        return batches(2)

    def configure_optimizers(self) -> Any:
        self.calls.append("configure_optimizers")
        if self.fails:
            raise ZeroDivisionError
        return super().configure_optimizers()

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        if batch_nb == 0 and self.current_epoch == 1:
            raise KeyError("planted")
        return super().training_step(batch, batch_nb)

    def on_exception(self, exception: BaseException) -> None:
        self.calls.append(repr(exception))

    def on_train_end(self) -> None:
        self.calls.append("on_train_end")

    def teardown(self, stage: str) -> None:
        self.calls.append(("teardown", stage))


def test_setup_comes_before_loaders_and_optimizers_and_teardown_last() -> None:
    model = Life()
    Trainer(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False, val_percent_check=0).fit(model)
    assert model.calls == [("setup", "fit"), "train_dataloader", "configure_optimizers", "on_train_end", ("teardown", "fit")]
    assert model.layer.weight in [*model.parameters()]


def test_teardown_is_called_if_the_run_cannot_be_built() -> None:
    model = Life()
    model.fails = True
    with pytest.raises(ZeroDivisionError):
        machine_of(model)
    assert model.calls == [("setup", "fit"), "train_dataloader", "configure_optimizers", ("teardown", "fit")]


def test_on_exception_gets_the_error_before_the_hooks_that_are_open_end_and_no_stop() -> None:
    model = Life()
    with pytest.raises(KeyError, match="planted"):
        machine_of(model, max_nb_epochs=2).run()
    assert model.calls[3:] == ["KeyError('planted')", "on_train_end", ("teardown", "fit")]
    stopped = Life()
    machine = machine_of(stopped, max_nb_epochs=2)
    machine.stop()
    machine.run()
    assert stopped.calls[3:] == [("teardown", "fit")]


def test_a_failing_on_exception_has_the_error_as_its_context_and_the_run_is_ended() -> None:
    class Failing(Life):
        def on_exception(self, exception: BaseException) -> None:
            raise FsmtrainError("of the hook")

    model = Failing()
    with pytest.raises(FsmtrainError, match="of the hook") as caught:
        machine_of(model, max_nb_epochs=2).run()
    assert isinstance(caught.value.__context__, KeyError)
    assert model.calls[-2:] == ["on_train_end", ("teardown", "fit")]


# ---- metrics in hooks, and the order around a step


def test_what_the_hooks_within_a_validation_log_is_its_metric_and_the_sanity_pass_resets_what_they_collect() -> None:
    class Collecting(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.losses: list[Any] = []

        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            self.losses.append(self.loss(batch))

        def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("first", batch_idx == 0)

        def on_validation_epoch_end(self) -> None:
            self.log("count", len(self.losses))
            self.losses.clear()

    given: dict[str, Any] = {"max_nb_epochs": 1, "nb_sanity_val_steps": 2}
    machine = machine_of(Collecting(), batches(4), batches(8), early_stop_callback=False, **given)
    metrics = machine.run().metrics
    assert metrics["count"] == 4
    assert metrics["first"] == 0.25


class Outputs(Validated):
    """Collects outputs in lists that no checkpoint has, and makes metrics of them at the end of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.collected: list[Any] = []
        self.metrics: list[Any] = []

    def validation_step(self, batch: Any, batch_nb: int) -> None:
        self.collected.append(float(self.loss(batch)))

    test_step = validation_step

    def _log(self, name: str) -> None:
        self.log(name, sum(self.collected))
        self.collected.clear()

    def on_validation_epoch_end(self) -> None:
        self._log("summed")

    def on_validation_end(self, metrics: dict[str, Any]) -> None:
        self.metrics.append(dict(metrics))

    def on_test_epoch_end(self) -> None:
        self._log("test_summed")


@pytest.mark.slow
def test_outputs_that_a_model_collects_are_whole_wherever_a_validation_or_test_was_stopped() -> None:
    def outputs_of(n: int | None = None) -> tuple[Machine, Outputs, StopAt]:
        torch.manual_seed(0)
        model, stop = Outputs(), StopAt(n)
        given: dict[str, Any] = {"max_nb_epochs": 1, "val_check_interval": 2, "seed": 1, "nb_sanity_val_steps": 2}
        loaders = batches(8), batches(6, shuffle=True), batches(6, shuffle=True)
        return machine_of(model, *loaders, callbacks=[stop, ModelCheckpoint(every_n_batches=1)], **given), model, stop

    whole, model, stop = outputs_of()
    result = whole.run()
    assert set(result.metrics) >= {"summed", "test_summed"}
    assert len(model.metrics) == 2
    within = 0
    for n in range(2, stop.seen, 2):
        stopped, _, _ = outputs_of(n)
        stopped.run()
        if list(stopped.trace)[-1].source not in (State.SANITY_VAL, State.VAL_CHECK, State.TEST):
            continue
        resumed, again, _ = outputs_of()
        resumed.resume()
        assert resumed.run().metrics == result.metrics, n
        assert again.metrics == model.metrics[len(model.metrics) - len(again.metrics) :]
        within += 1
    assert within > 3


class Steps(Callback):
    """Records the gradient, and whether the weight has changed, around a step."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def _note(self, name: str, machine: Machine) -> None:
        weight: Any = machine.model.get_parameter("layer.weight")
        self.seen.append((name, None if weight.grad is None else weight.grad.norm().item(), weight.detach().clone()))

    def on_after_backward(self, machine: Machine) -> None:
        self._note("backward", machine)

    def on_before_optimizer_step(self, machine: Machine, optimizer: Any) -> None:
        self._note("before", machine)

    def on_before_zero_grad(self, machine: Machine, optimizer: Any) -> None:
        self._note("zero", machine)

    def on_after_optimizer_step(self, machine: Machine, optimizer: Any) -> None:
        self._note("after", machine)


class Overriding(Validated):
    """Steps and zeroes by itself, at every second batch."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if batch_nb % 2 == 1:
            optimizer.step()
            optimizer.zero_grad()


def test_the_hooks_around_a_step_see_gradients_before_clipping_and_weights_before_and_after() -> None:
    steps = Steps()
    machine_of(Validated(), batches(2), max_nb_epochs=1, gradient_clip_val=1e-3, callbacks=[steps], val_percent_check=0).run()
    assert [name for name, *_ in steps.seen] == ["backward", "before", "zero", "after"]
    norms = [norm for _, norm, _ in steps.seen]
    assert norms[0] == norms[1] > 1e-3 >= norms[2]
    assert norms[3] is None
    before, after = steps.seen[1][2], steps.seen[2][2]
    assert not torch.equal(before, after)
    assert torch.equal(after, steps.seen[3][2])


def test_an_override_of_optimizer_step_calls_the_hooks_where_it_steps_and_zeroes() -> None:
    steps, model = Steps(), Overriding()
    machine = machine_of(model, batches(8), max_nb_epochs=1, callbacks=[steps], val_percent_check=0)
    machine.run()
    assert [name for name, *_ in steps.seen] == ["backward", "before", "backward", "before", "zero", "after"] * 2
    assert "zero_grad" not in vars(machine.optimizers[0])
