"""The work of a Lightning program's train batch on tensors: its forward, backward and step, with the hooks around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.step_outputs import Scalar
from fsmtrain.runtime.optimization.gradient_clipping import clip_gradients
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot, requires_closure, zero_grad
from fsmtrain.runtime.optimization.precision import GradScalers
from fsmtrain.runtime.optimization.window_weights import rescale_gradients
from fsmtrain.runtime.run_state import RunComponents
from fsmtrain.user_warnings import warn


class Program(Protocol):
    """What `LightningWork` needs of the program.

    Attributes:
        module: The Lightning module.
        lightning_trainer: What it sees as its trainer.
        automatic_optimization: Whether the run makes backwards and steps.
        keeps_lightning_remainder: Whether the loss of a short last window is divided by K, too.
        call: Lightning's functions that call hooks.
        now: The current batch.
    """

    module: Any
    lightning_trainer: Any
    automatic_optimization: bool
    keeps_lightning_remainder: bool
    call: Any
    now: Any

    @property
    def device(self) -> torch.device:
        """The device of the run."""
        ...

    @property
    def has_plain_precision(self) -> bool:
        """Whether the precision changes neither batches nor steps."""
        ...

    def lightning_part(self, module: str) -> Any:
        """Return a module of the Lightning package."""
        ...

    def has_hook(self, hook: str) -> tuple[bool, bool]:
        """Return whether a callback has a hook, and whether the module has it."""
        ...

    def begin_batch(self, batch: Any, batch_nb: int) -> Any:
        """Move a train batch to its device, and call the hooks before ``training_step``; return it."""
        ...


class LightningWork:
    """Forward, backward and step as a Lightning module has them: each with the hooks of callbacks and module around it.

    An ``optimizer_step`` of the module's own surrounds all three in Lightning, and decides itself when its closure makes the
    forward and the backward. It is called in the visit of the forward, then; those of the backward and of the step find their
    work done.

    Args:
        program: The program.
        components: What the run is made of.

    Raises:
        ModelError: The module has an ``optimizer_step``, and the train loader no length, so that the factor for the loss of a
            short last window is unknown.
    """

    scalers: GradScalers | None = None
    is_blind_to_turns = False  # several optimizers step by hand

    def __init__(self, program: Program, components: RunComponents) -> None:
        self._program, self._trainer = program, program.lightning_trainer
        self._epoch_loop = program.lightning_trainer.fit_loop.epoch_loop
        self._automatic = self._epoch_loop.automatic_optimization
        self._is_manual = not program.automatic_optimization
        self._call_strategy = program.call._call_strategy_hook
        self._k: int = program.lightning_trainer.accumulate_grad_batches  # of this epoch
        self._mean = not program.keeps_lightning_remainder
        is_overridden = program.lightning_part("utilities.model_helpers").is_overridden
        self._step_surrounds = not self._is_manual and is_overridden("optimizer_step", program.module)
        has_windows = components.spec.options.accumulate_grad_batches != 1
        if self._step_surrounds and self._mean and has_windows and components.spec.limits.train_is_stream:
            raise ModelError(
                f"{type(program.module).__name__}.optimizer_step: with a train loader without a length, and "
                f"accumulate_grad_batches, the last window of an epoch is not known to be short before its step. "
                f"Pass Trainer(remainder='lightning'), which divides its loss by K as Lightning does."
            )
        self._result: Any = None  # of the current batch: its loss, divided by K, and what else training_step returned
        self._arguments: Any = None
        self._batch_nb = 0
        self._closure_was_called = False

    def forward(self, split: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:
        """Call ``training_step``; return its loss, or None with manual optimization."""
        program = self._program
        batch = program.begin_batch(split, batch_nb)
        self._batch_nb, self._k = batch_nb, self._trainer.accumulate_grad_batches
        self._arguments = self._epoch_loop._build_kwargs({}, batch, batch_nb)
        if self._is_manual:
            program.now.output = self._epoch_loop.manual_optimization.run(self._arguments)
            return None
        if self._step_surrounds and not self._trainer.fit_loop._should_accumulate():
            closure = self._whole_closure()
            self._automatic._optimizer_step(batch_nb, closure)
            self._note_result(closure.consume_result())
        elif self._step_surrounds:
            closure = self._whole_closure()
            closure()
            self._note_result(closure.consume_result())
        else:
            self._note_result(self._automatic._training_step(self._arguments))
        loss = self._result.closure_loss
        # Without a loss the batch and the step count all the same, and nothing is backpropagated.
        return torch.zeros((), device=program.device, requires_grad=True) if loss is None else loss

    def _note_result(self, result: Any) -> None:
        self._result = result
        self._program.now.output = {} if result.loss is None else result.asdict()

    def _whole_closure(self) -> Any:
        """Return Lightning's closure of forward and backward, which scales the loss of a short last window."""
        closure = self._automatic._make_closure(self._arguments, self._trainer.optimizers[0], self._batch_nb)
        batches = self._trainer.num_training_batches
        rest = batches % self._k if self._mean and self._k > 1 else 0
        if rest and self._batch_nb >= batches - rest:
            backward = closure._backward_fn
            closure._backward_fn = lambda loss: backward(loss * (self._k / rest))
        return closure

    def backward(self, loss: Tensor, optimizer_i: int, scale: Scalar | None) -> None:
        """Zero the gradients of the window before, and backpropagate the loss."""
        if self._step_surrounds:
            return
        optimizer = self._trainer.optimizers[0]
        if self._batch_nb % self._k == 0:
            self._automatic._on_before_zero_grad(optimizer)
            self._automatic._optimizer_zero_grad(self._batch_nb, optimizer)
        if (root := self._result.closure_loss) is None:
            return
        factor = self._k * (1 if scale is None else scale)  # the loss is divided by K already
        if self._mean and factor != 1:
            root = root * factor
        self._call_strategy(self._trainer, "backward", root, optimizer)

    def step(
        self, slot: OptimizerSlot, mean_scale: Scalar | None, current_epoch: int, batch_nb: int, make_closure: Any
    ) -> None:
        """Call the module's ``optimizer_step``, within which gradients are clipped and the optimizer steps."""
        if not self._step_surrounds:
            if mean_scale is not None and self._mean:
                rescale_gradients(slot.parameters, mean_scale)
            self._closure_was_called = False
            self._automatic._optimizer_step(batch_nb, self._closure)
        self._result = None

    def _closure(self, *_: Any, **__: Any) -> Tensor | None:
        """Return the loss there is, at the first call; evaluate it anew at a later one."""
        if self._closure_was_called:
            again = self._automatic._make_closure(self._arguments, self._trainer.optimizers[0], self._batch_nb)
            again()
            self._note_result(again.consume_result())
        self._closure_was_called = True
        loss: Tensor | None = self._result.loss
        return loss

    def clip(self, slot: OptimizerSlot) -> None:
        """Clip gradients by the trainer's flags."""
        if self._trainer.gradient_clip_val:
            clip_gradients(slot.parameters, self._trainer.gradient_clip_val, self._trainer.gradient_clip_algorithm or "norm")


_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_OVERRIDES = ("optimizer_zero_grad", "backward", "configure_gradient_clipping", "optimizer_step")


def is_plain(program: Program, components: RunComponents) -> bool:
    """Return whether only ``training_step`` acts on a train batch: no hook around its step, no window, no clipping."""
    trainer = program.lightning_trainer
    return (
        program.automatic_optimization
        and components.spec.options.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and program.has_plain_precision
        and not any(any(program.has_hook(hook)) for hook in _HOOKS)
        and not any(program.has_hook(hook)[1] for hook in _OVERRIDES)
        and len(trainer.optimizers) == 1
        and not requires_closure(trainer.optimizers[0])
    )


class PlainWork:
    """Forward, backward and step of a module without hooks around them, where nothing is called that does nothing.

    Args:
        program: The program; `is_plain` holds for it.
    """

    scalers: GradScalers | None = None
    is_blind_to_turns = False

    def __init__(self, program: Program) -> None:
        self._program, self._module = program, program.module
        self._optimizer = program.lightning_trainer.optimizers[0]
        loop = program.lightning_trainer.fit_loop.epoch_loop
        self._counts = loop.automatic_optimization.optim_progress.optimizer
        self._result_of = loop.automatic_optimization.output_result_cls.from_training_step_output
        self._argument_count = len(loop._build_kwargs({}, None, 0))
        self._has_end_hook = any(program.has_hook("on_train_batch_end"))
        self._has_loss = True

    def forward(self, split: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:
        """Call ``training_step``; return its loss."""
        batch = self._program.begin_batch(split, batch_nb)
        attributes = self._module.__dict__  # an assignment to an attribute of a module takes microseconds
        attributes["_current_fx_name"] = "training_step"
        output = self._module.training_step(*(batch, batch_nb)[: self._argument_count])
        attributes["_current_fx_name"] = None
        loss: Any = output
        if self._has_end_hook or not isinstance(output, Tensor):
            result = self._result_of(output, 1)
            loss = result.closure_loss
            self._program.now.output = {} if result.loss is None else result.asdict()
        self._has_loss = loss is not None
        return loss if self._has_loss else torch.zeros((), device=self._program.device, requires_grad=True)

    def backward(self, loss: Tensor, optimizer_i: int, scale: Scalar | None) -> None:
        """Zero the gradients of the step before, and backpropagate the loss."""
        counts = self._counts.zero_grad
        counts.increment_ready()
        counts.increment_started()
        zero_grad(self._optimizer)
        counts.increment_completed()
        if self._has_loss:
            loss.backward()  # type: ignore[no-untyped-call]

    def step(
        self, slot: OptimizerSlot, mean_scale: Scalar | None, current_epoch: int, batch_nb: int, make_closure: Any
    ) -> None:
        """Step the optimizer."""
        self._counts.step.increment_ready()
        self._optimizer.step()
        self._counts.step.increment_completed()

    def clip(self, slot: OptimizerSlot) -> None:
        """Clip nothing."""


def warn_of_remainder(batches: int | None, accumulate_grad_batches: int | Mapping[int, int]) -> None:
    """Report the declared difference in a run that has a short last window."""
    ks = accumulate_grad_batches.values() if isinstance(accumulate_grad_batches, Mapping) else [accumulate_grad_batches]
    short = [k for k in ks if k > 1 and (batches is None or batches % k)]
    if short:
        k = short[0]
        warn(
            f"accumulate_grad_batches={k}: the last window of an epoch is shorter. Its loss is divided by its own length here, "
            f"and by {k} in Lightning. Trainer(remainder='lightning') does as Lightning does."
        )
