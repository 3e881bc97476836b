"""Which rows of its state hold in a moment: asks each guard as a run would, and compares it with what was read of it.

A guard of the user's that cannot be read is never asked here: it may have a memory. Both its answers are tried instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Checked
from fsmtrain.core.guard_ast.evaluate import Evaluator, compile_expression
from fsmtrain.core.guard_ast.expressions import Opaque, is_opaque
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, Table

Assumed = dict[int, bool]  # the id of a guard that cannot be read -> what it is taken to answer


class _UndecidedError(Exception):
    """A guard that cannot be read is needed, and nothing is assumed of it yet."""

    def __init__(self, guard: object) -> None:
        super().__init__()
        self.guard = guard


@frozen(eq=False)
class Disagreement:
    """A guard that answered otherwise than its source says."""

    guard: Guard
    source_answer: object
    answer: object


@define(eq=False)
class _CompiledGuard:
    """A guard of a state's rows, with what was read of it."""

    guard: Guard
    evaluate: Evaluator
    is_opaque: bool


@define(eq=False)
class _Case:
    """A row, its guards as indices among those of its state."""

    index: int
    when: int | None
    unless: tuple[int, ...]


class RowChoices:
    """The rows of a table, to be chosen from.

    Args:
        table: The loop's.
        limits: The loop's.
    """

    def __init__(self, table: Table, limits: Limits) -> None:
        self._limits, self._assumed = limits, Assumed()
        self._asked: dict[State, list[_CompiledGuard]] = {}
        self._cases: dict[State, list[_Case]] = {state: [] for state in table.states}
        self._indices: dict[State, dict[int, int]] = {state: {} for state in table.states}
        for index, row in enumerate(table):
            self._add(index, row)
        self.disagreements: list[Disagreement] = []

    def holding_rows(self, state: State, counters: Counters, signals: Signals) -> set[tuple[int, ...]]:
        """The rows that hold, by their index, in each way in which they may; one way where all guards can be read."""
        found: set[tuple[int, ...]] = set()
        waiting: list[Assumed] = [{}]
        while waiting:
            self._assumed = waiting.pop()
            try:
                found.add(tuple(self._holding(state, counters, signals)))
            except _UndecidedError as undecided:
                waiting += [{**self._assumed, id(undecided.guard): answer} for answer in (False, True)]
        return found

    def _add(self, index: int, row: Row) -> None:
        when = None if row.when is None else self._index_of(row.source, row.when)
        unless = tuple(self._index_of(row.source, guard) for guard in row.unless)
        self._cases[row.source].append(_Case(index, when, unless))

    def _index_of(self, state: State, guard: Guard) -> int:
        """The guard's place among those of the state, each of which is asked once."""
        asked, indices = self._asked.setdefault(state, []), self._indices[state]
        if id(guard) not in indices:
            expression = parse_guard(guard, whole=_is_opaque)
            indices[id(guard)] = len(asked)
            asked.append(_CompiledGuard(guard, compile_expression(expression, self._assume), is_opaque(expression)))
        return indices[id(guard)]

    def _assume(self, part: Opaque) -> Evaluator:
        def answer(limits: Limits, counters: Counters, signals: Signals) -> bool:
            if id(part.guard) not in self._assumed:
                raise _UndecidedError(part.guard)
            return self._assumed[id(part.guard)]

        return answer

    def _holding(self, state: State, counters: Counters, signals: Signals) -> Iterator[int]:
        asked = self._asked.get(state, [])
        answers: list[bool | None] = [None] * len(asked)

        def holds(index: int) -> bool:
            answer = answers[index]
            if answer is None:
                answer = answers[index] = self._ask(asked[index], counters, signals)
            return answer

        for case in self._cases[state]:
            if any(map(holds, case.unless)) or not (case.when is None or holds(case.when)):
                continue
            yield case.index

    def _ask(self, asked: _CompiledGuard, counters: Counters, signals: Signals) -> bool:
        if asked.is_opaque:
            return bool(asked.evaluate(self._limits, counters, signals))
        answer = asked.guard(self._limits, counters, signals)
        compared = compare_with_source(asked.guard, answer, asked.evaluate, (self._limits, counters, signals))
        if compared is not None:
            self.disagreements.append(compared)
        return answer


def _is_opaque(guard: Checked) -> bool:
    return is_opaque(parse_guard(guard.guard))


def compare_with_source(
    guard: Guard, answer: object, reading: Evaluator, moment: tuple[Limits, Counters, Signals]
) -> Disagreement | None:
    """A guard's answer in a moment with what its source says; None where they agree."""
    try:
        says: Any = reading(*moment)
    except (ArithmeticError, AttributeError, IndexError, TypeError) as error:
        says = error
    return None if type(says) is type(answer) and says == answer else Disagreement(guard, says, answer)
