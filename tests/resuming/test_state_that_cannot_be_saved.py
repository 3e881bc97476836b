"""Stops in a pass or batch whose state cannot be saved: the pass restarts, the batch is finished, the bits are the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from attrs import define, frozen
from torch import Tensor
from torch.utils.data import DataLoader

from fsmtrain import Guards, Machine, SeededDataLoader, State, every_n_batches
from tests.models import (
    Adversaries,
    Perceptron,
    Recurrent,
    Samples,
    StartCounts,
    TransitionRecorder,
    batches,
    machine_of,
    sequences,
    stream,
)
from tests.resuming.kill_and_resume import differences, outcome
from tests.resuming.resume_scenarios import NoisySamples, adam_of, two_val_loaders
from tests.resuming.test_resuming import StopAt

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@frozen
class Found:
    """What a step returns, and no checkpoint can hold."""

    loss: Tensor


class WithObjects(Perceptron):
    """Validation and test that draw random numbers, and gather objects."""

    def __init__(self) -> None:
        super().__init__(adam_of)

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        return Found(self.loss(batch) + torch.rand(()) + dataloader_i)

    def validation_end(self, outputs: Any) -> Any:
        every = outputs if isinstance(outputs[0], list) else [outputs]
        return {"val_loss": torch.stack([found.loss for one in every for found in one]).sum()}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        return self.validation_step(batch, batch_nb)

    def test_end(self, outputs: Any) -> Any:
        return {"test_loss": self.validation_end(outputs)["val_loss"]}


def noisy(n: int, **more: Any) -> Any:
    return DataLoader(NoisySamples(n), batch_size=2, shuffle=True, **more)


LOADERS: dict[str, Any] = {
    "a plain loader": lambda: noisy(6),
    "two loaders": two_val_loaders(6, 4),
    "a stream": lambda: stream(6),
    "a seeded loader": lambda: SeededDataLoader(NoisySamples(6), batch_size=2, shuffle=True, seed=2),
    "two workers": lambda: noisy(6, num_workers=2, multiprocessing_context="fork"),
}


def evaluated(val: Any, callbacks: Iterable[object] = (), model: Any = WithObjects) -> Machine:
    torch.manual_seed(0)
    given = {"max_nb_epochs": 1, "nb_sanity_val_steps": 2, "val_check_interval": 2, "seed": 5}
    guards = Guards(save=every_n_batches(3))
    return machine_of(model(), noisy(8), val(), noisy(4), guards=guards, callbacks=callbacks, **given)


def ended(machine: Machine, visits: TransitionRecorder, counting: StartCounts) -> dict[str, Any]:
    machine.run()
    return {**outcome(machine, visits), "counted": dict(vars(counting))}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:val.*must be loaded again", "ignore:.*draw random")
@pytest.mark.parametrize("name", LOADERS)
def test_a_pass_that_cannot_be_saved_begins_again_in_the_same_bits(name: str) -> None:
    """At each transition of the run, those of the sanity pass, the checks and the test."""
    val = LOADERS[name]
    visits, counting = TransitionRecorder(), StartCounts()
    whole = ended(evaluated(val, [visits, counting]), visits, counting)
    states = visits.states
    every = 7 if name == "two workers" else 1
    again = []
    for n in range(1, len(states), every):
        stopped = evaluated(val, [StopAt(n), StartCounts()])
        stopped.run()
        visits, counting = TransitionRecorder(), StartCounts()
        machine = evaluated(val, [visits, counting])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            machine.resume()
        assert differences(whole, ended(machine, visits, counting)) == [], (n, states[n - 1])
        if "begins again at its first batch" in "".join(str(one.message) for one in told):
            again.append(states[n])
            assert visits.states[0] is states[n]
            assert f"outputs[0][0]: a {__name__}.Found" in str(told[0].message)
        else:  # nothing is made twice
            assert len(visits.seen) <= len(states) - n
    assert again
    assert every > 1 or set(again) == {State.SANITY_VAL, State.VAL_CHECK, State.TEST}


def test_a_pass_that_begins_again_can_be_stopped_again() -> None:
    val = LOADERS["a plain loader"]
    visits, counting = TransitionRecorder(), StartCounts()
    whole = ended(evaluated(val, [visits, counting]), visits, counting)
    evaluated(val, [StopAt(visits.states.index(State.VAL_CHECK) + 1), StartCounts()]).run()
    for n in (1, 1):
        machine = evaluated(val, [StopAt(n), StartCounts()])
        with pytest.warns(UserWarning, match="begins again"):
            machine.resume()
        machine.run()
        assert machine.last_state is State.VAL_CHECK
    visits, counting = TransitionRecorder(), StartCounts()
    machine = evaluated(val, [visits, counting])
    with pytest.warns(UserWarning, match="begins again"):
        machine.resume()
    assert differences(whole, ended(machine, visits, counting)) == []


class Counted(WithObjects):
    """Validation that changes the model."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        self.seen += 1
        return super().validation_step(batch, batch_nb, dataloader_i)


def test_a_warning_names_what_the_repeated_pass_had_changed_in_the_model() -> None:
    val = LOADERS["a plain loader"]
    evaluated(val, [StopAt(1)], Counted).run()  # in the sanity pass
    with pytest.warns(UserWarning, match=r"The pass had changed the model before: seen\. So what follows may differ"):
        evaluated(val, (), Counted).resume()


def test_a_run_that_does_not_save_keeps_no_beginning() -> None:
    machine = machine_of(WithObjects(), batches(4), batches(4), callbacks=[StopAt(1)])
    machine.run()
    assert machine.last_state is State.SANITY_VAL
    for eval_pass in machine._actions.eval_passes.values():
        assert eval_pass.snapshot is None
        assert eval_pass._takes_snapshots is False


# ---- a batch in hand


@define
class Bag:
    """A batch of a class of its own."""

    x: Tensor
    y: Tensor


def bag_of(items: Any) -> Bag:
    return Bag(*map(torch.stack, zip(*items, strict=True)))


class Bagged(DataLoader[Any]):
    """Such batches."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset, batch_size=2, shuffle=True, collate_fn=bag_of)


class Hidden(NamedTuple):
    """Hidden states of a class of its own."""

    h: Tensor
    c: Tensor


class Bags(Recurrent):
    """Splits that are such batches."""

    def __init__(self) -> None:
        super().__init__(adam_of)

    def tbptt_split_batch(self, batch: Bag, split_size: int) -> list[Any]:
        steps = range(0, batch.x.shape[1], split_size)
        return [Bag(batch.x[:, s : s + split_size], batch.y[:, s : s + split_size]) for s in steps]

    def training_step(self, batch: Bag, batch_nb: int, hiddens: Any) -> Any:
        output = super().training_step((batch.x, batch.y), batch_nb, hiddens and tuple(hiddens))
        return {**output, "hiddens": Hidden(*output["hiddens"])}


class Pairs(Adversaries):
    """Two optimizers."""

    def training_step(self, batch: Bag, batch_nb: int, optimizer_i: int) -> Any:
        return super().training_step((batch.x, batch.y), batch_nb, optimizer_i)


def in_splits(callbacks: Iterable[object]) -> Machine:
    torch.manual_seed(0)
    guards = Guards(save=every_n_batches(2))
    train = Bagged(sequences(6, 2, 7).dataset)
    return machine_of(Bags(), train, truncated_bptt_steps=3, max_nb_epochs=2, guards=guards, callbacks=callbacks)


def in_turns(callbacks: Iterable[object]) -> Machine:
    torch.manual_seed(0)
    guards = Guards(save=every_n_batches(2))
    return machine_of(Pairs(), Bagged(Samples(6)), max_nb_epochs=2, guards=guards, callbacks=callbacks)


@pytest.mark.parametrize("make", [in_splits, in_turns])
def test_a_stop_within_a_batch_that_cannot_be_saved_waits_for_its_end(make: Any) -> None:
    visits = TransitionRecorder()
    machine = make([visits])
    machine.run()
    whole, states = outcome(machine, visits), visits.states
    ends = {i for i in range(len(states) - 1) if states[i] is State.ROUND_END and states[i + 1] is not State.TRAIN_BATCH}
    for n in range(2, len(states)):
        stopped = make([StopAt(n)])
        stopped.run()
        assert stopped.state is State.STOPPED
        visits = TransitionRecorder()
        machine = make([visits])
        machine.resume()
        machine.run()
        assert differences(whole, outcome(machine, visits)) == []
        if stopped.last_state is State.ROUND_END:
            first = len(states) - len(visits.seen)  # what is visited first is that end of a round, its work done
            assert first in ends
            assert not any(n <= end < first for end in ends), "it waits no longer"
