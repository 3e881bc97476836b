"""Work out the plan of a run without training: how many steps, validations and epochs it will have, and when.

The loop's own table is run without actions (`simulation`), epoch by epoch, and repetitions are skipped (docs/planning.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import partial

from attrs import evolve

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import nodes_of
from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import read
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.affine import NotAffineError
from fsmtrain.core.planning.epoch_builder import Epoch, EpochBuilder
from fsmtrain.core.planning.events import Plannable
from fsmtrain.core.planning.period_detector import PeriodDetector
from fsmtrain.core.planning.plan import EarliestEnd, EpochGroup, Plan, Totals
from fsmtrain.core.planning.simulation import Course, Rows, Simulation
from fsmtrain.core.states import State
from fsmtrain.core.table import Table
from fsmtrain.errors import SizesError

WORTH = 32  # batches that have to be left out for it to be worth while


def make_plan(loop: Plannable) -> Plan:
    """Work out the plan of a loop.

    Raises:
        SizesError: A loader has no length, so its batches cannot be counted.
    """
    limits = loop.limits
    if limits.train_is_stream or limits.evaluates_stream:
        raise SizesError(
            "cannot plan: a loader has no length, so its batches cannot be counted. "
            "Plan with the number of batches that you expect, such as Sizes(train=1000)."
        )
    walk = Walk(loop.table, limits, loop.splits)
    groups = tuple(_grouped(walk.epochs()))
    most = least = _totals(loop, walk, groups)
    rule, earliest_end = loop.options.early_stopping, None
    if rule is not None and limits.stops_early:  # the shortest run is the one whose metric never improves
        shortest = Walk(loop.table, limits, loop.splits, exhausted_after=max(1, rule.patience))
        least = _totals(loop, shortest, tuple(_grouped(shortest.epochs())))
        end = shortest.counters
        earliest_end = EarliestEnd(current_epoch=end.current_epoch, batch_nb=end.batch_nb, global_step=end.global_step)
    if limits.skips_steps:
        least = _without_steps(loop, least)
    return Plan(
        sanity_batches=walk.sanity_batches,
        epochs=groups,
        test_batches=walk.test_batches,
        optimizer_steps=most.optimizer_steps,
        global_step=most.global_step,
        validations=most.validations,
        validation_batches=limits.val_batches if limits.validates else 0,
        scheduler_steps=most.scheduler_steps,
        at_least=least,
        earliest_end=earliest_end,
        steps_may_be_skipped=limits.skips_steps,
        max_rollbacks=loop.options.max_nb_rollbacks if limits.rolls_back else 0,
        loop=loop,
    )


def _grouped(epochs: Iterable[tuple[int, Epoch]]) -> Iterator[EpochGroup]:
    """Group consecutive equal epochs."""
    group: EpochGroup | None = None
    for count, epoch in epochs:
        if group is not None and group.epoch == epoch:
            group = evolve(group, count=group.count + count)
            continue
        if group is not None:
            yield group
        first = 0 if group is None else group.first + group.count
        global_step = 0 if group is None else group.global_step + group.count * group.epoch.global_steps
        group = EpochGroup(first=first, count=count, global_step=global_step, epoch=epoch)
    if group is not None:
        yield group


def _totals(loop: Plannable, walk: Walk, groups: Sequence[EpochGroup]) -> Totals:
    counters = walk.counters
    validated = [g.first + i for g in groups if g.epoch.validations and not g.epoch.ended_early for i in range(g.count)]
    return Totals(
        epochs=sum(group.count for group in groups),
        global_step=counters.global_step,
        optimizer_steps=tuple(counters.optimizer_steps),
        validations=counters.validations_done,
        scheduler_steps=tuple(
            schedule.steps(counters.optimizer_steps, counters.epochs_done, validated) for schedule in loop.sizes.schedulers
        ),
    )


def _without_steps(loop: Plannable, totals: Totals) -> Totals:
    """Return the totals of a run in which every step is skipped. Its rounds still count in ``global_step``."""
    schedulers = zip(loop.sizes.schedulers, totals.scheduler_steps, strict=True)
    return evolve(
        totals,
        optimizer_steps=(0,) * len(totals.optimizer_steps),
        scheduler_steps=tuple(0 if schedule.interval == "step" else steps for schedule, steps in schedulers),
    )


class Walk:
    """A run of a loop's table without actions, epoch by epoch.

    Args:
        table, limits: The loop's.
        splits: Splits of each batch.
        exhausted_after: The check after which patience is exhausted; None for never.
        jumps: Whether to leave out what repeats itself; the plan is the same without, and takes longer.
    """

    def __init__(
        self, table: Table, limits: Limits, splits: int, exhausted_after: int | None = None, *, jumps: bool = True
    ) -> None:
        self._run = Simulation(
            limits,
            _opaque(table),
            exhausted_after,
            nodes_of(table, {})[State.START],
            Counters.begin(limits.optimizers),
            Signals(splits=splits),
            EpochBuilder(limits.optimizers),
            jumps=jumps,
        )

    @property
    def counters(self) -> Counters:
        """Where the run stands."""
        return self._run.counters

    @property
    def sanity_batches(self) -> int:
        """Val batches of the sanity pass."""
        return self._run.sanity_batches

    @property
    def test_batches(self) -> int:
        """Batches of the test."""
        return self._run.test_batches

    @property
    def visits(self) -> int:
        """The visits that were made to work the plan out."""
        return self._run.visits[0]

    def epochs(self) -> Iterator[tuple[int, Epoch]]:
        """The epochs of the run, in order, and how many like it are in a row; or the beginning of such a row."""
        run, periods = self._run, PeriodDetector()
        walked: list[tuple[Counters, Course]] = []  # where the last epochs began, and how they went
        run.advance()
        while run.node.state is State.FETCH:
            began = run.counters.copy()
            course, epoch = _epoch(run)
            walked.append((began, course))
            yield 1, epoch
            period = periods.feed(epoch)
            if period and run.node.state is State.FETCH:
                before, courses = walked[-period][0], [course for _, course in walked[-period:]]
                epochs: list[Epoch] = []
                jump = run.repeat(partial(_follow_all, courses=courses, epochs=epochs), before)
                if jump is not None:
                    yield from [(jump.times, epochs[0])] if period == 1 else [(1, epoch) for epoch in epochs] * jump.times
                    periods, walked = PeriodDetector(), []


class _Looker:
    """Looks for what comes twice, and compares the counters before and after it when it comes for the third time."""

    def __init__(self) -> None:
        self._periods, self._heard = PeriodDetector(), 0
        self._due: dict[int, tuple[int, Counters]] = {}

    def hear(self, shape: Hashable, counters: Counters) -> tuple[int, Counters] | None:
        """How long the part is that may just have come for the third time, and the counters before it."""
        self._heard += 1
        period = self._periods.feed(shape)
        if period:
            self._due[self._heard + period] = period, counters.copy()
        return self._due.pop(self._heard, None)


def _epoch(run: Simulation) -> tuple[Course, Epoch]:
    """Walk an epoch; how it went, and what there is to say of it."""
    run.notes, began = EpochBuilder(run.limits.optimizers), run.counters.global_step
    course: Course = []
    known: dict[Rows, Rows] = {}  # each only once
    near, far = _Looker(), _Looker()  # at batches since the last jump; at all batches, and the jumps between them

    def jump(part: Course, before: Counters) -> int:
        """Leave out the repetitions of a part of the course; how many."""
        done = run.repeat(partial(Simulation.follow, course=part), before, least=-(-WORTH // len(part)))
        if done is None:
            return 0
        course.append(evolve(done, course=part))
        return done.times

    while True:
        rows = run.advance()
        rows = known.setdefault(rows, rows)
        course.append(rows)
        if run.notes.is_over:
            return course, run.notes.build(run.counters.global_step - began)
        candidate = near.hear(rows, run.counters)
        wider = far.hear(rows, run.counters)
        if candidate is not None:
            period, before = candidate
            times = jump(course[-period:], before)
            if times:
                near = _Looker()
                wider = far.hear(("jump", period, times), run.counters)
        if wider is not None and jump(course[-wider[0] :], wider[1]):
            near, far = _Looker(), _Looker()


def _follow_all(trial: Simulation, courses: list[Course], epochs: list[Epoch]) -> None:
    epochs.extend(_follow(trial, course) for course in courses)


def _follow(trial: Simulation, course: Course) -> Epoch:
    """Walk an epoch, for all its repetitions at the same time, as another one went."""
    trial.notes, began = EpochBuilder(trial.limits.optimizers), trial.counters.global_step
    trial.follow(course)
    if not trial.notes.is_over:
        raise NotAffineError
    epoch = trial.notes.build(trial.counters.global_step - began)
    trial.notes = EpochBuilder(trial.limits.optimizers)  # all of them are in the epoch
    return epoch


def _opaque(table: Table) -> frozenset[State]:
    """The states that ask a guard that cannot be read."""
    return frozenset(
        row.source for row in table for guard in (row.when, *row.unless) if guard is not None and is_opaque(read(guard))
    )
