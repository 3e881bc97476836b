"""An `optimizer_step` of the model's own: `optimizer_steps` counts the steps of its optimizer, and the plan has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from fsmtrain import Guards, State, TrainingModule
from fsmtrain.core.interval_guards import every_n_steps
from tests.models import Linear, batches, machine_of


def nth_batch(epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int) -> None:
    if batch_nb % (2 if optimizer_i == 0 else 4) == 0:
        optimizer.step()


class Own(TrainingModule):
    """Two optimizers, which step at every second and at every fourth batch; each scheduler follows the steps of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
        self.real = [0, 0]

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        return self.second(self.first(batch[0])).square().mean()

    def configure_optimizers(self) -> Any:
        made: list[Any] = []
        for i, part in enumerate((self.first, self.second)):
            optimizer = SGD(part.parameters(), lr=1e-3)
            optimizer.register_step_post_hook(lambda *_, i=i: self.real.__setitem__(i, self.real[i] + 1))
            made.append(optimizer)
        return made, [{"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"} for optimizer in made]

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        if optimizer_i == 0:  # noqa: SIM102 - as the page writes it
            if batch_nb % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()
        if optimizer_i == 1:  # noqa: SIM102
            if batch_nb % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


class Hidden(Own):
    """The same, where it cannot be read."""

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        nth_batch(current_epoch, batch_nb, optimizer, optimizer_i)


@pytest.mark.parametrize("precision", [32, 16])
@pytest.mark.parametrize("kind", [Own, Hidden])
def test_optimizer_steps_counts_real_steps_and_global_step_the_visits(kind: type[Own], precision: int) -> None:
    model = kind()
    machine = machine_of(model, batches(10, 1), max_nb_epochs=2, precision=precision)
    machine.run()
    assert machine.counters.optimizer_steps == model.real
    assert model.real == [10, 6] or precision == 16  # whose scaler skips some
    assert machine.counters.global_step == 20
    assert [optimizer.param_groups[0]["lr"] for optimizer in machine.optimizers] == [1e-3 * 0.5**n for n in model.real]


def test_the_plan_has_the_steps_of_a_hook_that_can_be_read_and_says_may_of_another() -> None:
    readable, hidden = (machine_of(kind(), batches(1000, 1), max_nb_epochs=3).plan() for kind in (Own, Hidden))
    assert readable.optimizer_steps == readable.at_least.optimizer_steps == (1500, 750)
    assert readable.scheduler_steps == (1500, 750)
    assert readable.global_step == hidden.global_step == 3000
    assert sum(event.kind == "scheduler" for event in readable.events("scheduler")) == 2250
    assert hidden.at_least.optimizer_steps == (0, 0)
    assert "may be fewer" in str(hidden)
    assert "cannot be read: this plan assumes that each call makes one step" in str(hidden)


def test_a_hook_that_may_step_twice_is_not_read() -> None:
    class Twice(Linear):
        def optimizer_step(
            self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            optimizer.step()
            optimizer.step()
            optimizer.zero_grad()

    machine = machine_of(Twice(), batches(4, 1), max_nb_epochs=1)
    assert "may be fewer" in str(machine.plan())
    machine.run()
    assert machine.counters.optimizer_steps == [8]


def test_a_save_every_n_steps_is_due_once_where_the_hook_has_really_stepped(tmp_path: Any) -> None:
    class EverySecond(Linear):
        def optimizer_step(
            self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            if batch_nb % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()

    machine = machine_of(EverySecond(), batches(9, 1), max_nb_epochs=1, guards=Guards(save=every_n_steps(2)), runs_dir=tmp_path)
    saved = [t.batch_nb for t in machine if t.source is State.SAVE]
    assert saved == [2, 6]


class Base(Optimizer):
    """Wraps another optimizer with the same parameters, and is stepped in two halves, as SAM is."""

    def __init__(self, parameters: Any) -> None:
        self.base = SGD(parameters, lr=0.1)
        super().__init__(self.base.param_groups, {})

    def second_step(self) -> None:
        self.base.step()


def test_the_steps_of_an_optimizer_within_the_optimizer_count() -> None:
    class Halves(Linear):
        def optimizer_step(
            self, current_epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            optimizer.second_step()
            optimizer.zero_grad()

    machine = machine_of(Halves(lambda parameters: Base(list(parameters))), batches(4, 1), max_nb_epochs=1)
    machine.run()
    assert machine.counters.optimizer_steps == [4]
