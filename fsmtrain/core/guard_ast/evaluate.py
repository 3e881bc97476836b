"""Compile an expression to a function, so that a guard can be compared with its parsed source.

The function is built from the expression alone. The source is not executed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import OPERATORS, RECORDS, Apply, Expression, Field, Opaque, Value
from fsmtrain.core.limits import Limits

Evaluator = Callable[[Limits, Counters, Signals], Any]


def compile_expression(expression: Expression, opaque: Callable[[Opaque], Evaluator] = attrgetter("guard")) -> Evaluator:
    """Return the expression as a function of the three records. Its parts are evaluated in Python's order.

    Args:
        expression: The expression.
        opaque: Returns the function for a part that cannot be read. By default that part is called.

    >>> from fsmtrain.core.transition_guards import stop_is_requested
    >>> from fsmtrain.core.guard_ast.parse import parse_guard
    >>> compile_expression(parse_guard(stop_is_requested))(None, Counters(), Signals(stop_requested=True))
    True
    """
    match expression:
        case Value(value=value):
            return lambda limits, counters, signals: value
        case Field(record=record, name=name):
            return _evaluate_field(RECORDS.index(record), name)
        case Opaque():
            return opaque(expression)
        case Apply(op=("and" | "or") as op, args=args):
            return _evaluate_junction([compile_expression(arg, opaque) for arg in args], ends=op == "or")
        case Apply(op="not", args=(arg,)):
            operand = compile_expression(arg, opaque)
            return lambda limits, counters, signals: not operand(limits, counters, signals)
        case Apply(op=op, args=(left, right)):
            compute, a, b = OPERATORS[op], compile_expression(left, opaque), compile_expression(right, opaque)
            return lambda limits, counters, signals: compute(a(limits, counters, signals), b(limits, counters, signals))
    raise TypeError(expression)


def _evaluate_field(record: int, name: str) -> Evaluator:
    plain, _, index = name.removesuffix("]").partition("[")
    of = attrgetter(plain)
    if not index:
        return lambda *records: of(records[record])
    at = int(index)
    return lambda *records: of(records[record])[at]


def _evaluate_junction(parts: list[Evaluator], *, ends: bool) -> Evaluator:
    """Evaluate part by part, up to the first whose truth value is `ends`."""

    def evaluate(limits: Limits, counters: Counters, signals: Signals) -> Any:
        answer: Any = not ends
        for part in parts:
            answer = part(limits, counters, signals)
            if bool(answer) is ends:
                break
        return answer

    return evaluate
