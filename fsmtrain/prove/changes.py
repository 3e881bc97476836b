"""Reads a function that changes things as data: an effect of the table, or one of the proofs' own monitors.

The subset: a docstring, then assignments (``=``, ``+=``, ``-=``) to a field of a record or to an item of a list field, and
``if``/``else`` around them. The parameters' names are the records. Nothing is executed here. What cannot be read is an
error: unlike a guard, an effect has no meaning "may be anything".
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType

from attrs import frozen

from fsmtrain.core.reading.expressions import Apply, Expression, Read, Value, reads_of
from fsmtrain.errors import UsageError


@frozen
class Assign:
    """``target = value``. The name of a list's item is ``gathered_by[optimizer_i]``: the index is a counter or a number."""

    target: Read
    value: Expression


@frozen
class Branch:
    """``if condition: then`` with ``else: otherwise``."""

    condition: Expression
    then: tuple[Change, ...]
    otherwise: tuple[Change, ...] = ()


Change = Assign | Branch
Changes = tuple[Change, ...]

_BINARY: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-"}
_COMPARISON: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def changes_of(function: Callable[..., None]) -> Changes:
    """What a function changes, in its order.

    Raises:
        UsageError: It is outside the subset.

    >>> from fsmtrain.core.effects import gather
    >>> for change in changes_of(gather):
    ...     print(type(change).__name__, change.condition if isinstance(change, Branch) else change.target)
    Branch Apply(op='==', args=(Read(record='counters', name='gathered'), Value(value=0)))
    Assign Read(record='counters', name='gathered')
    """
    carried = getattr(function, "changes", None)
    if isinstance(carried, tuple):
        return carried
    if not isinstance(function, FunctionType):
        raise UsageError(f"{function!r} cannot be read: it is not a plain function.")
    return _read(function)


def index_of(name: str) -> tuple[str, str | int] | None:
    """The list and the index in the name of a list's item; None for a plain field.

    >>> index_of("gathered_by[optimizer_i]"), index_of("gathered_by[0]"), index_of("gathered")
    (('gathered_by', 'optimizer_i'), ('gathered_by', 0), None)
    """
    if not name.endswith("]"):
        return None
    whole, at = name[:-1].split("[")
    return whole, int(at) if at.isdigit() else at


def argument_of(name: str) -> str | None:
    """The counter in brackets in ``window_of(current_epoch)``; None for a plain field."""
    return name[:-1].split("(")[1] if name.endswith(")") else None


@functools.cache
def _read(function: FunctionType) -> Changes:
    definition, reader = _definition(function)
    return reader.block(definition.body[1:] if ast.get_docstring(definition) is not None else definition.body)


def _definition(function: FunctionType) -> tuple[ast.FunctionDef, _Reader]:
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise UsageError(f"{function.__name__} cannot be read: its source is not one function.")
    return definition, _Reader(function.__name__, frozenset(a.arg for a in definition.args.args))


@frozen
class _Reader:
    name: str
    records: frozenset[str]

    def block(self, body: list[ast.stmt]) -> Changes:
        return tuple(self.change(node) for node in body if not isinstance(node, ast.Pass))

    def change(self, node: ast.stmt) -> Change:
        match node:
            case ast.Assign(targets=[target], value=value):
                return Assign(self.field(target), self.expression(value))
            case ast.AugAssign(target=target, op=op, value=value) if type(op) in _BINARY:
                field = self.field(target)
                return Assign(field, Apply(_BINARY[type(op)], (field, self.expression(value))))
            case ast.If(test=test, body=body, orelse=orelse):
                return Branch(self.expression(test), self.block(body), self.block(orelse))
        raise self.outside(node)

    def field(self, node: ast.expr) -> Read:
        match node:
            case ast.Attribute(value=ast.Name(id=record), attr=field) if record in self.records:
                return Read(record, field)
            case ast.Subscript(value=ast.Attribute() as whole, slice=ast.Constant(value=int(index))):
                found = self.field(whole)
                return Read(found.record, f"{found.name}[{index}]")
            case ast.Subscript(value=ast.Attribute() as whole, slice=ast.Attribute() as at):
                found, named = self.field(whole), self.field(at)
                return Read(found.record, f"{found.name}[{named.name}]")
        raise self.outside(node)

    def expression(self, node: ast.expr) -> Expression:
        match node:
            case ast.Constant(value=bool() | int() as value):
                return Value(value)
            case ast.Attribute() | ast.Subscript():
                return self.field(node)
            case ast.Call(func=ast.Attribute() as method, args=[ast.Attribute() as argument], keywords=[]):
                called, given = self.field(method), self.field(argument)
                return Read(called.record, f"{called.name}({given.name})")
            case ast.BoolOp(op=op, values=values):
                return Apply("and" if isinstance(op, ast.And) else "or", tuple(map(self.expression, values)))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Apply("not", (self.expression(operand),))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return Apply(_BINARY[type(op)], (self.expression(left), self.expression(right)))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISON:
                return Apply(_COMPARISON[type(op)], (self.expression(left), self.expression(right)))
        raise self.outside(node)

    def outside(self, node: ast.AST) -> UsageError:
        return UsageError(
            f"{self.name}: `{ast.unparse(node)}` is outside what proofs can read. Write assignments to fields, with ifs around."
        )


def fields_written(changes: Changes) -> frozenset[Read]:
    """The fields that may be assigned."""
    found: set[Read] = set()
    for change in changes:
        found |= {change.target} if isinstance(change, Assign) else fields_written((*change.then, *change.otherwise))
    return frozenset(found)


def value_of(function: Callable[..., object]) -> Expression:
    """What a function returns, whose parameters are records: a docstring, then one ``return``.

    Raises:
        UsageError: It is outside the subset.
    """
    if not isinstance(function, FunctionType):
        raise UsageError(f"{function!r} cannot be read: it is not a plain function.")
    return _returned(function)


@functools.cache
def _returned(function: FunctionType) -> Expression:
    definition, reader = _definition(function)
    match definition.body:
        case [ast.Return(value=ast.expr() as value)] | [ast.Expr(), ast.Return(value=ast.expr() as value)]:
            return reader.expression(value)
    raise reader.outside(definition)


def fields_read(changes: Changes) -> frozenset[Read]:
    """The fields whose values matter."""
    found: set[Read] = set()
    for change in changes:
        if isinstance(change, Assign):
            found |= reads_of(change.value)
        else:
            found |= reads_of(change.condition) | fields_read((*change.then, *change.otherwise))
    return frozenset(found)
