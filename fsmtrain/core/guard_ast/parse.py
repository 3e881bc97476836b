"""Reads a guard's source as an expression.

The subset is what `guards` describes: a docstring, then one ``return`` of comparisons, arithmetic, ``and/or/not`` and
other guards; closures over whole numbers and over guards included. A guard outside it is *opaque*: it runs all the same.
Nothing is executed here.
"""

from __future__ import annotations

import ast
import contextlib
from collections import ChainMap
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from weakref import WeakKeyDictionary

from attrs import frozen

from fsmtrain.core.custom_guards import Checked
from fsmtrain.core.guard_ast.expressions import RECORDS, Apply, Expression, Field, Opaque, Value, is_boolean
from fsmtrain.core.guard_ast.source import Function, Source, UnreadableError, find_source
from fsmtrain.core.guards import Guard

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip

# Functions that were seen to answer otherwise than their source says, and how they did.
_MISREAD: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()


def mark_opaque(guard: Guard, reason: str) -> None:
    """From now on this guard, and every part of another that calls it, is opaque for this reason, whatever its source says."""
    if isinstance(guard, FunctionType):
        _MISREAD[guard] = reason


def parse_guard(guard: Guard, *, whole: Callable[[Checked], bool] = lambda guard: False) -> Expression:
    """The guard as an expression over ``limits``, ``counters`` and ``signals``; `Opaque`, with the reason, where it has none.

    Args:
        guard: Any guard.
        whole: Which of the user's guards inside it are kept as one opaque part each, whatever could be read of them.

    >>> from fsmtrain.core.guards import window_is_full
    >>> parse_guard(window_is_full)
    Apply(op='==', args=(Field(record='counters', name='gathered'), Field(record='counters', name='window_length')))
    """
    try:
        return _read(guard, (), whole)
    except UnreadableError as error:
        return Opaque(guard_name(guard), str(error), guard)


def guard_name(guard: object) -> str:
    """The name by which a guard is drawn and named in errors."""
    if isinstance(guard, Checked):
        return guard_name(guard.guard)
    name = getattr(guard, "__name__", None) or type(guard).__name__
    return "lambda" if name == "<lambda>" else str(name)


def _read(guard: object, under_way: tuple[object, ...], whole: Callable[[Checked], bool]) -> Expression:
    while isinstance(guard, Checked):
        if whole(guard):
            return Opaque(guard_name(guard), "it is the user's", guard.guard)
        guard = guard.guard
    if not isinstance(guard, FunctionType):
        raise UnreadableError("it is not a plain function")
    if guard in _MISREAD:
        raise UnreadableError(_MISREAD[guard])
    if guard in under_way:
        raise UnreadableError("it calls itself")
    if getattr(guard, "__wrapped__", None) is not None:
        raise UnreadableError("it is wrapped in a decorator")
    source = find_source(guard.__code__)
    given = source.function.args
    parameters = [a.arg for a in (*given.posonlyargs, *given.args)]
    if len(parameters) != len(RECORDS) or given.vararg or given.kwarg or given.kwonlyargs:
        raise UnreadableError("its parameters are not (limits, counters, signals)")
    reader = make_parser(guard, dict(zip(parameters, RECORDS, strict=True)), under_way=(*under_way, guard), whole=whole)
    return reader.parse(_returned(source.function))


def _returned(function: Function) -> ast.expr:
    """The expression that a function returns."""
    if isinstance(function, ast.Lambda):
        return function.body
    if function.decorator_list:
        raise UnreadableError("it has a decorator")
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
        body = body[1:]
    if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        raise UnreadableError("its body is more than one return")
    return body[0].value


def make_parser(
    function: FunctionType,
    records: Mapping[str, str],
    *,
    values: Mapping[str, Expression] | None = None,
    under_way: tuple[object, ...] = (),
    whole: Callable[[Checked], bool] = lambda guard: False,
) -> ExpressionParser:
    """What reads the expressions in a function's body.

    Args:
        function: The function.
        records: The parameters that are records, with the record's name.
        values: The parameters that are numbers, with what they stand for.
        under_way: The guards that are being read.
        whole: As for `read`.
    """
    source, closure = find_source(function.__code__), function.__code__.co_freevars
    return ExpressionParser(source, _names(function), closure, records, values or {}, under_way, whole)


@frozen
class ExpressionParser:
    """Reads the expressions in the body of one function.

    Raises:
        Unreadable: From each method, where what is to be read is outside the subset.
    """

    source: Source
    names: Mapping[str, object]  # what the guard's free names stand for
    closure: tuple[str, ...]  # those that it closes over; the rest belong to its module
    records: Mapping[str, str]  # the parameter's name -> the record that it is
    values: Mapping[str, Expression]  # the parameter's name -> the number that it is
    under_way: tuple[object, ...]
    whole: Callable[[Checked], bool]

    def parse(self, node: ast.expr) -> Expression:
        match node:
            case ast.Constant(value=bool() | int() as value):
                return Value(value)
            case ast.BoolOp(op=op, values=values):
                return Apply("and" if isinstance(op, ast.And) else "or", tuple(map(self.parse_condition, values)))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Apply("not", (self.parse_condition(operand),))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Apply("-", (Value(0), self.parse(operand)))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return Apply(_ARITHMETIC[type(op)], (self.parse(left), self.parse(right)))
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._parse_comparison(left, ops, others)
            case ast.Attribute(value=ast.Name(id=name), attr=field) if name in self.records:
                return Field(self.records[name], field)
            case ast.Subscript(value=ast.Attribute() as whole, slice=index):
                found, at = self.parse(whole), self.parse(index)
                if isinstance(found, Field) and isinstance(at, Value):
                    return Field(found.record, f"{found.name}[{at.value}]")
            case ast.Name(id=name) if name in self.values:
                return self.values[name]
            case ast.Name(id=name):
                named = self._value_of_name(name)
                if isinstance(named, (bool, int)):
                    return Value(named if isinstance(named, bool) else int(named))  # a plain one, whatever it calls itself
            case ast.Call(func=(ast.Name() | ast.Attribute()) as called, args=args, keywords=[]):
                given = [self.records.get(a.id) if isinstance(a, ast.Name) else None for a in args]
                if given == list(RECORDS):
                    return self._parse_call(self._called_guard(called))
        raise UnreadableError(f"`{ast.unparse(node)}` is outside what can be read")

    def parse_condition(self, node: ast.expr) -> Expression:
        """An operand of ``and/or/not``, which must be a truth value: ``2 and True`` is no plain answer."""
        expression = self.parse(node)
        if not is_boolean(expression):
            raise UnreadableError(f"`{ast.unparse(node)}` is a number where a truth value is needed")
        return expression

    def _parse_call(self, guard: object) -> Expression:
        """Another guard inside this one; where it cannot be read, it alone is opaque."""
        try:
            return _read(guard, self.under_way, self.whole)
        except UnreadableError as error:
            return Opaque(guard_name(guard), str(error), guard)

    def _called_guard(self, node: ast.Name | ast.Attribute) -> object:
        """The function that a call names: a name of the guard's, or a member of a module that it imports."""
        if isinstance(node, ast.Name):
            return self._value_of_name(node.id)
        module = self._value_of_name(node.value.id) if isinstance(node.value, ast.Name) else None
        if not isinstance(module, ModuleType) or node.attr not in vars(module):
            raise UnreadableError(f"`{ast.unparse(node)}` is outside what can be read")
        return vars(module)[node.attr]

    def _parse_comparison(self, left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr]) -> Expression:
        parts: list[Expression] = []
        operands = [self.parse(node) for node in (left, *others)]
        for op, a, b in zip(ops, operands, operands[1:], strict=False):
            if type(op) not in _COMPARISONS:
                raise UnreadableError(f"`{type(op).__name__}` is outside what can be read")
            parts.append(Apply(_COMPARISONS[type(op)], (a, b)))
        return parts[0] if len(parts) == 1 else Apply("and", tuple(parts))

    def _value_of_name(self, name: str) -> object:
        """What a free name of the guard stands for."""
        if name not in self.names:
            raise UnreadableError(f"`{name}` is unknown")
        if not self.source.is_constant(name):
            raise UnreadableError(f"`{name}` may change")
        value = self.names[name]
        is_constant = name in self.closure or name.isupper()  # by convention
        if isinstance(value, int) and not is_constant:
            raise UnreadableError(f"`{name}` is a variable of a module, which others may set")
        return value


def _names(guard: FunctionType) -> Mapping[str, object]:
    """The variables that a function closes over, as far as they have a value yet, and its module's globals."""
    closure: dict[str, object] = {}
    for name, cell in zip(guard.__code__.co_freevars, guard.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):
            closure[name] = cell.cell_contents
    return ChainMap(closure, guard.__globals__)
