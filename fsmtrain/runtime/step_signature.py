"""Match the arguments of a step method by name or position, once, when the machine is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from fsmtrain.errors import ModelError

Step = Callable[..., Any]

# The parameter names for each argument.
NAMES: dict[str, tuple[str, ...]] = {
    "batch": ("batch",),
    "batch_nb": ("batch_nb", "batch_idx"),
    "optimizer_i": ("optimizer_i", "optimizer_idx"),
    "hiddens": ("hiddens",),
    "dataloader_i": ("dataloader_i", "dataloader_idx"),
}
_ARGUMENT = {name: argument for argument, names in NAMES.items() for name in names}


class StepSignature:
    """A step method with its arguments matched.

    A call is ``method(*arguments[:count])``, with all arguments in the caller's order. If the user's method takes the first of
    them in this order, as most do, `method` is the user's own, without a wrapper.

    Args:
        method: The bound method.
        name: Its name, for errors.
        available: The arguments that exist in this run, in the documented order. Parameters with other names get, by
            position, those that no parameter takes by name.
        order: The arguments of a call, in the caller's order.

    Raises:
        ModelError: A parameter for which there is no argument.
    """

    def __init__(self, method: Step, name: str, *, available: Sequence[str], order: Sequence[str]) -> None:
        self.arguments, by_name = _match(method, name, available, order)
        places = [order.index(argument) for argument in self.arguments]
        named = {parameter: order.index(argument) for parameter, argument in by_name.items()}
        self.arguments = (*self.arguments, *by_name.values())
        if places == list(range(len(places))) and not named:
            self.method, self.count = method, len(places)
        else:
            self.method, self.count = _caller(method, places, named), len(order)


def _match(method: Step, name: str, available: Sequence[str], order: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the arguments for the positional parameters in their order, and those for keyword-only ones."""
    parameters = list(inspect.signature(method).parameters.values())
    by_name = {_ARGUMENT[p.name] for p in parameters if p.name in _ARGUMENT}
    rest = [argument for argument in available if argument not in by_name]
    positional: list[str] = []
    keywords: dict[str, str] = {}
    skipped = False  # after a parameter that keeps its default, the others can only be passed by name
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            positional += [] if skipped else rest
            rest = []
            continue
        if p.kind is p.VAR_KEYWORD:
            continue
        if p.name in _ARGUMENT:
            argument: str | None = _ARGUMENT[p.name]
            if argument not in order or (argument not in available and p.default is not p.empty):
                argument = None
        else:
            argument = rest.pop(0) if rest else None
        if argument is None:
            if p.default is p.empty:
                raise ModelError(
                    f"{name}: there is no argument for its parameter {p.name!r}. By name there are {', '.join(available)}."
                )
            skipped = True
        elif p.kind is p.KEYWORD_ONLY or (skipped and p.kind is not p.POSITIONAL_ONLY):
            keywords[p.name] = argument
        elif not skipped:
            positional.append(argument)
    return tuple(positional), keywords


def _caller(method: Step, places: list[int], named: dict[str, int]) -> Step:
    """Return a function of all arguments in the caller's order that passes on those that the method takes."""
    if named:
        return lambda *args: method(*[args[i] for i in places], **{key: args[i] for key, i in named.items()})
    return lambda *args: method(*[args[i] for i in places])
