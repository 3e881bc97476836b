"""Errors for wrong models, loaders and hooks; and what a run leaves behind if an exception or a stop ends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from fsmtrain import Callback, EarlyStopping, FsmtrainError, Guards, Machine, State, Trainer, TrainingModule, after_batches
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import GuardError, ModelError, OptionsError, OutOfMemoryError
from tests.models import (
    Adversaries,
    Linear,
    Plain,
    Samples,
    Validated,
    batches,
    machine_of,
    same_bits,
    state_notes,
    stream,
    trained,
    weights,
)

# ---- what training_step returns


def detached(loss: Any) -> Any:
    return loss.detach()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss: 0.5, r"training_step returned a float"),
        (lambda loss: [loss], r"training_step returned a list"),
        (lambda loss: (loss, {}), r"training_step returned a tuple"),
        (lambda loss: {}, r"a dict without a loss tensor \(its keys: none\)"),
        (lambda loss: {"val_loss": loss, "log": {}}, r"a dict without a loss tensor \(its keys: 'val_loss', 'log'\)"),
        (lambda loss: {"loss": 0.5}, r"a dict without a loss tensor \(its keys: 'loss'\)"),
        (lambda loss: {"loss": None}, r"a dict without a loss tensor"),
        (lambda loss: loss.repeat(2), r"a loss of shape \(2,\)\. A loss is one number"),
        (lambda loss: {"loss": loss.repeat(3, 1)}, r"a loss of shape \(3, 1\)"),
        (lambda loss: loss[None][:0], r"a loss of shape \(0,\)"),
        (detached, r"a loss from which no gradient flows"),
        (lambda loss: {"loss": detached(loss)}, r"a loss from which no gradient flows"),
        (lambda loss: torch.tensor(1.0), r"a loss from which no gradient flows"),
    ],
    ids=range(13),
)
def test_a_training_step_that_returns_no_loss_is_an_error(change: Callable[[Any], Any], message: str) -> None:
    class Wrong(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = self.loss(batch)
            return loss if batch_nb == 0 else change(loss)

    with pytest.raises(ModelError, match=message) as caught:
        trained(Wrong(), batches(4), max_nb_epochs=1)
    assert state_notes(caught.value) == ["in state train_batch, epoch 0, batch 1, optimizer 0"]


def test_a_training_step_that_does_not_take_optimizer_i_gets_an_error_that_says_whose_turn_it_was() -> None:
    class OneLoss(Adversaries):
        def training_step(self, batch: Any, batch_nb: int) -> Any:  # type: ignore[override]
            return self.generator(batch[0]).mean()

    with pytest.raises(ModelError, match=r"(?s)optimizer 1, whose turn it was: .* does not take optimizer_i\. Write"):
        trained(OneLoss(), batches(4), max_nb_epochs=1)


def test_a_loss_with_one_element_is_accepted_in_any_shape() -> None:
    class Shaped(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = self.loss(batch)
            return loss.reshape((1,) * batch_nb)

    assert trained(Shaped(), batches(8), max_nb_epochs=1, accumulate_grad_batches=2).counters.global_step == 2


def test_a_fit_without_gradients_is_an_error() -> None:
    with torch.no_grad(), pytest.raises(ModelError, match="no gradient flows"):
        trained(Linear(), batches(4), max_nb_epochs=1)


# ---- models, callbacks and devices


def test_a_model_without_training_step_is_refused() -> None:
    class Unfinished(TrainingModule):
        def configure_optimizers(self) -> Any:
            raise AssertionError

    with pytest.raises(ModelError, match="Unfinished has no method training_step: it is called with each train batch"):
        machine_of(Unfinished(), batches(4))


def test_a_model_without_train_data_is_refused() -> None:
    with pytest.raises(ModelError, match=r"train_dataloader: nothing to train on\. Give Linear a method train_dataloader"):
        machine_of(Linear())


def test_a_guard_that_raises_is_named() -> None:
    armed: list[bool] = []

    def broken(limits: Any, counters: Any, signals: Any) -> bool:
        if armed:
            raise KeyError("x")
        return True

    machine = machine_of(Linear(), batches(4), max_nb_epochs=1, guards=Guards(step={0: broken}))
    armed.append(True)
    with pytest.raises(GuardError, match=r"step=\{0: broken\}.*raised KeyError") as caught:
        machine.run()
    assert isinstance(caught.value.__cause__, KeyError)
    assert state_notes(caught.value) == ["in state backward, epoch 0, batch 0, optimizer 0"]


@pytest.mark.parametrize("callback", [object(), 5, "on_epoch_end", nn.Linear(1, 1)])
def test_a_callback_without_any_hook_is_refused(callback: Any) -> None:
    with pytest.raises(OptionsError, match=r"has no hook\. A callback has at least one of these methods: .*on_run_start"):
        machine_of(Linear(), batches(2), callbacks=[callback])


def test_a_callback_that_is_a_class_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"callbacks: .*Callback"):
        machine_of(Linear(), batches(2), callbacks=[Callback])


@pytest.mark.parametrize("device", ["nowhere", "cpu:x", "cuda:99", "meta:7x"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(OptionsError, match=f"device='{device}': there is no such device here"):
        machine_of(Linear(), batches(2), device=device)


@pytest.mark.parametrize("model", [5, None, object(), "model"], ids=["int", "none", "object", "str"])
def test_what_is_no_module_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match=r"is not a torch\.nn\.Module"):
        machine_of(model, batches(2))
    with pytest.raises(ModelError, match=r"is not a torch\.nn\.Module"):
        Trainer(progress_bar=False).fit(model, batches(2))


def test_a_class_passed_as_the_model_is_an_error_and_unchanged() -> None:
    class Forgotten(Plain):
        pass

    with pytest.raises(ModelError, match="model: Forgotten is a class"):
        machine_of(Forgotten, batches(2))  # type: ignore[arg-type]
    assert not hasattr(Forgotten, "trainer")


# ---- a run with a trap in it


class Trap(Callback):
    """Acts when a place is passed for the n-th time. Places are the names of methods, "callback " before those of callbacks.

    As a callback it passes its own places. It keeps the batch normalisation in eval mode, as a user might, and counts how
    often a run ends.
    """

    def __init__(self, place: str = "", nth: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.place, self.nth, self.act = place, nth, act
        self.passed = self.ends = 0

    def passes(self, place: str) -> None:
        """A place is passed."""
        if place == self.place:
            self.passed += 1
            if self.passed == self.nth:
                self.act()

    def on_run_start(self, machine: Any) -> None:
        machine.model.norm.eval()
        self.passes("callback on_run_start")

    def on_run_end(self, machine: Any) -> None:
        self.ends += 1
        self.passes("callback on_run_end")

    def on_epoch_start(self, machine: Any) -> None:
        self.passes("callback on_epoch_start")

    def on_epoch_end(self, machine: Any) -> None:
        self.passes("callback on_epoch_end")

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        self.passes("callback on_batch_start")

    def on_batch_end(self, machine: Any) -> None:
        self.passes("callback on_batch_end")

    def on_validation_start(self, machine: Any) -> None:
        self.passes("callback on_validation_start")

    def on_validation_end(self, machine: Any, metrics: Any) -> None:
        self.passes("callback on_validation_end")


class TrapForTransitions(Trap):
    """The same, with the hook that is called after every transition."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        self.passes("callback on_transition")


class Trapped(nn.Module):
    """Two optimizers, a frozen parameter, batch normalisation and dropout; passes a place in each of its methods."""

    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.second.bias.requires_grad_(False)
        self.trap = trap

    def forward(self, x: Any) -> Any:
        self.trap.passes("forward")
        return self.second(self.dropout(self.norm(self.first(x))))

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        self.trap.passes("training_step")
        loss = self(batch[0]).mean()
        loss.register_hook(lambda gradient: self.trap.passes("backward"))
        return loss

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.trap.passes("validation_step")
        return {"val_loss": self(batch[0]).mean()}

    def validation_end(self, outputs: Any) -> Any:
        self.trap.passes("validation_end")
        return {"val_loss": 1.0}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.trap.passes("test_step")

    def test_end(self, outputs: Any) -> Any:
        self.trap.passes("test_end")

    def optimizer_step(self, epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, closure: Any) -> None:
        self.trap.passes("optimizer_step")
        optimizer.step()
        optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        self.trap.passes("configure_optimizers")
        first, second = SGD(self.first.parameters(), lr=0.1), SGD(self.second.parameters(), lr=0.1)

        def factor(epoch: int) -> float:
            self.trap.passes("scheduler")
            return 1.0

        return [first, second], [LambdaLR(first, factor)]

    def train_dataloader(self) -> Any:
        self.trap.passes("train_dataloader")
        return TrappedLoader("train", 4, self.trap)

    def val_dataloader(self) -> Any:
        self.trap.passes("val_dataloader")
        return TrappedLoader("val", 2, self.trap)

    def test_dataloader(self) -> Any:
        self.trap.passes("test_dataloader")
        return TrappedLoader("test", 2, self.trap)

    def on_run_start(self) -> None:
        self.trap.passes("on_run_start")

    def on_run_end(self) -> None:
        self.trap.passes("on_run_end")

    def on_epoch_start(self) -> None:
        self.trap.passes("on_epoch_start")

    def on_epoch_end(self) -> None:
        self.trap.passes("on_epoch_end")

    def on_batch_start(self, batch: Any) -> None:
        self.trap.passes("on_batch_start")

    def on_batch_end(self) -> None:
        self.trap.passes("on_batch_end")

    def on_validation_start(self) -> None:
        self.trap.passes("on_validation_start")

    def on_validation_end(self, metrics: Any) -> None:
        self.trap.passes("on_validation_end")


class TrappedLoader:
    """A loader that draws random numbers and passes a place when it is begun and at each batch."""

    def __init__(self, name: str, n: int, trap: Trap) -> None:
        self.name, self.n, self.trap = name, n, trap
        self.samples = Samples(2 * n)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Any]:
        self.trap.passes(f"{self.name} begins")
        for i in range(self.n):
            self.trap.passes(f"{self.name} batch")
            torch.rand(1)
            yield self.samples.x[2 * i : 2 * i + 2], self.samples.y[2 * i : 2 * i + 2]


def trapped(model: Trapped, **options: Any) -> Machine:
    """2 epochs of 4 batches in windows of 2: a sanity pass of 1 batch, validations after batches 1 and 3, and a test."""
    common = {"max_nb_epochs": 2, "accumulate_grad_batches": 2, "val_check_interval": 2, "nb_sanity_val_steps": 1}
    return machine_of(model, callbacks=[model.trap], **{**common, **options})


def modes(model: nn.Module) -> list[bool]:
    """The mode of each submodule."""
    return [module.training for module in model.modules()]


def requires_grad(model: nn.Module) -> list[bool]:
    """Which parameters require a gradient."""
    return [parameter.requires_grad for parameter in model.parameters()]


def in_one_go(machine: Machine) -> None:
    machine.run()


def in_steps(machine: Machine) -> None:
    while not machine.state.is_final:
        machine.advance()


class OurError(Exception):
    """An error of the user's."""


# Each place with a number n, and where the run stands when it is passed for the n-th time: state, epoch, batch, optimizer.
# The optimizer means something in a round only.
PLACES: list[tuple[str, int, str, int, int, int | None]] = [
    ("val begins", 1, "sanity_val", 0, 0, None),
    ("val batch", 1, "sanity_val", 0, 0, None),
    ("validation_step", 1, "sanity_val", 0, 0, None),
    ("validation_end", 1, "sanity_val", 0, 0, None),
    ("callback on_epoch_start", 2, "fetch", 1, 0, None),
    ("on_epoch_start", 1, "fetch", 0, 0, None),
    ("train begins", 2, "fetch", 1, 0, None),
    ("train batch", 3, "fetch", 0, 2, None),
    ("callback on_batch_start", 3, "fetch", 0, 2, None),
    ("on_batch_start", 5, "fetch", 1, 0, None),
    ("training_step", 6, "train_batch", 0, 2, 1),
    ("training_step", 9, "train_batch", 1, 0, 0),
    ("forward", 2, "train_batch", 0, 0, 0),  # the first one was in the sanity pass
    ("backward", 5, "backward", 0, 2, 0),
    ("optimizer_step", 3, "step", 0, 3, 0),
    ("optimizer_step", 6, "step", 1, 1, 1),
    ("callback on_batch_end", 3, "round_end", 0, 2, 1),
    ("on_batch_end", 8, "round_end", 1, 3, 1),
    ("callback on_validation_start", 2, "val_check", 0, 3, None),
    ("on_validation_start", 1, "val_check", 0, 1, None),
    ("val begins", 2, "val_check", 0, 1, None),
    ("val batch", 5, "val_check", 0, 3, None),
    ("validation_step", 3, "val_check", 0, 1, None),
    ("validation_end", 4, "val_check", 1, 1, None),
    ("callback on_validation_end", 2, "val_check", 0, 3, None),
    ("on_validation_end", 3, "val_check", 1, 1, None),
    ("callback on_epoch_end", 2, "epoch_end", 1, 3, None),
    ("on_epoch_end", 1, "epoch_end", 0, 3, None),
    ("scheduler", 2, "epoch_end", 0, 3, None),  # the first time was when it was made
    ("test begins", 1, "test", 1, 3, None),
    ("test batch", 2, "test", 1, 3, None),
    ("test_step", 1, "test", 1, 3, None),
    ("test_end", 1, "test", 1, 3, None),
]
NAMES = [f"{place} {nth}" for place, nth, *_ in PLACES]


# ---- exceptions


def disarmed_runs(model: Trapped) -> None:
    """A later run of the same model works."""
    model.trap.place = ""
    trainer = Trainer(progress_bar=False, device="cpu", max_nb_epochs=1)
    assert trainer.fit(model).stop_reason is StopReason.MAX_EPOCHS
    assert trainer.test() == {}


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
@pytest.mark.parametrize(("place", "nth", "state", "epoch", "batch", "optimizer"), PLACES, ids=NAMES)
def test_an_exception_comes_through_with_its_place_and_leaves_the_model_as_it_was(
    drive: Any, place: str, nth: int, state: str, epoch: int, batch: int, optimizer: int | None
) -> None:
    error = OurError("ours")

    def act() -> None:
        raise error

    trap = Trap(place, nth, act)
    model = Trapped(trap)
    before = requires_grad(model)
    machine = trapped(model)
    with pytest.raises(OurError) as caught:
        drive(machine)
    assert caught.value is error
    [note] = state_notes(error)
    index = r"\d" if optimizer is None else str(optimizer)
    assert re.fullmatch(f"in state {state}, epoch {epoch}, batch {batch}, optimizer {index}", note)
    assert modes(model) == [True, True, True, False, True]
    assert torch.is_grad_enabled()
    assert requires_grad(model) == before
    assert trap.ends == 1
    assert not hasattr(model, "trainer")
    disarmed_runs(model)


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
@pytest.mark.parametrize("place", ["on_run_start", "callback on_run_start"])
def test_an_exception_before_the_first_state_ends_the_run_too(drive: Any, place: str) -> None:
    trap = Trap(place, 1, raising(OurError))
    model = Trapped(trap)
    with pytest.raises(OurError) as caught:
        drive(trapped(model))
    assert len(state_notes(caught.value)) == 1
    assert trap.ends == 1
    assert not hasattr(model, "trainer")
    disarmed_runs(model)


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
@pytest.mark.parametrize("nth", [1, 2, 9])
def test_an_exception_after_a_transition_has_its_place_too(drive: Any, nth: int) -> None:
    trap = TrapForTransitions("callback on_transition", nth, raising(OurError))
    model = Trapped(trap)
    with pytest.raises(OurError) as caught:
        drive(trapped(model))
    assert trap.ends == 1
    disarmed_runs(model)
    assert len(state_notes(caught.value)) == 1


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
@pytest.mark.parametrize("place", ["on_run_end", "callback on_run_end"])
def test_an_exception_when_the_run_has_ended_comes_through(drive: Any, place: str) -> None:
    model = Trapped(Trap(place, 1, raising(OurError)))
    machine = trapped(model)
    with pytest.raises(OurError):
        drive(machine)
    assert machine.result.stop_reason is StopReason.MAX_EPOCHS
    assert not hasattr(model, "trainer")
    disarmed_runs(model)


def test_an_exception_at_the_end_hides_none_that_came_before_it() -> None:
    class Twice(Trap):
        def on_run_end(self, machine: Any) -> None:
            raise OurError("second")

    first = ValueError("first")
    model = Trapped(Twice("training_step", 3, raising(first)))
    with pytest.raises((ValueError, OurError)) as caught:
        trapped(model).run()
    assert first in (caught.value, caught.value.__context__)


@pytest.mark.parametrize("place", ["configure_optimizers", "train_dataloader", "val_dataloader", "test_dataloader"])
def test_an_exception_while_a_run_is_being_built_comes_through(place: str) -> None:
    trap = Trap(place, 1, raising(OurError))
    model = Trapped(trap)
    with pytest.raises(OurError) as caught:
        trapped(model)
    assert state_notes(caught.value) == []
    assert trap.ends == 0
    assert not hasattr(model, "trainer")
    disarmed_runs(model)


def raising(error: Any) -> Callable[[], None]:
    """A function that raises this."""

    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit, AssertionError, MemoryError])
@pytest.mark.parametrize("place", ["training_step", "validation_step", "on_batch_start", "on_epoch_end", "test_step"])
def test_exceptions_of_every_kind_come_through(error: type[BaseException], place: str) -> None:
    trap = Trap(place, 2, raising(error))
    model = Trapped(trap)
    with pytest.raises(error) as caught:
        trapped(model).run()
    raised = caught.value.__cause__ if isinstance(caught.value, OutOfMemoryError) else caught.value  # which it says where
    assert type(raised) is error
    assert len(state_notes(caught.value)) == 1
    assert trap.ends == 1
    assert modes(model) == [True, True, True, False, True]


@pytest.mark.parametrize("place", ["val begins", "val batch", "validation_step", "validation_end"])
def test_an_exception_in_the_sanity_pass_puts_the_random_state_back(place: str) -> None:
    model = Trapped(Trap(place, 1, raising(OurError)))
    before = torch.get_rng_state()
    with pytest.raises(OurError):
        trapped(model).run()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_exception_in_two_runs_names_both_places_once_each() -> None:
    error = OurError()
    for nth in (1, 1, 3):
        with pytest.raises(OurError):
            trapped(Trapped(Trap("training_step", nth, raising(error)))).run()
    assert state_notes(error) == [f"in state train_batch, epoch 0, batch {b}, optimizer 0" for b in (0, 1)]


def test_a_failed_run_cannot_be_continued() -> None:
    """Its batches and windows are lost: continuing would train something else."""
    machine = trapped(Trapped(Trap("training_step", 5, raising(OurError))))
    with pytest.raises(OurError):
        machine.run()
    with pytest.raises(FsmtrainError):
        machine.run()
    with pytest.raises(FsmtrainError):
        machine.advance()


def test_an_exception_in_a_sanity_pass_of_several_loaders_and_streams_restores_the_modes() -> None:
    class Failing(Validated):
        def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int) -> Any:  # type: ignore[override]
            assert not self.training
            if dataloader_i == 1:
                raise OurError
            return {}

    model = Failing()
    with pytest.raises(OurError):
        trained(model, batches(2), [batches(2), stream(4)], max_nb_epochs=1)
    assert model.training


# ---- requests to stop

# The place where a stop is requested, and the last visit of the run: state, epoch, batch, optimizer.
LAST_VISITS: list[tuple[str, int, str, int, int, int | None]] = [
    ("callback on_run_start", 1, "start", 0, 0, None),
    ("on_run_start", 1, "start", 0, 0, None),
    ("val begins", 1, "sanity_val", 0, 0, None),
    ("validation_step", 1, "sanity_val", 0, 0, None),
    ("validation_end", 1, "sanity_val", 0, 0, None),
    ("on_epoch_start", 1, "round_end", 0, 0, 0),
    ("callback on_epoch_start", 2, "round_end", 1, 0, 0),
    ("train batch", 3, "round_end", 0, 2, 0),
    ("callback on_batch_start", 3, "round_end", 0, 2, 0),
    ("training_step", 5, "round_end", 0, 2, 0),
    ("training_step", 6, "round_end", 0, 2, 1),
    ("backward", 5, "round_end", 0, 2, 0),
    ("optimizer_step", 3, "round_end", 0, 3, 0),
    ("callback on_batch_end", 3, "round_end", 0, 2, 1),
    ("on_batch_end", 4, "round_end", 0, 3, 1),
    ("callback on_validation_start", 2, "val_check", 0, 3, None),
    ("validation_step", 2, "val_check", 0, 1, None),
    ("validation_step", 3, "val_check", 0, 1, None),
    ("validation_end", 3, "val_check", 0, 3, None),
    ("callback on_validation_end", 1, "val_check", 0, 1, None),
    ("callback on_epoch_end", 1, "early_stop", 0, 3, None),
    ("on_epoch_end", 2, "early_stop", 1, 3, None),
    ("scheduler", 2, "early_stop", 0, 3, None),
    ("test_step", 1, "test", 1, 3, None),
    ("test_end", 1, "test", 1, 3, None),
]


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
@pytest.mark.parametrize(
    ("place", "nth", "state", "epoch", "batch", "optimizer"),
    LAST_VISITS,
    ids=[f"{place} {nth}" for place, nth, *_ in LAST_VISITS],
)
def test_a_stop_that_is_requested_anywhere_ends_the_run_at_the_first_possible_moment(
    drive: Any, place: str, nth: int, state: str, epoch: int, batch: int, optimizer: int | None
) -> None:
    trap = Trap(place, nth, lambda: machine.stop())
    model = Trapped(trap)
    before = requires_grad(model)
    machine = trapped(model, min_nb_epochs=2)
    drive(machine)
    assert machine.state is State.STOPPED
    assert machine.stop_reason is StopReason.REQUESTED
    *_, last = machine.trace
    assert (last.source.value, last.current_epoch, last.batch_nb) == (state, epoch, batch)
    assert optimizer in (None, last.optimizer_i)
    assert trap.ends == 1
    assert requires_grad(model) == before
    assert modes(model) == [True, True, True, False, True]
    assert not hasattr(model, "trainer")
    disarmed_runs(model)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_stop_that_is_requested_after_a_transition_is_taken_at_the_next_visit(nth: int) -> None:
    trap = TrapForTransitions("callback on_transition", nth, lambda: machine.stop())
    machine = trapped(Trapped(trap), nb_sanity_val_steps=2)
    machine.run()
    assert machine.stop_reason is StopReason.REQUESTED
    assert [transition.source for transition in machine.trace] == [State.START, State.SANITY_VAL, State.SANITY_VAL][: nth + 1]


def test_a_stop_that_is_requested_at_the_end_of_an_epoch_that_is_cut_short_ends_the_run_before_the_test() -> None:
    trap = Trap("on_epoch_end", 1, lambda: machine.stop())
    machine = trapped(Trapped(trap), min_nb_epochs=0, guards=Guards(stop=after_batches(2)))
    machine.run()
    assert machine.counters.epoch_ended_early
    assert machine.stop_reason is StopReason.REQUESTED
    assert State.TEST not in machine.times


def test_a_validation_whose_last_batch_is_done_counts_though_a_stop_is_requested_in_it() -> None:
    machine = trapped(Trapped(Trap("on_validation_end", 2, lambda: machine.stop())))
    machine.run()
    assert machine.counters.validations_done == 2


def test_a_request_when_the_run_has_ended_changes_no_reason() -> None:
    machine = trapped(Trapped(Trap("on_run_end", 1, lambda: machine.stop())))
    machine.run()
    assert machine.stop_reason is StopReason.MAX_EPOCHS
    assert machine.state is State.DONE


def test_a_request_and_an_exhausted_patience_together_are_a_request() -> None:
    rule = EarlyStopping(patience=1)
    machine = trapped(Trapped(Trap("on_validation_end", 2, lambda: machine.stop())), early_stop_callback=rule, min_nb_epochs=0)
    machine.run()
    assert machine.signals.patience_exhausted
    assert machine.stop_reason is StopReason.REQUESTED


def test_a_request_in_the_sanity_pass_leaves_no_trace_in_the_model_and_the_random_state() -> None:
    model = Trapped(Trap("validation_step", 1, lambda: machine.stop()))
    before, state = weights(model), torch.get_rng_state()
    machine = trapped(model)
    machine.run()
    assert same_bits(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)
