"""Iterate over a training loop that the user writes: `visits` says what comes next, the caller does the work."""

from __future__ import annotations

from collections.abc import Iterator

from fsmtrain.core.accumulation_scaling import gradient_scale, loss_divisor
from fsmtrain.core.counters import SIGNAL_DEFAULTS, SIGNALS, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.guard_ast.evaluate import Evaluator
from fsmtrain.core.limits import Limits
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Table
from fsmtrain.core.visit import Visit
from fsmtrain.errors import UsageError


def visits(
    table: Table, limits: Limits, guards: Guards, beginning: ResumePoint, *, steps_made: Evaluator | None = None
) -> Iterator[Visit]:
    """Yield each visit of a run before its work is done; its signals are read when the next visit is requested.

    Args:
        table: The configuration's table.
        limits: Its limits.
        guards: The user's guards.
        beginning: Where the run begins. If the work of that state is done, the first visit is that of the state after it.
            Its ``signals.splits`` holds for each batch, until the caller writes another number.
        steps_made: How many steps each visit to `step` makes, until the caller writes another number; None is one.
    """
    counters, signals = beginning.counters.copy(), beginning.signals.copy()
    run = Dispatcher(table, limits, counters, signals, {}, state=beginning.state)
    if beginning.work_done:
        run.advance()
    while not run.is_finished:
        reset_signals(signals, run.state)
        if run.state is State.STEP and steps_made is not None:
            signals.own_steps = steps_made(limits, counters, signals)
        yield Visit(
            state=run.state,
            current_epoch=counters.current_epoch,
            batch_nb=counters.batch_nb,
            split_nb=counters.split_nb,
            optimizer_i=counters.optimizer_i,
            global_step=counters.global_step,
            gathered=counters.gathered,
            loss_scale=1 / loss_divisor(limits, guards, counters) if run.state is State.BACKWARD else 1.0,
            gradient_scale=gradient_scale(limits, guards, counters) if run.state is State.STEP else 1.0,
            signals=signals,
        )
        if signals.loss_is_none and not limits.may_return_none:
            raise UsageError(
                "signals.loss_is_none=True: this loop takes each forward to have a loss. Pass Sizes(..., may_return_none=True)."
            )
        run.advance()


def reset_signals(signals: Signals, state: State) -> None:
    """Reset the signals that hold for one visit only, before the next visit to a state whose action writes them."""
    for name in state.info.writes:
        if not SIGNALS[name].lasts:
            setattr(signals, name, SIGNAL_DEFAULTS[name])
