"""An expression as text, for a person."""

from __future__ import annotations

from fsmtrain.core.guard_ast.expressions import OPPOSITE, Apply, Expression, Opaque, Read, Value

_BINDING = {"or": 1, "and": 2, "not": 3, **dict.fromkeys(OPPOSITE, 4), "+": 5, "-": 5, "*": 6, "//": 6, "%": 6}


def text(expression: Expression) -> str:
    """The expression for a person: fields by their names alone, which are unique among the three records.

    >>> few = Apply("<", (Read("counters", "gathered"), Value(4)))
    >>> text(Apply("not", (Apply("or", (Read("signals", "stop_requested"), few)),)))
    'not (stop_requested or gathered < 4)'
    """
    match expression:
        case Value(value=value):
            return str(value).lower() if isinstance(value, bool) else str(value)
        case Read(name=name):
            return name
        case Opaque(name=name):
            return name
        case Apply(op="not", args=(arg,)):
            return f"not {_operand(arg, _BINDING['not'])}"
        case Apply(op=op, args=args):
            first, *others = args
            binding = _BINDING[op]
            after = binding if op in ("and", "or") else binding + 1
            return f" {op} ".join(
                [_operand(first, binding + 1 if op in OPPOSITE else binding), *(_operand(arg, after) for arg in others)]
            )
    raise TypeError(expression)


def _operand(expression: Expression, binding: int) -> str:
    inner = _BINDING[expression.op] if isinstance(expression, Apply) else 9
    return text(expression) if inner >= binding else f"({text(expression)})"
