"""A plan says what will happen: law 6, over drawn configurations and on a real run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fsmtrain import Guards, Loop, Options, Sizes, State, after_batches, after_steps, every_n_batches, plan
from fsmtrain.core.planning.plan_values import EarliestEnd, Plan
from fsmtrain.core.sizes import Schedule
from fsmtrain.core.visit import Visit
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import SizesError
from tests.models import Validated, batches, machine_of
from tests.reference import Script
from tests.strategies import Case, cases


def has_stream(sizes: Sizes) -> bool:
    return None in (sizes.train, *sizes.val, *sizes.test)


def windows_in(visits: list[Visit], epoch: int, optimizer: int) -> list[int]:
    """The lengths of an optimizer's windows in an epoch, in order."""
    return [v.gathered for v in visits if v.state is State.STEP and (v.current_epoch, v.optimizer_i) == (epoch, optimizer)]


def expanded(planned: Plan, optimizer: int) -> list[list[int]]:
    """The same, for each epoch of a plan."""
    return [
        [length for length, count in group.epoch.windows[optimizer] for _ in range(count)]
        for group in planned.epochs
        for _ in range(group.count)
    ]


@given(cases())
def test_a_plan_counts_what_the_loop_does(case: Case) -> None:
    """Totals, windows and places, of the run that nothing from outside cuts short."""
    assume(not has_stream(case.sizes))
    loop = Loop(case.options, case.sizes, guards=case.guards)
    planned, visits = loop.plan(), list(loop)
    counts = Counter(visit.state for visit in visits)
    assert planned.sanity_batches == counts[State.SANITY_VAL]
    assert planned.test_batches == counts[State.TEST]
    assert sum(group.count for group in planned.epochs) == counts[State.EPOCH_END]
    assert planned.validations * max(1, planned.validation_batches) == counts[State.VAL_CHECK]
    steps = State.TRAIN_BATCH if loop.limits.manual_optimization else State.STEP  # of which it assumes one in each batch
    assert planned.global_step == len({(v.current_epoch, v.batch_nb, v.split_nb) for v in visits if v.state is steps})
    for i in range(loop.limits.optimizers):
        assert planned.optimizer_steps[i] == sum(v.state is steps and v.optimizer_i == i for v in visits)
        by_epoch = expanded(planned, i)
        assert by_epoch == [windows_in(visits, epoch, i) for epoch in range(len(by_epoch))]


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("least", [0, 1, 3])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("interval", [1, 2, 5])
def test_the_earliest_end_is_that_of_a_metric_that_never_improves(
    patience: int, least: int, window: int, interval: int
) -> None:
    options = Options(
        max_nb_epochs=4,
        min_nb_epochs=least,
        early_stop_callback=EarlyStopping(patience=patience),
        accumulate_grad_batches=window,
        val_check_interval=interval,
        nb_sanity_val_steps=0,
    )
    loop = Loop(options, Sizes(train=5, val=[1]))
    checks, last, global_step = 0, (0, 0), 0
    for visit in loop:
        global_step = visit.global_step
        if visit.state is State.FETCH:
            last = visit.current_epoch, visit.batch_nb
        if visit.state is State.VAL_CHECK:
            checks += 1
            visit.signals.patience_exhausted = checks >= max(1, patience)
    planned = loop.plan()
    end, fewest = planned.earliest_end, planned.at_least
    assert end is not None
    assert (end.current_epoch, end.batch_nb, end.global_step) == (*last, global_step)
    assert (fewest.epochs, fewest.validations) == (last[0] + 1, checks)
    assert fewest.global_step == fewest.optimizer_steps[0] == global_step


def test_the_plan_of_a_machine_is_its_trace() -> None:
    """Law 6 on a real run: each step and each val batch, where the plan has it."""
    machine = machine_of(
        Validated(), batches(9), batches(4), max_nb_epochs=3, accumulate_grad_batches={0: 1, 1: 4}, val_check_interval=0.5
    )
    planned = [(e.kind, e.current_epoch, e.batch_nb, e.global_step) for e in machine.plan().events(State.STEP, State.VAL_CHECK)]
    ran = [(str(t.source), t.current_epoch, t.batch_nb, t.global_step) for t in machine]
    assert planned == [event for event in ran if event[0] in ("step", "val_check")]


class Acts(LambdaLR):
    """A schedule that writes down when it acts."""

    machine: Any = None

    def __init__(self, optimizer: Optimizer) -> None:
        self.acted: list[tuple[int, int, int]] = []
        super().__init__(optimizer, lambda step: 1.0)

    def step(self, epoch: int | None = None) -> None:
        if self.machine is not None:
            counters = self.machine.counters
            self.acted.append((counters.current_epoch, counters.batch_nb, counters.global_step))
        super().step()

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().state_dict().items() if name != "machine"}


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("frequency", [1, 2, 3])
@pytest.mark.parametrize(
    ("guards", "given"),
    [
        (Guards(), {"accumulate_grad_batches": 4}),
        (Guards(), {"accumulate_grad_batches": {0: 1, 2: 3}, "check_val_every_n_epoch": 2}),
        (Guards(step={0: every_n_batches(2, first=0)}, save=every_n_batches(4)), {}),
        (Guards(stop=after_steps(13)), {"min_nb_epochs": 0}),
    ],
)
def test_the_rows_of_a_machine_s_plan_are_what_it_does(
    interval: str, frequency: int, guards: Guards, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 6 on a real run, what the schedulers do included."""
    monkeypatch.chdir(tmp_path)
    made: list[Acts] = []

    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        made.append(Acts(optimizer))
        return [optimizer], [{"scheduler": made[0], "interval": interval, "frequency": frequency}]

    test = batches(4) if not guards.save else None
    machine = machine_of(Validated(configure), batches(14), batches(4), test, guards=guards, **{"max_nb_epochs": 4, **given})
    made[0].machine = machine
    planned = machine.plan()
    rows = list(planned.events())
    states = {row.kind for row in rows}
    ran = [(str(t.source), t.current_epoch, t.batch_nb, t.global_step) for t in machine if str(t.source) in states]
    assert [(r.kind, r.current_epoch, r.batch_nb, r.global_step) for r in rows if r.kind != "scheduler"] == ran
    acted = [(r.current_epoch, r.batch_nb, r.global_step) for r in planned.events("scheduler")]
    assert acted == made[0].acted
    assert planned.scheduler_steps == (len(acted),)
    assert planned.global_step == machine.counters.global_step
    assert planned.optimizer_steps == tuple(machine.counters.optimizer_steps)
    assert planned.validations == machine.counters.validations_done


@given(cases())
def test_the_rows_of_a_plan_are_the_visits_of_the_reference(case: Case) -> None:
    """Law 6 against the second loop, with nothing from outside."""
    assume(not has_stream(case.sizes))
    case = evolve(case, script=Script())
    rows = list(plan(case.options, guards=case.guards, **asdict(case.sizes, recurse=False)).events())
    states = {row.kind for row in rows}
    visits = [event for event in case.schedule().events if event.state in states]
    assert [(r.kind, r.global_step) for r in rows] == [(v.state, v.global_step) for v in visits]
    assert [(r.current_epoch, r.batch_nb) for r in rows if r.kind == "step"] == [
        (v.epoch, v.batch) for v in visits if v.state == "step"
    ]


@given(cases(), st.lists(st.builds(Schedule, frequency=st.integers(1, 3), needs_validation=st.booleans()), max_size=3))
def test_the_rows_have_as_many_scheduler_steps_as_the_totals(case: Case, schedules: list[Schedule]) -> None:
    assume(not has_stream(case.sizes) and not case.sizes.manual_optimization)
    by_step = [Schedule(interval="step", optimizer_i=i, frequency=2) for i in range(case.sizes.optimizers)]
    by_validation = Schedule(interval="validation", needs_validation=True)
    sizes = evolve(case.sizes, schedulers=[*schedules, *by_step, by_validation])
    planned = Loop(case.options, sizes, guards=case.guards).plan()
    counts = Counter(row.scheduler_i for row in planned.events("scheduler"))
    assert planned.scheduler_steps == tuple(counts[i] for i in range(len(sizes.schedulers)))


def test_fp16_may_skip_any_step() -> None:
    schedulers = [Schedule(), Schedule(interval="step")]
    planned = plan(Options(max_nb_epochs=2, precision="16"), train=9, schedulers=schedulers)
    assert (planned.optimizer_steps, planned.at_least.optimizer_steps) == ((18,), (0,))
    assert (planned.scheduler_steps, planned.at_least.scheduler_steps) == ((2, 18), (2, 0))
    assert planned.at_least.global_step == 18
    assert "18 steps; may be fewer, at least 0" in str(planned)


def test_equal_epochs_are_grouped_wherever_they_are() -> None:
    planned = plan(Options(max_nb_epochs=1000, check_val_every_n_epoch=2), train=9, val=[1])
    assert [list(places) for places, _ in planned.epoch_kinds] == [list(range(0, 1000, 2)), list(range(1, 1000, 2))]
    assert len(str(planned).splitlines()) == 7
    assert len(planned.to_json()) < 2000
    assert planned.nb_epochs == 1000


def test_each_group_of_epochs_has_its_first_global_step() -> None:
    planned = plan(Options(max_nb_epochs=6, accumulate_grad_batches={0: 1, 2: 4}), train=9)
    assert [(group.first, group.count, group.global_step) for group in planned.epochs] == [(0, 2, 0), (2, 4, 18)]


def test_equal_epochs_are_planned_once() -> None:
    plain = plan(Options(max_nb_epochs=1000), train=50)
    assert [(group.first, group.count) for group in plain.epochs] == [(0, 1000)]


@pytest.mark.parametrize(
    ("guards", "steps"),
    [(Guards(stop=after_batches(25)), 25), (Guards(stop=after_steps(17)), 17), (Guards(step={0: every_n_batches(4)}), 10 * 3)],
)
def test_user_guards_are_called_for_a_plan(guards: Guards, steps: int) -> None:
    assert plan(Options(max_nb_epochs=10, min_nb_epochs=0), train=10, guards=guards).optimizer_steps == (steps,)


def test_schedulers_count_epochs_steps_and_validations() -> None:
    schedulers = [Schedule(), Schedule(frequency=2), Schedule(interval="step", frequency=2), Schedule(needs_validation=True)]
    planned = plan(
        Options(max_nb_epochs=5, accumulate_grad_batches=4, check_val_every_n_epoch=2), train=48, val=[1], schedulers=schedulers
    )
    assert planned.scheduler_steps == (5, 2, 30, 2)


def test_patience_may_end_the_run_at_the_earliest_after_as_many_validations() -> None:
    options = Options(early_stop_callback=EarlyStopping(patience=3), val_check_interval=1.0, max_nb_epochs=10)
    assert plan(options, train=7, val=[2]).earliest_end == EarliestEnd(current_epoch=2, batch_nb=6, global_step=21)
    assert "may end the training, at the earliest after 7 batches of epoch 2" in str(plan(options, train=7, val=[2]))


def test_a_changed_flag_shows_in_the_difference_and_an_equal_plan_shows_none() -> None:
    one, four = (plan(Options(max_nb_epochs=2, accumulate_grad_batches=k), train=9) for k in (1, 4))
    assert one.diff(one) == ""
    assert one.diff(four).splitlines() == [
        "global_step at the end: 18 -> 6",
        "optimizer 0: 18 steps -> 6 steps",
        "epochs 0 to 1, windows: 9 of 1 -> 2 of 4, 1 of 1",
    ]


def test_more_epochs_of_a_kind_show_as_such_in_the_difference() -> None:
    few, many = (plan(Options(max_nb_epochs=n), train=9) for n in (2, 5))
    assert "epochs like epoch 0: 0 to 1 -> 0 to 4" in few.diff(many).splitlines()


def test_a_plan_is_plain_data_too() -> None:
    planned = plan(Options(max_nb_epochs=2, accumulate_grad_batches=4), train=9, val=[2])
    data = json.loads(planned.to_json())
    assert data["optimizer_steps"] == [6]
    assert data["at_least"]["optimizer_steps"] == [6]
    [epoch] = data["epochs"]
    assert epoch["indices"] == [[0, 1, 2]]
    assert epoch["windows"] == [[[4, 2], [1, 1]]]
    assert epoch["validations"] == [[7, 1, 1]]


def test_only_a_row_with_a_step_has_a_window_length() -> None:
    planned = plan(Options(max_nb_epochs=1, accumulate_grad_batches=2), train=3, val=[1])
    rows = [(event.kind, event.gathered) for event in planned.events(State.FETCH, State.STEP, State.VAL_CHECK)]
    assert [row for row in rows if row[1]] == [("step", 2), ("step", 1)]
    assert [window for what, window in rows if what != "step"] == [0, 0, 0, 0]


def test_plans_with_equal_contents_are_equal_also_if_their_loops_differ() -> None:
    one, other = (plan(Options(max_nb_epochs=1), train=9, guards=Guards(save=every_n_batches(3))) for _ in range(2))
    assert one.loop != other.loop  # each has a guard of its own
    assert one == other
    assert "loop=" not in repr(one)
    assert one != plan(Options(max_nb_epochs=1), train=9)


@pytest.mark.parametrize("sizes", [{"train": None}, {"train": 4, "val": [2, None]}, {"train": 4, "test": [None]}])
def test_a_stream_cannot_be_planned_and_the_way_out_is_named(sizes: dict[str, Any]) -> None:
    with pytest.raises(SizesError, match=r"no length.*Sizes\(train=1000\)"):
        plan(Options(val_check_interval=1), **sizes)


def test_patience_that_watches_nothing_ends_no_run() -> None:
    planned = plan(Options(max_nb_epochs=3, early_stop_callback=True), train=4)
    assert planned.earliest_end is None
    assert planned.at_least.epochs == planned.nb_epochs


def test_the_rows_of_a_plan_are_everything_that_happens_unless_kinds_are_named() -> None:
    planned = plan(Options(max_nb_epochs=1, nb_sanity_val_steps=1), train=2, val=[1], test=[1])
    one_batch = ["step", "val_check"]
    assert [event.kind for event in planned.events()] == ["sanity_val", *one_batch, *one_batch, "epoch_end", "test"]
    assert [event.kind for event in planned.events(State.STEP)] == ["step", "step"]


def test_a_scheduler_that_needs_validations_is_counted_in_each_of_many_equal_epochs() -> None:
    every_third = Schedule(interval="epoch", frequency=3, needs_validation=True)
    planned = plan(Options(max_nb_epochs=5), train=2, val=[1], schedulers=[every_third])
    assert planned.scheduler_steps == (1,)
    assert [event.current_epoch for event in planned.events("scheduler")] == [2]


def test_an_epoch_that_ends_early_after_a_validation_counts_for_no_scheduler() -> None:
    options = Options(max_nb_epochs=5, min_nb_epochs=0, val_check_interval=5)
    guards, schedulers = Guards(stop=after_batches(25)), [Schedule(needs_validation=True)]
    planned = plan(options, train=10, val=[1], schedulers=schedulers, guards=guards)
    assert [(group.count, len(group.epoch.validations), group.epoch.ended_early) for group in planned.epochs] == [
        (2, 2, False),
        (1, 1, True),
    ]
    assert planned.scheduler_steps == (2,)
    assert [(event.current_epoch, event.gathered) for event in planned.events("scheduler")] == [(0, 0), (1, 0)]


def test_a_plan_without_validation_has_no_val_batches() -> None:
    assert plan(Options(max_nb_epochs=1), train=2).validation_batches == 0
    assert plan(Options(max_nb_epochs=1), train=2, val=[3, 4]).validation_batches == 7


@given(
    epochs=st.integers(1, 200),
    every=st.integers(1, 5),
    lengths=st.dictionaries(st.integers(0, 12), st.integers(1, 4), min_size=1),
)
def test_the_kinds_of_epochs_have_every_epoch_once_whatever_repeats(epochs: int, every: int, lengths: dict[int, int]) -> None:
    options = Options(max_nb_epochs=epochs, check_val_every_n_epoch=every, accumulate_grad_batches=lengths)
    planned = plan(options, train=4, val=[1])
    by_index = {group.first + i: group.epoch for group in planned.epochs for i in range(group.count)}
    assert {index: epoch for indices, epoch in planned.epoch_kinds for index in indices} == by_index
    assert sum(len(indices) for indices, _ in planned.epoch_kinds) == epochs


def test_text_and_json_of_a_billion_epochs_are_as_short_as_those_of_a_thousand() -> None:
    few, many = (
        plan(Options(max_nb_epochs=n, check_val_every_n_epoch=3, accumulate_grad_batches={0: 1, 7: 2}), train=4, val=[1])
        for n in (10**3, 10**9)
    )
    assert len(many.to_json()) < 1.2 * len(few.to_json()) < 4000
    assert len(str(many)) < 2 * len(str(few)) < 2000
