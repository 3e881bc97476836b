"""The transition table: what a training loop does after what, one row for each transition.

`full_table` is the loop with every feature on. A configuration's table is this one without the rows whose guard is always
false for it (`folding`); nothing else in the package builds a table.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, field, frozen

from fsmtrain.core import effects as do
from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.decisions import Decisions
from fsmtrain.core.effects import AnyEffect
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


@frozen(kw_only=True)
class Row:
    """One transition: from `source` to `to` if `when` holds and none of `unless` does, changing counters by `then`.

    `when` is None if nothing needs to hold. `unless` is the complement by construction: if one row has a guard as `when` and
    another has it as `unless`, the two can neither both hold nor both fail.
    """

    source: State
    when: Guard | None = None
    unless: tuple[Guard, ...] = field(default=(), converter=_tuple)
    then: tuple[AnyEffect, ...] = field(default=(), converter=_tuple)
    to: State

    def holds(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether to take this row. Every guard is called."""
        return (self.when is None or self.when(limits, counters, signals)) and not any(
            guard(limits, counters, signals) for guard in self.unless
        )


def row(
    source: State,
    *,
    to: State,
    when: Guard | None = None,
    unless: Guard | tuple[Guard, ...] = (),
    then: AnyEffect | tuple[AnyEffect, ...] = (),
) -> Row:
    """Return a `Row`; a single guard or effect needs no tuple."""
    return Row(source=source, when=when, unless=unless, then=then, to=to)


def in_order(*rows: Row) -> tuple[Row, ...]:
    """Return the rows of one state as a list of cases: each holds only if none before it does.

    >>> first, second, last = in_order(
    ...     row(State.START, when=ask.stop_is_requested, to=State.STOPPED),
    ...     row(State.START, when=ask.sanity_pass_is_due, to=State.SANITY_VAL),
    ...     row(State.START, to=State.FETCH),
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
                row(State.START, when=ask.stop_is_requested, to=State.STOPPED),
                row(State.START, when=ask.sanity_pass_is_due, then=do.begin_pass, to=State.SANITY_VAL),
                row(State.START, when=ask.no_epoch_but_test_follows, then=do.begin_pass, to=State.TEST),
                row(State.START, when=ask.no_epoch_follows, to=State.DONE),
                row(State.START, then=do.begin_epoch, to=State.FETCH),
            ),
            *in_order(
                row(State.SANITY_VAL, when=ask.stop_is_requested, to=State.STOPPED),
                row(State.SANITY_VAL, when=ask.sanity_pass_goes_on, then=do.next_eval_batch, to=State.SANITY_VAL),
                row(State.SANITY_VAL, when=ask.no_epoch_but_test_follows, then=do.begin_pass, to=State.TEST),
                row(State.SANITY_VAL, when=ask.no_epoch_follows, to=State.DONE),
                row(State.SANITY_VAL, then=do.begin_epoch, to=State.FETCH),
            ),
            # One batch: for each split, for each optimizer, a forward, a backward, and a step if its window closes.
            row(
                State.FETCH,
                then=(do.count_splits, do.begin_batch, do.begin_rounds, do.begin_round, do.first_turn, do.reset_saved),
                to=State.TRAIN_BATCH,
            ),
            row(State.TRAIN_BATCH, then=do.gather, to=State.BACKWARD),
            row(State.BACKWARD, when=decide.step_is_due, to=State.STEP),
            row(State.BACKWARD, unless=decide.step_is_due, to=State.ACCUMULATE),
            row(State.ACCUMULATE, then=do.end_turn, to=State.ROUND_END),
            *in_order(
                row(State.STEP, when=ask.window_is_spoiled, to=State.ROLLED_BACK),
                row(State.STEP, when=ask.step_was_skipped, then=(do.drop_window, do.end_turn), to=State.ROUND_END),
                row(State.STEP, then=(do.close_window, do.note_step, do.end_turn), to=State.ROUND_END),
            ),
            *in_order(
                row(State.ROUND_END, when=ask.stop_is_requested, to=State.STOPPED),
                row(State.ROUND_END, when=ask.another_optimizer_follows, then=do.next_turn, to=State.TRAIN_BATCH),
                row(
                    State.ROUND_END,
                    when=ask.another_split_follows,
                    then=(do.first_turn, do.begin_round, do.next_split),
                    to=State.TRAIN_BATCH,
                ),
                row(State.ROUND_END, when=decide.save_is_due, then=do.mark_saved, to=State.SAVE),
                row(State.ROUND_END, when=decide.validation_is_due, then=do.begin_validation, to=State.VAL_CHECK),
                row(State.ROUND_END, when=ask.epoch_is_over, to=State.EPOCH_END),
                row(State.ROUND_END, when=decide.stop_is_due, to=State.EARLY_STOP),
                row(State.ROUND_END, then=do.next_batch, to=State.FETCH),
            ),
            row(State.SAVE, to=State.ROUND_END),
            *in_order(
                row(State.VAL_CHECK, when=ask.validation_is_interrupted, to=State.STOPPED),
                row(State.VAL_CHECK, when=ask.validation_goes_on, then=do.next_eval_batch, to=State.VAL_CHECK),
                row(State.VAL_CHECK, when=ask.stop_is_requested, then=do.end_validation, to=State.STOPPED),
                row(State.VAL_CHECK, when=ask.epoch_is_over, then=do.end_validation, to=State.EPOCH_END),
                row(State.VAL_CHECK, then=do.end_validation, to=State.EARLY_STOP),
            ),
            *in_order(
                row(State.EPOCH_END, when=ask.epoch_ended_early_and_stop_is_requested, to=State.STOPPED),
                row(State.EPOCH_END, when=ask.epoch_ended_early_and_test_follows, then=do.begin_pass, to=State.TEST),
                row(State.EPOCH_END, when=ask.epoch_ended_early, to=State.DONE),
                row(State.EPOCH_END, then=do.finish_epoch, to=State.EARLY_STOP),
            ),
            *in_order(
                row(State.EARLY_STOP, when=ask.stop_is_requested, to=State.STOPPED),
                row(State.EARLY_STOP, when=decide.training_is_over_and_test_follows, then=do.begin_pass, to=State.TEST),
                row(State.EARLY_STOP, when=decide.training_is_over, to=State.DONE),
                row(State.EARLY_STOP, when=ask.epoch_is_finished, then=do.begin_epoch, to=State.FETCH),
                row(State.EARLY_STOP, when=decide.stop_is_due, then=do.end_epoch_early, to=State.EPOCH_END),
                row(State.EARLY_STOP, then=do.next_batch, to=State.FETCH),
            ),
            *in_order(
                row(State.TEST, when=ask.stop_is_requested, to=State.STOPPED),
                row(State.TEST, when=ask.test_goes_on, then=do.next_eval_batch, to=State.TEST),
                row(State.TEST, to=State.DONE),
            ),
        )
    )
