"""Parse an overridden ``optimizer_step``: the condition under which it steps its optimizer. Nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType

from attrs import frozen

from fsmtrain.core.guard_ast.expressions import FALSE, TRUE, Apply, Expression, Field, Opaque, negate
from fsmtrain.core.guard_ast.parse import ExpressionParser
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.guard_ast.source import UnreadableError, find_source

# The positions of the hook's arguments that are counters.
_COUNTERS = {0: "current_epoch", 1: "batch_nb", 3: "optimizer_i"}
_OPTIMIZER = 2
_STEPS = ("step", "optimizer_step")
MAX_OPTIMIZERS = 16  # that are tried, to see that two conditions exclude each other


def parse_optimizer_step(hook: object) -> Expression:
    """Return when a hook steps its optimizer, as an expression of `current_epoch`, `batch_nb` and `optimizer_i`.

    It is `Opaque`, with the reason, if the hook passes the optimizer on, or if the condition reads anything else.
    """
    try:
        return fold(_parse(hook), {})
    except UnreadableError as error:
        return Opaque("optimizer_step", str(error), hook)


def passes_optimizer_on(hook: object) -> bool:
    """Return whether a hook may hand its optimizer to other code, which may do anything with it; also if it cannot be read."""
    function = hook.__func__ if isinstance(hook, MethodType) else hook
    try:
        node = find_source(function.__code__).function if isinstance(function, FunctionType) else None
    except UnreadableError:
        return True
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return True
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)][1 if isinstance(hook, MethodType) else 0 :]
    accessed = {id(part.value) for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return len(names) <= _OPTIMIZER or any(
        isinstance(part, ast.Name) and part.id == names[_OPTIMIZER] and id(part) not in accessed for part in ast.walk(node)
    )


def _parse(hook: object) -> Expression:
    function = hook.__func__ if isinstance(hook, MethodType) else hook
    if not isinstance(function, FunctionType):
        raise UnreadableError("it is not a plain method")
    node = find_source(function.__code__).function
    if not isinstance(node, ast.FunctionDef) or node.decorator_list or getattr(function, "__wrapped__", None) is not None:
        raise UnreadableError("it is wrapped in a decorator")
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)][1 if isinstance(hook, MethodType) else 0 :]
    if len(names) <= _OPTIMIZER:
        raise UnreadableError("its parameters are not the documented ones")
    values: dict[str, Expression] = {names[i]: Field("counters", name) for i, name in _COUNTERS.items() if i < len(names)}
    body = _Body(names[_OPTIMIZER], frozenset(names), ExpressionParser(function, {}, values=values))
    return body.condition(node.body, is_last=True)


def _exclude_each_other(conditions: Sequence[Expression]) -> bool:
    """Return whether at most one of these holds, whosever turn it is, as far as the optimizer's index decides it."""
    possible = [condition for condition in conditions if condition != FALSE]
    for i in range(MAX_OPTIMIZERS if len(possible) > 1 else 0):
        if sum(fold(condition, {("counters", "optimizer_i"): i}) != FALSE for condition in possible) > 1:
            return False
    return True


@frozen
class _Body:
    optimizer: str  # the parameter's name
    parameters: frozenset[str]
    parser: ExpressionParser

    def condition(self, statements: Sequence[ast.stmt], *, is_last: bool = False) -> Expression:
        """Return when one of the statements steps. `is_last`: nothing comes after them, so a final return is allowed."""
        conditions = tuple(self._conditions(statements, is_last))
        if not _exclude_each_other(conditions):
            raise UnreadableError("it may step more than once")
        return Apply("or", conditions) if len(conditions) > 1 else conditions[0] if conditions else FALSE

    def _conditions(self, statements: Sequence[ast.stmt], is_last: bool) -> Iterator[Expression]:
        for statement in statements:
            at_end = is_last and statement is statements[-1]
            match statement:
                case ast.Expr(value=ast.Call() as call) if self._is_step(call):
                    yield TRUE
                case ast.Return(value=None) if at_end:
                    pass
                case ast.Return(value=ast.Call() as call) if at_end and self._is_step(call):
                    yield TRUE
                case ast.If(test=test, body=body, orelse=orelse) if not self._is_irrelevant(statement):
                    test_holds = self.parser.parse_condition(test)
                    then = Apply("and", (test_holds, self.condition(body, is_last=at_end)))
                    otherwise = Apply("and", (negate(test_holds), self.condition(orelse, is_last=at_end)))
                    yield fold(Apply("or", (then, otherwise)), {})
                case ast.With(items=items, body=body) if all(self._is_irrelevant(item) for item in items):
                    yield self.condition(body)
                case _ if not self._is_irrelevant(statement):
                    raise UnreadableError(f"`{ast.unparse(statement).splitlines()[0]}` is not supported")

    def _is_step(self, call: ast.Call) -> bool:
        """Return whether the call is ``optimizer.step(...)`` or ``super().optimizer_step(...)``."""
        match call.func:
            case ast.Attribute(value=ast.Name(id=name), attr="step"):
                return name == self.optimizer
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[]), attr="optimizer_step"):
                return True
        return False

    def _is_irrelevant(self, statement: ast.AST) -> bool:
        """Return whether the statement neither steps, returns, changes a parameter, nor passes the optimizer on."""
        accessed = {id(node.value) for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        for node in ast.walk(statement):
            match node:
                case ast.Return():
                    return False
                case ast.Attribute(attr=attr) if attr in _STEPS:
                    return False
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name in self.parameters:
                    return False
                case ast.Name(id=name) if name == self.optimizer and id(node) not in accessed:
                    return False
        return True
