"""Turns what was read of a guard back into something that can be asked, so that the two can be compared.

It is put together from the expression alone. Nothing of the source is executed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import COMPUTE, RECORDS, Apply, Expression, Opaque, Read, Value
from fsmtrain.core.limits import Limits

Answer = Callable[[Limits, Counters, Signals], Any]


def as_it_is(part: Opaque) -> Answer:
    """A part that cannot be read answers for itself."""
    assert callable(part.guard)
    return part.guard


def answering(expression: Expression, opaque: Callable[[Opaque], Answer] = as_it_is) -> Answer:
    """What the expression comes to in a moment, as a function of the three records; parts are asked in Python's order.

    Args:
        expression: What was read.
        opaque: What answers in the place of a part that cannot be read.

    >>> from fsmtrain.core.guards import stop_is_requested
    >>> from fsmtrain.core.guard_ast.parse import read
    >>> answering(read(stop_is_requested))(None, Counters(), Signals(stop_requested=True))
    True
    """
    match expression:
        case Value(value=value):
            return lambda limits, counters, signals: value
        case Read(record=record, name=name):
            return _field(RECORDS.index(record), name)
        case Opaque():
            return opaque(expression)
        case Apply(op=("and" | "or") as op, args=args):
            return _junction([answering(arg, opaque) for arg in args], ends=op == "or")
        case Apply(op="not", args=(arg,)):
            asked = answering(arg, opaque)
            return lambda limits, counters, signals: not asked(limits, counters, signals)
        case Apply(op=op, args=(left, right)):
            return _operation(COMPUTE[op], answering(left, opaque), answering(right, opaque))
    raise TypeError(expression)


def _field(record: int, name: str) -> Answer:
    plain, _, index = name.removesuffix("]").partition("[")
    of = operator.attrgetter(plain)
    if not index:
        return lambda *records: of(records[record])
    at = int(index)
    return lambda *records: of(records[record])[at]


def _junction(parts: list[Answer], *, ends: bool) -> Answer:
    """Part by part up to the first whose truth is `ends`."""

    def ask(limits: Limits, counters: Counters, signals: Signals) -> Any:
        answer: Any = not ends
        for part in parts:
            answer = part(limits, counters, signals)
            if bool(answer) is ends:
                break
        return answer

    return ask


def _operation(compute: Callable[[Any, Any], Any], left: Answer, right: Answer) -> Answer:
    return lambda limits, counters, signals: compute(left(limits, counters, signals), right(limits, counters, signals))
