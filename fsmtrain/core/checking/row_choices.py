"""Which rows of a state hold at a moment: calls each guard as a run would, and compares it with its parsed source.

A user's guard that cannot be read is never called here, since it may have a memory. Both of its answers are tried instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.evaluate import Evaluator, compile_expression
from fsmtrain.core.guard_ast.expressions import Opaque, is_opaque
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Table

Assumed = dict[int, bool]  # id of a guard that cannot be read -> the answer that is assumed


class _UndecidedError(Exception):
    """The answer of a guard that cannot be read is needed, and none is assumed yet."""

    def __init__(self, guard: object) -> None:
        super().__init__()
        self.guard = guard


@frozen(eq=False)
class Disagreement:
    """A guard that returned something else than its source says."""

    guard: Guard
    source_answer: object
    answer: object


@frozen(eq=False)
class _CompiledGuard:
    """A guard of the table, and its parsed source as a function."""

    guard: Guard
    evaluate: Evaluator
    is_opaque: bool


class RowChoices:
    """Finds the rows of a loop's table that hold.

    Args:
        table, limits: Those of the loop.

    Attributes:
        disagreements: Guards that contradicted their source so far.
    """

    def __init__(self, table: Table, limits: Limits) -> None:
        self._limits, self._assumed = limits, Assumed()
        self._rows = {state: [(i, row) for i, row in enumerate(table) if row.source is state] for state in table.states}
        guards = {id(guard): guard for row in table for guard in (row.when, *row.unless) if guard is not None}
        self._guards = {key: self._compile(guard) for key, guard in guards.items()}
        self.disagreements: list[Disagreement] = []

    def holding_rows(self, state: State, counters: Counters, signals: Signals) -> set[tuple[int, ...]]:
        """Return the indices of the rows that hold: one tuple for each combination of answers of opaque guards."""
        choices: set[tuple[int, ...]] = set()
        waiting: list[Assumed] = [{}]
        while waiting:
            self._assumed = waiting.pop()
            try:
                choices.add(tuple(self._holding(state, counters, signals)))
            except _UndecidedError as undecided:
                waiting += [{**self._assumed, id(undecided.guard): answer} for answer in (False, True)]
        return choices

    def _compile(self, guard: Guard) -> _CompiledGuard:
        expression = parse_guard(guard, keep_opaque=lambda own: is_opaque(parse_guard(own.guard)))
        return _CompiledGuard(guard, compile_expression(expression, self._assume), is_opaque(expression))

    def _assume(self, part: Opaque) -> Evaluator:
        def answer(limits: Limits, counters: Counters, signals: Signals) -> bool:
            if id(part.guard) not in self._assumed:
                raise _UndecidedError(part.guard)
            return self._assumed[id(part.guard)]

        return answer

    def _holding(self, state: State, counters: Counters, signals: Signals) -> Iterator[int]:
        answers: dict[int, bool] = {}  # by the guard's id: each is called once for a moment

        def holds(guard: Guard) -> bool:
            answer = answers.get(id(guard))
            if answer is None:
                answer = answers[id(guard)] = self._call(self._guards[id(guard)], counters, signals)
            return answer

        for index, row in self._rows[state]:
            if not any(map(holds, row.unless)) and (row.when is None or holds(row.when)):
                yield index

    def _call(self, compiled: _CompiledGuard, counters: Counters, signals: Signals) -> bool:
        if compiled.is_opaque:
            return bool(compiled.evaluate(self._limits, counters, signals))
        answer = compiled.guard(self._limits, counters, signals)
        disagreement = compare_with_source(compiled.guard, answer, compiled.evaluate, (self._limits, counters, signals))
        if disagreement is not None:
            self.disagreements.append(disagreement)
        return answer


def compare_with_source(
    guard: Guard, answer: object, evaluate: Evaluator, records: tuple[Limits, Counters, Signals]
) -> Disagreement | None:
    """Compare a guard's answer with its source, evaluated on the same records; return None if they agree."""
    try:
        expected: Any = evaluate(*records)
    except (ArithmeticError, AttributeError, IndexError, TypeError) as error:
        expected = error
    return None if type(expected) is type(answer) and expected == answer else Disagreement(guard, expected, answer)
