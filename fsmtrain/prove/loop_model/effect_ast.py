"""Read the source of effects, predicates and guards as data, so that proofs are about the functions that run.

An effect, or an update of the ghost state, consists of a docstring, then assignments (``=``, ``+=``, ``-=``) to fields, to
items of list fields, or of one number to all items (``[0 for _ in ...]``), with ``if``/``else`` around them. A predicate is a
docstring and one ``return``. Parameters are records, known by their names. Nothing is executed. A function outside this subset
is an error: a guard that cannot be read may answer anything, but an effect that may do anything would make every claim false.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType

from attrs import frozen

from fsmtrain.core.effects import CountedEffect
from fsmtrain.core.guard_ast.expressions import Apply, Expression, Field, fields_in
from fsmtrain.core.guard_ast.parse import ExpressionParser, parse_guard
from fsmtrain.core.guard_ast.source import UnreadableError
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import UsageError


@frozen
class Assign:
    """``target = value``. An item of a list is named ``gathered_by[optimizer_i]``: the index is a field or a number."""

    target: Field
    value: Expression


@frozen
class Branch:
    """``if condition: then`` with ``else: otherwise``."""

    condition: Expression
    then: tuple[Change, ...]
    otherwise: tuple[Change, ...] = ()


Change = Assign | Branch
Changes = tuple[Change, ...]


def read_effect(function: Callable[..., None] | CountedEffect) -> Changes:
    """Return the assignments of an effect, in their order.

    Raises:
        UsageError: The function is outside the subset.

    Example:
        >>> from fsmtrain.core.effects import gather
        >>> for change in read_effect(gather):
        ...     print(type(change).__name__, change.condition if isinstance(change, Branch) else change.target)
        Branch Apply(op='==', args=(Field(record='counters', name='gathered'), Value(value=0)))
        Assign Field(record='counters', name='gathered')
    """
    if isinstance(function, CountedEffect):
        function = function.function
    attached = getattr(function, "changes", None)  # of a planted fault, which has no source
    return attached if isinstance(attached, tuple) else _parse_effect(function)


def read_predicate(function: Callable[..., object]) -> Expression:
    """Return the expression that a predicate, or a component of a rank, returns.

    Raises:
        UsageError: The function is outside the subset.
    """
    return _parse_predicate(function)


def read_guard(guard: Guard) -> Expression:
    """Return a guard as an expression; `Opaque` parts may answer anything."""
    attached: Expression | None = getattr(guard, "expression", None)  # of a planted fault, which has no source
    return parse_guard(guard) if attached is None else attached


def fields_read(changes: Changes) -> frozenset[Field]:
    """Return the fields that the changes depend on."""
    reads: set[Field] = set()
    for change in changes:
        if isinstance(change, Assign):
            reads |= fields_in(change.value)
        else:
            reads |= fields_in(change.condition) | fields_read((*change.then, *change.otherwise))
    return frozenset(reads)


# ---- parsing


@functools.cache
def _parse_effect(function: Callable[..., None]) -> Changes:
    definition, parser = _definition(function)
    with _naming(function):
        return parser.block(definition.body[1:] if ast.get_docstring(definition) is not None else definition.body)


@functools.cache
def _parse_predicate(function: Callable[..., object]) -> Expression:
    definition, parser = _definition(function)
    match definition.body:
        case [ast.Return(value=ast.expr() as value)] | [ast.Expr(), ast.Return(value=ast.expr() as value)]:
            with _naming(function):
                return parser.parse(value)
    raise UsageError(f"{function.__name__} cannot be read: its body is more than one return.")


def _definition(function: Callable[..., object]) -> tuple[ast.FunctionDef, _EffectParser]:
    if not isinstance(function, FunctionType):
        raise UsageError(f"{function!r} cannot be read: it is not a plain function.")
    with _naming(function):
        parser = _EffectParser(function, {name: name for name in inspect.signature(function).parameters})
    definition = parser.source.function
    if not isinstance(definition, ast.FunctionDef):
        raise UsageError(f"{function.__name__} cannot be read: it is a lambda. Write it as a def.")
    return definition, parser


@contextlib.contextmanager
def _naming(function: Callable[..., object]) -> Iterator[None]:
    """Name the function in an error."""
    try:
        yield
    except UnreadableError as error:
        raise UsageError(f"{function.__name__}: {error}. Proofs read assignments to fields, and ifs around them.") from error


@frozen
class _EffectParser(ExpressionParser):
    """Parses statements too, and two expressions that only effects have: an index that is a field, and a call with a field."""

    def block(self, body: list[ast.stmt]) -> Changes:
        return tuple(self.change(node) for node in body if not isinstance(node, ast.Pass))

    def change(self, node: ast.stmt) -> Change:
        match node:
            case ast.Assign(targets=[target], value=value):
                return Assign(self.field(target), self.parse(value))
            case ast.AugAssign(target=target, op=(ast.Add() | ast.Sub()) as op, value=value):
                field = self.field(target)
                return Assign(field, Apply("+" if isinstance(op, ast.Add) else "-", (field, self.parse(value))))
            case ast.If(test=test, body=body, orelse=orelse):
                return Branch(self.parse(test), self.block(body), self.block(orelse))
        raise UnreadableError(f"`{ast.unparse(node)}` is outside what can be read")

    def field(self, node: ast.expr) -> Field:
        field = self.parse(node)
        if not isinstance(field, Field):
            raise UnreadableError(f"`{ast.unparse(node)}` is not a field")
        return field

    def parse(self, node: ast.expr) -> Expression:
        match node:
            case ast.ListComp(elt=ast.Constant() as item):  # every optimizer's item; a list stands for one of them
                return self.parse(item)
            case ast.Subscript(value=ast.Attribute() as list_node, slice=ast.Attribute() as index):
                field = self.field(list_node)
                return Field(field.record, f"{field.name}[{self.field(index).name}]")
            case ast.Call(func=ast.Attribute() as method, args=[ast.Attribute() as argument], keywords=[]):
                field = self.field(method)
                return Field(field.record, f"{field.name}({self.field(argument).name})")
        return super().parse(node)

    def parse_condition(self, node: ast.expr) -> Expression:
        return self.parse(node)  # mypy has checked the types of these functions
