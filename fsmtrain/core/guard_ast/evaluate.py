"""Turns what was read of a guard back into something that can be asked, so that the two can be compared.

It is put together from the expression alone. Nothing of the source is executed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import OPERATORS, RECORDS, Apply, Expression, Field, Opaque, Value
from fsmtrain.core.limits import Limits

Evaluator = Callable[[Limits, Counters, Signals], Any]


def call_guard(part: Opaque) -> Evaluator:
    """A part that cannot be read answers for itself."""
    assert callable(part.guard)
    return part.guard


def compile_expression(expression: Expression, opaque: Callable[[Opaque], Evaluator] = call_guard) -> Evaluator:
    """What the expression comes to in a moment, as a function of the three records; parts are asked in Python's order.

    Args:
        expression: What was read.
        opaque: What answers in the place of a part that cannot be read.

    >>> from fsmtrain.core.guards import stop_is_requested
    >>> from fsmtrain.core.guard_ast.parse import parse_guard
    >>> compile_expression(parse_guard(stop_is_requested))(None, Counters(), Signals(stop_requested=True))
    True
    """
    match expression:
        case Value(value=value):
            return lambda limits, counters, signals: value
        case Field(record=record, name=name):
            return _field(RECORDS.index(record), name)
        case Opaque():
            return opaque(expression)
        case Apply(op=("and" | "or") as op, args=args):
            return _junction([compile_expression(arg, opaque) for arg in args], ends=op == "or")
        case Apply(op="not", args=(arg,)):
            asked = compile_expression(arg, opaque)
            return lambda limits, counters, signals: not asked(limits, counters, signals)
        case Apply(op=op, args=(left, right)):
            return _operation(OPERATORS[op], compile_expression(left, opaque), compile_expression(right, opaque))
    raise TypeError(expression)


def _field(record: int, name: str) -> Evaluator:
    plain, _, index = name.removesuffix("]").partition("[")
    of = operator.attrgetter(plain)
    if not index:
        return lambda *records: of(records[record])
    at = int(index)
    return lambda *records: of(records[record])[at]


def _junction(parts: list[Evaluator], *, ends: bool) -> Evaluator:
    """Part by part up to the first whose truth is `ends`."""

    def ask(limits: Limits, counters: Counters, signals: Signals) -> Any:
        answer: Any = not ends
        for part in parts:
            answer = part(limits, counters, signals)
            if bool(answer) is ends:
                break
        return answer

    return ask


def _operation(compute: Callable[[Any, Any], Any], left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda limits, counters, signals: compute(left(limits, counters, signals), right(limits, counters, signals))
