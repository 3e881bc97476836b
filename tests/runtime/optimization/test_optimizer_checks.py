"""What is reported about a model's optimizers: nothing to train, gradients that are never zeroed."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from fsmtrain import Machine, Options, TrainingModule, build
from fsmtrain.runtime.optimization import optimizer_step


def machine_of(model: nn.Module, callbacks: Any = (), **flags: Any) -> tuple[Machine, list[str]]:
    """A machine, and what was said when it was built; its check says the same."""
    options = Options(**{"max_nb_epochs": 1, "device": "cpu", "runs_dir": None, "quiet": True, **flags})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine = build(options, model, train_dataloader=[torch.ones(2, 1)] * 4, callbacks=callbacks)
    said = [str(warning.message) for warning in caught]
    assert [f"{finding.about}: {finding.text}" for finding in machine.check().findings] == said
    return machine, said


class Two(TrainingModule):
    """Two layers, each with its optimizer."""

    def __init__(self, frozen: str = "") -> None:
        super().__init__()
        self.a, self.b = nn.Linear(1, 1), nn.Linear(1, 1)
        for name in frozen:
            getattr(self, name).requires_grad_(False)

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        return self.b(self.a(batch)).mean()

    def configure_optimizers(self) -> Any:
        return SGD(self.a.parameters(), lr=0.1), SGD(self.b.parameters(), lr=0.1)


@pytest.mark.parametrize("frozen", ["", "a", "b", "ab"])
def test_an_optimizer_with_nothing_to_train_is_reported(frozen: str) -> None:
    said = machine_of(Two(frozen))[1]
    assert [text.partition(":")[0] for text in said] == [f"optimizer {'ab'.index(name)}" for name in frozen]
    assert all("none of the parameters of this SGD requires a gradient" in text for text in said)


def test_an_optimizer_with_one_parameter_to_train_is_fine() -> None:
    model = Two()
    model.a.weight.requires_grad_(False)
    assert machine_of(model)[1] == []


class One(TrainingModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.layer(batch).mean()

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1)


class OnlySteps(One):
    def optimizer_step(self, current_epoch: Any, batch_nb: Any, optimizer: Any, optimizer_i: Any, closure: Any = None) -> None:
        optimizer.step()


class StepsTwice(One):
    def optimizer_step(self, current_epoch: Any, batch_nb: Any, optimizer: Any, optimizer_i: Any, closure: Any = None) -> None:
        for _ in range(2):
            optimizer.step(closure)


class Zeroes(One):
    def optimizer_step(self, current_epoch: Any, batch_nb: Any, optimizer: Any, optimizer_i: Any, closure: Any = None) -> None:
        optimizer.step()
        optimizer.zero_grad()


class ZeroesByHand(OnlySteps):
    def on_batch_start(self, batch: Any) -> None:
        for parameter in self.parameters():
            parameter.grad = None


class PassesOn(One):
    def optimizer_step(self, current_epoch: Any, batch_nb: Any, optimizer: Any, optimizer_i: Any, closure: Any = None) -> None:
        optimizer_step.step_and_zero(optimizer)


class Inherits(One):
    def optimizer_step(self, current_epoch: Any, batch_nb: Any, optimizer: Any, optimizer_i: Any, closure: Any = None) -> None:
        super().optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, closure)


class ZeroingCallback:
    def on_batch_start(self, machine: Any, batch: Any) -> None:
        machine.model.zero_grad()


@pytest.mark.parametrize(("model", "is_reported"), [
    (One, False), (OnlySteps, True), (StepsTwice, True), (Zeroes, False), (ZeroesByHand, False), (PassesOn, False),
    (Inherits, False),
])  # fmt: skip
def test_a_hook_that_never_zeroes_is_reported(model: type[nn.Module], is_reported: bool) -> None:
    said = machine_of(model())[1]
    assert ["never zeroes the gradients, nor does any other method" in text for text in said] == [True] * is_reported
    assert machine_of(model(), callbacks=[ZeroingCallback()])[1] == []


def test_sequences_that_are_not_split_are_reported_with_the_first_batch() -> None:
    class Recurrent(One):
        def training_step(self, batch: Any, batch_nb: int, hiddens: Any = None) -> Any:
            return {"loss": self.layer(batch).mean(), "hiddens": torch.zeros(1)}

    def said(steps: int) -> list[str]:
        options = Options(max_nb_epochs=2, truncated_bptt_steps=steps, device="cpu", runs_dir=None, quiet=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            build(options, Recurrent(), train_dataloader=[torch.ones(2, 6, 1)] * 3).run()
        return [str(warning.message) for warning in caught]

    assert said(5) == []
    for steps in (6, 100):
        [text] = said(steps)
        assert f"truncated_bptt_steps={steps}: the first batch has no more time steps than that, so it is not split" in text
