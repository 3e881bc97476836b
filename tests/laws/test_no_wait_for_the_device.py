"""The host never waits for the device between two validations: it reads no number from it, for all flags.

On the CPU a read is counted where torch makes it. On a GPU torch itself refuses each call that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils._python_dispatch import TorchDispatchMode

from fsmtrain import Callback, EarlyStopping, Machine, State, TrainingModule
from tests.models import Adversaries, Linear, Recurrent, Validated, batches, machine_of, sequences


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the state of a machine each time the host reads a number from a tensor."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine = machine
        self.states: list[State] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            self.states.append(self.machine.state)
        return func(*args, **(kwargs or {}))


class Weighted(Linear):
    """Losses with weights that are numbers of the host's, as the length of a list is."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": self.loss(batch), "weight": 1 + batch_nb % 3, "log": {"twice": 2 * self.loss(batch)}}


class Descending(Adversaries):
    """Two optimizers that read nothing themselves, as Adam does on the CPU."""

    def configure_optimizers(self) -> Any:
        return SGD(self.generator.parameters(), lr=0.1), SGD(self.discriminator.parameters(), lr=0.1)


def scheduled(parameters: Any) -> Any:
    """One scheduler by step, and one that follows the metric of validations."""
    optimizer = SGD(parameters, lr=0.01)
    plateau = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss"}
    return [optimizer], [plateau, {"scheduler": StepLR(optimizer, 2), "interval": "step"}]


class Endless:
    """The batches of a loader without its length."""

    def __iter__(self) -> Iterator[Any]:
        return iter(NINE)


NINE, FOUR = list(batches(18)), list(batches(8))  # a DataLoader reads a seed on the CPU whenever it begins
KINDS: dict[str, Callable[[], Machine]] = {
    "plain": lambda: machine_of(Linear(), NINE, max_nb_epochs=2),
    "accumulation": lambda: machine_of(Linear(), NINE, max_nb_epochs=2, accumulate_grad_batches=4),
    "clipping": lambda: machine_of(Linear(), NINE, max_nb_epochs=2, gradient_clip_val=0.5),
    "weights": lambda: machine_of(Weighted(), NINE, max_nb_epochs=2, accumulate_grad_batches=4),
    "a stream": lambda: machine_of(Linear(), Endless(), max_nb_epochs=2, accumulate_grad_batches=4),
    "optimizers": lambda: machine_of(Descending(), NINE, max_nb_epochs=2, accumulate_grad_batches=2),
    "splits": lambda: machine_of(Recurrent(), list(sequences(6, 2, 5)), max_nb_epochs=2, truncated_bptt_steps=2),
    "validation": lambda: machine_of(Validated(), NINE, [FOUR], max_nb_epochs=2, val_check_interval=0.5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_validation_read_nothing(kind: str) -> None:
    machine = KINDS[kind]()
    with Reads(machine) as reads:
        machine._dispatcher.run()
    assert reads.states == []
    assert machine.state is State.DONE


def test_early_stopping_reads_once_per_validation_and_a_plateau_scheduler_once_per_epoch() -> None:
    machine = machine_of(
        Validated(scheduled), NINE, [FOUR], max_nb_epochs=3, nb_sanity_val_steps=0, val_check_interval=0.5,
        early_stop_callback=EarlyStopping(patience=4),
    )  # fmt: skip
    with Reads(machine) as reads:
        machine._dispatcher.run()
    assert machine.counters.validations_done == reads.states.count(State.VAL_CHECK) > 2
    assert machine.counters.epochs_done == reads.states.count(State.EPOCH_END) > 1
    assert set(reads.states) == {State.VAL_CHECK, State.EPOCH_END}


class OverTheEpoch(Linear):
    """Metrics over the epoch, with each reduction."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)
        for reduce in ("mean", "sum", "min", "max"):
            self.log(reduce, loss, on_epoch=True, reduce=reduce)
        return {"loss": loss, "log": {"twice": 2 * loss}}


@pytest.mark.parametrize(("monitor", "reads_an_epoch"), [(None, 0), ("twice", 1), ("max", 1)])
def test_metrics_of_an_epoch_are_read_only_where_they_are_monitored(monitor: str | None, reads_an_epoch: int) -> None:
    stopping = None if monitor is None else EarlyStopping(monitor, patience=9)
    machine = machine_of(OverTheEpoch(), NINE, max_nb_epochs=2, early_stop_callback=stopping)
    machine._begin()
    with Reads(machine) as reads:
        machine._dispatcher.run()
    assert reads.states == [State.EPOCH_END] * 2 * reads_an_epoch


class Wide(TrainingModule):
    """A model with something to compute, whose every number stays where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)])

    def training_step(self, batch: Tensor, batch_nb: int) -> Any:
        loss = self.layers(batch).square().mean()
        return {"loss": loss, "progress_bar": {"loss": loss}, "log": {"twice": 2 * loss}}

    def validation_step(self, batch: Tensor, batch_nb: int) -> Any:
        return {"val_loss": self.layers(batch).square().mean()}

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.01)


class NoWaiting(Callback):
    """Makes torch raise at every wait for the GPU, from a batch's beginning to the next validation."""

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def on_validation_start(self, machine: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")

    def on_run_end(self, machine: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def waiting_again() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("waiting_again")
def test_a_gpu_is_not_waited_for_between_two_validations_with_everything_on(tmp_path: Path) -> None:
    data = [torch.randn(64, 512).pin_memory() for _ in range(40)]
    machine = machine_of(
        Wide(), data, data[:4], max_nb_epochs=2, val_check_interval=20, accumulate_grad_batches=4, gradient_clip_val=1.0,
        device="cuda", quiet=False, runs_dir=tmp_path, callbacks=[NoWaiting()],
    )  # fmt: skip
    machine.run()
    assert machine.state is State.DONE
