"""The cost of a batch does not grow during a run, and no batch is kept in memory. Counted, not timed."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fsmtrain import Callback, Machine, ModelCheckpoint, Options, Sizes, State
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.trace import BLOCK
from fsmtrain.loop import Loop
from tests.models import Linear, Validated, batches, machine_of, slow_descent

# ---- counting


class Calls:
    """Counts the calls of this thread meanwhile: of functions, or of what is written in C too.

    What the trace does by itself, once in a block of transitions, is left out where functions alone are counted.
    """

    def __init__(self, *, in_c: bool = False) -> None:
        self.count, self._in_c = 0, in_c

    def __call__(self, frame: Any, event: str, _: object) -> None:
        if self._in_c:
            self.count += event in ("call", "c_call")
        elif event == "call":
            file = os.path.basename(frame.f_code.co_filename)
            self.count += "trace" not in file and "counters" not in file  # the counters are copied for the trace

    def of(self, run: Callable[[], object]) -> None:
        """Run it, and count."""
        before = sys.getprofile()
        gc.disable()  # it calls those who want to know of it
        sys.setprofile(self)
        try:
            run()
        finally:
            sys.setprofile(before)
            gc.enable()


def differences(counts: list[int]) -> list[int]:
    """What came between each two."""
    return [after - before for before, after in pairwise(counts)]


class Looks:
    """A loader of the same batch again and again, which asks `look` before every so many of them, and at the end."""

    def __init__(self, count: int, every: int, look: Callable[[], int]) -> None:
        self.count, self.every, self.look = count, every, look
        self.seen: list[int] = []

    def __len__(self) -> int:
        return self.count + 1

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count + 1):
            if number % self.every == 0:
                self.seen.append(self.look())
            yield 0


class Null(Linear):
    """A parameter that is its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.parameter


# ---- the machine alone


@st.composite
def loops(draw: st.DrawFn) -> tuple[Options, dict[str, Any], int]:
    """Options of four epochs, sizes without those of the train loader, and the batches after which all begins again."""
    window, interval = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    val = draw(st.lists(st.integers(1, 3), max_size=2))
    splits = draw(st.sampled_from((None, 2)))
    options = Options(
        max_nb_epochs=4,
        min_nb_epochs=4,
        accumulate_grad_batches=window,
        val_check_interval=interval,
        truncated_bptt_steps=splits,
        early_stop_callback=draw(st.booleans()),
    )
    sizes = {"val": val, "optimizers": draw(st.integers(1, 3)), "splits": 1 if splits is None else 3}
    return options, sizes, window * interval


def counted(options: Options, sizes: Sizes, *, at: Callable[[Counters], bool]) -> list[int]:
    """The calls that a run of actions that do nothing has made, each time that a batch is fetched and `at` holds."""
    loop = Loop(options, sizes)
    counters, signals, calls = Counters.begin(sizes.optimizers), Signals(splits=loop.spec.splits), Calls()
    found: list[int] = []

    def fetch() -> None:
        if at(counters):
            found.append(calls.count)

    actions = {**dict.fromkeys(loop.table.states, lambda: None), State.FETCH: fetch}
    calls.of(Dispatcher(loop.table, loop.limits, counters, signals, actions).run)
    return found


@given(loops())
def test_every_epoch_asks_and_does_as_much_as_the_one_before(case: tuple[Options, dict[str, Any], int]) -> None:
    options, sizes, period = case
    found = counted(options, Sizes(train=2 * period + 1, **sizes), at=lambda counters: counters.batch_nb == 0)
    first, *others = differences(found)
    assert others == [first, first]


@given(loops())
def test_every_batch_asks_and_does_as_much_as_the_one_of_the_last_window(case: tuple[Options, dict[str, Any], int]) -> None:
    options, sizes, period = case
    found = counted(
        options,
        Sizes(train=6 * period, **sizes),
        at=lambda counters: counters.current_epoch == 1 and counters.batch_nb % period == 0,
    )
    first, *others = differences(found)
    assert len(found) == 6
    assert others == [others[0]] * 4
    assert 0 <= first - others[0] <= 4  # the epoch's first batch counts its length and its interval, too


def test_states_that_are_off_cost_a_batch_nothing() -> None:
    plain, full = Options(max_nb_epochs=1), Options(max_nb_epochs=1, early_stop_callback=True, val_check_interval=9)
    sizes: dict[str, Any] = {"train": 10, "test": [3]}

    def calls(options: Options, **more: Any) -> list[int]:
        counts = counted(options, Sizes(**sizes, **more), at=lambda counters: 2 <= counters.batch_nb < 7)
        return differences(counts)

    assert len(set(calls(plain))) == 1
    assert calls(plain) == calls(Options(max_nb_epochs=1, early_stop_callback=True, val_percent_check=0.0), val=[4])
    assert calls(full, val=[4]) > calls(plain)  # asks whether a check is due


# ---- a real run


class Ends(Callback):
    """Has hooks that are called once an epoch, or less."""

    def on_epoch_end(self, machine: Machine) -> None:
        pass

    def on_validation_end(self, machine: Machine, metrics: Any) -> None:
        pass

    def on_run_end(self, machine: Machine) -> None:
        pass


def calls_of_batches(model: nn.Module, **given: Any) -> list[int]:
    """The calls of each 512 batches: that many are a whole number of the trace's blocks."""
    calls = Calls(in_c=True)
    loader = Looks(4 * BLOCK, BLOCK, lambda: calls.count)
    calls.of(machine_of(model, loader, max_nb_epochs=1, **given).run)
    return differences(loader.seen)[1:]


@pytest.mark.parametrize("flags", [{}, {"accumulate_grad_batches": 4}, {"gradient_clip_val": 1.0}])
def test_a_run_makes_as_many_calls_for_late_batches_as_for_early_ones(flags: dict[str, Any]) -> None:
    first, *others = calls_of_batches(Null(), **flags)
    assert others == [first, first]


def test_callbacks_without_a_hook_for_batches_add_no_call_to_a_batch() -> None:
    assert calls_of_batches(Null(), callbacks=[Ends(), Callback()]) == calls_of_batches(Null())


def test_plain_lines_and_tables_add_one_call_to_a_batch_which_keeps_its_loss(capfd: pytest.CaptureFixture[str]) -> None:
    assert calls_of_batches(Null(), quiet=False) == [calls + BLOCK for calls in calls_of_batches(Null())]


@pytest.mark.slow
def test_after_many_batches_a_run_holds_no_more_than_after_a_few() -> None:
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    loader = Looks(6000, 2000, blocks)
    machine = machine_of(Null(), loader, max_nb_epochs=1)
    machine.run()
    _, early, _, late = loader.seen
    assert machine.trace.total > 5 * 6000
    assert abs(late - early) < 400  # one block for each batch would be 4000


@pytest.mark.slow
def test_what_is_recorded_of_a_run_is_not_held_once_it_is_written(tmp_path: Path) -> None:
    def blocks() -> int:
        machine.report(tmp_path / "report.html")  # all that is waiting is written first
        gc.collect()
        return sys.getallocatedblocks()

    loader = Looks(9000, 3000, blocks)
    machine = machine_of(Null(), loader, max_nb_epochs=1, runs_dir=tmp_path)
    machine.run()
    _, early, middle, late = loader.seen
    assert late - early < 600  # one block for each batch would be 6000
    assert middle - early < 600


def test_the_trace_of_a_long_run_is_as_long_as_that_of_a_short_one() -> None:
    loader = Looks(6000, 50, lambda: len(machine.trace))
    machine = machine_of(Null(), loader, max_nb_epochs=1)
    machine.run()
    assert BLOCK <= max(loader.seen) <= 2 * BLOCK
    assert min(loader.seen[50:]) >= BLOCK


@pytest.mark.slow
def test_after_many_epochs_a_run_holds_no_more_than_after_a_few() -> None:
    seen: list[int] = []

    class Watches(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            if machine.current_epoch % 50 == 49:
                gc.collect()
                seen.append(sys.getallocatedblocks())

    machine_of(Validated(), batches(8), batches(4), max_nb_epochs=300, callbacks=[Watches()]).run()
    assert max(seen[2:]) - min(seen[2:]) < 100  # one block for each epoch would be 150


# ---- the outputs of val batches


class Output(dict[str, Any]):
    """What a step returns, of which it can be seen whether somebody has it still."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Returning(Linear):
    """Returns outputs, and counts at each batch those that are still there."""

    def __init__(self) -> None:
        super().__init__(slow_descent)
        self.outputs: weakref.WeakSet[Output] = weakref.WeakSet()
        self.there: list[int] = []

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.there.append(self.alive)
        output = Output(val_loss=self.loss(batch), predictions=torch.zeros(100))
        self.outputs.add(output)
        return output

    test_step = validation_step

    @property
    def alive(self) -> int:
        """The outputs that somebody has."""
        return len(self.outputs)


class Gathering(Returning):
    """Is given all outputs at the end of a pass."""

    def validation_end(self, outputs: list[Output]) -> Any:
        self.there.append(len(outputs))
        return {"val_loss": torch.stack([output["val_loss"] for output in outputs]).mean()}

    test_end = validation_end


class Alive(Callback):
    """Counts the outputs that are there when a check has ended."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_validation_end(self, machine: Machine, metrics: Any) -> None:
        model = machine.model
        assert isinstance(model, Returning)
        self.seen.append(model.alive)


def test_outputs_that_are_averaged_are_gone_before_the_next_batch() -> None:
    model, alive = Returning(), Alive()
    machine_of(model, batches(4), batches(6), batches(6), callbacks=[alive], max_nb_epochs=2, val_check_interval=1.0).run()
    assert model.there == [0] * (3 + 3 + 3 + 3)  # the sanity pass, two validations, the test
    assert alive.seen == [0, 0]


def test_outputs_for_an_end_hook_are_gone_when_it_has_returned() -> None:
    model, alive = Gathering(), Alive()
    machine_of(model, batches(4), batches(6), batches(6), callbacks=[alive], max_nb_epochs=2, val_check_interval=1.0).run()
    assert model.there == [0, 1, 2, 3] * 4
    assert alive.seen == [0, 0]


def test_a_run_that_saves_holds_no_outputs_either(tmp_path: Path) -> None:
    model = Returning()
    saves = ModelCheckpoint(dirpath=tmp_path, every_n_batches=1)
    machine_of(model, batches(4), batches(6), callbacks=[saves], max_nb_epochs=1).run()
    assert set(model.there) == {0}
