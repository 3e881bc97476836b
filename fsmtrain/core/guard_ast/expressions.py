"""What a guard says, as data: fields of the three records that it is given, numbers, and operators between them."""

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
    """A number or a truth value, which are never the same: 1 is not True."""

    value: int | bool = field(eq=lambda value: (type(value), value))


@frozen
class Field:
    """A field of one of the three records that a guard is given; `name` may end in an index, as in ``optimizer_steps[0]``."""

    record: str
    name: str


@frozen
class Apply:
    """An operator and its operands: ``and or not``, comparisons, arithmetic."""

    op: str
    args: tuple[Expression, ...]


@frozen
class Opaque:
    """A guard, or a part of one, that cannot be read, and why."""

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

# The fields that are flags; a name means one field among the three records.
_TRUTHS = frozenset(f.name for record in (Limits, Counters, Signals) for f in fields(record) if f.type in (bool, "bool"))

TRUE, FALSE = Value(True), Value(False)


def is_boolean(expression: Expression) -> bool:
    """Whether the expression is True or False, and not a number."""
    match expression:
        case Value(value=value):
            return isinstance(value, bool)
        case Field(name=name):
            return name in _TRUTHS
        case Apply(op=op):
            return op not in OPERATORS or op in NEGATED_COMPARISONS
    return True


def iter_parts(expression: Expression) -> Iterator[Expression]:
    """The expression, and all the expressions in it."""
    yield expression
    if isinstance(expression, Apply):
        for arg in expression.args:
            yield from iter_parts(arg)


def fields_in(expression: Expression) -> frozenset[Field]:
    """The fields that the expression looks at."""
    return frozenset(part for part in iter_parts(expression) if isinstance(part, Field))


def is_opaque(expression: Expression) -> bool:
    """Whether a part of the expression could not be read."""
    return any(isinstance(part, Opaque) for part in iter_parts(expression))
