"""Hooks come in pairs: what has begun is ended once, wherever a run is stopped or fails, and swapped weights come back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, Guards, Machine, ModelCheckpoint, State, after_batches, every_n_batches
from tests.models import Perceptron, TransitionRecorder, batches, machine_of, same_bits, weights
from tests.resuming.kill_and_resume import differences, outcome
from tests.resuming.resume_scenarios import adam_of

PAIRS = ("run", "fit", "train", "epoch", "train_epoch", "validation", "validation_epoch", "test", "test_epoch")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Paired(Callback):
    """Records the calls of paired hooks, and the metrics of each validation and test."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.metrics: list[Any] = []

        for pair in PAIRS:
            for which in ("start", "end"):
                setattr(self, f"on_{pair}_{which}", partial(self._called, f"{pair} {which}"))

    def _called(self, call: str, machine: Any, *metrics: Any) -> None:
        self.calls.append(call)
        self.metrics += metrics

    def setup(self, machine: Any, stage: str) -> None:
        self.calls.append(f"{stage} start")

    def teardown(self, machine: Any, stage: str) -> None:
        self.calls.append(f"{stage} end")

    @property
    def is_balanced(self) -> bool:
        """Whether each part that began has ended once, within the part in which it began."""
        is_open = []
        for call in self.calls:
            part, which = call.split()
            if which == "start":
                is_open.append(part)
            elif not is_open or is_open.pop() != part:
                return False
        return not is_open


class Swap(Callback):
    """Validates with an average of the weights: an exponential one, which checkpoints hold."""

    def __init__(self) -> None:
        self.average: Any = None
        self.own: Any = None
        self.validations = 0

    def on_batch_end(self, machine: Machine) -> None:
        now = [parameter.detach().clone() for parameter in machine.model.parameters()]
        self.average = [0.9 * old + 0.1 * new for old, new in zip(self.average or now, now, strict=True)]

    def on_validation_start(self, machine: Machine) -> None:
        torch.rand(())
        self.validations += 1
        self.own = [parameter.detach().clone() for parameter in machine.model.parameters()]
        self._put(machine, [average + 1000 for average in self.average])

    def on_validation_end(self, machine: Machine, metrics: Any) -> None:
        torch.rand(())
        self._put(machine, self.own)
        self.own = None

    def _put(self, machine: Machine, values: Iterable[Any]) -> None:
        with torch.no_grad():
            for parameter, value in zip(machine.model.parameters(), values, strict=True):
                parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class At(Callback):
    """Stops the run, or fails, after so many transitions; or only records them."""

    def __init__(self, n: int, error: BaseException | None = None) -> None:
        self.n, self.error, self.states = n, error, list[State]()

    def on_transition(self, machine: Machine, transition: Any) -> None:
        self.states.append(transition.source)
        if len(self.states) == self.n:
            machine.stop()
            if self.error is not None:
                raise self.error


def run_of(callbacks: Iterable[object], **more: Any) -> Machine:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "max_nb_epochs": 2,
        "val_check_interval": 2,
        "seed": 3,
        "nb_sanity_val_steps": 1,
        "accumulate_grad_batches": 2,
    }
    return machine_of(
        Perceptron(adam_of),
        batches(8, shuffle=True),
        batches(6, shuffle=True),
        batches(4),
        callbacks=callbacks,
        **given,
        **more,
    )


ENDS: dict[str, dict[str, Any]] = {
    "a whole run": {},
    "a run that is cut in mid-epoch": {"min_nb_epochs": 0, "guards": Guards(stop=after_batches(6))},
    "a run that saves": {"guards": Guards(save=every_n_batches(3))},
}


def lengths() -> dict[str, int]:
    """Return the number of transitions of each run."""
    found = {}
    for name, more in ENDS.items():
        at = At(0)
        run_of([at], **more).run()
        found[name] = len(at.states)
    return found


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_each_part_that_began_ends_once_wherever_the_run_is_stopped_or_fails(
    name: str, error: type[BaseException] | None
) -> None:
    whole = At(0)
    first = run_of([Paired(), whole], **ENDS[name])
    first.run()
    for n in range(1, len(whole.states) + 1):
        before, after = Paired(), Paired()
        swap = Swap()
        machine = run_of([before, swap, At(n, error("planted") if error is not None else None), after], **ENDS[name])
        if error is None:
            machine.run()
        else:
            with pytest.raises(error, match="planted"):
                machine.run()
        assert before.is_balanced, (n, before.calls)
        assert after.is_balanced, (n, after.calls)
        assert before.calls[-3:] == ["run end", "test end", "fit end"]
        assert all(value.abs().max() < 500 for value in weights(machine.model)), n
        assert swap.own is None


@pytest.mark.parametrize("hook", [f"on_{pair}_{which}" for pair in PAIRS for which in ("start", "end")][1:])
def test_a_hook_that_fails_keeps_none_of_those_that_began_from_ending(hook: str) -> None:
    first, last = Paired(), Paired()
    failing = Callback()

    def fail(*_: Any) -> None:
        raise ValueError("planted")

    setattr(failing, hook, fail)
    with pytest.raises(ValueError, match="planted"):
        run_of([first, failing, last]).run()
    assert first.is_balanced, first.calls
    # A first hook that fails keeps the ones after it from being called, and so their second ones.
    assert last.is_balanced, last.calls


def test_a_hook_that_fails_when_a_failed_run_is_ended_has_the_first_error_as_its_context() -> None:
    class Failing(Callback):
        def on_validation_end(self, machine: Any, metrics: Any) -> None:
            raise ZeroDivisionError

    whole = At(0)
    run_of([whole]).run()
    n = whole.states.index(State.VAL_CHECK) + 1
    paired, error = Paired(), ValueError("planted")
    with pytest.raises(ZeroDivisionError) as caught:
        run_of([Failing(), paired, At(n, error)]).run()
    assert caught.value.__context__ is error
    assert paired.is_balanced


def test_a_validation_that_is_not_finished_has_no_metrics_and_each_one_is_nan() -> None:
    whole = At(0)
    run_of([whole]).run()
    paired = Paired()
    run_of([paired, At(whole.states.index(State.VAL_CHECK) + 1)]).run()
    [metrics] = paired.metrics
    assert metrics == {}
    assert math.isnan(metrics["val_loss"])


@pytest.mark.slow
def test_a_run_that_is_stopped_anywhere_with_swapped_weights_resumes_in_the_same_bits() -> None:
    """Also where hooks draw random numbers, and count their calls in a checkpoint."""

    def given(callbacks: Iterable[object]) -> Machine:
        return run_of(callbacks, guards=Guards(save=every_n_batches(3)))

    visits, swap = TransitionRecorder(), Swap()
    machine = given([swap, visits])
    machine.run()
    whole = {**outcome(machine, visits), "validations": swap.validations}
    within = 0
    for n in range(1, len(visits.states)):
        stopped = given([Swap(), At(n)])
        stopped.run()
        visits, swap, paired = TransitionRecorder(), Swap(), Paired()
        resumed = given([swap, visits, paired])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            resumed.resume()
        resumed.run()
        assert differences(whole, {**outcome(resumed, visits), "validations": swap.validations}) == [], n
        within += visits.states[0] is State.VAL_CHECK
    assert within


def test_a_checkpoint_callback_with_a_monitor_lets_a_stopped_validation_go_on_where_it_was() -> None:
    whole, counted = At(0), At(0)
    first = run_of([whole, ModelCheckpoint(monitor="val_loss")])
    first.run()
    n = whole.states.index(State.VAL_CHECK) + 1
    run_of([At(n), ModelCheckpoint(monitor="val_loss", dirpath="at")]).run()
    machine = run_of([counted, ModelCheckpoint(monitor="val_loss", dirpath="at")])
    machine.resume("at")
    machine.run()
    assert len(counted.states) == len(whole.states) - n  # the visit within which the stop came is not made again
    assert same_bits(weights(machine.model), weights(first.model))
