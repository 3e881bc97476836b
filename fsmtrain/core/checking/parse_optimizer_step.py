"""Reads a model's own ``optimizer_step``: when it steps its optimizer. Nothing of it is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType

from attrs import frozen

from fsmtrain.core.guard_ast.expressions import FALSE, TRUE, Apply, Expression, Field, Opaque
from fsmtrain.core.guard_ast.parse import ExpressionParser, make_parser
from fsmtrain.core.guard_ast.simplify import fold, negate
from fsmtrain.core.guard_ast.source import UnreadableError, find_source

# What the hook is called with, by position, as far as a counter has it.
_COUNTERS = {0: "current_epoch", 1: "batch_nb", 3: "optimizer_i"}
_OPTIMIZER = 2
_STEPS = ("step", "optimizer_step")


def parse_optimizer_step(hook: object) -> Expression:
    """When a hook steps the optimizer that it is given, over `current_epoch`, `batch_nb` and `optimizer_i`.

    `Opaque`, with the reason, where that cannot be told: the optimizer goes elsewhere, or what is asked is no counter.
    """
    try:
        return fold(_read(hook), {})
    except UnreadableError as error:
        return Opaque("optimizer_step", str(error), hook)


def _read(hook: object) -> Expression:
    function = hook.__func__ if isinstance(hook, MethodType) else hook
    if not isinstance(function, FunctionType):
        raise UnreadableError("it is not a plain method")
    node = find_source(function.__code__).function
    if not isinstance(node, ast.FunctionDef) or node.decorator_list or getattr(function, "__wrapped__", None) is not None:
        raise UnreadableError("it is wrapped in a decorator")
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)][1 if isinstance(hook, MethodType) else 0 :]
    if len(names) <= _OPTIMIZER:
        raise UnreadableError("its parameters are not those that are documented")
    values: dict[str, Expression] = {names[i]: Field("counters", name) for i, name in _COUNTERS.items() if i < len(names)}
    body = _Body(names[_OPTIMIZER], frozenset(names), make_parser(function, {}, values=values))
    return body.steps(node.body, is_last=True)


@frozen
class _Body:
    optimizer: str  # the parameter's name
    parameters: frozenset[str]
    reader: ExpressionParser

    def steps(self, statements: Sequence[ast.stmt], *, is_last: bool = False) -> Expression:
        """When one of the statements steps. `is_last`: a return at their end leaves nothing out."""
        ways = list(self._ways(statements, is_last))
        return Apply("or", tuple(ways)) if len(ways) > 1 else ways[0] if ways else FALSE

    def _ways(self, statements: Sequence[ast.stmt], is_last: bool) -> Iterator[Expression]:
        for statement in statements:
            at_end = is_last and statement is statements[-1]
            match statement:
                case ast.Expr(value=ast.Call() as call) if self._is_step(call):
                    yield TRUE
                case ast.Return(value=None) if at_end:
                    pass
                case ast.Return(value=ast.Call() as call) if at_end and self._is_step(call):
                    yield TRUE
                case ast.If(test=test, body=body, orelse=orelse) if not self._is_quiet(statement):
                    asked = self.reader.parse_condition(test)
                    yield Apply("and", (asked, self.steps(body, is_last=at_end)))
                    yield Apply("and", (negate(asked), self.steps(orelse, is_last=at_end)))
                case ast.With(items=items, body=body) if all(self._is_quiet(item) for item in items):
                    yield self.steps(body)
                case _ if not self._is_quiet(statement):
                    raise UnreadableError(f"`{ast.unparse(statement).splitlines()[0]}` is outside what can be read")

    def _is_step(self, call: ast.Call) -> bool:
        """Whether the call is ``optimizer.step(...)``, or the default's ``super().optimizer_step(...)``."""
        match call.func:
            case ast.Attribute(value=ast.Name(id=name), attr="step"):
                return name == self.optimizer
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[]), attr="optimizer_step"):
                return True
        return False

    def _is_quiet(self, statement: ast.AST) -> bool:
        """Whether the statement neither steps, nor ends the hook, nor changes what is asked, nor hands the optimizer on."""
        looked_into = {id(node.value) for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        for node in ast.walk(statement):
            match node:
                case ast.Return():
                    return False
                case ast.Attribute(attr=attr) if attr in _STEPS:
                    return False
                case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name in self.parameters:
                    return False
                case ast.Name(id=name) if name == self.optimizer and id(node) not in looked_into:
                    return False
        return True
