"""`Plan`: the schedule of a run as a value: its steps, validations, windows and epochs, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from attrs import asdict, field, frozen

from fsmtrain.core.accumulation_scaling import windows_are_single
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.epoch_builder import Epoch
from fsmtrain.core.planning.events import DEFAULT_KINDS, Event, EventKind, iter_events
from fsmtrain.core.planning.guard_copies import unread_reason
from fsmtrain.core.planning.int_ranges import IntRanges, IntRangesBuilder
from fsmtrain.core.planning.plan_text import comparable_rows, difference, epoch_rows, lines_as_table, or_fewer, schedule_text
from fsmtrain.html_table import html_table
from fsmtrain.old_names import renamed_attributes
from fsmtrain.plurals import plural

MAX_SPELLED_OUT = 8  # repetitions of a stretch whose epochs are listed in order


@frozen(kw_only=True)
class EpochGroup:
    """Consecutive equal epochs.

    Attributes:
        first: The index of the first one, from 0.
        count: How many there are.
        global_step: Its value when the first one begins.
        epoch: What each of them is like.
    """

    first: int
    count: int
    global_step: int
    epoch: Epoch


@frozen(kw_only=True)
class Totals:
    """The counts of a whole run. An epoch that ends early counts too."""

    epochs: int
    global_step: int
    optimizer_steps: tuple[int, ...]
    validations: int
    scheduler_steps: tuple[int, ...]


@frozen(kw_only=True)
class EarliestEnd:
    """The end of the shortest run that early stopping allows: after this batch of this epoch, both from 0."""

    current_epoch: int
    batch_nb: int
    global_step: int


@renamed_attributes(checks="validations", check_batches="validation_batches", most_rollbacks="max_rollbacks")
@frozen(kw_only=True)
class Plan:
    """The schedule of a run. `str` gives a table, `events` every single event, `to_json` everything but the events.

    It assumes that no stop is requested. Where early stopping may end the run, or steps may be skipped, the text says
    "may be fewer", and `at_least` has the minimum.

    Of a guard that cannot be read, a copy is called at each moment of the run, in order, as the run will call the guard. So a
    guard may have a memory, and planning does not change it. What such a guard returns by a clock, a file or a metric is not
    foreseen; the text says that it cannot be read.

    The plan of a resumed run has what is left of it; counts at the end include what was done before.

    Attributes:
        sanity_batches: Validation batches before the first epoch.
        stretches: The epochs in order, as stretches of them, each after the number of times that it comes in a row.
        test_batches: Test batches at the end.
        optimizer_steps: The steps of each optimizer.
        global_step: Its value at the end: the number of rounds with a step.
        validations: Passes over the val loaders.
        validation_batches: Batches of each validation.
        scheduler_steps: The steps of each scheduler of ``Sizes(schedulers=...)``.
        at_least: The totals of the shortest run that early stopping or skipped steps may leave.
        earliest_end: Where early stopping may end the training at the earliest; None if nothing may end it early.
        steps_may_be_skipped: Whether fp16's gradient scaler or ``on_nonfinite`` may skip steps.
        max_rollbacks: How often the run may return to a checkpoint and repeat what came after it.
    """

    sanity_batches: int
    stretches: tuple[tuple[int, tuple[Epoch, ...]], ...]
    test_batches: int
    optimizer_steps: tuple[int, ...]
    global_step: int
    validations: int
    validation_batches: int
    scheduler_steps: tuple[int, ...]
    at_least: Totals
    earliest_end: EarliestEnd | None
    steps_may_be_skipped: bool
    max_rollbacks: int
    loop: LoopSpec = field(repr=False, eq=False)

    def __str__(self) -> str:
        return lines_as_table([*self._total_rows(), *epoch_rows(self.epoch_kinds, self._end_reason)])

    def _repr_html_(self) -> str:
        return html_table([*self._total_rows(), *epoch_rows(self.epoch_kinds, self._end_reason)])

    @property
    def nb_epochs(self) -> int:
        """The number of epochs, one that ends early included."""
        return sum(count * len(stretch) for count, stretch in self.stretches)

    @property
    def epochs(self) -> tuple[EpochGroup, ...]:
        """The epochs in order, consecutive equal ones as one group: as many entries as there are changes in the run."""
        return tuple(self._iter_groups())

    def _iter_groups(self) -> Iterator[EpochGroup]:
        runs: Iterator[tuple[Epoch, int]] = (
            (epoch, count if len(stretch) == 1 else 1)
            for count, stretch in self.stretches
            for _ in range(1 if len(stretch) == 1 else count)
            for epoch in stretch
        )
        begun = self.loop.beginning.counters
        first, global_step = begun.epochs_done, begun.global_step
        for epoch, equal in groupby(runs, key=itemgetter(0)):
            count = sum(n for _, n in equal)
            yield EpochGroup(first=first, count=count, global_step=global_step, epoch=epoch)
            first += count
            global_step += count * epoch.global_steps

    @property
    def epoch_kinds(self) -> tuple[tuple[IntRanges, Epoch], ...]:
        """Each different epoch once, with the indices of all epochs that equal it.

        It takes the time and memory of the stretches, however often each comes: where one that comes more than
        `MAX_SPELLED_OUT` times has equal epochs in several places, the indices are grouped by the place.
        """
        indices: dict[Epoch, IntRangesBuilder] = {}
        first = self.loop.beginning.counters.epochs_done
        for count, stretch in self.stretches:
            length = len(stretch)
            if count <= MAX_SPELLED_OUT or length == 1:
                for nb in range(1 if length == 1 else count):
                    for place, epoch in enumerate(stretch):
                        builder = indices.setdefault(epoch, IntRangesBuilder())
                        builder.add_range(first + nb * length + place, 1, count if length == 1 else 1)
            else:
                places: dict[Epoch, list[int]] = {}
                for place, epoch in enumerate(stretch):
                    places.setdefault(epoch, []).append(first + place)
                for epoch, firsts in places.items():
                    indices.setdefault(epoch, IntRangesBuilder()).add_interleaved(firsts, length, count)
            first += count * length
        return tuple((builder.build(), epoch) for epoch, builder in indices.items())

    def events(self, *kinds: EventKind) -> Iterator[Event]:
        """Yield every event of the run in order. The loop is walked again, without skipping anything.

        Args:
            kinds: States, and ``"scheduler"`` for scheduler steps. By default: the batches of the sanity pass, of each
                validation (``val_check``) and of the test, the steps, the epoch ends and the scheduler steps.
        """
        return iter_events(self.loop, kinds or DEFAULT_KINDS)

    def as_dict(self) -> dict[str, Any]:
        """The plan as numbers, strings, lists and dicts.

        Batches and epochs are lists of ``[first, step, count]``, from 0. Equal epochs are given once, with all their indices.
        """
        values = asdict(self, filter=lambda attribute, _: attribute.name not in ("loop", "stretches"))
        values["epochs"] = [
            {
                "indices": indices.as_lists(),
                **asdict(epoch, filter=lambda attribute, _: attribute.name not in ("validations", "saves")),
                "validations": epoch.validations.as_lists(),
                "saves": epoch.saves.as_lists(),
            }
            for indices, epoch in self.epoch_kinds
        ]
        return values

    def to_json(self) -> str:
        """The plan as JSON, see `as_dict`."""
        return json.dumps(self.as_dict(), indent=2)

    def diff(self, other: Plan) -> str:
        """Return what differs in another plan, one line each: ``name: here -> there``. Empty if nothing differs."""
        kinds, other_kinds = self.epoch_kinds, other.epoch_kinds
        return difference(
            {**dict(self._total_rows()), **comparable_rows(kinds, other_kinds)},
            {**dict(other._total_rows()), **comparable_rows(other_kinds, kinds)},
        )

    @property
    def _end_reason(self) -> str:
        """What ends an epoch early, as far as a plan knows."""
        max_steps = self.loop.limits.max_steps
        return f"max_steps={max_steps}" if self.global_step >= max_steps > 0 else "Guards(stop=...)"

    def _times_splits(self) -> str:
        """What the number of steps depends on, if no number of splits was passed."""
        if not self.loop.limits.splits_batches or self.loop.splits > 1:
            return ""
        is_single = windows_are_single(self.loop.limits, self.loop.guards)
        return " times the splits of each batch" if is_single else " or more, by the splits of each batch"

    def _step_rows(self) -> Iterator[tuple[str, str]]:
        """Yield a name and a text for the steps of the run, of each optimizer, and of each scheduler."""
        limits, least = self.loop.limits, self.at_least
        if limits.manual_optimization:
            yield "steps", "decided by training_step, since automatic_optimization=False"
            if limits.max_steps or limits.min_steps:
                flag = "max_steps" if limits.max_steps else "min_steps"
                yield flag, f"{limits.max_steps or limits.min_steps:,}; this plan assumes one step in each batch"
            return
        more = self._times_splits()
        yield "global_step at the end", or_fewer(f"{self.global_step:,}{more}", self.global_step, least.global_step)
        for i, (steps, fewest) in enumerate(zip(self.optimizer_steps, least.optimizer_steps, strict=True)):
            yield f"optimizer {i}", or_fewer(f"{plural(steps, 'step')}{more}", steps, fewest)
        schedulers = zip(self.loop.sizes.schedulers, self.scheduler_steps, least.scheduler_steps, strict=True)
        for i, (schedule, steps, fewest) in enumerate(schedulers):
            text = f"{plural(steps, 'step')}{more if schedule.interval == 'step' else ''}, {schedule_text(schedule)}"
            yield f"scheduler {i}", or_fewer(text, steps, fewest)

    def _total_rows(self) -> Iterator[tuple[str, str]]:
        """Yield a name and a text for each total of the run."""
        least = self.at_least
        yield "sanity pass", plural(self.sanity_batches, "batch") if self.sanity_batches else "none"
        yield "epochs", or_fewer(f"{self.nb_epochs:,}", self.nb_epochs, least.epochs) if self.stretches else "none"
        if self.stretches:
            yield from self._step_rows()
            validations = f"{self.validations:,} of {plural(self.validation_batches, 'batch')}" if self.validations else "none"
            yield "validations", or_fewer(validations, self.validations, least.validations)
        if self.test_batches:
            yield "test", plural(self.test_batches, "batch")
        limits = self.loop.limits
        if 0 < limits.max_steps < self.global_step and not limits.manual_optimization:
            text = f"{limits.max_steps:,} is passed by {self.global_step - limits.max_steps:,}, which windows or splits need"
            yield "max_steps", f"{text} to close together"
        if limits.has_max_time:
            yield "max_time", f"{self.loop.options.max_time} may end the training before"
        if self.earliest_end is not None:
            end = self.earliest_end
            batch = f"{plural(end.batch_nb + 1, 'batch')} of epoch {end.current_epoch:,}"
            if not limits.manual_optimization:
                batch += f" (global_step {end.global_step:,})"
            yield "early stopping", f"may end the training, at the earliest after {batch}"
        if self.stretches:
            for guard in self.loop.guards:
                if reason := unread_reason(guard):
                    text = f"cannot be read, because {reason}; this plan has the answers of a copy"
                    yield f"guard {guard_name(guard)}", text
            if self.loop.limits.splits_batches:
                splits = plural(self.loop.splits, "split")
                way_out = "" if self.loop.splits > 1 else ". Pass yours, as in plan(splits=5)"
                yield "truncated_bptt_steps", f"this plan assumes {splits} in each batch; a batch may have any number{way_out}"
            if self.loop.limits.may_return_none:
                yield "training_step", "may return None, as far as its source shows; this plan assumes that it never does"
            if self.loop.hook_is_opaque:
                yield "optimizer_step", "the model's own cannot be read: this plan assumes that each call makes one step"
            assumption = "if a guard counts steps, this plan assumes that none is skipped"
            if self.loop.options.mixed_precision.uses_scaler:
                yield "fp16", f"may skip steps; {assumption}"
            if self.loop.options.on_nonfinite == "skip":
                yield "on_nonfinite", f"may skip steps; {assumption}"
            if self.max_rollbacks:
                times = plural(self.max_rollbacks, "time")
                yield "on_nonfinite", f"may return to a checkpoint, at most {times}, and then skip steps; {assumption}"
