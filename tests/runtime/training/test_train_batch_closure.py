"""`second_order_closure`: what an override of `optimizer_step` gets, compared with loops written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import LBFGS, SGD, Adam, Optimizer

from fsmtrain import Guards, every_n_batches
from fsmtrain.errors import ModelError
from tests.models import Linear, Smooth, batches, same_bits, trained, twins, weights


class SAM(Optimizer):
    """Sharpness-aware minimization: step with the gradient at the worst point nearby. Its closure is optional by signature."""

    def __init__(self, parameters: Any, *, zero: bool = False, lr: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr})
        self.zero = zero

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is not None
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        shifts = [0.05 * p.grad / norm for p in parameters]
        for p, shift in zip(parameters, shifts, strict=True):
            p.add_(shift)
        if self.zero:
            self.zero_grad()
        closure()
        for p, shift in zip(parameters, shifts, strict=True):
            p.sub_(shift)
            p.sub_(self.param_groups[0]["lr"] * p.grad)


class PassesClosure(Smooth):
    """Passes the closure on whatever the optimizer, as code of that time does."""

    forwards = 0

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.forwards += 1
        return super().training_step(batch, batch_nb)

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        optimizer.step(second_order_closure)
        optimizer.zero_grad()


@pytest.mark.parametrize("zero", [False, True])
def test_sam_trains_through_the_closure_as_by_hand(zero: bool) -> None:
    first, second = twins(lambda: PassesClosure(lambda parameters: SAM(parameters, zero=zero)).double())
    data = batches(6, 2, dtype=torch.float64)
    trained(first, data, max_nb_epochs=2)
    optimizer = second.configure_optimizers()
    for _ in range(2):
        for batch in data:

            def closure(batch: Any = batch) -> None:
                optimizer.zero_grad()
                with torch.enable_grad():
                    second.loss(batch).backward()

            closure()
            optimizer.step(closure)
            optimizer.zero_grad()
    assert same_bits(weights(first), weights(second))
    assert first.forwards == 2 * 2 * len(data)


@pytest.mark.parametrize("configure", [lambda p: SGD(p, lr=0.1), lambda p: Adam(p, lr=0.1)])
@pytest.mark.parametrize("length", [1, 3])
def test_an_optimizer_that_only_asks_for_the_loss_gets_the_one_there_is(configure: Callable[[Any], Any], length: int) -> None:
    """No forward runs twice, and the gradients stay those of the window."""
    first, second = twins(lambda: PassesClosure(configure).double())
    data = batches(12, 2, dtype=torch.float64)
    trained(first, data, max_nb_epochs=1, accumulate_grad_batches=length)
    assert first.forwards == len(data)
    plain = Smooth(configure).double()
    plain.load_state_dict(second.state_dict())
    trained(plain, data, max_nb_epochs=1, accumulate_grad_batches=length)
    assert same_bits(weights(first), weights(plain))


def test_lbfgs_through_an_override_trains_like_lbfgs_without_one() -> None:
    first, second = twins(lambda: PassesClosure(LBFGS).double())
    data = batches(6, 2, dtype=torch.float64)
    trained(first, data, max_nb_epochs=1)
    plain = Smooth(LBFGS).double()
    plain.load_state_dict(second.state_dict())
    trained(plain, data, max_nb_epochs=1)
    assert same_bits(weights(first), weights(plain))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"accumulate_grad_batches": 2}, "in a window of 2 backwards"),
        ({"guards": Guards(step={0: every_n_batches(3)})}, "in a window of 3 backwards"),
        ({"precision": 16}, "with precision=16"),
    ],
)
def test_an_evaluation_that_would_lose_gradients_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trained(PassesClosure(SAM), batches(6, 1), max_nb_epochs=1, **flags)


def test_a_training_step_that_returns_none_only_when_it_is_called_again_is_an_error() -> None:
    class Fickle(PassesClosure):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.forwards += 1
            return None if self.forwards % 2 == 0 else self.loss(batch)

    with pytest.raises(ModelError, match="returned None when second_order_closure called it again"):
        trained(Fickle(SAM), batches(6, 1), max_nb_epochs=1)


def test_the_default_body_calls_an_optimizer_without_the_closure() -> None:
    seen: list[Any] = []

    class Optional(SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(closure)
            return super().step(closure)

    class CallsSuper(Linear):
        def optimizer_step(
            self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            assert second_order_closure is not None
            super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure)

    trained(CallsSuper(lambda parameters: Optional(parameters, lr=0.1)), batches(2, 1), max_nb_epochs=1)
    assert seen == [None, None]
