"""Copies of guards that cannot be read, so that a plan calls no guard of the run that follows.

Such a guard may have a memory: its attributes, the variables that it closes over, the globals that it names. All of these are
copied with it, as they are now. So planning changes nothing, and a plan and its events agree, however often one asks for them.
What a guard keeps on a class or in another module is not copied.
"""

from __future__ import annotations

import contextlib
import copy
import dis
import functools
import random
import sys
from collections.abc import Iterator
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

from attrs import define, evolve, field

from fsmtrain.core.guard_ast.expressions import Opaque, iter_parts
from fsmtrain.core.guard_ast.parse import guard_as_written, parse_guard
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import GuardError

_COPY_HOOKS = ("__slots__", "__deepcopy__", "__getstate__", "__setstate__")
WAY_OUT = "Write it as one return of comparisons of counters, which can be read."


def with_guard_copies(loop: LoopSpec) -> LoopSpec:
    """Return a loop with a copy of each guard that cannot be read; the loop itself if it has none.

    Raises:
        GuardError: A guard refers to something that cannot be copied.
    """
    if all(unread_reason(guard) is None for guard in loop.guards):
        return loop
    guards, copier = loop.guards, _Copier()

    def copied(guard: Any) -> Any:
        if guard is None or unread_reason(guard) is None:
            return guard
        try:
            return copier.copy_guard(guard)
        except Exception as error:
            raise GuardError(
                f"cannot plan: the guard {guard_as_written(guard)} cannot be read, so a copy of it would have to be called, "
                f"and it cannot be copied ({type(error).__name__}: {error}). {WAY_OUT}"
            ) from error

    places = {"validate": copied(guards.validate), "save": copied(guards.save), "stop": copied(guards.stop)}
    copies = evolve(guards, step={index: copied(guard) for index, guard in guards.step.items()}, **places)
    return evolve(loop, guards=copies)


def unread_reason(guard: Guard) -> str | None:
    """Return why a guard, or a part of it, cannot be read; None if it can."""
    return next((part.reason for part in iter_parts(parse_guard(guard)) if isinstance(part, Opaque)), None)


@define
class _Copier:
    """Copies callables with what they may remember. What two of them share is copied once."""

    # As that of `copy.deepcopy`: copies by the id of the original. What all code shares is its own copy.
    memo: dict[int, Any] = field(factory=lambda: {id(generator): generator for generator in _shared_generators()})

    def copy_guard(self, guard: Any) -> Any:
        """Return a copy of a guard. Of an object's ``__call__``, the globals are copied, too."""
        call = vars(type(guard)).get("__call__")
        if not isinstance(call, FunctionType):
            return self.copy(guard)
        own_call = self._copy_function(call)
        own_call.__name__ = type(guard).__name__
        return MethodType(own_call, self.copy(guard))

    def copy(self, value: Any) -> Any:
        """Return a copy of something that a guard refers to, or of a function that is one."""
        if id(value) in self.memo:
            return self.memo[id(value)]
        match value:
            case FunctionType():
                return self._copy_function(value)
            case MethodType():
                return MethodType(self.copy(value.__func__), self.copy(value.__self__))
            case functools.partial():
                keywords = {name: self.copy(argument) for name, argument in value.keywords.items()}
                return functools.partial(self.copy(value.func), *map(self.copy, value.args), **keywords)
            case ModuleType() | type():
                return value
            case BuiltinMethodType() if not isinstance(value.__self__, (ModuleType, type, NoneType)):
                return getattr(self.copy(value.__self__), value.__name__)
        if type(value) is tuple:
            copied: Any = tuple(map(self.copy, value))
        elif type(value) is list:
            copied = self.memo[id(value)] = []
            copied += map(self.copy, value)
        elif type(value) is dict:
            copied = self.memo[id(value)] = {}
            copied |= {key: self.copy(own) for key, own in value.items()}
        elif _is_plain_object(value):
            copied = self.memo[id(value)] = object.__new__(type(value))
            copied.__dict__.update({name: self.copy(own) for name, own in vars(value).items()})
        else:
            copied = copy.deepcopy(value, self.memo)
        self.memo[id(value)] = copied
        return copied

    def _copy_function(self, function: FunctionType) -> FunctionType:
        known = function.__globals__
        copied_globals = self.memo.setdefault(id(known), dict(known))
        cells = tuple(CellType() for _ in function.__closure__ or ())
        copied = FunctionType(function.__code__, copied_globals, function.__name__, None, cells or None)
        self.memo[id(function)] = copied  # before what it refers to, which may refer to it
        for name in set(_global_names(function.__code__)) & known.keys():
            value = known[name]
            if not isinstance(value, FunctionType) or value.__closure__ or value.__globals__ is known:  # not a library's
                copied_globals[name] = self.copy(value)
        for cell, own in zip(cells, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # it has no value yet
                cell.cell_contents = self.copy(own.cell_contents)
        copied.__defaults__, copied.__kwdefaults__ = self.copy(function.__defaults__), self.copy(function.__kwdefaults__)
        copied.__dict__.update(self.copy(function.__dict__))
        return copied


def _is_plain_object(value: object) -> bool:
    """Return whether an object is its attributes. `copy.deepcopy` would leave functions among them as they are."""
    cls: Any = type(value)
    is_plain = (
        cls.__new__ is object.__new__ and cls.__reduce_ex__ is object.__reduce_ex__ and cls.__reduce__ is object.__reduce__
    )
    return is_plain and not any(name in vars(c) for c in cls.__mro__[:-1] for name in _COPY_HOOKS)


def _global_names(code: CodeType) -> Iterator[str]:
    """Yield the globals that a code object reads, those of the functions in it included."""
    yield from (instruction.argval for instruction in dis.get_instructions(code) if instruction.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


# ---- random numbers


@contextlib.contextmanager
def refuse_random_guards() -> Iterator[None]:
    """Leave the random generators of the process as they were, and raise if the guards called meanwhile have used them.

    Raises:
        GuardError: A guard draws random numbers.
    """
    before = _random_states()
    try:
        yield
    finally:
        after = _random_states()
        if after != before:
            _set_random_states(before)
    if after != before:
        raise GuardError(f"cannot plan: a guard draws random numbers, so what it will return is not known. {WAY_OUT}")


def _shared_generators() -> list[object]:
    """Return the generators that all code shares, of those packages that have been imported."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    generators: list[object] = [random.random.__self__]  # type: ignore[attr-defined]
    return [*generators, *([numpy.random.rand.__self__] if numpy else []), *([torch.default_generator] if torch else [])]


def _random_states() -> dict[str, Any]:
    """Return the states of these generators."""
    states: dict[str, Any] = {"random": random.getstate()}
    if numpy := sys.modules.get("numpy"):
        name, keys, *rest = numpy.random.get_state()
        states["numpy"] = (name, tuple(keys.tolist()), *rest)
    if torch := sys.modules.get("torch"):
        states["torch"] = torch.default_generator.get_state().numpy().tobytes()
    return states


def _set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    if "numpy" in states:
        sys.modules["numpy"].random.set_state(states["numpy"])
    if "torch" in states:
        torch = sys.modules["torch"]
        torch.default_generator.set_state(torch.frombuffer(bytearray(states["torch"]), dtype=torch.uint8))
