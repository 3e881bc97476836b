"""Finds the source of a function, and trusts it only where it is the function's beyond doubt.

A file may have been edited since it was imported, and a line may hold two lambdas. So the whole file is compiled, never
executed: a source is taken for a function's only if the very code of that function comes out.
"""

from __future__ import annotations

import ast
import functools
import linecache
import warnings
from collections.abc import Iterator
from types import CodeType

from attrs import frozen

Function = ast.FunctionDef | ast.Lambda
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class UnreadableError(Exception):
    """Why a function, or a part of it, cannot be read."""


@frozen(eq=False)
class Source:
    """A function's syntax tree, and what encloses it, from the module inwards."""

    function: Function
    enclosing: tuple[ast.AST, ...]

    def is_constant(self, name: str) -> bool:
        """Whether a free name of the function, once it has a value, keeps it: it is bound once, and not in a loop."""
        for scope in reversed(self.enclosing):
            if isinstance(scope, ast.ClassDef):
                continue
            times = _bindings(scope).get(name, 0)
            if times:
                return times == 1
        return False


@frozen(eq=False)
class _File:
    """A compiled file: all code in it, and each function with what encloses it."""

    codes: frozenset[CodeType]
    functions: tuple[Source, ...]


def find_source(code: CodeType) -> Source:
    """The source of the function that has this code.

    Raises:
        Unreadable: There is none, it is another, or it cannot be told which.
    """
    return _source_in(code.co_filename, code)  # the same code in two files is equal, and what is around it may not be


@functools.lru_cache(maxsize=1024)
def _source_in(name: str, code: CodeType) -> Source:
    text = "".join(linecache.getlines(name))
    if not text:
        raise UnreadableError("its source cannot be found")
    file = _file(name, text)
    if file is None or code not in file.codes:
        raise UnreadableError("its source has changed since it was loaded")
    found = [source for source in file.functions if _is_of(source.function, code)]
    if not found:
        raise UnreadableError("its source is not one function")
    if len(found) > 1 and not any(p[2] for p in code.co_positions()):
        raise UnreadableError("more than one lambda stands in its line")
    return max(found, key=lambda source: source.function.col_offset)  # of lambdas within each other the innermost


@functools.lru_cache(maxsize=64)
def _file(name: str, text: str) -> _File | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of the user's code it has said before
            tree = ast.parse(text)
            code = compile(tree, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    return _File(frozenset(_codes(code)), tuple(_functions(tree, (tree,))))


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _functions(node: ast.AST, enclosing: tuple[ast.AST, ...]) -> Iterator[Source]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield Source(child, enclosing)
        yield from _functions(child, (*enclosing, child) if isinstance(child, _SCOPES) else enclosing)


def _is_of(function: Function, code: CodeType) -> bool:
    """Whether a function in the file can be the one with this code, by its name, its parameters and where it stands."""
    parameters = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if list(code.co_varnames[: code.co_argcount]) != parameters:
        return False
    if isinstance(function, ast.FunctionDef):
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        return function.name == code.co_name and first == code.co_firstlineno
    if code.co_name != "<lambda>" or function.lineno != code.co_firstlineno:
        return False
    body = function.body
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    for line, end_line, column, end_column in code.co_positions():
        if line is None or end_line is None or column is None or end_column is None or end_column == 0:
            continue
        if not (start <= (line, column) and (end_line, end_column) <= end):
            return False
    return True


@functools.lru_cache(maxsize=4096)
def _bindings(scope: ast.AST) -> dict[str, int]:
    """How often a scope binds each of its names; 2 where once may be several times."""
    found: dict[str, int] = {}
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        arguments = scope.args
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if a is not None:
                found[a.arg] = 1
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.arguments):
            _collect(child, found, times=1, nested=False)
    return found


def _collect(node: ast.AST, found: dict[str, int], *, times: int, nested: bool) -> None:
    """Add what a part of a scope binds, `times` over; in a `nested` scope only what it declares to be another's."""
    if isinstance(node, (ast.Nonlocal, ast.Global)):
        for name in node.names:  # some function may bind it anew at any time
            found[name] = found.get(name, 0) + 2
    if not nested:
        for name in _bound_by(node):
            found[name] = found.get(name, 0) + times
    deeper = nested or isinstance(node, _SCOPES)
    for child in ast.iter_child_nodes(node):
        _collect(child, found, times=2 if isinstance(node, _LOOPS) else times, nested=deeper)


def _bound_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, _NAMED) and node.name:
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
