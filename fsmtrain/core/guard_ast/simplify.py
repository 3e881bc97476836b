"""Simplify expressions: fold in fields with known values."""

from __future__ import annotations

from fsmtrain.core.guard_ast.expressions import FALSE, OPERATORS, TRUE, Apply, Expression, Facts, Field, Value, negate


def fold(expression: Expression, facts: Facts) -> Expression:
    """Return the expression with known fields replaced by their values, constants folded, and no operand twice.

    >>> fold(Apply("and", (Field("limits", "tests"), Field("signals", "stop_requested"))), {("limits", "tests"): True})
    Field(record='signals', name='stop_requested')
    >>> fold(Apply("or", (Field("signals", "save_wanted"), Field("signals", "save_wanted"))), {})
    Field(record='signals', name='save_wanted')
    """
    match expression:
        case Field(record=record, name=name):
            known = facts.get((record, name))
            return expression if known is None else Value(known)
        case Apply(op=("and" | "or") as op, args=args):
            return _fold_junction(op, args, facts)
        case Apply(op="not", args=(arg,)):
            return negate(fold(arg, facts))
        case Apply(op=op, args=args):
            left, right = (fold(arg, facts) for arg in args)
            if isinstance(left, Value) and isinstance(right, Value) and not (op in ("//", "%") and right.value == 0):
                return Value(OPERATORS[op](left.value, right.value))
            return Apply(op, (left, right))
    return expression


def _fold_junction(op: str, args: tuple[Expression, ...], facts: Facts) -> Expression:
    ends, passes = (FALSE, TRUE) if op == "and" else (TRUE, FALSE)
    left: list[Expression] = []
    for arg in args:
        part = fold(arg, facts)
        if part == ends:
            return ends
        if part != passes:
            new = part.args if isinstance(part, Apply) and part.op == op else (part,)
            left.extend(one for one in new if one not in left)
    return Apply(op, tuple(left)) if len(left) > 1 else left[0] if left else passes
