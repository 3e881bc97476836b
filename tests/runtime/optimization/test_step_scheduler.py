"""Schedulers after each validation, and schedulers that are not torch's, against the same loop by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from fsmtrain import Callback, Guards, Loop, Machine, Options, Sizes, State, every_n_batches
from fsmtrain.core.sizes import Schedule
from fsmtrain.errors import ModelError
from tests.models import Validated, batches, machine_of, same_bits


class Halving:
    """A scheduler that is not torch's: it halves the learning rate at every second step."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.count = optimizer, 0

    def step(self) -> None:
        """Count."""
        self.count += 1
        if self.count % 2 == 0:
            for group in self.optimizer.param_groups:
                group["lr"] /= 2

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the count."""
        self.count = state["count"]


class Scheduled(Validated):
    """A model with one scheduler, which notes the learning rate of each batch."""

    def __init__(self, make: Any, **config: Any) -> None:
        super().__init__()
        self.make, self.config = make, config
        self.rates: list[float] = []

    def configure_optimizers(self) -> Any:
        self.sgd = SGD(self.parameters(), lr=1e-3)
        return [self.sgd], [{"scheduler": self.make(self.sgd), **self.config}]

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.rates.append(self.sgd.param_groups[0]["lr"])
        return super().training_step(batch, batch_nb)


def rates_of(make: Any, **config: Any) -> list[float]:
    model = Scheduled(make, **config)
    machine_of(model, batches(16), batches(4), max_nb_epochs=2, val_check_interval=0.25).run()
    return [round(rate * 1e3, 6) for rate in model.rates]


def test_a_plateau_scheduler_acts_after_each_validation_of_an_epoch() -> None:
    def never_better(optimizer: Any) -> Any:
        return ReduceLROnPlateau(optimizer, mode="max", threshold=1e9, factor=0.5, patience=0)

    # Two batches to a validation; the first one is the best so far.
    by_hand = [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.03125, 0.03125, 0.015625, 0.015625]
    assert rates_of(never_better, interval="validation") == pytest.approx(by_hand, abs=1e-6)
    assert rates_of(never_better)[8:] == [1] * 8


def test_any_scheduler_may_count_validations() -> None:
    rates = rates_of(lambda optimizer: StepLR(optimizer, 1, gamma=0.5), interval="validation", frequency=3)
    assert rates == [1.0] * 6 + [0.5] * 6 + [0.25] * 4


@pytest.mark.parametrize(
    ("interval", "expected"),
    [("epoch", [1.0] * 16), ("step", [1, 1, *[0.5] * 2, *[0.25] * 2]), ("validation", [*[1.0] * 4, *[0.5] * 4, *[0.25] * 4])],
)
def test_a_scheduler_that_is_not_torch_s_steps_when_torch_s_would(interval: str, expected: list[float]) -> None:
    assert rates_of(Halving, interval=interval)[: len(expected)] == expected


class StopAfter(Callback):
    """Stops the run after so many batches."""

    def __init__(self, n: int) -> None:
        self.n = n

    def on_batch_end(self, machine: Machine) -> None:
        """Count down."""
        self.n -= 1
        if self.n == 0:
            machine.stop()


@pytest.mark.parametrize("interval", ["epoch", "step", "validation"])
@pytest.mark.parametrize("n", [3, 9, 13])
def test_its_state_is_saved_and_resumed(n: int, interval: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*callbacks: Callback) -> tuple[Scheduled, Machine]:
        torch.manual_seed(0)
        model = Scheduled(Halving, interval=interval)
        given: dict[str, Any] = {"max_nb_epochs": 2, "val_check_interval": 0.25, "guards": Guards(save=every_n_batches(4))}
        return model, machine_of(model, batches(16), batches(4), callbacks=callbacks, **given)

    whole, machine = run()
    machine.run()
    _, machine = run(StopAfter(n))
    machine.run()
    resumed, machine = run()
    machine.resume("checkpoints")
    machine.run()
    assert resumed.rates == whole.rates[n:]
    assert same_bits(resumed.state_dict(), whole.state_dict())


class NeedsAnEpoch(Halving):
    """Its step has an argument, as timm's schedulers have."""

    def step(self, epoch: int) -> None:  # type: ignore[override]
        """Nothing."""


class Stateless:
    """It cannot be saved."""

    def step(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (NeedsAnEpoch, r"its step\(\) cannot be called without arguments.*Wrap it in a class"),
        (lambda optimizer: Stateless(), "has no method state_dict, so it could not be saved"),
        (lambda optimizer: object(), "as a scheduler. It may return one optimizer"),
    ],
)
def test_what_cannot_be_stepped_or_saved_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        machine_of(Scheduled(make), batches(4))


@pytest.mark.parametrize("frequency", [1, 2, 3])
def test_the_plan_has_the_steps_after_validations(frequency: int) -> None:
    schedule = Schedule(interval="validation", frequency=frequency, needs_validation=True)
    loop = Loop(Options(max_nb_epochs=3, val_check_interval=3), Sizes(train=7, val=[2, 1], schedulers=[schedule]))
    plan = loop.plan()
    events = list(plan.events(State.VAL_CHECK, "scheduler"))
    assert plan.scheduler_steps == (6 // frequency,)
    assert sum(event.kind == "scheduler" for event in events) == 6 // frequency
    after = [i for i, event in enumerate(events) if event.kind == "scheduler"]
    assert [sum(e.kind == "val_check" for e in events[:i]) for i in after] == [
        3 * frequency * (k + 1) for k in range(len(after))
    ]
    assert "one after every" in str(plan)
