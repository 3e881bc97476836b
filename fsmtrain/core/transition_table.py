"""The transition table: what a training loop does after what, one row for each transition.

`full_table` is the loop with every feature on. A configuration's table is this one without the rows whose guard is always
false for it (`folding`); nothing else in the package builds a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, Self

from attrs import evolve, field, frozen

from fsmtrain.core import effects as do
from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.decisions import Decisions
from fsmtrain.core.effects import AnyEffect
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import CopyError


def _guards(value: Guard | tuple[Guard, ...]) -> tuple[Guard, ...]:
    return value if isinstance(value, tuple) else (value,)


def _effects(value: AnyEffect | tuple[AnyEffect, ...]) -> tuple[AnyEffect, ...]:
    return value if isinstance(value, tuple) else (value,)


@frozen
class Row:
    """One transition: from `source` to `to` if `when` holds and none of `unless` does, changing counters by `then`.

    `when` is None if nothing needs to hold. `unless` is the complement by construction: if one row has a guard as `when` and
    another has it as `unless`, the two can neither both hold nor both fail. A single guard or effect needs no tuple.
    """

    source: State
    when: Guard | None = field(default=None, kw_only=True)
    unless: tuple[Guard, ...] = field(default=(), converter=_guards, kw_only=True)
    then: tuple[AnyEffect, ...] = field(default=(), converter=_effects, kw_only=True)
    to: State = field(kw_only=True)

    def holds(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether to take this row. Every guard is called."""
        return (self.when is None or self.when(limits, counters, signals)) and not any(
            guard(limits, counters, signals) for guard in self.unless
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise CopyError(
            "a row of a table cannot be pickled: its guards are functions made for one configuration. Pickle the loop, from "
            "which the table follows, or list(trace), whose transitions are plain values."
        )


def in_order(*rows: Row) -> tuple[Row, ...]:
    """Return the rows of one state as a list of cases: each holds only if none before it does.

    >>> first, second, last = in_order(
    ...     Row(State.START, when=ask.stop_is_requested, to=State.STOPPED),
    ...     Row(State.START, when=ask.sanity_pass_is_due, to=State.SANITY_VAL),
    ...     Row(State.START, to=State.FETCH),
    ... )
    >>> [guard.__name__ for guard in last.unless]
    ['stop_is_requested', 'sanity_pass_is_due']
    """
    asked: tuple[Guard, ...] = ()
    cases = []
    for case in rows:
        cases.append(evolve(case, unless=(*asked, *case.unless)))
        if case.when is not None:
            asked = (*asked, case.when)
    return tuple(cases)


@frozen
class Table:
    """Rows, grouped by their source, in the order in which they are asked."""

    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def leaving(self, state: State) -> tuple[Row, ...]:
        """Return the rows whose source is this state."""
        return tuple(row for row in self.rows if row.source is state)

    @property
    def states(self) -> tuple[State, ...]:
        """The states that occur, in the order of `State`."""
        met = {row.source for row in self.rows} | {row.to for row in self.rows}
        return tuple(state for state in State if state in met)


def full_table(decide: Decisions) -> Table:
    """Return the table of the whole loop, with these decisions in it."""
    return Table(
        (
            *in_order(
                Row(State.START, when=ask.stop_is_requested, to=State.STOPPED),
                Row(State.START, when=ask.sanity_pass_is_due, then=do.begin_pass, to=State.SANITY_VAL),
                Row(State.START, when=ask.no_epoch_but_test_follows, then=do.begin_pass, to=State.TEST),
                Row(State.START, when=ask.no_epoch_follows, to=State.DONE),
                Row(State.START, then=do.begin_epoch, to=State.FETCH),
            ),
            *in_order(
                Row(State.SANITY_VAL, when=ask.stop_is_requested, to=State.STOPPED),
                Row(State.SANITY_VAL, when=ask.sanity_pass_goes_on, then=do.next_eval_batch, to=State.SANITY_VAL),
                Row(State.SANITY_VAL, when=ask.no_epoch_but_test_follows, then=do.begin_pass, to=State.TEST),
                Row(State.SANITY_VAL, when=ask.no_epoch_follows, to=State.DONE),
                Row(State.SANITY_VAL, then=do.begin_epoch, to=State.FETCH),
            ),
            # One batch: for each split, for each optimizer, a forward, a backward, and a step if its window closes. A forward
            # without a loss has no backward. With manual optimization, the forward is all of it.
            Row(
                State.FETCH,
                then=(
                    *(do.count_train_batches, do.count_val_check_batches, do.count_splits),
                    *(do.begin_batch, do.begin_rounds, do.begin_round, do.first_turn, do.reset_saved),
                ),
                to=State.TRAIN_BATCH,
            ),
            *in_order(
                Row(
                    State.TRAIN_BATCH,
                    when=ask.training_step_steps,
                    then=(do.count_own_steps, do.add_manual_steps, do.note_step, do.end_turn),
                    to=State.ROUND_END,
                ),
                Row(State.TRAIN_BATCH, when=ask.there_is_a_loss, then=do.gather, to=State.BACKWARD),
                Row(State.TRAIN_BATCH, when=decide.open_window_closes, then=do.leave_out, to=State.STEP),
                Row(State.TRAIN_BATCH, then=(do.leave_out, do.end_turn), to=State.ROUND_END),
            ),
            Row(State.BACKWARD, when=decide.step_is_due, to=State.STEP),
            Row(State.BACKWARD, unless=decide.step_is_due, to=State.ACCUMULATE),
            Row(State.ACCUMULATE, then=do.end_turn, to=State.ROUND_END),
            *in_order(
                Row(State.STEP, when=ask.window_is_spoiled, to=State.ROLLED_BACK),
                Row(
                    State.STEP,
                    when=ask.step_was_skipped,
                    then=(do.reset_left_out, do.drop_window, do.end_turn),
                    to=State.ROUND_END,
                ),
                Row(
                    State.STEP,
                    then=(do.count_own_steps, do.reset_left_out, do.close_window, do.note_step, do.end_turn),
                    to=State.ROUND_END,
                ),
            ),
            *in_order(
                Row(State.ROUND_END, when=ask.stop_is_requested, to=State.STOPPED),
                Row(State.ROUND_END, when=ask.another_optimizer_follows, then=do.next_turn, to=State.TRAIN_BATCH),
                Row(
                    State.ROUND_END,
                    when=ask.another_split_follows,
                    then=(do.first_turn, do.begin_round, do.next_split),
                    to=State.TRAIN_BATCH,
                ),
                Row(State.ROUND_END, when=decide.save_is_due, then=do.mark_saved, to=State.SAVE),
                Row(State.ROUND_END, when=decide.validation_is_due, then=do.begin_validation, to=State.VAL_CHECK),
                Row(State.ROUND_END, when=ask.epoch_is_over, to=State.EPOCH_END),
                Row(State.ROUND_END, when=decide.stop_is_due, to=State.EARLY_STOP),
                Row(State.ROUND_END, when=decide.stop_is_wanted, then=(do.wait_for_windows, do.next_batch), to=State.FETCH),
                Row(State.ROUND_END, then=do.next_batch, to=State.FETCH),
            ),
            # Within an epoch, or where the run ends by itself.
            *in_order(
                Row(
                    State.SAVE,
                    when=ask.last_epoch_is_saved_and_test_follows,
                    then=(do.finish_end_save, do.begin_pass),
                    to=State.TEST,
                ),
                Row(State.SAVE, when=ask.last_epoch_is_saved, then=do.finish_end_save, to=State.DONE),
                Row(State.SAVE, when=ask.end_is_being_saved, then=(do.finish_end_save, do.end_epoch_early), to=State.EPOCH_END),
                Row(State.SAVE, to=State.ROUND_END),
            ),
            *in_order(
                Row(State.VAL_CHECK, when=ask.validation_is_interrupted, to=State.STOPPED),
                Row(State.VAL_CHECK, when=ask.validation_goes_on, then=do.next_eval_batch, to=State.VAL_CHECK),
                Row(State.VAL_CHECK, when=ask.stop_is_requested, then=do.end_validation, to=State.STOPPED),
                Row(State.VAL_CHECK, when=ask.epoch_is_over, then=do.end_validation, to=State.EPOCH_END),
                Row(State.VAL_CHECK, then=do.end_validation, to=State.EARLY_STOP),
            ),
            *in_order(
                Row(State.EPOCH_END, when=ask.epoch_ended_early_and_stop_is_requested, to=State.STOPPED),
                Row(State.EPOCH_END, when=ask.epoch_ended_early_and_test_follows, then=do.begin_pass, to=State.TEST),
                Row(State.EPOCH_END, when=ask.epoch_ended_early, to=State.DONE),
                Row(State.EPOCH_END, then=do.finish_epoch, to=State.EARLY_STOP),
            ),
            *in_order(
                Row(State.EARLY_STOP, when=ask.stop_is_requested, to=State.STOPPED),
                Row(State.EARLY_STOP, when=decide.end_is_unsaved, then=do.begin_end_save, to=State.SAVE),
                Row(State.EARLY_STOP, when=decide.training_is_over_and_test_follows, then=do.begin_pass, to=State.TEST),
                Row(State.EARLY_STOP, when=decide.training_is_over, to=State.DONE),
                Row(State.EARLY_STOP, when=ask.epoch_is_finished, then=do.begin_epoch, to=State.FETCH),
                Row(State.EARLY_STOP, when=decide.stop_is_due, then=do.end_epoch_early, to=State.EPOCH_END),
                Row(State.EARLY_STOP, when=decide.stop_is_wanted, then=(do.wait_for_windows, do.next_batch), to=State.FETCH),
                Row(State.EARLY_STOP, then=do.next_batch, to=State.FETCH),
            ),
            *in_order(
                Row(State.TEST, when=ask.stop_is_requested, to=State.STOPPED),
                Row(State.TEST, when=ask.test_goes_on, then=do.next_eval_batch, to=State.TEST),
                Row(State.TEST, to=State.DONE),
            ),
        )
    )
