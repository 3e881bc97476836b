"""Reads a function that changes things as data: an effect of the table, or one of the proofs' own monitors.

The subset: a docstring, then assignments (``=``, ``+=``, ``-=``) to a field of a record or to an item of a list field, and
``if``/``else`` around them. The parameters' names are the records. Nothing is executed here. What cannot be read is an
error: unlike a guard, an effect has no meaning "may be anything".
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType

from attrs import fields, frozen

from fsmtrain.core.guard_ast.expressions import Apply, Expression, Read, reads_of
from fsmtrain.core.guard_ast.parse import Reader, reader_of
from fsmtrain.core.guard_ast.source import Unreadable
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


def read_effect(function: Callable[..., None]) -> Changes:
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
    with _telling(function):
        return reader.block(definition.body[1:] if ast.get_docstring(definition) is not None else definition.body)


def _definition(function: FunctionType) -> tuple[ast.FunctionDef, _Reader]:
    with _telling(function):
        plain = reader_of(function, {name: name for name in inspect.signature(function).parameters})
    definition = plain.source.function
    if not isinstance(definition, ast.FunctionDef):
        raise UsageError(f"{function.__name__} cannot be read: it is not one function.")
    return definition, _Reader(**{f.name: getattr(plain, f.name) for f in fields(Reader)})


@contextlib.contextmanager
def _telling(function: FunctionType) -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise UsageError(f"{function.__name__}: {error}. Proofs read assignments to fields, with ifs around.") from error


@frozen
class _Reader(Reader):
    """Reads statements too, and in expressions what only effects have: an item whose index is a field, and a K to look up."""

    def block(self, body: list[ast.stmt]) -> Changes:
        return tuple(self.change(node) for node in body if not isinstance(node, ast.Pass))

    def change(self, node: ast.stmt) -> Change:
        match node:
            case ast.Assign(targets=[target], value=value):
                return Assign(self.field(target), self.expression(value))
            case ast.AugAssign(target=target, op=(ast.Add() | ast.Sub()) as op, value=value):
                field = self.field(target)
                return Assign(field, Apply("+" if isinstance(op, ast.Add) else "-", (field, self.expression(value))))
            case ast.If(test=test, body=body, orelse=orelse):
                return Branch(self.expression(test), self.block(body), self.block(orelse))
        raise Unreadable(f"`{ast.unparse(node)}` is outside what can be read")

    def field(self, node: ast.expr) -> Read:
        found = self.expression(node)
        if not isinstance(found, Read):
            raise Unreadable(f"`{ast.unparse(node)}` is no field")
        return found

    def expression(self, node: ast.expr) -> Expression:
        match node:
            case ast.Subscript(value=ast.Attribute() as whole, slice=ast.Attribute() as at):
                found = self.field(whole)
                return Read(found.record, f"{found.name}[{self.field(at).name}]")
            case ast.Call(func=ast.Attribute() as method, args=[ast.Attribute() as argument], keywords=[]):
                found = self.field(method)
                return Read(found.record, f"{found.name}({self.field(argument).name})")
        return super().expression(node)

    def truth(self, node: ast.expr) -> Expression:
        return self.expression(node)  # the type checker has seen to it


def fields_written(changes: Changes) -> frozenset[Read]:
    """The fields that may be assigned."""
    found: set[Read] = set()
    for change in changes:
        found |= {change.target} if isinstance(change, Assign) else fields_written((*change.then, *change.otherwise))
    return frozenset(found)


def read_predicate(function: Callable[..., object]) -> Expression:
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
            with _telling(function):
                return reader.expression(value)
    raise UsageError(f"{function.__name__} cannot be read: its body is more than one return.")


def fields_read(changes: Changes) -> frozenset[Read]:
    """The fields whose values matter."""
    found: set[Read] = set()
    for change in changes:
        if isinstance(change, Assign):
            found |= reads_of(change.value)
        else:
            found |= reads_of(change.condition) | fields_read((*change.then, *change.otherwise))
    return frozenset(found)
