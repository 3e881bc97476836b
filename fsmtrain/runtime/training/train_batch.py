"""The actions of a train batch: fetch, forward, backward, accumulate, step, and the end of a round."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from fsmtrain.core.states import State
from fsmtrain.core.window_scaling import gradient_scale, loss_divisor, windows_are_foreseen, windows_are_single
from fsmtrain.errors import ModelError
from fsmtrain.runtime.data.loaders import SizedBatches, StreamedBatches, length_of
from fsmtrain.runtime.data.tbptt_split import split_in_time
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, group_metrics, loss_of, metrics_of, weight_of
from fsmtrain.runtime.nested import detach
from fsmtrain.runtime.oom import is_out_of_memory, oom_error
from fsmtrain.runtime.optimization.accumulation import BackwardScales, rescale_gradients
from fsmtrain.runtime.optimization.grad_toggle import GradToggle
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot, zero_grad
from fsmtrain.runtime.optimization.precision import GradScalers, with_autocast
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.step_signature import StepSignature

# What training_step may be given, in the order of its call.
_ORDER = ("batch", "batch_nb", "optimizer_i", "hiddens")


class TrainBatch:
    """The actions that train. Everything that can be looked up once is looked up here, when the machine is built.

    Raises:
        ModelError: ``training_step`` or ``optimizer_step`` cannot be called as documented.
    """

    def __init__(self, parts: RunComponents, memory: RunState, turns: Sequence[OptimizerSlot]) -> None:
        options, limits = parts.loop.options, parts.loop.limits
        self._parts, self._memory = parts, memory
        self._limits, self._guards = limits, parts.loop.guards
        self._counters, self._signals = memory.counters, memory.signals
        self._turns = turns
        self._windows_are_single = windows_are_single(limits, self._guards)
        self._windows_are_foreseen = windows_are_foreseen(limits, self._guards)
        self._isolation = GradToggle(self._turns) if len(self._turns) > 1 else None
        self._seeds = BackwardScales()
        self._clip = float(options.gradient_clip_val or 0)
        self._split_size = options.truncated_bptt_steps
        self._hiddens: Any = None  # what the split in hand began with
        self._batches: SizedBatches | StreamedBatches | None = None
        given = ["batch", "batch_nb"]
        given += ["optimizer_i"] if limits.optimizers > 1 else []
        given += ["hiddens"] if limits.splits_batches else []
        binding = StepSignature(parts.model.training_step, "training_step", available=given, order=_ORDER)  # type: ignore[arg-type]
        if limits.splits_batches and "hiddens" not in binding.arguments:
            raise ModelError(
                f"truncated_bptt_steps={options.truncated_bptt_steps}: training_step has no parameter 'hiddens'. Add it: it is "
                f"None on a batch's first split, then what the previous split returned under 'hiddens'."
            )
        self._training_step, self._takes = with_autocast(binding.method, options.mixed_precision, parts.device), binding.count
        self.scaling = self._scaling = GradScalers(turns, parts.device) if options.mixed_precision.uses_scaler else None
        self._notes = parts.notes
        self._needs_closures = any(turn.needs_closure for turn in turns)
        self._optimizer_step = own_optimizer_step(parts.model)
        self._on_epoch_start = parts.hooks.on_epoch_start
        self._takes_batches_as_they_are = not (
            limits.train_is_stream or parts.move_batch or parts.hooks.on_batch_start or limits.splits_batches
        )
        self._tbptt_split_batch = getattr(parts.model, "tbptt_split_batch", None) or split_in_time

    # ---- fetch

    def fetch(self) -> None:
        """Fetch a batch, move it to the device, and split it under truncated BPTT."""
        batch: Any = None
        try:
            if self._batches is None and self._on_epoch_start is not None:
                self._on_epoch_start(self._parts.machine)
            asked = perf_counter_ns()
            batch = (self._batches or self._begin_epoch()).next()
            loading = self._memory.data_wait
            loading.nanoseconds += perf_counter_ns() - asked
            loading.batches += 1
            self._memory.splits = [batch] if self._takes_batches_as_they_are else self._prepared(batch)
        except (RuntimeError, MemoryError) as error:
            self._raise_if_oom(error, State.FETCH, batch)
            raise

    def _prepared(self, batch: Any) -> list[Any]:
        parts = self._parts
        if isinstance(self._batches, StreamedBatches):
            self._signals.stream_ended = self._batches.has_ended
        if parts.move_batch is not None:
            batch = parts.move_batch(batch)
        if parts.hooks.on_batch_start is not None:
            parts.hooks.on_batch_start(parts.machine, batch)
        if self._split_size is None:
            return [batch]
        splits = self._split(batch, self._split_size)
        self._signals.splits = len(splits)
        return splits

    def _begin_epoch(self) -> SizedBatches | StreamedBatches:
        cursor, name = self._memory.loaders.train, "train_dataloader"
        length = length_of(cursor.loader)
        self._batches = StreamedBatches(cursor, name) if length is None else SizedBatches(cursor, name, length)
        return self._batches

    def resume_epoch(self) -> None:
        """Take up the epoch that is under way where the train loader stands, if one is."""
        if self._memory.loaders.train.is_under_way:
            self._begin_epoch()

    def _split(self, batch: Any, split_size: int) -> list[Any]:
        splits = self._tbptt_split_batch(batch, split_size)
        if not isinstance(splits, (list, tuple)) or not splits:
            raise ModelError(f"tbptt_split_batch returned {splits!r}. It must return a list of splits, at least one.")
        return list(splits)

    def end_epoch(self) -> None:
        """Let go of the epoch's batches, of which the loader may have more where the epoch was cut short."""
        if self._batches is not None and not self._counters.epoch_ended_early:
            self._batches.finish()
        self._memory.loaders.train.end()
        self._batches = None

    # ---- forward and backward

    def run_forward(self) -> None:
        """Call ``training_step`` for this batch, or this split of it, and this optimizer."""
        try:
            counters, memory = self._counters, self._memory
            index = counters.optimizer_i
            if self._isolation is not None:
                self._isolation.activate(index)
            if self._split_size is not None:
                self._hiddens = None if counters.split_nb == 0 else memory.hiddens[index]
            loss, metrics = self._evaluate(index)
            if self._notes is not None:
                self._notes.forward(index, loss, metrics)
        except (RuntimeError, MemoryError) as error:
            self._raise_if_oom(error, State.TRAIN_BATCH, self._split_in_hand())
            raise

    def _evaluate(self, index: int) -> tuple[Tensor, Metrics | None]:
        """One forward of the split in hand, from the hiddens with which it began; returns its loss and its metrics."""
        counters, memory = self._counters, self._memory
        memory.collects_logs = True
        arguments = memory.splits[counters.split_nb], counters.batch_nb, index, self._hiddens
        output = self._training_step(*arguments[: self._takes])
        memory.collects_logs = False
        metrics: Metrics | None = None
        if isinstance(output, Tensor):
            plain = output.requires_grad and output.dim() == 0
            loss = output if plain else loss_of(output)
            memory.weight = memory.hiddens[index] = None
        else:
            loss = loss_of(output)
            memory.weight = weight_of(output)
            if self._split_size is not None:
                memory.hiddens[index] = detach(output.get("hiddens"))
            metrics = metrics_of(output, of_training=True)
            memory.progress_bar_metrics.update(group_metrics(output, "progress_bar"))
        memory.loss = loss
        if memory.logged:
            logged, to_show = memory.take_logged()
            metrics = {**metrics, **logged} if metrics else logged
            if to_show:
                memory.progress_bar_metrics.update((name, logged[name]) for name in to_show)
        if metrics:
            memory.metrics.update(metrics)
        return loss, metrics

    def run_backward(self) -> None:
        """Send the loss's gradient back, scaled for its window, and let go of the graph."""
        try:
            memory = self._memory
            loss = memory.loss
            assert loss is not None
            scale = None if self._windows_are_single else self._scale()
            root = loss if self._scaling is None else self._scaling.scale(self._counters.optimizer_i, loss)
            if scale is None:
                root.backward()  # type: ignore[no-untyped-call]
            else:
                root.backward(self._seeds.tensor(root, scale))  # type: ignore[no-untyped-call]
            memory.loss = None
            if memory.loss_is_requested and self._counters.optimizer_i == 0:
                memory.loss_is_requested, memory.recent_loss = False, loss.detach()
            if self._needs_closures and self._turns[self._counters.optimizer_i].needs_closure:
                memory.closure_result = loss.detach()
        except (RuntimeError, MemoryError) as error:
            self._raise_if_oom(error, State.BACKWARD, self._split_in_hand())
            raise

    def _scale(self) -> Scalar | None:
        """What the loss in hand is multiplied by; None for 1."""
        weight, counters = self._memory.weight, self._counters
        scale = self._memory.windows[counters.optimizer_i].add(weight)
        if weight is not None:
            return scale
        divisor = loss_divisor(self._limits, self._guards, counters)
        return None if divisor == 1 else 1 / divisor

    # ---- step, or not yet

    def accumulate(self) -> None:
        """Leave the gradients where they are: the optimizer's turn is over."""
        if self._isolation is not None:
            self._isolation.deactivate()

    def run_step(self) -> None:
        """Make the gradients the window's mean, clip them, call ``optimizer_step``, then the schedulers that follow steps."""
        try:
            turn = self._turns[self._counters.optimizer_i]
            if self._scaling is None:
                self._step(turn)
                stepped = True
            else:
                stepped = self._scaling.step(turn.index, lambda: self._step(turn))
                self._signals.step_skipped = not stepped
            if not self._windows_are_single:
                self._memory.windows[turn.index].close()
            if self._notes is not None:
                self._notes.window(turn.index, self._counters.gathered)
            if turn.step_schedulers and stepped:
                steps = self._counters.optimizer_steps[turn.index] + 1
                for scheduling in turn.step_schedulers:
                    if scheduling.schedule.is_due(steps):
                        scheduling.scheduler.step()
            if self._isolation is not None:
                self._isolation.deactivate()
        except (RuntimeError, MemoryError) as error:
            self._raise_if_oom(error, State.STEP, self._split_in_hand())
            raise

    def window_is_empty(self, *, batch_is_left_out: bool) -> bool:
        """Whether every batch was left out of the window that is to be stepped."""
        if self._windows_are_single:
            return batch_is_left_out
        return self._memory.windows[self._counters.optimizer_i].backwards == 0

    def drop_window(self, *, zero_gradients: bool) -> None:
        """Take the place of a step: close the window, and leave the weights, the optimizer and its schedulers alone.

        `zeroes` says whether the gradients are zeroed.
        """
        turn = self._turns[self._counters.optimizer_i]
        if zero_gradients:
            zero_grad(turn.optimizer)
        self._memory.windows[turn.index].close()
        self._signals.step_skipped = True
        if self._notes is not None:
            self._notes.window(turn.index, self._counters.gathered)
        if self._isolation is not None:
            self._isolation.deactivate()

    def _step(self, turn: OptimizerSlot) -> None:
        counters = self._counters
        if not self._windows_are_single:
            self._make_mean(turn)
        if self._clip > 0:
            clip_grad_norm_(turn.parameters, self._clip)
        closure = self._closure(turn) if turn.needs_closure else None
        if self._optimizer_step is None:
            step_and_zero(turn.optimizer, closure)
        else:
            self._optimizer_step(counters.current_epoch, counters.batch_nb, turn.optimizer, turn.index, closure)

    def _make_mean(self, turn: OptimizerSlot) -> None:
        """Rescale the gradients of a window whose length, or weight, was not known when it opened."""
        window = self._memory.windows[turn.index]
        if window.first_weight is not None:
            scale = window.mean_scale
        else:
            left_out = self._counters.gathered - window.backwards
            if self._windows_are_foreseen and not left_out:
                return
            scale = gradient_scale(self._limits, self._guards, self._counters, left_out)
        if isinstance(scale, Tensor) or scale != 1:
            rescale_gradients(turn.parameters, scale)

    def _closure(self, turn: OptimizerSlot) -> Any:
        """What an optimizer calls that evaluates the loss several times; the first call has nothing left to compute."""
        first = True

        def closure() -> Tensor:
            nonlocal first
            if first:
                first = False
                loss: Tensor = self._memory.closure_result
                return loss
            zero_grad(turn.optimizer)
            self._evaluate(turn.index)
            loss = self._memory.loss  # type: ignore[assignment]
            loss.backward()  # type: ignore[no-untyped-call]
            if self._clip > 0:
                clip_grad_norm_(turn.parameters, self._clip)
            self._memory.loss = None
            return loss.detach()

        return closure

    def _split_in_hand(self) -> Any:
        splits, number = self._memory.splits, self._counters.split_nb
        return splits[number] if number < len(splits) else None

    def _raise_if_oom(self, error: Exception, state: State, batch: Any) -> None:
        """Where an error says that memory ran out, raise one that says where."""
        if is_out_of_memory(error):
            raise oom_error(error, state, batch, self._parts, self._memory) from error

    def end_round(self) -> None:
        """After a batch's last round, call the hook. It is the action only where there is such a hook."""
        counters, limits = self._counters, self._limits
        is_last = counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 == self._signals.splits
        hook = self._parts.hooks.on_batch_end
        if hook is not None and is_last and not counters.saved:
            hook(self._parts.machine)

    def release(self) -> None:
        """Put every parameter's ``requires_grad`` back, and let go of batches and graphs."""
        if self._isolation is not None:
            self._isolation.deactivate()
        self._memory.loaders.train.end()
        self._batches, self._memory.loss, self._memory.splits = None, None, []
        self._memory.collects_logs = False


def step_and_zero(optimizer: Any, closure: Any = None) -> None:
    """What ``optimizer_step`` does where the model does not override it."""
    if closure is None:
        optimizer.step()
    else:
        optimizer.step(closure)
    zero_grad(optimizer)


def own_optimizer_step(model: object) -> Callable[..., Any] | None:
    """The model's own ``optimizer_step``; None where it has none, or the default."""
    hook = getattr(model, "optimizer_step", None)
    return None if hook is None or str(getattr(hook, "__module__", "")).startswith("fsmtrain.") else hook


def validate_hooks(model: object) -> None:
    """See to it that an overridden ``optimizer_step`` can be called as documented.

    Raises:
        ModelError: It cannot.
    """
    hook = own_optimizer_step(model)
    if hook is None:
        return
    try:
        inspect.signature(hook).bind(0, 0, None, 0, None)
    except TypeError as error:
        raise ModelError(
            f"optimizer_step{inspect.signature(hook)}: it is called with (current_epoch, batch_nb, optimizer, optimizer_i, "
            f"second_order_closure), positionally: {error}."
        ) from None
