"""Copies and pickles: a value equals what it was made from, a trainer has run nothing, a run is refused; never None."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fsmtrain import (
    EarlyStopping,
    Guards,
    Loop,
    Machine,
    ModelCheckpoint,
    Options,
    SeededDataLoader,
    Sizes,
    Trainer,
    after_batches,
    after_steps,
    every_n_batches,
    every_n_steps_of,
)
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.errors import CopyError, FsmtrainError, SizesError
from tests.models import Linear, Plain, TransitionRecorder, Validated, batches, flags, machine_of, same_bits, trained, weights
from tests.strategies import Case, cases

Copy = Callable[[Any], Any]


def pickled(value: Any) -> Any:
    """Return the value from a pickle."""
    return pickle.loads(pickle.dumps(value))


WAYS: tuple[Copy, ...] = (copy.copy, copy.deepcopy, pickled)
ways = pytest.mark.parametrize("copied", WAYS)


def second_of_window(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """A guard at the top level of a module."""
    return counters.gathered == 2


class Counting:
    """A guard with a memory."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        self.calls += 1
        return self.calls % 3 == 0


class Locked:
    """A callback or logger that can neither be copied nor pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def log_metrics(self, metrics: Any, step: int) -> None: ...


READY_MADE = {
    "every_n_batches": every_n_batches(4, first=0),
    "every_n_steps_of": every_n_steps_of(0, 2),
    "after_batches": after_batches(5),
    "after_steps": after_steps(3),
    "checkpoint": ModelCheckpoint(every_n_steps=2).guard(Guards()),
    "checkpoint_with_guards": ModelCheckpoint(monitor="val_loss").guard(Guards(validate=every_n_batches(3))),
    "second_of_window": second_of_window,
    "Counting": Counting(),
}


# ---- values


@given(cases().filter(lambda case: case.replaced.stop is None), st.sampled_from(WAYS))
def test_a_copied_loop_has_the_table_and_the_plan_of_the_loop(case: Case, copied: Copy) -> None:
    loop = case.loop()
    other = copied(loop)
    assert (other.options, other.sizes, other.limits) == (loop.options, loop.sizes, loop.limits)
    assert [(row.source, row.then, row.to) for row in other.table] == [(row.source, row.then, row.to) for row in loop.table]
    try:
        plan = loop.plan()
    except SizesError:
        return
    assert str(other.plan()) == str(copied(plan)) == str(plan)
    assert copied(plan) == plan
    assert list(copied(plan).events()) == list(plan.events())


@ways
@pytest.mark.parametrize("guard", READY_MADE)
@pytest.mark.parametrize("place", ["step", "validate", "save", "stop"])
def test_copied_guards_decide_as_those_that_were_copied(copied: Copy, guard: str, place: str) -> None:
    own_guard: Any = copy.deepcopy(READY_MADE[guard])
    replaced: dict[str, Any] = {place: {0: own_guard} if place == "step" else own_guard}
    guards = Guards(**replaced)
    other = copied(guards)
    options, sizes = Options(max_nb_epochs=3, min_nb_epochs=0), Sizes(train=10, val=[2])
    own = copy.deepcopy(guards) if guard == "Counting" else guards
    assert list(Loop(options, sizes, guards=own)) == list(Loop(options, sizes, guards=other))


def test_a_deep_copy_of_guards_has_a_memory_of_its_own() -> None:
    counting = Counting()
    guards = Guards(step={0: counting})
    list(Loop(Options(max_nb_epochs=1), Sizes(train=7), guards=copy.deepcopy(guards)))
    assert counting.calls == 0


@ways
@pytest.mark.parametrize(
    "make",
    [
        lambda: flags(accumulate_grad_batches={0: 1, 2: 4}, early_stop_callback=EarlyStopping(patience=5)),
        lambda: Sizes(train=9, val=[3], optimizers=2),
        lambda: ModelCheckpoint(monitor="val_acc", mode="max"),
        lambda: EarlyStopping(min_delta=0.1),
        lambda: Loop(Options(max_nb_epochs=2), Sizes(train=9)).check(),
        lambda: Loop(Options(max_nb_epochs=2), Sizes(train=9)).plan(),
        lambda: next(Loop(Options(max_nb_epochs=2), Sizes(train=9)).plan().events()),
        lambda: next(iter(Loop(Options(max_nb_epochs=2), Sizes(train=9)))),
        lambda: trained(Linear(), batches(3), max_nb_epochs=1).result,
        lambda: trained(Linear(), batches(3), max_nb_epochs=1).loop,
        lambda: machine_of(Validated(), batches(3), batches(2), callbacks=[ModelCheckpoint(monitor="val_loss")]).loop,
        lambda: list(trained(Linear(), batches(3), max_nb_epochs=1).trace),
        lambda: trained(Linear(), batches(3), max_nb_epochs=1).counters,
        lambda: trained(Linear(), batches(3), max_nb_epochs=1).signals,
    ],
)
def test_a_copied_value_equals_the_value(copied: Copy, make: Callable[[], Any]) -> None:
    value = make()
    other = copied(value)
    assert type(other) is type(value)
    if not isinstance(value, Loop):  # whose guards may be other functions that answer alike
        assert (other, str(other)) == (value, str(value))


@pytest.mark.parametrize("guard", [lambda limits, counters, signals: True, every_n_batches.__wrapped__(2)])  # type: ignore[attr-defined]
@pytest.mark.parametrize("make", [lambda guards: guards, lambda guards: Loop(Options(), Sizes(train=3), guards=guards)])
def test_a_guard_without_a_name_cannot_be_pickled_and_its_place_is_named(guard: Any, make: Any) -> None:
    for guards, place in ((Guards(stop=guard), "stop"), (Guards(step={1: guard}), r"step=\{1: ...\}")):
        value = make(guards if place == "stop" else Guards(step={0: guard}))
        with pytest.raises(CopyError, match=r"Guards\((stop|step=.*)\): .* cannot be pickled: .*top level of a module"):
            pickle.dumps(value)
        assert copy.deepcopy(value) == copy.copy(value) == value


def test_a_table_is_copied_but_not_pickled() -> None:
    machine = trained(Linear(), batches(3), max_nb_epochs=1)
    assert list(copy.deepcopy(machine.trace)) == list(copy.copy(machine.trace)) == list(machine.trace)
    assert copy.deepcopy(machine.tally) == copy.copy(machine.tally) == machine.tally
    for value in (machine.loop.table, machine.trace, machine.tally):
        with pytest.raises(CopyError, match=r"Pickle the loop, .* or list\(trace\)"):
            pickle.dumps(value)


@pytest.mark.parametrize("error", FsmtrainError.__subclasses__())
def test_an_error_can_be_pickled_as_a_pool_of_processes_does(error: type[FsmtrainError]) -> None:
    other = pickled(error("its message"))
    assert (type(other), str(other)) == (error, "its message")


def test_a_seeded_loader_can_be_pickled() -> None:
    loader = SeededDataLoader(torch.utils.data.TensorDataset(torch.arange(8.0)), batch_size=2, shuffle=True, seed=3)
    assert same_bits([batch[0] for batch in pickled(loader)], [batch[0] for batch in loader])


# ---- trainers


@ways
@pytest.mark.parametrize("has_run", [False, True])
def test_a_copied_trainer_has_the_same_flags_and_no_run(copied: Copy, has_run: bool) -> None:
    trainer = Trainer(max_nb_epochs=2, quiet=True, runs_dir=None, device="cpu", guards=Guards(step={0: second_of_window}))
    if has_run:
        trainer.fit(Linear(), batches(8))
        trainer.validate(Validated(), batches(2))
    twin = copied(trainer)
    assert type(twin) is Trainer
    assert twin.plain() == trainer.plain()
    assert (twin.guards, twin.resume, twin.resume_strict) == (trainer.guards, None, True)
    assert twin.global_step == 0
    with pytest.raises(FsmtrainError, match="There is no machine yet"):
        _ = twin.machine
    assert twin.fit(Linear(), batches(8)).counters.global_step == 4
    assert trainer.global_step == (4 if has_run else 0)


class Labelled(Trainer):
    """A subclass with an attribute and a constructor of its own."""

    def __init__(self, label: str) -> None:
        super().__init__(max_nb_epochs=1, quiet=True, runs_dir=None)
        object.__setattr__(self, "label", label)


@ways
def test_a_copy_of_a_subclass_of_the_trainer_keeps_its_attributes(copied: Copy) -> None:
    twin = copied(Labelled("first"))
    assert (type(twin), twin.label, twin.max_nb_epochs) == (Labelled, "first", 1)


def test_trainers_within_a_configuration_are_copied_with_it() -> None:
    sweep: dict[str, Any] = {"short": Trainer(max_nb_epochs=1), "long": [Trainer(max_nb_epochs=9)]}
    twin = copy.deepcopy(sweep)
    assert (twin["short"].max_nb_epochs, twin["long"][0].max_nb_epochs) == (1, 9)


def test_a_deep_copy_of_a_trainer_has_callbacks_of_its_own_and_shares_the_logger() -> None:
    recorder, logger = TransitionRecorder(), Locked()
    trainer = Trainer(max_nb_epochs=1, callbacks=[recorder], logger=logger, quiet=True, runs_dir=None)
    assert copy.copy(trainer).callbacks == (recorder,)
    twin = copy.deepcopy(trainer)
    assert twin.callbacks != (recorder,)
    assert twin.logger is logger
    with pytest.raises(CopyError, match=r"^logger: .*Locked.* cannot be pickled: .*lock.*. Leave logger out"):
        pickle.dumps(trainer)
    with pytest.raises(CopyError, match=r"^logger: "):
        pickle.dumps(trainer.plain())


def test_a_callback_that_cannot_be_copied_is_named() -> None:
    trainer = Trainer(callbacks=[Locked()])
    with pytest.raises(CopyError, match=r"^callbacks: .*Locked.* cannot be copied: .*copy.copy\(trainer\)"):
        copy.deepcopy(trainer)
    with pytest.raises(CopyError, match=r"^callbacks: .*Locked.* cannot be pickled: .*Leave it out"):
        pickle.dumps(trainer)


class KnowsTrainer:
    """A callback that keeps its trainer."""

    trainer: Trainer | None = None


def test_a_callback_may_keep_its_trainer() -> None:
    knows = KnowsTrainer()
    trainer = Trainer(max_nb_epochs=7, callbacks=[knows])
    knows.trainer = trainer
    for twin in (copy.deepcopy(trainer), pickled(trainer)):
        (other,) = twin.callbacks
        assert isinstance(other, KnowsTrainer)
        assert other is not knows
        assert other.trainer is not None
        assert other.trainer.max_nb_epochs == 7


# ---- runs


@ways
def test_a_machine_is_not_copied_and_the_error_says_what_to_do(copied: Copy) -> None:
    machine = machine_of(Linear(), batches(3))
    for value in (machine, {"machine": machine}) if copied is not copy.copy else (machine,):
        with pytest.raises(CopyError, match=r"a machine cannot be copied or pickled.*build\(options, copy.deepcopy"):
            copied(value)
    with pytest.raises(TypeError):
        copied(machine)


class _Averaging:
    """Copies the model after each batch, in every way, as those do who keep an average of the weights."""

    def __init__(self) -> None:
        self.copies: list[nn.Module] = []

    def on_batch_end(self, machine: Machine) -> None:
        file = io.BytesIO()
        torch.save(machine.model, file)
        file.seek(0)
        self.copies += [copy.deepcopy(machine.model), torch.load(file, weights_only=False)]


class SetsTrainer(Plain):
    """A plain module that declares its trainer in its constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.trainer = None


@pytest.mark.parametrize("by_trainer", [True, False])
@pytest.mark.parametrize("make", [Linear, Plain, SetsTrainer])
def test_a_model_that_holds_its_trainer_is_copied_without_the_run(make: Any, by_trainer: bool) -> None:
    model, averaging = make(), _Averaging()
    if by_trainer:
        trainer = Trainer(max_nb_epochs=1, callbacks=[averaging], logger=Locked(), quiet=True, runs_dir=None, device="cpu")
        trainer.fit(model, batches(6))
    else:
        machine_of(model, batches(6), callbacks=[averaging], max_nb_epochs=1).run()
    assert len(averaging.copies) == 6
    assert same_bits(weights(averaging.copies[-1]), weights(model))
    for other in averaging.copies:
        assert other.trainer is None
    again = averaging.copies[0]
    trained(again, batches(3), max_nb_epochs=1)  # the copy gets a trainer of its own
    assert not same_bits(weights(again), weights(averaging.copies[1]))


@pytest.mark.parametrize("make", [Linear, Plain, SetsTrainer])
def test_the_trainer_that_a_model_holds_can_itself_be_copied(make: Any) -> None:
    class Copies(make):  # type: ignore[misc]
        def on_epoch_end(self) -> None:
            assert self.trainer.current_epoch == 0
            copies.extend([copy.copy(self.trainer), copy.deepcopy(self.trainer)])

    copies: list[Any] = []
    Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu").fit(Copies(), batches(3))
    assert [(type(other), other.max_nb_epochs, other.global_step) for other in copies] == [(Trainer, 1, 0)] * 2


def test_a_plain_module_has_its_own_attribute_back_after_the_run() -> None:
    model = SetsTrainer()
    trained(model, batches(2), max_nb_epochs=1)
    assert vars(model)["trainer"] is None


# ---- other processes


def steps_in_another_process(options: Options, loop: Loop, plan: Any, guards: Guards, trainer: Trainer) -> list[Any]:
    """Return numbers of each value, computed where it has been sent."""
    return [
        Loop(options, loop.sizes, guards=guards).plan().optimizer_steps,
        loop.plan().optimizer_steps,
        plan.optimizer_steps,
        trainer.fit(Linear(), batches(4)).counters.global_step,
    ]


@pytest.mark.slow
def test_values_are_sent_to_spawned_processes() -> None:
    options, guards = flags(max_nb_epochs=2), Guards(step={0: every_n_batches(3)}, stop=second_of_window)
    loop = Loop(options, Sizes(train=10), guards=guards)
    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu", guards=guards)
    arguments = (options, loop, loop.plan(), guards, trainer)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(steps_in_another_process, arguments) == steps_in_another_process(*copy.deepcopy(arguments))
