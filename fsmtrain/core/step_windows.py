"""How many batches the accumulation windows of optimizers with a step guard last, as far as that is configured."""

from __future__ import annotations

import inspect

from fsmtrain.copies import call_that_made
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.interval_guards import every_n_batches, every_n_steps_of


def step_windows(guards: Guards, k: int) -> tuple[int | None, ...]:
    """Return the batches in a window of each optimizer that has a step guard; None for a guard that is not ready-made.

    Args:
        guards: The user's guards.
        k: The backwards in a window of the other optimizers.

    >>> step_windows(Guards(step={0: every_n_batches(5), 1: every_n_steps_of(0, 2), 2: lambda *records: True}), k=1)
    (5, 10, None)
    """
    return tuple(_window_of(i, guards, k, set()) for i in guards.step)


def _window_of(optimizer_i: int, guards: Guards, k: int, followed: set[int]) -> int | None:
    guard = guards.step.get(optimizer_i)
    if guard is None:
        return k
    call = call_that_made(guard)
    if call is None or optimizer_i in followed:
        return None
    arguments = inspect.signature(call.function).bind(*call.args, **call.kwargs).arguments
    if call.function is every_n_batches:
        return int(arguments["n"])
    if call.function is every_n_steps_of:
        window = _window_of(arguments["i"], guards, k, followed | {optimizer_i})
        return None if window is None else int(arguments["n"]) * window
    return None
