"""The work of a train batch on tensors: forward, backward, and mean, clip and step. No counter, metric or window here.

`TrainBatch` in `train_batch` does the bookkeeping around each of the three. A model that is an adapter to another package has a
method ``make_train_work(components)``, which returns a `Work` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.step_outputs import Scalar
from fsmtrain.runtime.optimization.gradient_clipping import gradient_clipping
from fsmtrain.runtime.optimization.optimizer_step import own_optimizer_step, step_and_zero
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot
from fsmtrain.runtime.optimization.precision import GradScalers, with_autocast
from fsmtrain.runtime.optimization.window_weights import BackwardScales, is_zero, rescale_gradients
from fsmtrain.runtime.run_state import RunComponents
from fsmtrain.runtime.step_signature import StepSignature

# The arguments of training_step, in the order of its call.
_ARGUMENTS = ("batch", "batch_nb", "optimizer_i", "hiddens")


class Work(Protocol):
    """What a train batch does with tensors.

    Attributes:
        scalers: The gradient scalers of fp16; None if there are none.
        is_blind_to_turns: Whether there are several optimizers, and a forward does not depend on whose turn it is.
        backward: Backpropagates the loss of an optimizer, times a scale; None is 1.
    """

    scalers: GradScalers | None
    is_blind_to_turns: bool
    backward: Callable[[Tensor, int, Scalar | None], None]

    def forward(self, split: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:
        """Run a forward; return what ``training_step`` may return."""
        ...

    def step(
        self,
        slot: OptimizerSlot,
        mean_scale: Scalar | None,
        current_epoch: int,
        batch_nb: int,
        make_closure: Callable[[], Callable[[], Any]] | None,
    ) -> None:
        """Step an optimizer, after its gradients have been multiplied by `mean_scale` (None is 1) and clipped."""
        ...

    def clip(self, slot: OptimizerSlot) -> None:
        """Clip an optimizer's gradients."""
        ...


def train_work(components: RunComponents) -> Work:
    """Return what does the work on tensors: the model's own, if it has a method for it, else a `TrainWork`."""
    make: Callable[[RunComponents], Work] | None = getattr(components.model, "make_train_work", None)
    return TrainWork(components) if make is None else make(components)


class TrainWork:
    """Run ``training_step``, backwards and optimizer steps, with the run's precision and clipping.

    Raises:
        ModelError: ``training_step`` cannot be called as documented.
    """

    def __init__(self, components: RunComponents) -> None:
        options, limits = components.spec.options, components.spec.limits
        available = ["batch", "batch_nb"]
        available += ["optimizer_i"] if limits.optimizers > 1 else []
        available += ["hiddens"] if limits.splits_batches else []
        step: Any = components.model.training_step
        signature = StepSignature(step, "training_step", available=available, order=_ARGUMENTS)
        if limits.splits_batches and "hiddens" not in signature.arguments:
            raise ModelError(
                f"truncated_bptt_steps={options.truncated_bptt_steps}: training_step has no parameter 'hiddens'. Give "
                f"{type(components.model).__name__}, or a subclass of it, training_step(self, batch, batch_nb, hiddens), which "
                f"gets None on a batch's first split, then what the previous split returned under 'hiddens'."
            )
        compiled = components.compiled_call
        method = signature.method if compiled is None else compiled.watched(signature.method, "training_step")
        self._training_step = with_autocast(method, options.mixed_precision, components.device)
        self._argument_count = signature.count
        self.is_blind_to_turns = limits.optimizers > 1 and "optimizer_i" not in signature.arguments
        self.scalers: GradScalers | None = (
            GradScalers(components.slots, components.device) if options.mixed_precision.uses_scaler else None
        )
        self._backward_scales = BackwardScales()
        self._clip = gradient_clipping(components.model, options)
        self._optimizer_step = own_optimizer_step(components.model)
        hooks = components.hooks
        self._before_backward, self._after_backward = hooks.on_before_backward, hooks.on_after_backward
        self._before_step = hooks.on_before_optimizer_step
        has_hooks = self._before_backward is not None or self._after_backward is not None
        self.backward: Callable[[Tensor, int, Scalar | None], None] = self._backward_with_hooks if has_hooks else self._backward

    def forward(self, split: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:
        """Call ``training_step``; return what it returned."""
        if self._argument_count == 2:  # most take these two: a tuple and its slice would cost more than the call
            return self._training_step(split, batch_nb)
        return self._training_step(*(split, batch_nb, optimizer_i, hiddens)[: self._argument_count])

    def _backward_with_hooks(self, loss: Tensor, optimizer_i: int, scale: Scalar | None) -> None:
        """Call the hooks before and after `_backward`, if there is a backward."""
        is_made = not is_zero(scale)
        if is_made and self._before_backward is not None:
            self._before_backward(loss)
        self._backward(loss, optimizer_i, scale)
        if is_made and self._after_backward is not None:
            self._after_backward()

    def _backward(self, loss: Tensor, optimizer_i: int, scale: Scalar | None) -> None:
        """Backpropagate `scale` times the loss; None is 1. If it is the number 0, nothing is backpropagated."""
        root = loss if self.scalers is None else self.scalers.scale(optimizer_i, loss)
        if scale is None:
            root.backward()  # type: ignore[no-untyped-call]
        elif not is_zero(scale):
            root.backward(self._backward_scales.tensor(root, scale))  # type: ignore[no-untyped-call]

    def step(
        self,
        slot: OptimizerSlot,
        mean_scale: Scalar | None,
        current_epoch: int,
        batch_nb: int,
        make_closure: Callable[[], Callable[[], Any]] | None,
    ) -> None:
        """Multiply the gradients by `mean_scale` (None is 1), clip them, and call ``optimizer_step``.

        `make_closure` makes its ``second_order_closure`` of the weights and gradients of that moment.
        """
        if mean_scale is not None:
            rescale_gradients(slot.parameters, mean_scale)
        if self._before_step is not None:
            self._before_step(slot.optimizer)
        if self._clip is not None:
            self._clip(slot)
        closure = None if make_closure is None else make_closure()
        if self._optimizer_step is None:
            step_and_zero(slot.optimizer, closure)
        else:
            self._optimizer_step(current_epoch, batch_nb, slot.optimizer, slot.index, closure)

    def clip(self, slot: OptimizerSlot) -> None:
        """Clip this optimizer's gradients, if ``gradient_clip_val`` is set or the model has a hook for it."""
        if self._clip is not None:
            self._clip(slot)
