"""``trainer.total_steps`` and ``planned_steps``: known in ``configure_optimizers``, and what the run then makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from fsmtrain import Guards, Options, Trainer, every_n_batches, every_n_steps_of
from fsmtrain.errors import SizesError, UsageError
from tests.models import Adversaries, Linear, Recurrent, batches, flags, machine_of, sequences, stream


class Scheduled(Linear):
    """Linear regression whose schedule is as long as the run."""

    def configure_optimizers(self) -> Any:
        sgd = SGD(self.parameters(), lr=0.01)
        self.asked = self.trainer.total_steps
        return [sgd], [{"scheduler": OneCycleLR(sgd, 0.1, total_steps=self.asked), "interval": "step"}]


class ScheduledAdversaries(Adversaries):
    """Two optimizers that ask for the steps of each."""

    def configure_optimizers(self) -> Any:
        self.asked = [self.trainer.planned_steps(i) for i in range(2)]
        return super().configure_optimizers()


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_it_is_the_number_of_steps_that_the_run_makes(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 14))
    given: dict[str, Any] = {
        "accumulate_grad_batches": data.draw(st.sampled_from([1, 2, 3, {0: 1, 1: 4}])),
        "train_percent_check": data.draw(st.sampled_from([1.0, 0.5])),
        **data.draw(st.sampled_from([{"max_nb_epochs": 2}, {"max_steps": 7}, {"max_nb_epochs": 3, "max_steps": 5}])),
    }
    model = Scheduled()
    machine = machine_of(model, batches(2 * size), **given)
    machine.run()  # a OneCycleLR raises after its end
    assert model.asked == machine.total_steps == machine.counters.optimizer_steps[0] == machine.global_step


def test_each_optimizer_by_its_own_guard() -> None:
    model = ScheduledAdversaries()
    guards = Guards(step={0: every_n_batches(2), 1: every_n_batches(3)})
    machine = machine_of(model, batches(20), max_nb_epochs=2, guards=guards)
    machine.run()
    assert model.asked == machine.counters.optimizer_steps == [10, 8]


def test_a_trainer_knows_it_in_fit_and_afterwards() -> None:
    trainer, model = Trainer(**vars_of(flags(max_nb_epochs=3))), Scheduled()
    with pytest.raises(UsageError, match="no run has been built yet"):
        trainer.total_steps  # noqa: B018
    trainer.fit(model, batches(8))
    assert model.asked == trainer.total_steps == trainer.global_step == 12


def vars_of(options: Options) -> dict[str, Any]:
    return {"max_nb_epochs": options.max_nb_epochs, "runs_dir": None, "quiet": True}


@pytest.mark.parametrize(
    ("make", "train", "given", "why"),
    [
        (Scheduled, lambda: stream(8), {"max_nb_epochs": 2}, "the train loader has no length"),
        (Scheduled, lambda: batches(8), {"max_nb_epochs": None, "max_time": "1:00:00"}, "only max_time"),
        (
            ScheduledAdversaries,
            lambda: batches(8),
            {"max_nb_epochs": 1, "guards": Guards(step={1: every_n_steps_of(0, 2)})},
            r"planned_steps\(1\): the guard every_n_steps_of\(0, 2\) in .* asks about other optimizers",
        ),
        (
            Scheduled,
            lambda: batches(8),
            {"max_nb_epochs": 1, "guards": Guards(step={0: lambda limits, counters, signals: bool(len("a"))})},
            "cannot be read",
        ),
    ],
)
def test_what_cannot_be_known_beforehand_is_an_error_that_says_why(make: Any, train: Any, given: Any, why: str) -> None:
    with pytest.raises(SizesError, match=why):
        machine_of(make(), train(), **given)


def test_once_the_run_is_built_the_steps_of_a_guard_on_another_optimizer_are_known() -> None:
    machine = machine_of(Adversaries(), batches(8), max_nb_epochs=1, guards=Guards(step={1: every_n_steps_of(0, 2)}))
    planned = [machine.planned_steps(i) for i in range(2)]
    machine.run()
    assert planned == [machine.planned_steps(i) for i in range(2)] == list(machine.counters.optimizer_steps)
    with pytest.raises(SizesError, match=r"planned_steps\(2\): there is no optimizer 2"):
        machine.planned_steps(2)


def test_under_truncated_bptt_it_cannot_be_known() -> None:
    class ScheduledRecurrent(Recurrent):
        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=1 / self.trainer.total_steps)

    with pytest.raises(SizesError, match="each batch has splits of its own"):
        machine_of(ScheduledRecurrent(), sequences(6, 2, 7), truncated_bptt_steps=3)


def test_a_stream_is_trained_for_max_steps() -> None:
    model = Scheduled()
    machine = machine_of(model, stream(50), max_steps=6)
    machine.run()
    assert model.asked == machine.global_step == 6


def test_an_answer_that_the_other_optimizers_make_wrong_is_an_error() -> None:
    torch.manual_seed(0)
    guards = Guards(step={0: every_n_batches(3)})
    with pytest.raises(
        SizesError, match=r"asked for the steps of optimizer 0 and got 4, but together with the others it makes 2"
    ):
        machine_of(ScheduledOne(), batches(40), max_steps=4, guards=guards)


class ScheduledOne(Adversaries):
    """Two optimizers, of which it asks about the first."""

    def configure_optimizers(self) -> Any:
        assert self.trainer.total_steps
        return super().configure_optimizers()
