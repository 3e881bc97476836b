"""A run that ends by itself is saved there, and resumed with a higher limit it is the run that never had the lower one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, EarlyStopping, Guards, Machine, ModelCheckpoint, State, after_batches
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.runtime.checkpointing.checkpoint_folder import load_checkpoint
from tests.models import Perceptron, TransitionRecorder, batches, machine_of, same_bits, weights
from tests.resuming.kill_and_resume import differences, outcome
from tests.resuming.resume_scenarios import ScheduledSteps


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_of(
    callbacks: Iterable[object] = (), rule: ModelCheckpoint | None = None, *, test: bool = False, model: Any = None, **more: Any
) -> Machine:
    torch.manual_seed(0)
    rule = rule or ModelCheckpoint(dirpath="at", every_n_batches=3)
    given: dict[str, Any] = {"max_nb_epochs": 2, "seed": 1, "val_check_interval": 2, **more}
    return machine_of(
        (model or ScheduledSteps)(),
        batches(8, shuffle=True),
        batches(4),
        batches(4) if test else [],
        callbacks=[rule, *callbacks],
        **given,
    )


# Each way in which a run ends by itself, and the higher limit.
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_nb_epochs": ({"max_nb_epochs": 1}, {}),
    "a stop guard within an epoch": ({"guards": Guards(stop=after_batches(2)), "min_nb_epochs": 0}, {"min_nb_epochs": 0}),
    "a stop guard with open windows": (
        {"guards": Guards(stop=after_batches(1)), "min_nb_epochs": 0, "accumulate_grad_batches": 2},
        {"min_nb_epochs": 0, "accumulate_grad_batches": 2},
    ),
    "a stop guard after an epoch": ({"guards": Guards(stop=after_batches(2))}, {}),
    "patience": (
        {"early_stop_callback": EarlyStopping(patience=1, min_delta=100), "min_nb_epochs": 0},
        {"early_stop_callback": EarlyStopping(patience=9, min_delta=100), "min_nb_epochs": 0},
    ),
}


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize("name", ENDS)
def test_the_newest_checkpoint_has_the_weights_that_the_run_ended_with(name: str, test: bool) -> None:
    visits = TransitionRecorder()
    machine = run_of([visits], test=test, **ENDS[name][0])
    result = machine.run()
    assert result.state is State.DONE
    loaded = load_checkpoint(Path("at"))
    other = ScheduledSteps.load_from_checkpoint(loaded.path)
    assert same_bits(weights(other), weights(machine.model))
    assert loaded.metadata["global_step"] == result.counters.global_step
    # One more visit to save, in early_stop; and then the epoch is cut, or the test follows.
    at = visits.states.index(State.SAVE, visits.states.index(State.EARLY_STOP) if "epochs" in name else 0)
    ends = [i for i, state in enumerate(visits.states) if state is State.SAVE and visits.states[i - 1] is State.EARLY_STOP]
    assert ends == [max(at, ends[0])]
    follows = [*visits.states, State.DONE][ends[0] + 1]
    within = visits.seen[ends[0]].current_epoch == result.counters.epochs_done
    assert follows is (State.EPOCH_END if within else State.TEST if test else State.DONE)


@pytest.mark.parametrize("name", ENDS)
def test_a_run_resumed_from_its_end_with_a_higher_limit_has_the_bits_of_one_without_the_lower_one(name: str) -> None:
    lower, higher = ENDS[name]
    visits = TransitionRecorder()
    whole = run_of([visits], ModelCheckpoint(dirpath="whole", every_n_batches=3), **higher)
    whole.run()
    wanted = outcome(whole, visits)
    ended = run_of(**lower)
    ended.run()
    visits = TransitionRecorder()
    machine = run_of([visits], **higher)
    with pytest.warns(UserWarning, match="differences"):
        machine.resume(strict=False)
    machine.run()
    assert machine.global_step > ended.global_step
    found = outcome(machine, visits)
    assert differences({**wanted, "kept": None}, {**found, "kept": None}) == []  # their folders are two


@pytest.mark.parametrize("name", ENDS)
def test_a_run_resumed_from_its_end_with_the_same_limit_ends_at_once_and_saves_nothing(name: str) -> None:
    ended = run_of(**ENDS[name][0])
    ended.run()
    before = sorted(path.name for path in Path("at").glob("0*"))
    machine = run_of(**ENDS[name][0])
    machine.resume()
    result = machine.run()
    assert result.stop_reason is ended.result.stop_reason
    assert machine.times.get(State.FETCH) is None
    assert same_bits(weights(machine.model), weights(ended.model))
    assert sorted(path.name for path in Path("at").glob("0*")) == before


def test_a_run_whose_last_batch_is_saved_already_is_not_saved_again() -> None:
    visits = TransitionRecorder()
    run_of([visits], ModelCheckpoint(dirpath="at", save_top_k=-1)).run()
    assert visits.batches_of(State.SAVE) == [3, 3]
    assert len(list(Path("at").glob("0*"))) == 2


def test_the_end_is_planned() -> None:
    machine = run_of(max_nb_epochs=2)
    assert [list(group.epoch.saves) for group in machine.plan().epochs] == [[2], [2, 3]]


def test_save_top_k_does_not_count_the_end() -> None:
    machine = run_of((), ModelCheckpoint(dirpath="at", every_n_batches=3, save_top_k=2), max_nb_epochs=3)
    machine.run()
    kept = sorted(path.name for path in Path("at").glob("0*"))
    assert kept == ["000001", "000002", "000003"]  # the last two that are due, and the end
    resumed = run_of((), ModelCheckpoint(dirpath="at", every_n_batches=3, save_top_k=2), max_nb_epochs=4, model=ScheduledSteps)
    with pytest.warns(UserWarning, match="differences"):
        resumed.resume(strict=False)
    resumed.run()
    assert sorted(path.name for path in Path("at").glob("0*")) == ["000002", "000004", "000005"]


def test_best_is_never_the_end() -> None:
    rule = ModelCheckpoint(dirpath="at", monitor="val_loss", save_top_k=1)
    machine = run_of((), rule, max_nb_epochs=1, val_check_interval=3)
    machine.run()
    assert [path.name for path in sorted(Path("at").glob("0*"))] == ["000000", "000001"]
    assert machine.best_checkpoint is not None
    assert machine.best_checkpoint.path == Path("at/000000").absolute()


def test_a_run_that_fails_is_not_saved_at_its_end() -> None:
    class Fails(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        run_of([Fails()], max_nb_epochs=1).run()
    assert [path.name for path in Path("at").glob("0*")] == ["000000"]
    assert load_checkpoint(Path("at")).metadata["batch_nb"] == 2


def test_a_stop_request_while_the_end_is_saved_stops_the_run_before_its_test() -> None:
    class Stops(Callback):
        def on_transition(self, machine: Machine, transition: Any) -> None:
            if transition.to is State.SAVE and transition.source is State.EARLY_STOP:
                machine.stop()

    machine = run_of([Stops()], test=True, max_nb_epochs=1)
    assert machine.run().stop_reason is StopReason.REQUESTED


def test_a_run_without_epochs_and_a_run_with_a_guard_of_its_own_are_not_saved_at_their_end() -> None:
    run_of(max_nb_epochs=0, min_nb_epochs=0).run()
    assert not Path("at").exists()
    visits = TransitionRecorder()
    machine_of(Perceptron(), batches(8), callbacks=[visits], max_nb_epochs=1, guards=Guards(save=lambda *_: False)).run()
    assert State.SAVE not in visits.states
