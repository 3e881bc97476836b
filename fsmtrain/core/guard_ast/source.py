"""Find the source of a function, and make sure that it is this function's.

A file may have been edited since it was imported, and a line may contain two lambdas. So the whole file is compiled, but
not executed: a source is accepted only if it compiles to the very code of the function.
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
    """A function, or a part of it, cannot be read; the message says why."""


@frozen(eq=False)
class Source:
    """A function's syntax tree, and the scopes around it, from the module inwards."""

    function: Function
    enclosing: tuple[ast.AST, ...]

    def is_constant(self, name: str) -> bool:
        """Return whether a free name of the function keeps its first value: it is bound once, and not in a loop."""
        for scope in reversed(self.enclosing):
            if isinstance(scope, ast.ClassDef):
                continue
            times = _count_bindings(scope).get(name, 0)
            if times:
                return times == 1
        return False


@frozen(eq=False)
class _CompiledFile:
    """All code objects of a file, and its functions."""

    codes: frozenset[CodeType]
    functions: tuple[Source, ...]


def find_source(code: CodeType) -> Source:
    """Return the source of the function with this code object.

    Raises:
        UnreadableError: There is none, it has changed, or it is ambiguous.
    """
    return _find_source(code.co_filename, code)  # equal code in two files may have different scopes around it


@functools.lru_cache(maxsize=1024)
def _find_source(name: str, code: CodeType) -> Source:
    text = "".join(linecache.getlines(name))
    if not text:
        raise UnreadableError("its source cannot be found")
    file = _compile_file(name, text)
    if file is None or code not in file.codes:
        raise UnreadableError("its source has changed since it was imported")
    candidates = [source for source in file.functions if _may_have_code(source.function, code)]
    if not candidates:
        raise UnreadableError("its source is not one function")
    if len(candidates) > 1 and not any(p[2] for p in code.co_positions()):
        raise UnreadableError("its line contains more than one lambda")
    return max(candidates, key=lambda source: source.function.col_offset)  # the innermost of nested lambdas


@functools.lru_cache(maxsize=64)
def _compile_file(name: str, text: str) -> _CompiledFile | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python has already warned about the user's code
            tree = ast.parse(text)
            code = compile(tree, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    return _CompiledFile(frozenset(_codes(code)), tuple(_functions(tree, (tree,))))


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


def _may_have_code(function: Function, code: CodeType) -> bool:
    """Return whether a function may have this code, by its name, its parameters and its place."""
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
def _count_bindings(scope: ast.AST) -> dict[str, int]:
    """Return how many times a scope binds each of its names; 2 if once may mean several times."""
    counts: dict[str, int] = {}
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        arguments = scope.args
        for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if a is not None:
                counts[a.arg] = 1
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.arguments):
            _collect(child, counts, times=1, nested=False)
    return counts


def _collect(node: ast.AST, counts: dict[str, int], *, times: int, nested: bool) -> None:
    """Add the bindings of a part of a scope, each counted `times`; of a `nested` scope only ``nonlocal`` and ``global``."""
    if isinstance(node, (ast.Nonlocal, ast.Global)):
        for name in node.names:  # a function may bind it again at any time
            counts[name] = counts.get(name, 0) + 2
    if not nested:
        for name in _bound_names(node):
            counts[name] = counts.get(name, 0) + times
    deeper = nested or isinstance(node, _SCOPES)
    for child in ast.iter_child_nodes(node):
        _collect(child, counts, times=2 if isinstance(node, _LOOPS) else times, nested=deeper)


def _bound_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, _NAMED) and node.name:
        yield node.name
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
