"""Whether a method can never return None, as far as its source shows it. Nothing is executed.

Only what is certain counts: a dict display, a number, arithmetic, a function of torch or ``torch.nn.functional``, a tensor's
method on one of these, a call of a layer or criterion that the model holds, and another method of the same object of which the
same is known. What remains unknown may be None. Layers are those that the model holds now: one that is replaced later by a
module that returns None ends the run with an error.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from attrs import frozen

from fsmtrain.core.guard_ast.source import UnreadableError, find_source

_FUNCTIONS = frozenset({"torch.functional", "torch.nn.functional"})  # where torch's functions of Python are defined
_BUILTINS = frozenset({"torch", "torch._C._nn", "torch._C._linalg", "torch._C._special", "torch._C._fft"})
# Functions among these builtins that return None, or may.
_NO_VALUE = frozenset(
    {
        *("init_num_threads", "set_num_interop_threads", "set_num_threads", "split_copy", "split_with_sizes_copy"),
        *("sym_constrain_range", "sym_constrain_range_for_size", "unbind_copy"),
    }
)
# Methods of tensors that return a tensor or a number. Lists, dicts and texts have none of these names.
_TENSOR_METHODS = frozenset(
    """
    abs all amax amin any argmax argmin bfloat16 bmm bool ceil chunk clamp clamp_max clamp_min clone contiguous cpu cuda
    cumsum detach diff div dot double eq erf exp expand flatten float floor gather ge gt half int item le lerp log log10 log1p
    log2 log_softmax logsumexp long lt masked_fill matmul max mean median min mm mul ne neg norm numel permute pow prod
    reciprocal relu reshape round rsqrt select sigmoid sign sin cos softmax sqrt square squeeze std sub sum t tanh to tolist
    transpose tril triu type_as unsqueeze var view where
    """.split()  # noqa: SIM905 - a list literal would be a page long
)
_LAYERS = "torch.nn.modules."  # where torch's own layers and criterions are defined
_RETURNS_ITS_INPUT = frozenset({"Identity"})
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
MAX_CALLS = 4  # of methods of the same object, one inside the other


def never_returns_none(method: object, depth: int = 0) -> bool:
    """Return whether a bound method, or a function, never returns None.

    Example:
        >>> class Model:
        ...     def training_step(self, batch, batch_nb):
        ...         return None if batch_nb == 2 else batch
        >>> never_returns_none(Model().training_step)
        False
    """
    function, owner = (method.__func__, method.__self__) if isinstance(method, MethodType) else (method, None)
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__") or depth > MAX_CALLS:
        return False
    try:
        node = find_source(function.__code__).function
    except UnreadableError:
        return False
    if not isinstance(node, ast.FunctionDef) or node.decorator_list or not _always_leaves(node.body):
        return False
    if any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in _own_parts(node)):
        return False
    self_name = node.args.args[0].arg if owner is not None and node.args.args else ""
    body = _Body(node, function.__code__, function.__globals__, owner, self_name, depth)
    returned = [part.value for part in _own_parts(node) if isinstance(part, ast.Return)]
    return all(value is not None and body.is_known(value) for value in returned)


def _own_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all parts of a function but those of functions and classes within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _SCOPES):
            yield child
            yield from _own_parts(child)


def _always_leaves(body: Sequence[ast.stmt]) -> bool:
    """Return whether the last statement returns or raises, on each branch."""
    match body[-1]:
        case ast.Return() | ast.Raise():
            return True
        case ast.If(body=then, orelse=otherwise):
            return bool(otherwise) and _always_leaves(then) and _always_leaves(otherwise)
        case ast.With(body=inner) if all(_is_no_suppressor(item.context_expr) for item in body[-1].items):
            return _always_leaves(inner)
    return False


def _is_no_suppressor(context: ast.expr) -> bool:
    """Return whether a context manager is known to swallow no exception: those of torch."""
    return ast.unparse(context).startswith("torch.")


@frozen(eq=False)
class _Body:
    node: ast.FunctionDef
    code: CodeType
    namespace: Mapping[str, object]
    owner: object
    self_name: str
    depth: int

    def is_known(self, value: ast.expr, names: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression is never None. `names` are local names that are being looked up."""
        match value:
            case ast.Dict() | ast.BinOp() | ast.JoinedStr() | ast.Tuple() | ast.List():
                return True
            case ast.Constant(value=constant):
                return constant is not None
            case ast.UnaryOp(operand=operand):
                return self.is_known(operand, names)
            case ast.IfExp(body=then, orelse=otherwise):
                return self.is_known(then, names) and self.is_known(otherwise, names)
            case ast.Name(id=name):
                return self._is_known_name(name, names)
            case ast.Call(func=ast.Name(id=self.self_name)) if self.self_name:
                return _is_known_layer(self.owner, self.depth)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=self.self_name), attr=attr) as held) if self.self_name:
                return self._is_known_method(attr) or self._is_known_held(held)
            case ast.Call(func=ast.Attribute(value=inner, attr=attr)) if attr in _TENSOR_METHODS and self.is_known(
                inner, names
            ):
                return True
            case ast.Call(func=ast.Name() | ast.Attribute() as function):
                return _is_function_of_torch(self._resolve(function)) or self._is_known_held(function)
        return False

    def _is_known_name(self, name: str, names: frozenset[str]) -> bool:
        """Return whether all that is assigned to a local name is known. Reading it before that is an error of Python's."""
        if name in names or name in self.code.co_varnames[: self._argument_count]:
            return False
        values: list[ast.expr] = []
        for part in _own_parts(self.node):
            match part:
                case ast.Assign(targets=targets, value=value) if any(_names(target, name) for target in targets):
                    if not all(isinstance(target, ast.Name) for target in targets):
                        return False
                    values.append(value)
                case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                    values.append(value)
                case ast.AugAssign(target=ast.Name(id=target)) if target == name:
                    continue
                case ast.Name(id=bound, ctx=ast.Store() | ast.Del()) if bound == name and not self._is_plain_target(part):
                    return False
        is_rebound_within = any(isinstance(part, (ast.Nonlocal, ast.Global)) for part in ast.walk(self.node))
        return bool(values) and not is_rebound_within and all(self.is_known(value, names | {name}) for value in values)

    def _is_plain_target(self, name: ast.Name) -> bool:
        """Return whether a name is bound by an assignment to it alone."""
        for part in _own_parts(self.node):
            match part:
                case ast.Assign(targets=targets) if any(target is name for target in targets):
                    return True
                case ast.AnnAssign(target=target) | ast.AugAssign(target=target) if target is name:
                    return True
        return False

    @property
    def _argument_count(self) -> int:
        flags = self.code.co_flags
        has_args, has_kwargs = bool(flags & inspect.CO_VARARGS), bool(flags & inspect.CO_VARKEYWORDS)
        return self.code.co_argcount + self.code.co_kwonlyargcount + has_args + has_kwargs

    def _is_known_method(self, name: str) -> bool:
        own = vars(self.owner) if hasattr(self.owner, "__dict__") else {}
        method = own[name] if name in own else inspect.getattr_static(type(self.owner), name, None)  # calls no property
        if isinstance(method, FunctionType) and name not in own:
            method = MethodType(method, self.owner)
        return isinstance(method, MethodType) and method.__self__ is self.owner and never_returns_none(method, self.depth + 1)

    def _is_known_held(self, node: ast.expr) -> bool:
        """Return whether an attribute of the model, as ``self.net.head``, is a function of torch or a known layer."""
        held = self._held(node)
        return held is not None and (_is_function_of_torch(held) or _is_known_layer(held, self.depth))

    def _held(self, node: ast.expr) -> object:
        """Return what the model holds under a dotted name, without calling a property; None for anything else."""
        match node:
            case ast.Name(id=self.self_name) if self.self_name:
                return self.owner
            case ast.Attribute(value=value, attr=attr) if not self._sets_attribute(attr):
                outer = vars(held) if hasattr(held := self._held(value), "__dict__") else {}
                modules = outer.get("_modules")
                return modules[attr] if isinstance(modules, dict) and attr in modules else outer.get(attr)
        return None

    def _sets_attribute(self, name: str) -> bool:
        """Return whether this function sets or deletes an attribute of this name, of any object."""
        attributes = (part for part in ast.walk(self.node) if isinstance(part, ast.Attribute) and part.attr == name)
        return any(not isinstance(attribute.ctx, ast.Load) for attribute in attributes)

    def _resolve(self, node: ast.expr) -> object:
        """Return what a dotted name of the module means now; None if it is local, or no function of a module."""
        match node:
            case ast.Name(id=name) if name not in self.code.co_varnames + self.code.co_cellvars:
                return self.namespace.get(name)
            case ast.Attribute(value=value, attr=attr):
                module = self._resolve(value)
                return getattr(module, attr, None) if isinstance(module, ModuleType) else None
        return None


def _is_function_of_torch(function: object) -> bool:
    """Return whether it is a function of torch that returns a value: a tensor, several, or a number."""
    module = getattr(function, "__module__", None)
    if isinstance(function, BuiltinFunctionType):
        return module in _BUILTINS and not function.__name__.startswith("_") and function.__name__ not in _NO_VALUE
    return isinstance(function, FunctionType) and module in _FUNCTIONS


def _is_known_layer(layer: object, depth: int) -> bool:
    """Return whether a call of a module never returns None: one of torch's own, or one whose ``forward`` shows it."""
    cls = type(layer)
    call = inspect.getattr_static(cls, "__call__", None)
    if getattr(call, "__module__", None) != f"{_LAYERS}module" or depth > MAX_CALLS or "forward" in vars(layer):
        return False
    if not cls.__module__.startswith(_LAYERS):
        return never_returns_none(getattr(layer, "forward", None), depth + 1)
    if cls.__name__ == "Sequential":  # returns what its last one returns; without any, its input
        modules = [*vars(layer)["_modules"].values()]
        return bool(modules) and _is_known_layer(modules[-1], depth + 1)
    return cls.__name__ not in _RETURNS_ITS_INPUT


def _names(target: ast.expr, name: str) -> bool:
    """Return whether an assignment's target binds a name."""
    return any(isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Store) for part in ast.walk(target))
