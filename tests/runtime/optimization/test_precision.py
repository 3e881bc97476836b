"""Mixed precision: what autocast reaches, and the steps that fp16's gradient scaler skips."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import LBFGS, SGD
from torch.optim.lr_scheduler import StepLR

from fsmtrain import FsmtrainError, LightningModule, Options
from tests.models import Linear, batches, machine_of, same_bits, trained, twins, weights


class Watched(LightningModule):
    """Notes in which type it computes; its loss is infinite at some calls."""

    def __init__(self, *, infinite: tuple[int, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)
        self.infinite, self.calls = infinite, 0
        self.seen: list[tuple[str, torch.dtype]] = []
        self.zeroed = 0

    def compute(self, batch: Any, where: str) -> Tensor:
        out: Tensor = self.layer(batch[0])
        self.seen.append((where, out.dtype))
        loss: Tensor = 1e-3 * (out.float() - batch[1]).pow(2).mean()  # small, so that the scaler's first scale fits
        return loss

    def training_step(self, batch: Any, batch_nb: int) -> Tensor:
        self.calls += 1
        loss = self.compute(batch, "train")
        return loss * float("inf") if self.calls - 1 in self.infinite else loss

    def validation_step(self, batch: Any, batch_nb: int) -> dict[str, Tensor]:
        return {"val_loss": self.compute(batch, "val")}

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"}}


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32", torch.float32), (32, torch.float32), ("bf16", torch.bfloat16), (16, torch.float16)]
)
def test_training_and_evaluation_compute_in_the_precision(precision: Any, dtype: torch.dtype) -> None:
    model = Watched()
    trained(model, batches(2), batches(2), max_nb_epochs=1, precision=precision, device="cpu")
    assert {where for where, _ in model.seen} == {"train", "val"}
    assert {seen for _, seen in model.seen} == {dtype}
    assert all(p.dtype is torch.float32 for p in model.parameters())


def test_full_precision_trains_the_same_bits_as_no_flag() -> None:
    first, second = twins(Linear)
    trained(first, batches(6), max_nb_epochs=2)
    trained(second, batches(6), max_nb_epochs=2, precision="32")
    assert same_bits(weights(first), weights(second))


def test_a_step_with_gradients_that_are_not_finite_is_skipped_and_counted() -> None:
    model = Watched(infinite=(2,))
    machine = machine_of(model, batches(6, 1), max_nb_epochs=1, precision="16", device="cpu")
    before: list[list[Tensor]] = []
    for transition in machine:
        if str(transition.source) in ("backward", "step") and transition.batch_nb == 2:
            before.append([p.detach().clone() for p in model.parameters()])
    assert same_bits(before[0], before[1])
    assert machine.counters.optimizer_steps == [5]
    assert machine.counters.steps_skipped == 1
    assert machine.global_step == 6
    assert machine.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**5)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


class SkippedFirst(Watched):
    """All steps of the first epoch are skipped; its scheduler acts after each epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [StepLR(optimizer, 1, 0.5)]


class NeverSteps(Watched):
    """Forgets to step."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [StepLR(optimizer, 1, 0.5)]

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        del optimizer


def test_torch_does_not_warn_of_the_order_of_calls_after_an_epoch_of_skipped_steps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SkippedFirst(infinite=(0, 1, 2))
        machine = trained(model, batches(6), [], max_nb_epochs=3, precision="16", device="cpu")
    assert machine.counters.steps_skipped == 3
    with pytest.warns(UserWarning, match="lr_scheduler.step"):  # here it is right
        trained(NeverSteps(), batches(6), max_nb_epochs=1)


def test_a_skipped_window_leaves_nothing_for_the_next() -> None:
    """Of four windows of two batches the second is dropped: the others are those of a run without it."""
    whole, without = Watched(infinite=(2,)), Watched()
    data = batches(8, 1)
    part = [batch for i, batch in enumerate(data) if i not in (2, 3)]
    flags: dict[str, Any] = {"max_nb_epochs": 1, "precision": "16", "device": "cpu", "accumulate_grad_batches": 2}
    trained(whole, data, **flags)
    trained(without, part, **flags)
    for ours, theirs in zip(weights(whole), weights(without), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_gradients_are_clipped_in_their_true_size() -> None:
    norms: list[float] = []

    class Noting(Watched):
        def optimizer_step(
            self, current_epoch: Any, batch_nb: Any, optimizer: Any, optimizer_i: Any, closure: Any = None
        ) -> None:
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])))
            super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, closure)

    trained(Noting(), batches(3, 1), max_nb_epochs=1, precision="16", device="cpu", gradient_clip_val=1e-5)
    assert norms == [pytest.approx(1e-5, rel=1e-2)] * 3


def test_a_closure_cannot_follow_a_gradient_scaler() -> None:
    class Closing(Watched):
        def configure_optimizers(self) -> Any:
            return LBFGS(self.parameters())

    with pytest.raises(FsmtrainError, match=r"precision='16': LBFGS"):
        machine_of(Closing(), batches(2), precision="16")


@pytest.mark.parametrize("backend", ["ddp", "ddp2", "horovod", 2])
def test_other_backends_are_refused(backend: Any) -> None:
    with pytest.raises(FsmtrainError, match="distributed_backend"):
        Options(distributed_backend=backend)


def test_dp_on_one_device_is_no_backend() -> None:
    first, second = twins(Linear)
    trained(first, batches(4), max_nb_epochs=1, device="cpu")
    trained(second, batches(4), max_nb_epochs=1, device="cpu", distributed_backend="dp")
    assert same_bits(weights(first), weights(second))
