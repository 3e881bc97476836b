"""`Plan`: the exact schedule of a run, known before it begins and without a tensor.

What it says holds for the run that nothing from outside cuts short. Where early stopping may end it, the plan says from when
on, and marks what depends on it with "may".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Protocol

from attrs import asdict, field, frozen

from fsmtrain.core.guards import Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.planning import Epoch, Walk, Windows
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
class End:
    """A place where a run can end: after this batch of this epoch, both from 0, at this ``global_step``."""

    current_epoch: int
    batch_nb: int
    global_step: int


@frozen(kw_only=True)
class Event:
    """One event of the schedule. `what` is a state's value; `window` the backwards that a step ends, else 0."""

    what: str
    current_epoch: int
    batch_nb: int
    split_nb: int
    optimizer_i: int
    global_step: int
    window: int = 0


@frozen(kw_only=True)
class Plan:
    """The schedule of a run. Printed it is a text; `events` lists each step and check; `as_dict` is plain data.

    Attributes:
        sanity_batches: Validation batches before the first epoch.
        epochs: The epochs, equal ones in a row together.
        test_batches: Test batches at the end.
        optimizer_steps: For each optimizer, its steps in the whole run.
        global_step: Rounds with a step in the whole run.
        checks: Passes over the validation loaders, and how many batches each has.
        scheduler_steps: For each scheduler of ``Sizes(schedulers=...)``, its steps in the whole run.
        earliest_end: Where early stopping may end the training at the earliest; None where nothing may.
        steps_may_be_skipped: Whether fp16's gradient scaler may skip steps, so that there are fewer.
    """

    sanity_batches: int
    epochs: tuple[Epochs, ...]
    test_batches: int
    optimizer_steps: tuple[int, ...]
    global_step: int
    checks: int
    check_batches: int
    scheduler_steps: tuple[int, ...]
    earliest_end: End | None
    steps_may_be_skipped: bool
    loop: Plannable = field(repr=False, eq=False)

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def events(self, *states: State) -> Iterator[Event]:
        """The visits to these states, one after the other; by default the steps, checks, sanity, test and epoch ends.

        A visit to `val_check` is one batch of a check.
        """
        wanted = states or (State.SANITY_VAL, State.STEP, State.VAL_CHECK, State.EPOCH_END, State.TEST)
        for visit in self.loop:
            if visit.state in wanted:
                yield Event(
                    what=visit.state.value,
                    current_epoch=visit.current_epoch,
                    batch_nb=visit.batch_nb,
                    split_nb=visit.split_nb,
                    optimizer_i=visit.optimizer_i,
                    global_step=visit.global_step,
                    window=visit.window if visit.state is State.STEP else 0,
                )

    def as_dict(self) -> dict[str, Any]:
        """The plan as numbers, strings, lists and dicts."""
        plain: dict[str, Any] = asdict(self, filter=lambda attribute, _: attribute.name != "loop")
        return plain

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def diff(self, other: Plan) -> str:
        """What is different in another plan, a line for each difference: ``name: here -> there``. Empty where nothing is."""
        here, there = dict(_summary(self)), dict(_summary(other))
        names = [*here, *(name for name in there if name not in here)]
        return "\n".join(
            f"{name}: {here.get(name, 'none')} -> {there.get(name, 'none')}"
            for name in names
            if here.get(name) != there.get(name)
        )


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
    walk = Walk(loop.table, limits, loop.guards, loop.splits)
    epochs = tuple(_grouped(walk.epochs()))
    counters = walk.counters
    return Plan(
        sanity_batches=walk.sanity_batches,
        epochs=epochs,
        test_batches=walk.test_batches,
        optimizer_steps=tuple(counters.optimizer_steps),
        global_step=counters.global_step,
        checks=counters.checks_done,
        check_batches=limits.val_batches if limits.validates else 0,
        scheduler_steps=tuple(
            schedule.steps(counters.optimizer_steps, counters.epochs_done, _epochs_with_checks(epochs))
            for schedule in loop.sizes.schedulers
        ),
        earliest_end=_earliest_end(loop),
        steps_may_be_skipped=limits.skips_steps,
        loop=loop,
    )


def _grouped(epochs: Iterable[Epoch]) -> Iterator[Epochs]:
    first = global_step = 0
    for epoch, equal in groupby(epochs):
        count = sum(1 for _ in equal)
        yield Epochs(first=first, count=count, global_step=global_step, each=epoch)
        first += count
        global_step += count * epoch.global_steps


def _epochs_with_checks(epochs: tuple[Epochs, ...]) -> list[int]:
    """The indices of the finished epochs in which there is a check."""
    return [group.first + i for group in epochs if group.each.checks and not group.each.cut for i in range(group.count)]


def _earliest_end(loop: Plannable) -> End | None:
    """Where the run ends whose metric never improves from the first check on."""
    rule = loop.options.early_stopping
    if rule is None or not loop.limits.stops_early:
        return None
    walk = Walk(loop.table, loop.limits, loop.guards, loop.splits, exhausted_after=max(1, rule.patience))
    batches = 0
    for epoch in walk.epochs():
        batches = epoch.batches
    return End(current_epoch=walk.counters.current_epoch, batch_nb=batches - 1, global_step=walk.counters.global_step)


# ---- for people


def _count(n: int, one: str) -> str:
    return f"{n:,} {one}" if n == 1 else f"{n:,} {one}{'es' if one.endswith('ch') else 's'}"


def _spelled(windows: Windows) -> str:
    """Windows for a person: ``11 of 4, 1 of 1``."""
    return ", ".join(f"{count:,} of {length}" for length, count in windows) or "none"


def _places(batches: tuple[int, ...]) -> str:
    """Batches, from 0, as how many have gone by: ``after 11, 22, 33, 44``; long lists in part."""
    shown = [f"{nb + 1:,}" for nb in batches]
    if len(shown) > 8:
        shown = [*shown[:4], "...", shown[-1]]
    return "after " + ", ".join(shown)


def _summary(plan: Plan) -> Iterator[tuple[str, str]]:
    """The plan as names and texts, which can be compared."""
    yield "sanity pass", _count(plan.sanity_batches, "batch") if plan.sanity_batches else "none"
    yield "epochs", f"{sum(group.count for group in plan.epochs):,}"
    yield "global_step at the end", f"{plan.global_step:,}"
    for i, steps in enumerate(plan.optimizer_steps):
        yield f"optimizer {i}", _count(steps, "step") + (", fewer if fp16 skips any" if plan.steps_may_be_skipped else "")
    for i, steps in enumerate(plan.scheduler_steps):
        yield f"scheduler {i}", _count(steps, "step")
    yield "checks", f"{plan.checks:,} of {_count(plan.check_batches, 'batch')}" if plan.checks else "none"
    if plan.test_batches:
        yield "test", _count(plan.test_batches, "batch")
    end = plan.earliest_end
    if end is not None:
        where = f"epoch {end.current_epoch}, batch {end.batch_nb}, at global_step {end.global_step:,}"
        yield "early stopping", f"may end it, after {where} at the earliest"
    for number, group in enumerate(plan.epochs):
        name = f"epoch {group.first}" if group.count == 1 else f"epochs {group.first} to {group.first + group.count - 1}"
        if number == 12:
            yield "...", f"{len(plan.epochs) - number} more groups of epochs"
            return
        parts = [_count(group.each.batches, "batch")]
        for i, windows in enumerate(group.each.windows):
            owner = f" of optimizer {i}" if len(group.each.windows) > 1 else ""
            parts.append(f"windows{owner}: {_spelled(windows)}")
        if group.each.checks:
            parts.append(f"{_count(len(group.each.checks), 'check')}: {_places(group.each.checks)}")
        if group.each.saves:
            parts.append(f"{_count(len(group.each.saves), 'checkpoint')}: {_places(group.each.saves)}")
        if group.each.cut:
            parts.append("cut short by a guard")
        yield name, "; ".join(parts)


def _lines(plan: Plan) -> Iterator[str]:
    summary = list(_summary(plan))
    width = max(len(name) for name, _ in summary)
    for name, text in summary:
        yield f"{name:<{width}}  {text}"
