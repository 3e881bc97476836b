"""Manual optimization: backwards and steps that ``training_step`` makes by itself, counted, with hooks."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fsmtrain.errors import ModelError, UsageError
from fsmtrain.runtime.hooks.bind_hooks import Hooks
from fsmtrain.runtime.optimization.grad_toggle import GradToggle
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot
from fsmtrain.runtime.run_state import RunComponents, RunState


def is_manual(model: object) -> bool:
    """Return whether the model optimizes manually: it has ``automatic_optimization = False``.

    Raises:
        ModelError: The attribute is no bool.
    """
    automatic = getattr(model, "automatic_optimization", True)
    if not isinstance(automatic, bool):
        raise ModelError(
            f"automatic_optimization={automatic!r}: must be True, or False if training_step calls manual_backward and "
            f"optimizer.step() itself."
        )
    return not automatic


class ManualOptimization:
    """The steps of a run whose ``training_step`` makes them, and what it calls for them.

    A step of any optimizer of the run counts, wherever it is made; one of a hook counts with the next batch.
    """

    def __init__(self, components: RunComponents, run: RunState) -> None:
        self._run, self._slots, self._hooks = run, components.slots, components.hooks
        self._toggle = GradToggle(self._slots)
        self._handles = [handle for slot in self._slots for handle in self._watch(slot, components.hooks)]

    def _watch(self, slot: OptimizerSlot, hooks: Hooks) -> list[Any]:
        """Count the steps of an optimizer, and call the hooks around them."""

        def before(optimizer: Any, *_: object) -> None:
            assert hooks.on_before_optimizer_step is not None
            hooks.on_before_optimizer_step(optimizer)

        def after(optimizer: Any, *_: object) -> None:
            self._run.manual_steps += 1
            if hooks.on_after_optimizer_step is not None:
                hooks.on_after_optimizer_step(optimizer)

        handles: list[Any] = [slot.optimizer.register_step_post_hook(after)]
        if hooks.on_before_optimizer_step is not None:
            handles.append(slot.optimizer.register_step_pre_hook(before))
        return handles

    def end_batch(self) -> int:
        """End a call of ``training_step``, and a toggle in it; return the steps since the one before."""
        self.untoggle()
        return self._run.manual_steps - self._run.counters.global_step

    def backward(self, loss: Tensor, *args: Any, **options: Any) -> None:
        """Call ``loss.backward``, and the hooks before and after it."""
        if self._hooks.on_before_backward is not None:
            self._hooks.on_before_backward(loss)
        loss.backward(*args, **options)  # type: ignore[no-untyped-call]
        if self._hooks.on_after_backward is not None:
            self._hooks.on_after_backward()

    def toggle(self, optimizer: Any) -> None:
        """Switch ``requires_grad`` off for the parameters of all other optimizers.

        Raises:
            UsageError: It is none of this run.
        """
        for slot in self._slots:
            if slot.optimizer is optimizer:
                self._toggle.activate(slot.index)
                return
        raise UsageError(f"toggle_optimizer({optimizer!r}): it is none of those that configure_optimizers returned.")

    def untoggle(self) -> None:
        """Switch ``requires_grad`` on again. Idempotent."""
        self._toggle.deactivate()

    def release(self) -> None:
        """Remove the hooks from the optimizers, and end a toggle. Idempotent."""
        self.untoggle()
        for handle in self._handles:
            handle.remove()
