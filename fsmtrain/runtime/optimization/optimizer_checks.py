"""What is probably not intended about a model's optimizers, seen before the run: none to train, gradients never zeroed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType

from torch import nn

from fsmtrain.core.checking.findings import Finding, warning
from fsmtrain.core.checking.parse_optimizer_step import passes_optimizer_on
from fsmtrain.runtime.optimization.optimizer_step import own_optimizer_step
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot

_LIBRARIES = ("torch.", "fsmtrain.")
_ZEROING = frozenset({"zero_grad", "grad", "set_to_none"})


def optimizer_findings(model: nn.Module, slots: Iterable[OptimizerSlot], callbacks: Iterable[object]) -> Iterator[Finding]:
    """Yield the findings about the optimizers of a model that is to be trained."""
    for slot in slots:
        if not any(parameter.requires_grad for parameter in slot.parameters):
            yield warning(
                f"optimizer {slot.index}",
                f"none of the parameters of this {type(slot.optimizer).__name__} requires a gradient, so it changes nothing. "
                f"Leave it out of configure_optimizers, or set requires_grad before the run.",
            )
    hook = own_optimizer_step(model)
    if hook is None or passes_optimizer_on(hook) or "optimizer_step" in _names(hook):
        return
    owners = [type(model), *map(type, callbacks)]
    if not any(_ZEROING & _names(function) for owner in owners for function in _own_functions(owner)):
        yield warning(
            "optimizer_step",
            "the model's optimizer_step never zeroes the gradients, nor does any other method, so each step adds those of all "
            "batches before. Call optimizer.zero_grad() after optimizer.step().",
        )


def _own_functions(cls: type) -> Iterator[object]:
    """Yield the functions that a class and its bases define, libraries left out."""
    for base in cls.__mro__:
        if not f"{base.__module__}.".startswith(_LIBRARIES):
            yield from vars(base).values()


def _names(function: object) -> set[str]:
    """Return the attributes and globals that a function names, those of the functions in it included."""
    function = getattr(function, "__func__", function)
    return set(_code_names(function.__code__)) if isinstance(function, FunctionType) else set()


def _code_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_names(constant)
