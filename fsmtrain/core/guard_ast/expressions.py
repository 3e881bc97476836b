"""Expressions: a guard as data, made of fields of its three records, numbers, and operators."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import field, fields, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits

RECORDS = ("limits", "counters", "signals")


@frozen
class Value:
    """An int or a bool. They are never equal: 1 is not True."""

    value: int | bool = field(eq=lambda value: (type(value), value))


@frozen
class Field:
    """A field of one of a guard's three records. `name` may end in an index, as in ``optimizer_steps[0]``."""

    record: str
    name: str


@frozen
class Apply:
    """An operator and its operands: ``and or not``, a comparison, or arithmetic."""

    op: str
    args: tuple[Expression, ...]


@frozen
class Opaque:
    """A guard, or a part of one, that cannot be read; `reason` says why."""

    name: str
    reason: str
    guard: object = field(repr=False, eq=id)


Expression = Value | Field | Apply | Opaque
Fact = int | bool
Facts = Mapping[tuple[str, str], Fact]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip
NEGATED_COMPARISONS = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

# The fields that are bools. A name is unique among the three records.
_BOOLEAN_FIELDS = frozenset(
    f.name for record in (Limits, Counters, Signals) for f in fields(record) if f.type in (bool, "bool")
)

TRUE, FALSE = Value(True), Value(False)


def is_boolean(expression: Expression) -> bool:
    """Return whether the expression is a bool, and not a number."""
    match expression:
        case Value(value=value):
            return isinstance(value, bool)
        case Field(name=name):
            return name in _BOOLEAN_FIELDS
        case Apply(op=op):
            return op not in OPERATORS or op in NEGATED_COMPARISONS
    return True


def iter_parts(expression: Expression) -> Iterator[Expression]:
    """Yield the expression and all expressions in it."""
    yield expression
    if isinstance(expression, Apply):
        for arg in expression.args:
            yield from iter_parts(arg)


def fields_in(expression: Expression) -> frozenset[Field]:
    """Return the fields that the expression reads."""
    return frozenset(part for part in iter_parts(expression) if isinstance(part, Field))


def is_opaque(expression: Expression) -> bool:
    """Return whether a part of the expression cannot be read."""
    return any(isinstance(part, Opaque) for part in iter_parts(expression))


def negate(expression: Expression) -> Expression:
    """Return the negation, with each ``not`` moved inwards as far as possible."""
    match expression:
        case Value(value=value):
            return Value(not value)
        case Apply(op="not", args=(arg,)):
            return arg
        case Apply(op=op, args=args) if op in NEGATED_COMPARISONS:
            return Apply(NEGATED_COMPARISONS[op], args)
        case Apply(op=("and" | "or") as op, args=args):
            return Apply("or" if op == "and" else "and", tuple(negate(arg) for arg in args))
    return Apply("not", (expression,))
