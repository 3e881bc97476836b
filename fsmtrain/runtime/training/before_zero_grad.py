"""Call ``on_before_zero_grad`` before gradients are zeroed, by the run or by an override of ``optimizer_step``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fsmtrain.core.dispatcher import Action
from fsmtrain.core.states import State
from fsmtrain.runtime.hooks.hook_pair import Hook
from fsmtrain.runtime.run_state import RunComponents, RunState


class BeforeZeroGrad:
    """Watch ``zero_grad`` of the optimizer during its step. Only in a run that has the hook."""

    def __init__(self, components: RunComponents, run: RunState, hook: Hook) -> None:
        self._slots, self._counters, self._hook = components.slots, run.counters, hook

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Wrap the action of `step`."""
        step = actions[State.STEP]

        def step_and_watch() -> None:
            with calling_before_zero_grad(self._slots[self._counters.optimizer_i].optimizer, self._hook):
                step()

        return {**actions, State.STEP: step_and_watch}


@contextmanager
def calling_before_zero_grad(optimizer: Any, hook: Hook) -> Iterator[None]:
    """Call `hook` with the optimizer before each ``optimizer.zero_grad()``."""
    zero_grad, own = optimizer.zero_grad, vars(optimizer).get("zero_grad")

    def call_and_zero(*args: Any, **options: Any) -> None:
        hook(optimizer)
        zero_grad(*args, **options)

    optimizer.zero_grad = call_and_zero
    try:
        yield
    finally:
        if own is None:
            del optimizer.zero_grad
        else:
            optimizer.zero_grad = own
