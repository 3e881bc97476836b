"""The mutants of a file: each has one small change in its text, such as ``<`` for ``<=`` or a statement that is left out.

Annotations, decorators, base classes and strings are not changed: they decide nothing in a run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import copy
from typing import Any

from attrs import frozen

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
CONDITIONS = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant)  # conditions that are changed inside
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "bases"}


@frozen
class Mutant:
    """One change of one file.

    Attributes:
        module: The file, relative to the root of the project.
        line: Where the change is.
        function: The first line of the function that it is in, with its decorators; None outside of functions.
        is_read: Whether that is a guard or an effect, whose source is read as well as called.
        before, after: The text that is changed, and what it becomes.
        text: The whole file with the change.
    """

    module: str
    line: int
    function: int | None
    is_read: bool
    before: str
    after: str
    text: bytes

    def __str__(self) -> str:
        """Return its place and its change in one line."""
        return f"{self.module}:{self.line}  {_short(self.before)}  ->  {_short(self.after)}"


def mutants(module: str, text: bytes) -> Iterator[Mutant]:
    """Yield all mutants of a file, from top to bottom."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, new, inside in _changes(ast.parse(text), None):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        after = ast.unparse(new)
        if not isinstance(new, (ast.stmt, ast.Constant)):
            after = f"({after})"
        before = text[start:end].decode()
        function = None if inside is None else min([inside.lineno, *(d.lineno for d in inside.decorator_list)])
        is_read = inside is not None and [a.arg for a in inside.args.args[:2]] == ["limits", "counters"]
        yield Mutant(module, node.lineno, function, is_read, before, after, text[:start] + after.encode() + text[end:])


def _changes(node: ast.AST, function: ast.FunctionDef | None) -> Iterator[tuple[Any, ast.AST, ast.FunctionDef | None]]:
    """Yield each node to change, its replacement, and the function that it is in."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        return
    if isinstance(node, (ast.expr, ast.stmt)):
        for new in _replacements(node):
            yield node, new, function
    if isinstance(node, (ast.If, ast.While, ast.IfExp)) and not isinstance(node.test, CONDITIONS):
        yield node.test, ast.UnaryOp(ast.Not(), node.test), function
    if isinstance(node, ast.FunctionDef):
        function = node
    for name, value in ast.iter_fields(node):
        if name in SKIPPED_FIELDS or (isinstance(node, ast.ClassDef) and name == "keywords"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child, function)


def _replacements(node: ast.expr | ast.stmt) -> Iterator[ast.AST]:
    """Yield the replacements of a node, one for each mutant."""
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                yield _with(node, ops=[*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1 :]])
        case ast.BoolOp():
            for i in range(len(node.values)):
                rest = node.values[:i] + node.values[i + 1 :]
                yield _with(node, values=rest) if len(rest) > 1 else rest[0]
        case ast.BinOp() if type(node.op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(node.op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int(n)):
            yield ast.Constant(n + 1)
            if n > 0:
                yield ast.Constant(n - 1)
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            yield _with(node, func=ast.Name(FUNCTIONS[name]))
        case ast.Call(func=ast.Attribute(value=original, attr="copy"), args=[]):
            yield original
        case ast.AugAssign():
            if type(node.op) in OPERATORS:
                yield _with(node, op=OPERATORS[type(node.op)]())
            yield ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()) | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()


def _with(node: ast.AST, **changed: Any) -> ast.AST:
    """Return a copy of the node with some fields changed."""
    new = copy(node)
    for name, value in changed.items():
        setattr(new, name, value)
    return new


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:87]}..."
