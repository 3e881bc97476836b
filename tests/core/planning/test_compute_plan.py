"""How much of a run is simulated for its plan, and who calls a guard that cannot be read."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from fsmtrain import Guards, Options, Sizes, after_batches, after_steps, every_n_batches, every_n_steps_of, plan
from fsmtrain.core.checking.check import quick_findings
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import choose
from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.interval_guards import every_n_steps
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.compute_plan import make_plan, simulate
from fsmtrain.core.sizes import Schedule
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import GuardError

MILLION = 1_000_000


@pytest.fixture
def visits_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[LoopSpec], int]:
    """Returns how many visits the simulation of a loop makes, its trials included."""
    count = 0

    def counting(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return choose(*arguments)

    def visits(loop: LoopSpec) -> int:
        nonlocal count
        count = 0
        run = simulate(loop)
        if loop.guards.stop is None:
            assert sum(n * len(stretch) for n, stretch in run.epochs) == loop.limits.epochs
        return count

    monkeypatch.setattr("fsmtrain.core.planning.simulation.choose", counting)
    return visits


Visits = Callable[[LoopSpec], int]


@pytest.mark.parametrize("epochs", [1, 1000])
@pytest.mark.parametrize(
    ("flags", "guards", "sizes"),
    [
        ({}, Guards(), {}),
        ({"accumulate_grad_batches": 4}, Guards(), {}),
        ({"accumulate_grad_batches": 100_000}, Guards(), {}),
        ({"accumulate_grad_batches": 4, "truncated_bptt_steps": 5}, Guards(), {"splits": 3}),
        ({"accumulate_grad_batches": 4, "val_check_interval": 100}, Guards(), {}),
        ({"val_check_interval": 1}, Guards(), {}),
        ({"check_val_every_n_epoch": 2}, Guards(), {}),
        ({}, Guards(step={1: every_n_steps_of(0, 5)}), {"optimizers": 2}),
        ({}, Guards(step={0: every_n_batches(400_000)}), {}),
        ({}, Guards(stop=after_steps(10**9 + 1), save=after_batches(10**9 + 1)), {}),
        ({"val_check_interval": 0.25}, Guards(), {"val": [MILLION, MILLION], "test": [MILLION]}),
    ],
)
def test_a_million_batches_take_few_visits(
    epochs: int, flags: dict[str, Any], guards: Guards, sizes: dict[str, Any], visits_of: Visits
) -> None:
    loop = LoopSpec(Options(max_nb_epochs=epochs, **flags), Sizes(**{"train": MILLION, "val": [10], **sizes}), guards=guards)
    assert visits_of(loop) < 5000


def test_a_million_validations_take_no_more_room_than_one() -> None:
    planned = plan(Options(max_nb_epochs=1000, val_check_interval=1), train=MILLION, val=[10])
    assert planned.validations == 1000 * MILLION
    assert planned.epochs[0].epoch.validations.ranges == (range(MILLION),)
    assert len(planned.to_json()) < 2000


def test_equal_epochs_are_recorded_together() -> None:
    assert len(simulate(LoopSpec(Options(max_nb_epochs=MILLION), Sizes(train=3))).epochs) < 10


def short_epochs(epochs: int, **flags: Any) -> LoopSpec:
    return LoopSpec(Options(max_nb_epochs=epochs, **flags), Sizes(train=12, val=[1]))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_equal_epochs_are_skipped_also_behind_many_that_differ(every: int, visits_of: Visits) -> None:
    """Behind 11 windows of different lengths, with a validation in every n-th epoch."""
    flags = {"accumulate_grad_batches": {epoch: epoch + 1 for epoch in range(11)}, "check_val_every_n_epoch": every}
    assert visits_of(short_epochs(3000, **flags)) < visits_of(short_epochs(60, **flags)) + 500


def test_equal_epochs_are_skipped_each_time_that_there_are_some(visits_of: Visits) -> None:
    assert visits_of(short_epochs(3000, accumulate_grad_batches={0: 1, 1000: 2, 2000: 3})) < 5000


class Log(list[Any]):
    """A list that a copy of a guard shares with it, to see what the copy is asked."""

    def __deepcopy__(self, memo: object) -> Log:
        return self


def test_a_guard_that_cannot_be_read_is_called_at_each_of_its_moments_in_the_order_of_the_run() -> None:
    asked = Log()

    def remembering(limits: Limits, counters: Counters, signals: Signals) -> bool:
        asked.append((counters.current_epoch, counters.batch_nb))
        return len(asked) % 7 == 0

    assert is_opaque(parse_guard(remembering))
    planned = plan(Options(max_nb_epochs=3), train=200, guards=Guards(save=remembering))
    assert asked == [(epoch, batch) for epoch in range(3) for batch in range(200)]
    saved = [200 * group.first + nb for group in planned.epochs for nb in group.epoch.saves]
    assert saved == list(range(6, 600, 7))


BILLION = 10**9


@pytest.mark.parametrize(
    ("flags", "sizes", "guards"),
    [
        ({}, {}, Guards()),
        ({"check_val_every_n_epoch": 3}, {"schedulers": [Schedule(needs_validation=True, frequency=2)]}, Guards()),
        ({"early_stop_callback": EarlyStopping(patience=BILLION // 2)}, {}, Guards()),
        ({"early_stop_callback": True, "min_nb_epochs": BILLION // 3}, {}, Guards()),
        ({"accumulate_grad_batches": {0: 1, 5: 3, BILLION - 2: 2}}, {}, Guards()),
        ({}, {}, Guards(save=every_n_steps(7))),
        ({}, {}, Guards(stop=after_steps(20 * BILLION))),
        ({}, {"optimizers": 2}, Guards(step={1: every_n_steps_of(0, 7)})),
    ],
)
def test_neither_time_nor_memory_of_a_plan_grows_with_the_epochs(
    flags: dict[str, Any], sizes: dict[str, Any], guards: Guards, visits_of: Visits
) -> None:
    loop = LoopSpec(Options(max_nb_epochs=BILLION, **flags), Sizes(**{"train": 100, "val": [3], **sizes}), guards=guards)
    assert visits_of(loop) < 20_000
    tracemalloc.start()
    planned = make_plan(loop)
    quick_findings(loop)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()
    assert planned.nb_epochs == (BILLION if guards.stop is None else BILLION // 5)
    assert len(planned.stretches) < 40


def test_a_guard_that_fails_late_fails_there() -> None:
    asked = Log()

    def failing(limits: Limits, counters: Counters, signals: Signals) -> bool:
        asked.append(counters.batch_nb)
        return bool(1 / (700 - counters.batch_nb)) and False

    with pytest.raises(GuardError, match=r"Guards\(save=failing\): the guard raised ZeroDivisionError"):
        plan(Options(max_nb_epochs=1), train=1000, guards=Guards(save=failing))
    assert asked == list(range(701))


def test_a_guard_that_can_be_read_and_fails_late_fails_there() -> None:
    def failing(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 5 // (700 - counters.batch_nb) == 7

    assert not is_opaque(parse_guard(failing))
    with pytest.raises(GuardError, match=r"Guards\(save=failing\): the guard raised ZeroDivisionError"):
        plan(Options(max_nb_epochs=1), train=1000, guards=Guards(save=failing))
