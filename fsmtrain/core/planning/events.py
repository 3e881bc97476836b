"""The events of a run in order, without training: each step, validation batch, epoch end and scheduler step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from attrs import evolve, frozen

from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.guard_copies import with_guard_copies
from fsmtrain.core.states import State

EventKind = State | Literal["scheduler"]
DEFAULT_KINDS: tuple[EventKind, ...] = (
    *(state for state in State if state.info.eval_pass or state in (State.STEP, State.EPOCH_END)),
    "scheduler",
)


@frozen(kw_only=True)
class Event:
    """One event of a run. All indices count from 0.

    Attributes:
        kind: The value of a `State`, or ``"scheduler"`` for a step of a learning-rate scheduler.
        current_epoch, batch_nb, split_nb: When it happens.
        optimizer_i: The optimizer whose turn it is; for a scheduler step, the scheduler's optimizer.
        global_step: Its value just before the event.
        gathered: For a step, the number of backwards in its window; otherwise 0.
        scheduler_i: For a scheduler step, the scheduler's index; otherwise None.
    """

    kind: str
    current_epoch: int
    batch_nb: int
    split_nb: int
    optimizer_i: int
    global_step: int
    gathered: int = 0
    scheduler_i: int | None = None


def iter_events(loop: LoopSpec, kinds: tuple[EventKind, ...]) -> Iterator[Event]:
    """Yield the events of these kinds in the order of the run. The loop is walked while they are consumed."""
    schedulers = _SchedulerSteps(loop) if "scheduler" in kinds else None
    for visit in with_guard_copies(loop):
        event = Event(
            kind=visit.state.value,
            current_epoch=visit.current_epoch,
            batch_nb=visit.batch_nb,
            split_nb=visit.split_nb,
            optimizer_i=visit.optimizer_i,
            global_step=visit.global_step,
            gathered=visit.gathered if visit.state is State.STEP else 0,
        )
        if visit.state in kinds:
            yield event
        if schedulers is not None:
            yield from schedulers.after(visit.state, event, visit.signals.own_steps)


class _SchedulerSteps:
    """The scheduler steps that follow each event."""

    def __init__(self, loop: LoopSpec) -> None:
        begun = loop.beginning.counters
        self._schedules, self._optimizer_steps = loop.sizes.schedulers, list(begun.optimizer_steps)
        self._val_batches, self._validations = loop.limits.val_batches, begun.validations_done
        self._val_batches_done = begun.eval_nb if loop.beginning.state is State.VAL_CHECK else 0
        self._epoch_had_validation = self._epoch_ends_early = False

    def after(self, state: State, event: Event, steps_made: int) -> Iterator[Event]:
        """Yield the scheduler steps due after an event; `steps_made` is how many steps a visit to `step` makes."""
        if state is State.STEP:
            for _ in range(steps_made):
                self._optimizer_steps[event.optimizer_i] += 1
                yield from self._due("step", self._optimizer_steps[event.optimizer_i], event)
        elif state is State.EPOCH_END:
            if not self._epoch_ends_early:
                yield from self._due("epoch", event.current_epoch + 1, event)
            self._epoch_had_validation = False
        elif state is State.VAL_CHECK:
            self._val_batches_done += 1
            if self._val_batches_done == self._val_batches:
                self._val_batches_done = 0
                self._validations += 1
                yield from self._due("validation", self._validations, event)
        self._epoch_had_validation |= state is State.VAL_CHECK
        # The epoch end that follows early_stop is an early one; the run may be saved between the two.
        self._epoch_ends_early = state is State.EARLY_STOP or (self._epoch_ends_early and state is State.SAVE)

    def _due(self, interval: str, count: int, event: Event) -> Iterator[Event]:
        for i, schedule in enumerate(self._schedules):
            if schedule.interval != interval:
                continue
            if interval == "epoch" and schedule.needs_validation and not self._epoch_had_validation:
                continue
            if (interval != "step" or schedule.optimizer_i == event.optimizer_i) and schedule.is_due(count):
                yield evolve(event, kind="scheduler", optimizer_i=schedule.optimizer_i, gathered=0, scheduler_i=i)
