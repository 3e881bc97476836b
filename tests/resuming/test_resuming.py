"""Going on from a checkpoint: what is in it is needed, what does not fit is refused, and what differs is told."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, FsmtrainError, Guards, Machine, State, Trainer, after_batches, every_n_batches
from fsmtrain.errors import ResumeError, UsageError
from fsmtrain.runtime.checkpoints import Checkpoints
from fsmtrain.runtime.saving.codec import decode
from fsmtrain.runtime.saving.snapshots import snapshot
from fsmtrain.runtime.saving.store import Store
from fsmtrain.runtime.state import Standing
from tests.models import Linear, Perceptron, Validated, Visits, batches, machine_of, same_bits, weights
from tests.resuming.killing import differences, outcome
from tests.resuming.presets import PRESETS, Preset

PARTS = [("counters",), ("signals",), ("patience",), ("in_hand",), ("random",)]
INFORMATIONAL = {
    *("version", "hparams", "made_of"),  # for people, and to be compared
    *("places", "random.cuda"),  # of a GPU
    "is_done",  # False only where a fetch has failed after a request; `test_signals` comes by it
    "signals.save_wanted",  # by the clock, which is another one in each process
    "signals.stop_requested",  # taken back in any case
    "signals.step_skipped",  # given and asked in one visit
    "random.own",  # of loaders; theirs are in the positions
    *("in_hand.passes.sanity_val.pass.sums", "in_hand.passes.sanity_val.pass.counts"),  # its metrics are thrown away
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class StopAt(Callback):
    """Asks for a stop after so many transitions."""

    def __init__(self, n: int) -> None:
        self.n = n

    def on_transition(self, machine: Any, transition: Any) -> None:
        self.n -= 1
        if self.n == 0:
            machine.stop()


def run_from(preset: Preset, tree: Any) -> dict[str, Any]:
    """The outcome of a run that goes on from this state."""
    Store("from").save(tree, {})
    visits = Visits()
    machine = preset([visits])
    machine.resume("from")
    machine.run()
    return outcome(machine, visits)


# ---- what is in a checkpoint is needed


def trees(preset: Preset, every: int) -> Iterator[Any]:
    """What a checkpoint would hold at every so many transitions of a run, and at the last one."""
    machine = preset([])
    for number, _ in enumerate(machine):
        if number % every == every - 1 or machine.state.is_final:
            taken = snapshot({"tree": tree_of(machine)}, {})
            yield decode(taken.encoded)["tree"]


def tree_of(machine: Machine) -> Any:
    """What a checkpoint of this moment holds."""
    kept: list[Any] = []

    class Kept(Checkpoints):
        def save(self, tree: Any, about: Any, *, must_keep: bool) -> None:
            kept.append(tree)

    before = machine._checkpoints
    machine._checkpoints = Kept(Path("nowhere"), None)
    try:
        state, counters = machine.trace.last()
        machine._submit(Standing(state=state, is_done=True, counters=counters), must_keep=True)
    finally:
        machine._checkpoints = before
    return kept[0]


def fields(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of what is named in a tree: not those of single tensors, weights, or what others' state_dicts hold."""
    for name, value in tree.items():
        here = (*path, name)
        inside = here[:2] == ("in_hand", "passes") or here in PARTS
        if value is None:
            continue
        if isinstance(value, dict) and inside and name not in ("before", "sums", "counts"):
            yield from fields(value, here)
        else:
            yield here


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path."""
    other = copy.deepcopy(tree)
    part = other
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return other


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    """What is at a path; None where there is nothing."""
    for name in path:
        tree = tree.get(name) if tree is not None else None
    return tree


CHOSEN = {  # preset: transitions from one moment that is tried to the next
    "weighted windows": 17,
    "two optimizers": 7,
    "truncated bptt": 13,
    "a stream": 23,
    "several validation loaders": 3,
    "early stopping": 12,
    "a stop in mid-epoch": 99,
    "schedulers": 41,
    "fp16 with a scaler": 23,
    "random augmentation": 31,
    "thawing": 41,
    "a stray parameter": 23,
    "a callback with a memory": 23,
}


def test_each_field_of_a_checkpoint_is_needed() -> None:
    """Put to what it is in a run that has not begun, each changes what becomes of some run, or is refused."""
    needed: dict[str, bool] = defaultdict(bool)
    for name, every in CHOSEN.items():
        preset = PRESETS[name]
        visits = Visits()
        machine = preset([visits])
        machine.run()
        whole = outcome(machine, visits)
        fresh = tree_of(_begun(preset))
        for tree in trees(preset, every):
            for path in fields(tree):
                told = ".".join(map(str, path))
                dropped = at(fresh, path)
                if told in INFORMATIONAL or needed[told] or same_bits(at(tree, path), dropped):
                    needed[told] |= False
                    continue
                try:
                    found = differences(whole, run_from(preset, replaced(tree, path, dropped)))
                except Exception:
                    found = ["refused"]
                needed[told] |= bool(found)
    assert sorted(name for name, is_needed in needed.items() if not is_needed and name not in INFORMATIONAL) == []


def _begun(preset: Preset) -> Machine:
    machine = preset([])
    machine.advance()
    return machine


# ---- resuming


def stopped(n: int, *, save: int = 2, **flags: Any) -> Machine:
    """A run that was stopped after so many transitions, and saved there."""
    machine = plain([StopAt(n)], save=save, **flags)
    machine.run()
    assert machine.state is State.STOPPED
    return machine


def plain(callbacks: Any = (), *, save: int = 2, size: int = 8, **flags: Any) -> Machine:
    torch.manual_seed(0)
    guards = Guards(save=every_n_batches(save))
    given = {"max_nb_epochs": 2, "guards": guards, **flags}
    return machine_of(Perceptron(), batches(size, shuffle=True), batches(4), callbacks=callbacks, **given)


@pytest.mark.parametrize("n", range(1, 62, 7))
def test_a_stop_request_is_saved_where_it_is_taken(n: int) -> None:
    whole, visits = plain(), Visits()
    whole.run()
    at_stop = stopped(n)
    machine = plain([visits])
    machine.resume()
    machine.run()
    assert same_bits(weights(machine.model), weights(whole.model))
    assert machine.counters == whole.counters
    again = sum(1 for t in at_stop.trace) - 1 + len(visits.seen)
    assert again == sum(1 for t in whole.trace)  # no visit is made twice


def test_a_run_that_does_not_save_leaves_nothing_behind(tmp_path: Path) -> None:
    machine = machine_of(Linear(), batches(8), callbacks=[StopAt(9)])
    machine.run()
    assert machine.state is State.STOPPED
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_goes_on_from_its_own_folder_or_begins() -> None:
    def trainer(**more: Any) -> Trainer:
        torch.manual_seed(0)
        return Trainer(max_nb_epochs=2, progress_bar=False, device="cpu", guards=Guards(save=every_n_batches(2)), **more)

    seen = [Visits(), Visits()]
    first = trainer(resume="auto", callbacks=[seen[0]])  # there is nothing yet
    first.fit(Linear(), batches(8))
    second = trainer(resume="auto", callbacks=[seen[1]])
    second.fit(Linear(), batches(8))
    assert len(seen[1].seen) < len(seen[0].seen) / 4
    assert same_bits(weights(first.machine.model), weights(second.machine.model))
    with pytest.raises(FsmtrainError, match="there is no checkpoint"):
        trainer(resume="elsewhere").fit(Linear(), batches(8))


def test_what_would_make_another_run_is_refused_and_can_be_insisted_on() -> None:
    stopped(20)
    other = plain(accumulate_grad_batches=2)
    with pytest.raises(ResumeError, match=r"accumulate_grad_batches: 2, and 1 when it was saved.*anyway=True"):
        other.resume()
    with pytest.raises(UsageError):
        other.run()
    insisting = plain(accumulate_grad_batches=2)
    with pytest.warns(UserWarning, match="accumulate_grad_batches"):
        insisting.resume(anyway=True)
    insisting.run()


def test_what_only_changes_the_end_is_told() -> None:
    stopped(20)
    longer = plain(max_nb_epochs=3)
    with pytest.warns(UserWarning, match="max_nb_epochs: 3, and 2 when it was saved"):
        longer.resume()
    assert longer.run().counters.epochs_done == 3


def test_other_guards_and_other_data_are_refused() -> None:
    stopped(20)
    with pytest.raises(ResumeError, match=r"Guards\(check\)"):
        plain(guards=Guards(save=every_n_batches(2), check=after_batches(2))).resume()
    with pytest.raises(ResumeError, match="train batches: 5, and 4"):
        plain(size=10).resume()


def test_another_model_is_refused() -> None:
    stopped(20)
    torch.manual_seed(0)
    machine = machine_of(
        Validated(), batches(8, shuffle=True), batches(4), guards=Guards(save=every_n_batches(2)), max_nb_epochs=2
    )
    with pytest.warns(UserWarning, match="the model's code"), pytest.raises(ResumeError, match="the model is another one"):
        machine.resume()


def test_a_run_that_has_begun_cannot_be_resumed() -> None:
    machine = stopped(20)
    with pytest.raises(UsageError, match="the run has begun"):
        machine.resume()


def test_the_newest_valid_checkpoint_is_taken_and_those_skipped_are_named() -> None:
    stopped(40)
    newest = sorted(Path("checkpoints").iterdir())[-1]
    (newest / "state.json").write_bytes(b"{}")
    machine = plain()
    with pytest.warns(UserWarning, match=f"skipped.*{newest.name}"):
        assert machine.resume() < newest
