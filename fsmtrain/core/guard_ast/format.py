"""Format an expression as text, for diagrams and messages."""

from __future__ import annotations

from fsmtrain.core.guard_ast.expressions import NEGATED_COMPARISONS, Apply, Expression, Field, Opaque, Value

_PRECEDENCE = {"or": 1, "and": 2, "not": 3, **dict.fromkeys(NEGATED_COMPARISONS, 4), "+": 5, "-": 5, "*": 6, "//": 6, "%": 6}


def format_expression(expression: Expression) -> str:
    """Return the expression as text. Fields appear by name alone, which is unique among the three records.

    >>> few = Apply("<", (Field("counters", "gathered"), Value(4)))
    >>> format_expression(Apply("not", (Apply("or", (Field("signals", "stop_requested"), few)),)))
    'not (stop_requested or gathered < 4)'
    """
    match expression:
        case Value(value=value):
            return str(value).lower() if isinstance(value, bool) else str(value)
        case Field(name=name) | Opaque(name=name):
            return name
        case Apply(op="not", args=(arg,)):
            return f"not {_format_operand(arg, _PRECEDENCE['not'])}"
        case Apply(op=op, args=args):
            first, *others = args
            binding = _PRECEDENCE[op]
            after = binding if op in ("and", "or") else binding + 1
            left = _format_operand(first, binding + 1 if op in NEGATED_COMPARISONS else binding)
            return f" {op} ".join([left, *(_format_operand(arg, after) for arg in others)])
    raise TypeError(expression)


def _format_operand(expression: Expression, binding: int) -> str:
    inner = _PRECEDENCE[expression.op] if isinstance(expression, Apply) else 9
    return format_expression(expression) if inner >= binding else f"({format_expression(expression)})"
