"""When memory runs out in a batch: the error says where, nothing of the batch is kept, and the run can be resumed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fsmtrain import FsmtrainError, Machine, ModelCheckpoint
from fsmtrain.errors import OutOfMemoryError
from fsmtrain.runtime.oom import describe_shapes, is_out_of_memory
from tests.models import Linear, Perceptron, Recurrent, Validated, batches, machine_of, same_bits, sequences, weights

ON_A_GPU = "CUDA out of memory. Tried to allocate 20.00 MiB.\nSee documentation for Memory Management"


class Exhausted(Perceptron):
    """A model whose memory runs out in the forward of a batch; what it has made by then is watched."""

    def __init__(self, at: int | None = 4, error: Callable[[], Exception] | None = None) -> None:
        super().__init__()
        self.at, self.error, self.forwards = at, error or (lambda: torch.OutOfMemoryError(ON_A_GPU)), 0
        self.made: list[weakref.ref[Tensor]] = []

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        hidden = self.layer(batch[0])
        self.forwards += 1
        if self.forwards - 1 == self.at:
            self.made = [weakref.ref(tensor) for tensor in (hidden, *batch)]
            self.deeper(hidden * 2)
        return self.loss(batch)

    def deeper(self, activation: Tensor) -> None:
        """A frame of its own, which has a tensor too."""
        self.made.append(weakref.ref(activation))
        raise self.error()


class Backwards(torch.autograd.Function):
    """The identity, of which a gradient cannot be had."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise torch.OutOfMemoryError(ON_A_GPU)


class InBackward(Linear):
    """A model whose memory runs out in a backward."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)
        return Backwards.apply(loss) if batch_nb == 2 else loss  # type: ignore[no-untyped-call]


class InStep(Linear):
    """A model whose memory runs out in a step."""

    def optimizer_step(self, *args: Any) -> None:
        raise MemoryError


class InCheck(Validated):
    """A model whose memory runs out in the second batch of a check."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        if batch_nb == 1:
            raise torch.OutOfMemoryError(ON_A_GPU)
        return super().validation_step(batch, batch_nb)


def failing(machine: Machine) -> OutOfMemoryError:
    """The error with which this run ends."""
    with pytest.raises(OutOfMemoryError) as caught:
        machine.run()
    return caught.value


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (Exhausted, "train_batch, epoch 0, batch 4, optimizer 0"),
        (InBackward, "backward, epoch 0, batch 2, optimizer 0"),
        (InStep, "step, epoch 0, batch 0, optimizer 0"),
        (InCheck, "val_check, epoch 0, batch 4, optimizer 0, batch 1 of the pass"),
    ],
)
def test_the_oom_error_names_the_batch_and_its_shapes(model: Callable[[], nn.Module], where: str) -> None:
    error = failing(machine_of(model(), batches(10), batches(4), nb_sanity_val_steps=0, val_check_interval=1.0))
    assert f"out of memory in state {where}: " in str(error)
    assert ". The batch: float32 (2, 3), float32 (2, 1). " in str(error)
    assert isinstance(error, MemoryError)
    assert isinstance(error, FsmtrainError)
    assert any(note.startswith("in state ") for note in error.__notes__)


def test_the_error_names_the_split_of_truncated_bptt_and_ways_out() -> None:
    class Long(Recurrent):
        def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
            if hiddens is not None:
                raise MemoryError("no memory for it")
            return super().training_step(batch, batch_nb, hiddens)

    error = failing(machine_of(Long(), sequences(6, 2, 7), truncated_bptt_steps=3))
    assert "optimizer 0, split 1: no memory for it. The batch: float32 (2, 3, 2), float32 (2, 3, 1). " in str(error)
    for way in ("smaller batches", "accumulate_grad_batches", "truncated_bptt_steps below 3", "precision='bf16'"):
        assert way in str(error)


@pytest.mark.parametrize("engine", [Machine.run, lambda machine: machine.as_transitions().model.run()])
def test_who_catches_torch_s_own_error_catches_this_one_with_either_engine(engine: Callable[[Machine], object]) -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 20\.00 MiB") as caught:
        engine(machine_of(Exhausted(), batches(10)))
    assert isinstance(caught.value, OutOfMemoryError)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_the_error_of_the_cpu_allocator_counts_as_oom() -> None:
    class Greedy(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss(batch) + torch.empty(2**48).sum()

    error = failing(machine_of(Greedy(), batches(4)))
    assert "you tried to allocate 1125899906842624 bytes" in str(error)
    assert type(error) is OutOfMemoryError


def test_other_errors_are_left_as_they_are() -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1") as caught:
        machine_of(Wrong(), batches(4)).run()
    assert not isinstance(caught.value, OutOfMemoryError)


@pytest.mark.parametrize("engine", [Machine.run, lambda machine: machine.as_transitions().model.run()])
def test_nothing_of_the_batch_is_kept_while_the_error_is(engine: Callable[[Machine], object]) -> None:
    """Not by the frames through which it came, nor by the machine, nor in gradients; nobody needs to collect garbage."""
    model = Exhausted(error=lambda: torch.OutOfMemoryError(ON_A_GPU))
    machine = machine_of(model, batches(10), accumulate_grad_batches=3)
    gc.disable()
    try:
        with pytest.raises(OutOfMemoryError) as caught:
            engine(machine)
        assert len(model.made) == 4
        assert [tensor() for tensor in model.made] == [None] * 4
        assert all(parameter.grad is None for parameter in model.parameters())
        assert "accumulate_grad_batches" in str(caught.value)
    finally:
        gc.enable()


def test_a_graph_whose_backward_failed_is_not_kept() -> None:
    kept: list[weakref.ref[Tensor]] = []

    class Watched(InBackward):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = super().training_step(batch, batch_nb)
            kept.append(weakref.ref(loss))
            return loss

    error = failing(machine_of(Watched(), batches(10), on_nonfinite="raise"))
    assert kept[-1]() is None, error


def test_the_run_is_resumed_from_its_last_checkpoint_and_ends_in_the_same_bits(tmp_path: Path) -> None:
    """By a new machine of the same model in the same process, once there is memory enough."""
    folder = tmp_path / "saved"

    def machine(model: nn.Module, where: Path) -> Machine:
        torch.manual_seed(2)
        checkpoint = ModelCheckpoint(every_n_batches=2, dirpath=where)
        return machine_of(
            model, batches(12, shuffle=True), callbacks=[checkpoint], accumulate_grad_batches=3, max_nb_epochs=2, seed=1
        )

    torch.manual_seed(0)
    whole = Exhausted(at=None)
    machine(whole, tmp_path / "whole").run()
    torch.manual_seed(0)
    model = Exhausted(at=9)
    error = failing(machine(model, folder))
    assert f"the run can be resumed from {folder}" in "\n".join(error.__notes__)
    model.at = None
    again = machine(model, folder)
    again.resume()
    again.run()
    assert same_bits(weights(model), weights(whole))


def test_the_oom_note_without_a_checkpoint_says_that_there_is_none() -> None:
    assert any("no checkpoint was saved" in note for note in failing(machine_of(Exhausted(), batches(10))).__notes__)


class Pair(NamedTuple):
    x: Tensor
    y: Any


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (torch.ones(2, 3, dtype=torch.float16), "float16 (2, 3)"),
        ([torch.ones(2), torch.ones(())], "float32 (2,), float32 ()"),
        (Pair(torch.ones(1), {"deep": [torch.ones(2, dtype=torch.bool)]}), "x: float32 (1,), y.deep[0]: bool (2,)"),
        ({"x": torch.ones(2), "n": 3}, "x: float32 (2,)"),
        ("words", "no tensors, a str"),
        ([torch.ones(1)] * 14, ", ".join(["float32 (1,)"] * 12) + ", ..."),
    ],
)
def test_the_shapes_of_a_batch_are_listed_with_their_paths(batch: Any, told: str) -> None:
    assert describe_shapes(batch) == told


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("The size of tensor a must match"), False),
        (ValueError("out of memory"), False),
        (OutOfMemoryError("told already"), False),
    ],
)
def test_which_errors_count_as_oom(error: Exception, answer: bool) -> None:
    assert is_out_of_memory(error) is answer
