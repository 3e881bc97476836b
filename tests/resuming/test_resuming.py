"""Resuming from a checkpoint: its fields are needed, what does not fit is refused, harmless differences are warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, FsmtrainError, Guards, Machine, State, Trainer, after_batches, every_n_batches
from fsmtrain.errors import ResumeError, UsageError
from tests.models import Linear, Perceptron, TransitionRecorder, Validated, batches, machine_of, same_bits, weights
from tests.resuming.checkpoint_fields import needed_fields


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


# ---- what is in a checkpoint is needed


@pytest.mark.slow
def test_each_field_of_a_checkpoint_is_needed() -> None:
    """Put to what it is in a run that has not begun, each changes what becomes of some run, or is refused."""
    assert sorted(name for name, is_needed in needed_fields().items() if not is_needed) == []


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
    whole, visits = plain(), TransitionRecorder()
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


def test_trainer_fit_resume_auto_resumes_or_begins() -> None:
    def trainer(**more: Any) -> Trainer:
        torch.manual_seed(0)
        return Trainer(max_nb_epochs=2, progress_bar=False, device="cpu", guards=Guards(save=every_n_batches(2)), **more)

    seen = [TransitionRecorder(), TransitionRecorder()]
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
    refused = r"cannot resume: accumulate_grad_batches=2, checkpoint has 1\. Use the saved value, or pass strict=False\."
    with pytest.raises(ResumeError, match=refused):
        other.resume()
    with pytest.raises(UsageError):
        other.run()
    insisting = plain(accumulate_grad_batches=2)
    with pytest.warns(UserWarning, match="accumulate_grad_batches"):
        insisting.resume(strict=False)
    insisting.run()


def test_a_difference_that_only_changes_the_end_is_a_warning() -> None:
    stopped(20)
    longer = plain(max_nb_epochs=3)
    with pytest.warns(UserWarning, match="max_nb_epochs=3, checkpoint has 2"):
        longer.resume()
    assert longer.run().counters.epochs_done == 3


def test_other_guards_and_other_data_are_refused() -> None:
    stopped(20)
    with pytest.raises(ResumeError, match=r"Guards\(validate\)"):
        plain(guards=Guards(save=every_n_batches(2), validate=after_batches(2))).resume()
    with pytest.raises(ResumeError, match="train batches: 5, checkpoint has 4"):
        plain(size=10).resume()


def test_another_model_is_refused() -> None:
    stopped(20)
    torch.manual_seed(0)
    machine = machine_of(
        Validated(), batches(8, shuffle=True), batches(4), guards=Guards(save=every_n_batches(2)), max_nb_epochs=2
    )
    with (
        pytest.warns(UserWarning, match="the model's code"),
        pytest.raises(ResumeError, match="the model differs from the saved one"),
    ):
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
