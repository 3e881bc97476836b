"""`Run`: a run as the package ``transitions`` sees it, the model of its machine.

It has the table's rows as the library wants them, and the order of one visit: work, decision, effects, the new state. What the
library adds to its model when the machine is made stays here; the user's module is never touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any

from transitions import EventData

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.effects import Effect
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Row
from fsmtrain.core.trace import BLOCK, Trace, Transition, transition
from fsmtrain.errors import GuardError, UsageError

ADVANCE = "advance"  # the trigger of every transition

Callback = Callable[[EventData], None]
Condition = Callable[[EventData], bool]


class RunModel:
    """A run as ``transitions`` sees it: the model of a `RunMachine`.

    Between the effects and the new state's callbacks, `state` is still the one that is being left, as the library has it.
    """

    # What the library adds when the machine is made; beside these, an ``is_<state>()`` for each state.
    advance: Callable[[], bool]  # one visit; False where a callback of ``on_exception`` has dealt with an error
    may_advance: Callable[[], bool]  # whether a row holds, as things stand now; does no work
    trigger: Callable[..., bool]  # by its name
    get_graph: Callable[..., Any]

    def __init__(
        self, dispatcher: Dispatcher, begin: Callable[[], None], end: Callable[[], None], finish: Callable[[], None]
    ) -> None:
        self._dispatcher, self._begin, self._end, self._finish = dispatcher, begin, end, finish
        self._rows: dict[State, list[tuple[int, Row]]] = {state: [] for state in dispatcher.table.states}
        for index, row in enumerate(dispatcher.table):
            self._rows[row.source].append((index, row))
        # Of the visit under way:
        self._event: EventData | None = None
        self._begun = 0  # ns
        self._answers: dict[int, bool] = {}  # of the guards asked so far, by their id
        self._row = 0  # the one that holds
        self._taken: Transition | None = None  # what it is told as, where somebody listens
        self._leaving: State | None = None  # once the row has been taken, until the library has changed the state
        self._kept_back = False  # the row was not taken, though it holds

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A run is not copied: a copy, or a pickle, of what holds it has None in its place."""
        return type(None), ()

    # ---- running and looking

    def run(self) -> None:
        """Advance up to a final state, or up to an error with which a callback of ``on_exception`` has dealt."""
        while not self.is_finished and self.advance():
            pass

    @property
    def state(self) -> str:
        """The value of the `State` that is visited next, or under way; the final one when the run has ended."""
        return (self._leaving or self._dispatcher.state).value

    @state.setter
    def state(self, value: str) -> None:
        entered = self._dispatcher.state
        if value != entered.value:
            raise UsageError(
                f"The run stands in the state {entered} and cannot be put into {value!r}: its counters say where it is, and "
                f"they are changed by {ADVANCE}() alone."
            )
        if self._leaving is not None:  # else another trigger has left the state as it was
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
        """The last transitions, whichever engine made them."""
        return self._dispatcher.trace

    @property
    def limits(self) -> Limits:
        """What bounds the loops."""
        return self._dispatcher.limits

    @property
    def counters(self) -> Counters:
        """Where the run stands, in numbers; it goes on changing."""
        return self._dispatcher.counters

    @property
    def signals(self) -> Signals:
        """The facts from outside the counters."""
        return self._dispatcher.signals

    # ---- the rows, as the library wants them

    def transitions(self) -> list[dict[str, Any]]:
        """For each row its trigger, states, conditions and effects."""
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
                "before": [*map(self._effect, row.then), self.take],
            }
            for row in self._dispatcher.table
        ]

    def _condition(self, guard: Guard) -> Condition:
        def condition(event: EventData) -> bool:
            return self._ask(guard) if event is self._event else self._asked_afresh(guard)

        condition.__name__ = condition.__qualname__ = guard_name(guard)
        condition.__doc__ = guard.__doc__
        return condition

    def _effect(self, effect: Effect) -> Callback:
        def apply(event: EventData) -> None:
            effect(self.limits, self.counters)

        apply.__name__ = apply.__qualname__ = guard_name(effect)
        apply.__doc__ = effect.__doc__
        return apply

    # ---- one visit, in the order in which the library calls

    def visit(self, event: EventData) -> None:
        """Do the state's work and decide which row is taken; its conditions then repeat the answers.

        Raises:
            GuardError: Not exactly one row holds.
            UsageError: The visit would take place within another one.
        """
        if event.event is not event.machine.events.get(ADVANCE):
            return  # another trigger, or may_advance(): no visit
        if self._event is not None:
            raise UsageError(
                f"{ADVANCE}() was called while the state {self.state} was being visited. Call it from outside, or where the "
                f"next state has been entered: in on_enter_... or after_state_change."
            )
        run = self._dispatcher
        run.forbid_reentry()
        with self._ending_on_errors():
            self._begin()
            self._event, self._answers, self._begun = event, {}, perf_counter_ns()
            run.is_visiting = True
            try:
                action = run.work
                if action is not None:
                    action()
                self._row = self._decide()
            except BaseException:
                run.record_failure(perf_counter_ns() - self._begun)
                raise
            finally:
                run.is_visiting = False
        if len(run.trace.rows) >= BLOCK:
            run.trace.turn(run.counters)
        self._taken = None if run.observer is None else transition(run.table, self._row, run.counters)

    def take(self, event: EventData) -> None:
        """The row's effects have been applied: write it down, and tell the observer."""
        run = self._dispatcher
        self._leaving = run.state
        run.record(self._row, perf_counter_ns() - self._begun)
        if run.observer is not None and self._taken is not None:
            with self._ending_on_errors():
                run.observer(self._taken)

    def finish(self, event: EventData) -> None:
        """A final state has been entered."""
        with self._ending_on_errors():
            self._finish()

    def close(self, event: EventData) -> None:
        """The event is over, also where an exception ended it."""
        if self._dispatcher.is_visiting or (self._event is not None and event is not self._event):
            return  # within the visit under way: another trigger, or an advance() that was refused
        self._kept_back = self._event is not None and event.error is None and not event.result
        self._event = self._leaving = None
        if event.error is not None and event.event.name == ADVANCE:
            self._dispatcher.annotate_error(event.error)
            self._end()

    def see_that_a_row_was_taken(self) -> None:
        """After a trigger that took no transition: see to it that there was none to take.

        Raises:
            GuardError: The state was visited and a row of it held.
        """
        if not self._kept_back:
            return
        self._kept_back = False
        row = self._dispatcher.table.rows[self._row]
        with self._ending_on_errors():
            raise GuardError(
                f"the transition from {row.source} to {row.to} was to be taken, but a condition that was added to it does not "
                f"hold. The rows of the table decide alone: to decide otherwise pass Guards(...) to build."
            )

    @contextlib.contextmanager
    def _ending_on_errors(self) -> Iterator[None]:
        """An error ends the run, and is told where it stood."""
        try:
            yield
        except BaseException as error:
            self._dispatcher.annotate_error(error)
            self._end()
            raise

    # ---- deciding

    def _decide(self) -> int:
        """The index of the row that holds."""
        state = self._dispatcher.state
        holding = [index for index, row in self._rows[state] if self._holds(row)]
        if len(holding) != 1:
            raise self._not_one(state, holding)
        return holding[0]

    def _holds(self, row: Row) -> bool:
        """Whether the row holds. What other rows have settled is not asked: no guard is asked where the rules say it is not."""
        answers = self._answers
        if any(answers.get(id(guard), False) for guard in row.unless):
            return False
        return (row.when is None or self._ask(row.when)) and not any(map(self._ask, row.unless))

    def _ask(self, guard: Guard) -> bool:
        """The guard's answer in this visit; it is asked once."""
        answer = self._answers.get(id(guard))
        if answer is None:
            answer = self._answers[id(guard)] = self._asked_afresh(guard)
        return answer

    def _asked_afresh(self, guard: Guard) -> bool:
        return bool(guard(self.limits, self.counters, self.signals))

    def _not_one(self, state: State, holding: list[int]) -> GuardError:
        rows = [row for _, row in self._rows[state]]
        guards = {id(guard): guard for row in rows for guard in (row.when, *row.unless) if guard is not None}
        asked = ", ".join(f"{guard_name(guard)}: {self._ask(guard)}" for guard in guards.values()) or "there is none"
        if not holding:
            return GuardError(f"no transition leaves the state {state}: of its guards none holds ({asked}).")
        targets = ", ".join(self._dispatcher.table.rows[index].to.value for index in holding)
        return GuardError(
            f"{len(holding)} transitions leave the state {state} at once, to {targets}; exactly one must. "
            f"Its guards answered: {asked}. Give one row as `unless` what the other has as `when`."
        )
