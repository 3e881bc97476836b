"""Parse a guard: from the source of a function to an expression, without executing anything.

The subset that can be read is described in `core.transition_guards`: a docstring, then one ``return`` of comparisons,
``and/or/not`` and other guards, and closures over ints and guards. Any other guard is *opaque*: it runs, but is not analysed.
"""

from __future__ import annotations

import ast
import contextlib
from collections import ChainMap
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from weakref import WeakKeyDictionary

from attrs import Factory, field, frozen

from fsmtrain.copies import call_that_made
from fsmtrain.core.custom_guards import Checked
from fsmtrain.core.guard_ast.expressions import RECORDS, Apply, Expression, Field, Opaque, Value, is_boolean
from fsmtrain.core.guard_ast.source import Function, Source, UnreadableError, find_source
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import GuardError

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip

# Functions that contradicted their source, and how.
_OPAQUE_REASONS: WeakKeyDictionary[FunctionType, str] = WeakKeyDictionary()


def mark_opaque(guard: Guard, reason: str) -> None:
    """Make a guard opaque for this reason from now on, also where another guard calls it."""
    if isinstance(guard, FunctionType):
        _OPAQUE_REASONS[guard] = reason


def parse_guard(
    guard: object, *, keep_opaque: Callable[[Checked], bool] = lambda guard: False, active: tuple[object, ...] = ()
) -> Expression:
    """Return the guard as an expression over ``limits``, ``counters`` and ``signals``; `Opaque` if it cannot be read.

    Args:
        guard: Any guard.
        keep_opaque: Returns whether a user's guard in it is to stay one opaque part, even if it can be read.
        active: The guards inside which this one is called. If it calls one of them, it cannot be read.

    >>> from fsmtrain.core.transition_guards import window_is_full
    >>> parse_guard(window_is_full)
    Apply(op='>=', args=(Field(record='counters', name='gathered'), Field(record='counters', name='window_length')))
    """
    try:
        return _parse(guard, active, keep_opaque)
    except UnreadableError as error:
        return Opaque(guard_name(guard), str(error), guard)


def guard_name(guard: object) -> str:
    """Return the name of a guard in diagrams and errors."""
    if isinstance(guard, Checked):
        return guard_name(guard.guard)
    name = getattr(guard, "__name__", None) or type(guard).__name__
    return "lambda" if name == "<lambda>" else str(name)


def guard_as_written(guard: object) -> str:
    """Return a guard as the user wrote it, for errors: the call that made it, or its name.

    >>> from fsmtrain.core.interval_guards import every_n_steps_of
    >>> guard_as_written(every_n_steps_of(0, n=5)), guard_name(every_n_steps_of(0, n=5))
    ('every_n_steps_of(0, n=5)', 'nth_step_is_done')
    """
    while isinstance(guard, Checked):
        guard = guard.guard
    call = call_that_made(guard)
    return guard_name(guard) if call is None else str(call)


def _parse(guard: object, active: tuple[object, ...], keep_opaque: Callable[[Checked], bool]) -> Expression:
    while isinstance(guard, Checked):
        if keep_opaque(guard):
            return Opaque(guard_name(guard), "it is a user's guard", guard.guard)
        guard = guard.guard
    if not isinstance(guard, FunctionType):
        raise UnreadableError("it is not a plain function")
    if guard in _OPAQUE_REASONS:
        raise UnreadableError(_OPAQUE_REASONS[guard])
    if guard in active:
        raise UnreadableError("it calls itself")
    if getattr(guard, "__wrapped__", None) is not None:
        raise UnreadableError("it is wrapped in a decorator")
    source = find_source(guard.__code__)
    arguments = source.function.args
    parameters = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    if len(parameters) != len(RECORDS) or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise UnreadableError("its parameters are not (limits, counters, signals)")
    records = dict(zip(parameters, RECORDS, strict=True))
    parser = ExpressionParser(guard, records, active=(*active, guard), keep_opaque=keep_opaque)
    return parser.parse(_returned_expression(source.function))


def _returned_expression(function: Function) -> ast.expr:
    """Return the expression that a function returns."""
    if isinstance(function, ast.Lambda):
        return function.body
    if function.decorator_list:
        raise UnreadableError("it has a decorator")
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
        body = body[1:]
    if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
        raise UnreadableError("its body is more than one return statement")
    return body[0].value


@frozen
class ExpressionParser:
    """Parses the expressions in the body of one function.

    Args:
        function: The function.
        records: The record of each parameter that is one.
        values: The expression of each other parameter.
        active: The guards that are being parsed; one that calls itself cannot be read.
        keep_opaque: As in `parse_guard`.

    Raises:
        UnreadableError: Each method raises it for a node outside the subset.
    """

    function: FunctionType
    records: Mapping[str, str]
    values: Mapping[str, Expression] = field(factory=dict, kw_only=True)
    active: tuple[object, ...] = field(default=(), kw_only=True)
    keep_opaque: Callable[[Checked], bool] = field(default=lambda guard: False, kw_only=True)
    source: Source = field(init=False, default=Factory(lambda self: find_source(self.function.__code__), takes_self=True))
    _names: Mapping[str, object] = field(init=False, default=Factory(lambda self: _free_names(self.function), takes_self=True))

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
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self.records:
                return Field(self.records[name], attribute)
            case ast.Subscript(value=ast.Attribute() as whole, slice=index):
                base, at = self.parse(whole), self.parse(index)
                if isinstance(base, Field) and isinstance(at, Value):
                    if isinstance(at.value, bool):
                        raise GuardError(
                            f"{self.function.__name__}: `{ast.unparse(node)}` has a bool as the index of an optimizer. "
                            f"It is an int, from 0."
                        )
                    return Field(base.record, f"{base.name}[{at.value}]")
            case ast.Name(id=name) if name in self.values:
                return self.values[name]
            case ast.Name(id=name):
                named = self._value_of_name(name)
                if isinstance(named, (bool, int)):
                    return Value(named if isinstance(named, bool) else int(named))  # an IntEnum member becomes a plain int
            case ast.Call(func=(ast.Name() | ast.Attribute()) as called, args=args, keywords=[]):
                passed = [self.records.get(a.id) if isinstance(a, ast.Name) else None for a in args]
                if passed == list(RECORDS):
                    # If the called guard cannot be read, it alone is opaque.
                    return parse_guard(self._called_guard(called), keep_opaque=self.keep_opaque, active=self.active)
        raise UnreadableError(f"`{ast.unparse(node)}` is not supported")

    def parse_condition(self, node: ast.expr) -> Expression:
        """Parse an operand of ``and/or/not``, which must be a bool: ``2 and True`` is not one."""
        expression = self.parse(node)
        if not is_boolean(expression):
            raise UnreadableError(f"`{ast.unparse(node)}` is a number, but a bool is needed")
        return expression

    def _called_guard(self, node: ast.Name | ast.Attribute) -> object:
        """Return the function that is called: a free name, or a member of an imported module."""
        if isinstance(node, ast.Name):
            return self._value_of_name(node.id)
        module = self._value_of_name(node.value.id) if isinstance(node.value, ast.Name) else None
        if not isinstance(module, ModuleType) or node.attr not in vars(module):
            raise UnreadableError(f"`{ast.unparse(node)}` is not supported")
        return vars(module)[node.attr]

    def _parse_comparison(self, left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr]) -> Expression:
        parts: list[Expression] = []
        operands = [self.parse(node) for node in (left, *others)]
        for op, a, b in zip(ops, operands, operands[1:], strict=False):
            if type(op) not in _COMPARISONS:
                raise UnreadableError(f"`{type(op).__name__}` is not supported")
            parts.append(Apply(_COMPARISONS[type(op)], (a, b)))
        return parts[0] if len(parts) == 1 else Apply("and", tuple(parts))

    def _value_of_name(self, name: str) -> object:
        """Return the value of a free name."""
        if name not in self._names:
            raise UnreadableError(f"`{name}` is unknown")
        if not self.source.is_constant(name):
            raise UnreadableError(f"`{name}` may change")
        value = self._names[name]
        is_constant = name in self.function.__code__.co_freevars or name.isupper()  # by convention
        if isinstance(value, int) and not is_constant:
            raise UnreadableError(
                f"`{name}` is a module variable, which other code may set. Write it in capitals if it is constant"
            )
        return value


def _free_names(function: FunctionType) -> Mapping[str, object]:
    """Return the variables that a function closes over, if they have a value yet, and its module's globals."""
    closure: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):
            closure[name] = cell.cell_contents
    return ChainMap(closure, function.__globals__)
