"""`RunModel`: a run as the model of a ``transitions`` machine, and the order of one visit in the library's callbacks.

A visit is: the state's work, the choice of the row, its effects, the new state. What the library adds to its model stays on
this object; the user's module is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any, NoReturn

from transitions import EventData

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.effects import AnyEffect
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.trace import BLOCK, Trace, Transition, transition
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row
from fsmtrain.errors import CopyError, GuardError, UsageError

ADVANCE = "advance"  # the trigger of every transition

Callback = Callable[[EventData], None]
Condition = Callable[[EventData], bool]


class RunModel:
    """The model of a `RunMachine`: a run.

    As in the library, `state` is still the old one while the effects and the callbacks before the new state run.
    """

    # Added by the library when the machine is built, together with an ``is_<state>()`` for each state.
    advance: Callable[[], bool]  # make one visit; returns False if a callback of ``on_exception`` has handled an error
    may_advance: Callable[[], bool]  # whether a row holds now; does no work
    trigger: Callable[..., bool]  # trigger an event by its name
    get_graph: Callable[..., Any]

    def __init__(
        self, dispatcher: Dispatcher, begin: Callable[[], None], end: Callable[[], None], finish: Callable[[], None]
    ) -> None:
        self._dispatcher, self._begin, self._end, self._finish = dispatcher, begin, end, finish
        table = dispatcher.table
        self._rows = {state: [(i, row) for i, row in enumerate(table) if row.source is state] for state in table.states}
        # The current visit:
        self._event: EventData | None = None
        self._start = 0  # ns
        self._answers: dict[int, bool] = {}  # of the guards evaluated so far, by id
        self._row = 0  # index of the row that holds
        self._transition: Transition | None = None  # for the observer, if there is one
        self._leaving: State | None = None  # the old state, from when the row is taken until the library has changed the state
        self._is_blocked = False  # whether the row that holds was not taken
        self._is_advancing = False  # whether a call of advance() is under way
        self._nb_postponed = 0  # calls of advance() by callbacks of the state just entered, to be made after that one

    def __reduce__(self) -> NoReturn:
        raise CopyError(
            "a machine of transitions cannot be copied or pickled: it is one run. Build another machine, and call its "
            "as_transitions()."
        )

    # ---- running and reading

    def run(self) -> None:
        """Advance until a final state, or until a callback of ``on_exception`` has handled an error."""
        while not self.is_finished and self.advance():
            pass

    @property
    def state(self) -> str:
        """The value of the `State` that is visited now or next; the final one after the run has ended."""
        return (self._leaving or self._dispatcher.state).value

    @state.setter
    def state(self, value: str) -> None:
        entered = self._dispatcher.state
        if value != entered.value:
            raise UsageError(
                f"cannot set the state to {value!r}: the run is in the state {entered}, with counters that belong to it. Only "
                f"{ADVANCE}() changes them."
            )
        if self._leaving is not None:  # else another trigger has kept the state
            self._event = self._leaving = None

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended."""
        return self._dispatcher.is_finished

    @property
    def states(self) -> tuple[State, ...]:
        """The states of the run's table, in the order of `State`."""
        return self._dispatcher.table.states

    @property
    def trace(self) -> Trace:
        """The last transitions, of either engine."""
        return self._dispatcher.trace

    @property
    def limits(self) -> Limits:
        """The bounds of the loops."""
        return self._dispatcher.limits

    @property
    def counters(self) -> Counters:
        """The counters of the run; later visits change this object."""
        return self._dispatcher.counters

    @property
    def signals(self) -> Signals:
        """The signals of the run."""
        return self._dispatcher.signals

    # ---- the rows, in the form of the library

    def transitions(self) -> list[dict[str, Any]]:
        """Return trigger, states, conditions and effects of each row."""
        conditions: dict[int, Condition] = {}

        def condition(guard: Guard) -> Condition:
            return conditions.setdefault(id(guard), self._condition(guard))

        return [
            {
                "trigger": ADVANCE,
                "source": row.source.value,
                "dest": row.to.value,
                "conditions": [] if row.when is None else [condition(row.when)],
                "unless": [condition(guard) for guard in row.unless],
                "before": [*map(self._effect, row.then), self.record_row],
            }
            for row in self._dispatcher.table
        ]

    def _condition(self, guard: Guard) -> Condition:
        def condition(event: EventData) -> bool:
            return self._answer(guard) if event is self._event else self._evaluate(guard)

        condition.__name__ = condition.__qualname__ = guard_name(guard)
        condition.__doc__ = guard.__doc__
        return condition

    def _effect(self, effect: AnyEffect) -> Callback:
        applied = self._dispatcher.bind(effect)

        def apply(event: EventData) -> None:
            applied(self.limits, self.counters)

        apply.__name__ = apply.__qualname__ = guard_name(effect)
        apply.__doc__ = effect.__doc__
        return apply

    # ---- advance() in callbacks

    @contextmanager
    def advancing(self) -> Iterator[None]:
        """Mark a call of ``advance()``, with those that its callbacks postpone."""
        self._is_advancing = True
        try:
            yield
        finally:
            self._is_advancing, self._nb_postponed = False, 0

    def postpone_advance(self) -> bool:
        """Postpone a call of ``advance()`` by a callback of the state just entered; return whether it was one."""
        is_one = self._is_advancing and self._event is None and not self._dispatcher.is_visiting
        self._nb_postponed += is_one
        return is_one

    def take_postponed(self) -> bool:
        """Return whether a call of ``advance()`` was postponed, and count it as made."""
        if self._nb_postponed == 0:
            return False
        self._nb_postponed -= 1
        return True

    # ---- one visit, in the order of the library's calls

    def visit(self, event: EventData) -> None:
        """Do the state's work and choose the row; the conditions of the rows then repeat the guards' answers.

        Raises:
            GuardError: Not exactly one row holds.
            UsageError: Another visit is in progress.
        """
        if event.event is not event.machine.events.get(ADVANCE):
            return  # another trigger, or may_advance(): no visit
        if self._event is not None:
            raise UsageError(
                f"{ADVANCE}() was called while the state {self.state} was being visited. Call it outside of the run, or "
                f"once the next state was entered, in on_enter_... or after_state_change: that visit follows this one."
            )
        run = self._dispatcher
        run.forbid_reentry()
        with self._dispatcher.ending_on_errors(self._end):
            self._begin()
            self._event, self._answers, self._start = event, {}, perf_counter_ns()
            run.is_visiting = True
            try:
                action = run.work
                if action is not None:
                    action()
                self._row = self._choose_row()
            except BaseException:
                run.record_failure(perf_counter_ns() - self._start)
                raise
            finally:
                run.is_visiting = False
        if len(run.trace.rows) >= BLOCK:
            run.trace.turn(run.counters)
        self._transition = None if run.observer is None else transition(run.table, self._row, run.counters)

    def record_row(self, event: EventData) -> None:
        """Record the row in the trace, after its effects, and notify the observer."""
        run = self._dispatcher
        self._leaving = run.state
        run.record(self._row, perf_counter_ns() - self._start)
        if run.observer is not None and self._transition is not None:
            with self._dispatcher.ending_on_errors(self._end):
                run.observer(self._transition)

    def finish_run(self, event: EventData) -> None:
        """Finish the run, after a final state was entered."""
        with self._dispatcher.ending_on_errors(self._end):
            self._finish()

    def end_visit(self, event: EventData) -> None:
        """End the visit, after an exception too."""
        if self._dispatcher.is_visiting or (self._event is not None and event is not self._event):
            return  # within the current visit: another trigger, or an advance() that was refused
        self._is_blocked = self._event is not None and event.error is None and not event.result
        self._event = self._leaving = None
        if event.error is not None and event.event.name == ADVANCE:
            self._dispatcher.annotate_error(event.error)
            self._end()

    def raise_if_blocked(self) -> None:
        """Raise if the last trigger visited a state and a row held, but was not taken.

        Raises:
            GuardError: A condition that was added to the row does not hold.
        """
        if not self._is_blocked:
            return
        self._is_blocked = False
        row = self._dispatcher.table.rows[self._row]
        with self._dispatcher.ending_on_errors(self._end):
            raise GuardError(
                f"the transition from {row.source} to {row.to} is due, but a condition that was added to it does not hold. "
                f"Only the rows of the table decide: to change a decision, pass Guards(...) to build."
            )

    # ---- choosing the row

    def _choose_row(self) -> int:
        """Return the index of the row that holds."""
        state = self._dispatcher.state
        holding = [index for index, row in self._rows[state] if self._holds(row)]
        if len(holding) != 1:
            raise self._not_exactly_one(state, holding)
        return holding[0]

    def _holds(self, row: Row) -> bool:
        """Return whether the row holds. As in the dispatcher, no guard is evaluated if others have decided already."""
        answers = self._answers
        if any(answers.get(id(guard), False) for guard in row.unless):
            return False
        return (row.when is None or self._answer(row.when)) and not any(map(self._answer, row.unless))

    def _answer(self, guard: Guard) -> bool:
        """Return the guard's answer in this visit; it is evaluated once."""
        answer = self._answers.get(id(guard))
        if answer is None:
            answer = self._answers[id(guard)] = self._evaluate(guard)
        return answer

    def _evaluate(self, guard: Guard) -> bool:
        return bool(guard(self.limits, self.counters, self.signals))

    def _not_exactly_one(self, state: State, holding: list[int]) -> GuardError:
        rows = [row for _, row in self._rows[state]]
        guards = {id(guard): guard for row in rows for guard in (row.when, *row.unless) if guard is not None}
        answers = ", ".join(f"{guard_name(guard)}: {self._answer(guard)}" for guard in guards.values()) or "there is none"
        if not holding:
            return GuardError(f"no transition leaves the state {state}: none of its guards holds ({answers}).")
        targets = ", ".join(self._dispatcher.table.rows[index].to.value for index in holding)
        return GuardError(
            f"{len(holding)} transitions leave the state {state} at once, to {targets}; exactly one must. "
            f"Its guards answered: {answers}. Give one row as `unless` what the other has as `when`."
        )
