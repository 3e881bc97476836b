"""`Plan`: the exact schedule of a run, known before it begins and without a tensor.

What it says holds for the run that nothing from outside cuts short. A stop request may end a run anywhere, and is not spoken
of; where early stopping may end it, or steps may be skipped, the plan says "may", with what there is at least.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from attrs import asdict, evolve, field, frozen

from fsmtrain.core.guards import Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning.epoch_builder import Epoch
from fsmtrain.core.planning.int_ranges import IntRanges, IntRangesBuilder
from fsmtrain.core.planning.plan_text import difference, text
from fsmtrain.core.planning.planner import Walk
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.table import Table
from fsmtrain.core.visit import Visit
from fsmtrain.errors import SizesError
from fsmtrain.options import Options


class Plannable(Protocol):
    """What a plan needs to know of a loop."""

    @property
    def options(self) -> Options: ...
    @property
    def sizes(self) -> Sizes: ...
    @property
    def guards(self) -> Guards: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def table(self) -> Table: ...
    @property
    def splits(self) -> int: ...
    def __iter__(self) -> Iterator[Visit]: ...


@frozen(kw_only=True)
class Epochs:
    """Equal epochs in a row: `count` of them from the index `first` on. `global_step` is its value as the first begins."""

    first: int
    count: int
    global_step: int
    each: Epoch


@frozen(kw_only=True)
class Totals:
    """What there is in a whole run. An epoch that is cut short counts."""

    epochs: int
    global_step: int
    optimizer_steps: tuple[int, ...]
    validations: int
    scheduler_steps: tuple[int, ...]


@frozen(kw_only=True)
class End:
    """A place where a run can end: after this batch of this epoch, both from 0, at this ``global_step``."""

    current_epoch: int
    batch_nb: int
    global_step: int


@frozen(kw_only=True)
class Event:
    """One event of the schedule.

    Attributes:
        what: A state's value, or ``scheduler``: a learning-rate scheduler acts.
        current_epoch, batch_nb, split_nb, optimizer_i: Where, all from 0. Of a scheduler, its own optimizer.
        global_step: Its value as the event begins.
        window: The backwards that a step ends; 0 of all else.
        scheduler_i: Which scheduler; None of all else.
    """

    what: str
    current_epoch: int
    batch_nb: int
    split_nb: int
    optimizer_i: int
    global_step: int
    window: int = 0
    scheduler_i: int | None = None


What = State | Literal["scheduler"]


@frozen(kw_only=True)
class Plan:
    """The schedule of a run. Printed it is a text; `events` are its rows; `to_json` is all of it but the rows as JSON.

    A guard that cannot be read is asked at each moment of the run, in order, as the run will ask it. One that remembers what it
    was asked before answers from what it remembers: give a plan a fresh one, and the run another.

    Attributes:
        sanity_batches: Validation batches before the first epoch.
        epochs: The epochs, equal ones in a row together.
        test_batches: Test batches at the end.
        optimizer_steps: For each optimizer, its steps in the whole run.
        global_step: Rounds with a step in the whole run.
        validations: Passes over the validation loaders, and how many batches each has.
        scheduler_steps: For each scheduler of ``Sizes(schedulers=...)``, its steps in the whole run.
        at_least: What is left of these in the shortest run that early stopping, or skipped steps, may make of it.
        earliest_end: Where early stopping may end the training at the earliest; None where nothing may.
        steps_may_be_skipped: Whether fp16's gradient scaler, or ``on_nonfinite``, may skip steps, so that there are fewer.
        most_rollbacks: How often the run may go back to a checkpoint, so that what lies behind it happens again.
    """

    sanity_batches: int
    epochs: tuple[Epochs, ...]
    test_batches: int
    optimizer_steps: tuple[int, ...]
    global_step: int
    validations: int
    validation_batches: int
    scheduler_steps: tuple[int, ...]
    at_least: Totals
    earliest_end: End | None
    steps_may_be_skipped: bool
    most_rollbacks: int
    loop: Plannable = field(repr=False, eq=False)

    def __str__(self) -> str:
        return text(self)

    @property
    def nb_epochs(self) -> int:
        """The epochs of the run, one that is cut short among them."""
        return sum(group.count for group in self.epochs)

    @property
    def kinds(self) -> tuple[tuple[IntRanges, Epoch], ...]:
        """Each epoch that is unlike the others, with the indices of all that are like it."""
        found: dict[Epoch, IntRangesBuilder] = {}
        for group in self.epochs:
            found.setdefault(group.each, IntRangesBuilder()).add_run(group.first, 1, group.count)
        return tuple((places.places(), epoch) for epoch, places in found.items())

    def events(self, *what: What) -> Iterator[Event]:
        """The rows of the schedule, one event after the other, made as they are asked for: the loop is walked again.

        Args:
            what: The events that are wanted; by default the batches of the sanity pass, of each check (``val_check``) and of
                the test, the steps, the ends of epochs, and what the schedulers do.
        """
        wanted = what or (State.SANITY_VAL, State.STEP, State.VAL_CHECK, State.EPOCH_END, State.TEST, "scheduler")
        schedulers = _Schedulers(self.loop.sizes, self.loop.limits.optimizers) if "scheduler" in wanted else None
        for visit in self.loop:
            event = Event(
                what=visit.state.value,
                current_epoch=visit.current_epoch,
                batch_nb=visit.batch_nb,
                split_nb=visit.split_nb,
                optimizer_i=visit.optimizer_i,
                global_step=visit.global_step,
                window=visit.gathered if visit.state is State.STEP else 0,
            )
            if visit.state in wanted:
                yield event
            if schedulers is not None:
                yield from schedulers.after(visit.state, event)

    def as_dict(self) -> dict[str, Any]:
        """The plan as numbers, strings, lists and dicts. Places are lists of ``[first, step, count]``, from 0.

        Of equal epochs there is one, with the indices of all.
        """
        plain = asdict(self, filter=lambda attribute, _: attribute.name not in ("loop", "epochs"))
        plain["epochs"] = [
            {
                "which": _plain(places),
                **asdict(epoch, filter=lambda attribute, _: attribute.name not in ("validations", "saves")),
                "validations": _plain(epoch.validations),
                "saves": _plain(epoch.saves),
            }
            for places, epoch in self.kinds
        ]
        return plain

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def diff(self, other: Plan) -> str:
        """What is different in another plan, a line for each difference: ``name: here -> there``. Empty where nothing is."""
        return difference(self, other)


def _plain(places: IntRanges) -> list[list[int]]:
    return [[run[0], run.step, len(run)] for run in places.runs]


class _Schedulers:
    """Says, event by event, when the schedulers act."""

    def __init__(self, sizes: Sizes, optimizers: int) -> None:
        self._schedules, self._steps = sizes.schedulers, [0] * optimizers
        self._has_check = self._is_cut = False

    def after(self, state: State, event: Event) -> Iterator[Event]:
        """The steps of schedulers that follow an event."""
        if state is State.STEP:
            self._steps[event.optimizer_i] += 1
            yield from self._due("step", self._steps[event.optimizer_i], event)
        elif state is State.EPOCH_END:
            if not self._is_cut:
                yield from self._due("epoch", event.current_epoch + 1, event)
            self._has_check = False
        self._has_check |= state is State.VAL_CHECK
        self._is_cut = state is State.EARLY_STOP  # an epoch that ends behind it ends early

    def _due(self, interval: str, done: int, event: Event) -> Iterator[Event]:
        for i, schedule in enumerate(self._schedules):
            if schedule.interval != interval or (schedule.needs_check and not self._has_check):
                continue
            if interval == "step" and schedule.optimizer_i != event.optimizer_i:
                continue
            if schedule.is_due(done):
                yield evolve(event, what="scheduler", optimizer_i=schedule.optimizer_i, window=0, scheduler_i=i)


def plan_of(loop: Plannable) -> Plan:
    """The plan of a loop.

    Raises:
        SizesError: A loader has no length, so that there is nothing to count.
    """
    limits = loop.limits
    if limits.train_is_stream or limits.evaluates_stream:
        raise SizesError(
            "plan: a loader has no length, so its batches cannot be counted beforehand. Plan with the number of batches that "
            "you expect of it, as in Sizes(train=1000)."
        )
    walk = Walk(loop.table, limits, loop.splits)
    epochs = tuple(_grouped(walk.epochs()))
    most = least = _totals(loop, walk, epochs)
    rule, earliest_end = loop.options.early_stopping, None
    if rule is not None and limits.stops_early:  # at the earliest where the metric never improves from the first check on
        shortest = Walk(loop.table, limits, loop.splits, exhausted_after=max(1, rule.patience))
        least = _totals(loop, shortest, tuple(_grouped(shortest.epochs())))
        counters = shortest.counters
        earliest_end = End(current_epoch=counters.current_epoch, batch_nb=counters.batch_nb, global_step=counters.global_step)
    if limits.skips_steps:
        least = _without_steps(loop, least)
    return Plan(
        sanity_batches=walk.sanity_batches,
        epochs=epochs,
        test_batches=walk.test_batches,
        optimizer_steps=most.optimizer_steps,
        global_step=most.global_step,
        validations=most.validations,
        validation_batches=limits.val_batches if limits.validates else 0,
        scheduler_steps=most.scheduler_steps,
        at_least=least,
        earliest_end=earliest_end,
        steps_may_be_skipped=limits.skips_steps,
        most_rollbacks=loop.options.max_nb_rollbacks if limits.rolls_back else 0,
        loop=loop,
    )


def _grouped(rows: Iterable[tuple[int, Epoch]]) -> Iterator[Epochs]:
    """Equal epochs in a row together."""
    group: Epochs | None = None
    for count, epoch in rows:
        if group is not None and group.each == epoch:
            group = evolve(group, count=group.count + count)
            continue
        if group is not None:
            yield group
        first = 0 if group is None else group.first + group.count
        global_step = 0 if group is None else group.global_step + group.count * group.each.global_steps
        group = Epochs(first=first, count=count, global_step=global_step, each=epoch)
    if group is not None:
        yield group


def _totals(loop: Plannable, walk: Walk, epochs: Sequence[Epochs]) -> Totals:
    counters = walk.counters
    with_checks = [g.first + i for g in epochs if g.each.validations and not g.each.cut for i in range(g.count)]
    return Totals(
        epochs=sum(group.count for group in epochs),
        global_step=counters.global_step,
        optimizer_steps=tuple(counters.optimizer_steps),
        validations=counters.validations_done,
        scheduler_steps=tuple(
            schedule.steps(counters.optimizer_steps, counters.epochs_done, with_checks) for schedule in loop.sizes.schedulers
        ),
    )


def _without_steps(loop: Plannable, totals: Totals) -> Totals:
    """The totals of a run in which every step is skipped. Rounds with skipped steps count all the same."""
    schedules = zip(loop.sizes.schedulers, totals.scheduler_steps, strict=True)
    return evolve(
        totals,
        optimizer_steps=(0,) * len(totals.optimizer_steps),
        scheduler_steps=tuple(0 if schedule.interval == "step" else steps for schedule, steps in schedules),
    )
