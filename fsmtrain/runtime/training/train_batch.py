"""The actions of a train batch: fetch, train_batch (forward), backward, accumulate, step, round_end.

Each action is in two halves: the work on tensors, which `TrainWork` in `forward_backward_step` does, or what the model has in
its place; and the bookkeeping around it here: windows, metrics, records, schedulers, and whose parameters require grad.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

from torch import Tensor, enable_grad

from fsmtrain.core.accumulation_scaling import gradient_scale, loss_divisor, windows_are_foreseen, windows_are_single
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.errors import ModelError
from fsmtrain.runtime.batch_size import batch_size_of
from fsmtrain.runtime.data.epoch_lengths import EpochLengths
from fsmtrain.runtime.data.loaders import SizedBatches, StreamedBatches
from fsmtrain.runtime.data.tbptt_split import split_in_time
from fsmtrain.runtime.metrics.logged_metrics import LoggedMetrics
from fsmtrain.runtime.metrics.metric_queue import MetricQueue, loss_names
from fsmtrain.runtime.metrics.step_outputs import (
    Metrics,
    Scalar,
    group_metrics,
    loss_of,
    manual_loss_of,
    metrics_of,
    present_values,
    weight_of,
)
from fsmtrain.runtime.nested_tensors import detach
from fsmtrain.runtime.oom import raise_if_oom
from fsmtrain.runtime.optimization.grad_toggle import GradToggle
from fsmtrain.runtime.optimization.optimizer_step import count_steps, own_optimizer_step
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot, zero_grad
from fsmtrain.runtime.optimization.window_weights import fill_with_zeros, is_zero, single_scale
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.forward_backward_step import train_work
from fsmtrain.runtime.training.manual_optimization import ManualOptimization
from fsmtrain.user_warnings import warn


class TrainBatch:
    """The actions of the states of a train batch. What can be looked up once is looked up here, when the machine is built.

    Raises:
        ModelError: ``training_step`` cannot be called as documented.
    """

    def __init__(self, components: RunComponents, run: RunState, metric_queue: MetricQueue | None) -> None:
        options, hooks = components.spec.options, components.hooks
        limits, guards = components.spec.limits, components.spec.guards
        self._components, self._run, self._metric_queue = components, run, metric_queue
        self._guards = guards
        self._counters, self._signals = run.counters, run.signals
        self._slots = components.slots
        self._work = train_work(components)
        self.scalers = self._work.scalers
        self._monitored = run.epoch_metrics.monitored
        self.manual = ManualOptimization(components, run) if limits.manual_optimization else None
        self.set_limits(limits)
        self._grad_toggle = GradToggle(self._slots) if limits.optimizers > 1 else None
        # An optimizer_step of the model's own gets one; the default passes it only to an optimizer that requires it.
        has_own_step = self.manual is None and own_optimizer_step(components.model) is not None
        self._makes_closures = has_own_step or any(slot.needs_closure for slot in self._slots)
        self._steps_plainly = not self._makes_closures and self.scalers is None
        self._has_own_step = has_own_step
        self._epoch_lengths = EpochLengths(components.spec, run.loaders.train)
        self._split_size = options.truncated_bptt_steps
        self._tbptt_split_batch = getattr(components.model, "tbptt_split_batch", None) or split_in_time
        self._hiddens: Any = None  # those with which the current split began
        self._batches: SizedBatches | StreamedBatches | None = None  # of the epoch; None between two epochs
        self._loss_names = loss_names(limits.optimizers)
        self._move_batch = components.move_batch
        self._train_hooks, self._epoch_hooks = hooks.train, hooks.epoch
        self._has_first_hooks = hooks.train is not None or hooks.epoch is not None
        self._on_batch_start, self._on_train_batch_start = hooks.on_batch_start, hooks.on_train_batch_start
        self._on_batch_end, self._on_train_batch_end = hooks.on_batch_end, hooks.on_train_batch_end
        self._on_after_step = hooks.on_after_optimizer_step
        self._has_followers = self._on_after_step is not None or any(slot.step_schedulers for slot in self._slots)
        self._loss_of: Callable[[Any], Tensor | None] = self._loss_of_turn if self._work.is_blind_to_turns else loss_of
        if self.manual is not None:
            self._loss_of = manual_loss_of
        self._forward = self._work.forward if hooks.on_train_batch_end is None else self._forward_and_keep_output
        batch_hooks = (self._on_batch_start, self._on_train_batch_start, self._on_train_batch_end)
        self._passes_batches_through = not (
            limits.train_is_stream or self._move_batch or any(batch_hooks) or limits.splits_batches
        )

    def set_limits(self, limits: Limits) -> None:
        """Train with these limits from now on: those of a run that is resumed."""
        self._limits = limits
        self._windows_are_single = windows_are_single(limits, self._guards)
        self._windows_are_foreseen = windows_are_foreseen(limits, self._guards)
        self._may_return_none = limits.may_return_none
        self._needs_only_the_loss = not (
            self._may_return_none or self._monitored or self._metric_queue is not None or self.manual is not None
        )
        self._keeps_windows = not self._windows_are_single or self._metric_queue is not None

    # ---- fetch

    def fetch(self) -> None:
        """Fetch a batch, move it to the device, and split it under truncated BPTT."""
        batch: Any = None
        try:
            if self._batches is None and self._has_first_hooks:
                self._call_first_hooks()
            begun = perf_counter_ns()
            batch = (self._batches or self._begin_epoch()).next()
            data_wait = self._run.data_wait
            data_wait.nanoseconds += perf_counter_ns() - begun
            data_wait.batches += 1
            self._run.splits = [batch] if self._passes_batches_through else self._prepare(batch)
        except (RuntimeError, MemoryError) as error:
            raise_if_oom(error, State.FETCH, batch, self._components, self._run)
            raise

    def _call_first_hooks(self) -> None:
        """Call the hooks that precede an epoch, and before the first one those that precede training."""
        if self._train_hooks is not None and not self._train_hooks.is_open:
            self._train_hooks.start()
        if self._epoch_hooks is not None:
            self._epoch_hooks.start()

    def _prepare(self, batch: Any) -> list[Any]:
        """Move a batch to the device and split it; return its splits."""
        if isinstance(self._batches, StreamedBatches):
            self._signals.stream_ended = self._batches.has_ended
        if self._move_batch is not None:
            batch = self._move_batch(batch)
        if self._on_batch_start is not None:
            self._on_batch_start(batch)
        if self._on_train_batch_start is not None:
            self._on_train_batch_start(batch, self._counters.batch_nb)
        if self._on_train_batch_end is not None:
            self._run.outputs = [None for _ in self._loss_names]
        if self._split_size is None:
            return [batch]
        if self._on_train_batch_end is not None:
            self._run.batch = batch
        splits = self._tbptt_split_batch(batch, self._split_size)
        if not isinstance(splits, (list, tuple)) or not splits:
            raise ModelError(f"tbptt_split_batch returned {splits!r}. It must return a list of splits, at least one.")
        self._signals.splits = len(splits)
        if len(splits) == 1 and self._counters.batches_begun == 0:
            warn(
                f"truncated_bptt_steps={self._split_size}: the first batch has no more time steps than that, so it is not "
                f"split. Lower the flag to split it, or leave it out."
            )
        return list(splits)

    def _begin_epoch(self) -> SizedBatches | StreamedBatches:
        loader = self._run.loaders.train
        if not loader.is_under_way:
            loader.set_epoch(self._counters.current_epoch)
            self._signals.epoch_length, self._signals.epoch_val_interval = self._epoch_lengths.now()
        limit = self._components.spec.options.limit_train_batches
        self._batches = StreamedBatches(loader, limit) if self._limits.train_is_stream else SizedBatches(loader)
        return self._batches

    def resume_epoch(self) -> None:
        """Continue the epoch in which the train loader stands, if it stands in one."""
        if self._run.loaders.train.is_under_way:
            length, interval = self._epoch_lengths.now()  # this run's limits may be others
            self._counters.epoch_batches, self._counters.epoch_val_check_batches = length, interval
            self._begin_epoch()
            if self._epoch_hooks is not None:
                self._epoch_hooks.resume()

    def end_epoch(self) -> None:
        """Release the epoch's batches. The loader may have more of them if the epoch ended early."""
        if self._batches is not None and not self._counters.epoch_ended_early:
            self._batches.finish()
        self._run.loaders.train.end()
        self._batches = None

    # ---- train_batch: the forward

    def run_forward(self) -> None:
        """Call ``training_step`` for the current batch, split and optimizer."""
        try:
            run, counters = self._run, self._counters
            optimizer_i = counters.optimizer_i
            if self._grad_toggle is not None:
                self._grad_toggle.activate(optimizer_i)
            if self._split_size is not None:
                self._hiddens = None if counters.split_nb == 0 else run.hiddens[optimizer_i]
            run.collects_logs = True
            output = self._forward(run.splits[counters.split_nb], counters.batch_nb, optimizer_i, self._hiddens)
            run.collects_logs = False
            if (
                not self._needs_only_the_loss
                or not (type(output) is Tensor and output.requires_grad and output.dim() == 0)
                or run.logged.values
                or run.logged.objects
            ):
                self._record_forward(optimizer_i, output)
            else:
                run.loss = output
                run.weight = run.hiddens[optimizer_i] = None
        except (RuntimeError, MemoryError) as error:
            raise_if_oom(error, State.TRAIN_BATCH, self._run.split, self._components, self._run)
            raise

    def _record_forward(self, optimizer_i: int, output: Any) -> None:
        """Take over, record and monitor what ``training_step`` returned and logged."""
        loss, metrics, logged = self._take_output(optimizer_i, output)
        if self._monitored or logged is not None:
            self._add_to_epoch(optimizer_i, loss, metrics or {}, logged)
        if self._may_return_none:
            self._signals.loss_is_none = loss is None
            if loss is None and self._grad_toggle is not None:
                self._grad_toggle.deactivate()
        if self._metric_queue is not None and (loss is not None or metrics):
            self._metric_queue.forward(optimizer_i, loss, metrics if logged is None else logged.recorded(metrics))
        if self.manual is not None:
            if self._metric_queue is not None and (loss is not None or metrics):
                self._metric_queue.rates_of_others()
            self._end_manual_forward()

    def _end_manual_forward(self) -> None:
        """Release the loss of a ``training_step`` that has run its backwards and steps by itself; signal how many steps."""
        run, manual = self._run, self.manual
        assert manual is not None
        if run.loss_is_requested and run.loss is not None:
            run.loss_is_requested, run.recent_loss = run.keeps_losses, run.loss.detach()
        run.loss = None
        self._signals.own_steps = manual.end_batch()

    def _forward_and_keep_output(self, split: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:
        """Call ``training_step``, and keep what it returned for ``on_train_batch_end``."""
        output = self._work.forward(split, batch_nb, optimizer_i, hiddens)
        self._run.outputs[optimizer_i] = detach(output)
        return output

    def _take_output(self, optimizer_i: int, output: Any) -> tuple[Tensor | None, Metrics | None, LoggedMetrics | None]:
        """Take loss, weight, hiddens and metrics from what ``training_step`` returned and logged; the loss of None is None."""
        run = self._run
        metrics: Metrics | None = None
        loss: Tensor | None
        if isinstance(output, Tensor):
            is_plain = output.requires_grad and output.dim() == 0
            loss = output if is_plain else self._loss_of(output)
            run.weight = run.hiddens[optimizer_i] = None
        elif output is None:
            if not self._may_return_none and self.manual is None:
                raise ModelError(
                    "training_step returned None, which its source ruled out when the run was built. If it returns what a part "
                    "of the model returns, replace that part before the run is built."
                )
            loss = run.weight = run.closure_result = None
            run.hiddens[optimizer_i] = self._hiddens
        else:
            loss = self._loss_of(output)
            run.weight = weight_of(output)
            if self._split_size is not None:
                run.hiddens[optimizer_i] = detach(output.get("hiddens"))
            metrics = present_values(metrics_of(output, of_training=True))
            run.progress_bar_metrics.update((name, metrics[name]) for name in group_metrics(output, "progress_bar"))
        run.loss = loss
        logged: LoggedMetrics | None = None
        if run.logged.values or run.logged.objects:
            logged = run.pop_logged()
            of_batch = logged.of_batch()
            metrics = {**metrics, **of_batch} if metrics else of_batch
            run.progress_bar_metrics.update((name, of_batch[name]) for name in logged.bar_names & of_batch.keys())
        if metrics:
            run.metrics.update(metrics)
        return loss, metrics, logged

    def _loss_of_turn(self, output: Any) -> Tensor:
        """Return the loss of a ``training_step`` that returns the same for each optimizer."""
        optimizer_i = self._counters.optimizer_i
        return loss_of(
            output,
            f"training_step returned a loss from which no gradient flows to the parameters of optimizer {optimizer_i}, whose "
            f"turn it was: there are {len(self._slots)} optimizers, each has a forward of its own in which only its parameters "
            f"require a gradient, and training_step does not take optimizer_i. Write training_step(self, batch, batch_nb, "
            f"optimizer_i) and return the loss of that optimizer; or step them yourself, with automatic_optimization = False.",
        )

    def _add_to_epoch(self, optimizer_i: int, loss: Tensor | None, metrics: Metrics, logged: LoggedMetrics | None) -> None:
        """Add to the metrics of the epoch what is logged for it, and what is monitored."""
        run = self._run
        monitored = metrics
        if loss is not None and self._loss_names[optimizer_i] in self._monitored:
            monitored = {self._loss_names[optimizer_i]: loss.detach(), **metrics}
        own = logged is not None and run.epoch_metrics.wants(logged)
        if not own and self._monitored.isdisjoint(monitored):
            return
        weight = run.weight if run.weight is not None else batch_size_of(run.split)
        if weight is None:
            weight = 1.0
            run.warn_once(
                "training_step: a batch counts in the metrics of the epoch as one, whatever its size, because its number of "
                "samples is unknown: it has no tensors, or they differ in their first dimension. If batches differ in their "
                "number of samples, log with batch_size=n."
            )
        if logged is not None and own:
            run.epoch_metrics.add_logged(logged, weight)
        run.epoch_metrics.add_monitored(monitored, weight)

    # ---- backward

    def run_backward(self) -> None:
        """Backpropagate the loss, scaled for its window, and free the graph."""
        try:
            run, optimizer_i = self._run, self._counters.optimizer_i
            loss = run.loss
            assert loss is not None
            is_plain = self._windows_are_single and run.weight is None
            self._work.backward(loss, optimizer_i, None if is_plain else self._loss_scale())
            run.loss = None
            if run.loss_is_requested and optimizer_i == 0:
                run.loss_is_requested, run.recent_loss = run.keeps_losses, loss.detach()
            if self._makes_closures:
                run.closure_result = loss.detach()
        except (RuntimeError, MemoryError) as error:
            raise_if_oom(error, State.BACKWARD, self._run.split, self._components, self._run)
            raise

    def _loss_scale(self) -> Scalar | None:
        """Add this backward to its window; return the factor for its loss, None for 1."""
        weight, counters = self._run.weight, self._counters
        if self._windows_are_single:
            return single_scale(weight)
        scale = self._run.windows[counters.optimizer_i].add(weight)
        if weight is not None:
            return scale
        divisor = loss_divisor(self._limits, self._guards, counters)
        return None if divisor == 1 else 1 / divisor

    # ---- accumulate and step

    def accumulate(self) -> None:
        """Keep the gradients: the optimizer's turn is over."""
        if self._grad_toggle is not None:
            self._grad_toggle.deactivate()

    def run_step(self) -> None:
        """Step the optimizer with the window's mean gradient, then the schedulers that follow its steps."""
        try:
            counters = self._counters
            slot = self._slots[counters.optimizer_i]
            scale = None if self._windows_are_single else self._mean_scale(slot.index)
            if (self._run.weight is not None or not self._windows_are_single) and self._window_weighs_nothing(slot.index):
                fill_with_zeros(slot.parameters)
            if self._steps_plainly:
                self._work.step(slot, scale, counters.current_epoch, counters.batch_nb, None)
                has_stepped = True
            else:
                has_stepped = self._step_with_closure_or_scaler(slot, scale)
            if self._keeps_windows:
                self._close_window(slot.index)
            if self._has_followers and has_stepped:
                self._call_followers(slot)
            if self._grad_toggle is not None:
                self._grad_toggle.deactivate()
        except (RuntimeError, MemoryError) as error:
            raise_if_oom(error, State.STEP, self._run.split, self._components, self._run)
            raise

    def _step_with_closure_or_scaler(self, slot: OptimizerSlot, scale: Scalar | None) -> bool:
        """Step by the model's own ``optimizer_step``, with a closure, or with a scaler; return whether the step was made."""
        counters = self._counters
        make_closure = partial(self._closure, slot) if self._has_own_step or slot.needs_closure else None
        arguments = (slot, scale, counters.current_epoch, counters.batch_nb, make_closure)
        work = self._work.step if not self._has_own_step else partial(count_steps, slot, self._signals, self._work.step)
        if self.scalers is None:
            work(*arguments)
            return True
        has_stepped = self.scalers.step(slot.index, partial(work, *arguments))
        self._signals.step_skipped = not has_stepped
        return has_stepped

    def _call_followers(self, slot: OptimizerSlot) -> None:
        """Call what follows a step: the hook, and the schedulers that are due by the steps of their optimizer."""
        if self._on_after_step is not None and self._signals.own_steps > 0:
            self._on_after_step(slot.optimizer)
        for steps_done in range(1, self._signals.own_steps + 1):
            for config in slot.step_schedulers:
                if config.schedule.is_due(self._counters.optimizer_steps[slot.index] + steps_done):
                    config.scheduler.step()

    def window_is_empty(self, *, batch_is_excluded: bool) -> bool:
        """Return whether every batch was excluded from the window that is to be stepped."""
        if self._windows_are_single:
            return batch_is_excluded
        return self._run.windows[self._counters.optimizer_i].backwards == 0

    def drop_window(self, *, zero_gradients: bool) -> None:
        """Close the window instead of stepping; weights, optimizer and schedulers stay unchanged."""
        slot = self._slots[self._counters.optimizer_i]
        if zero_gradients:
            zero_grad(slot.optimizer)
        self._close_window(slot.index)
        self._signals.step_skipped = True
        self.accumulate()

    def _close_window(self, optimizer_i: int) -> None:
        if not self._windows_are_single:
            self._run.windows[optimizer_i].close()
        if self._metric_queue is not None:
            self._metric_queue.window(optimizer_i, self._counters.gathered)

    def _mean_scale(self, optimizer_i: int) -> Scalar | None:
        """The factor that makes the gradients the window's mean, if its length or weight was not known when it opened.

        None is 1.
        """
        window = self._run.windows[optimizer_i]
        if window.total_weight is not None:
            return window.mean_scale
        excluded = self._counters.gathered - window.backwards
        if self._windows_are_foreseen and not excluded:
            return None
        scale = gradient_scale(self._limits, self._guards, self._counters, excluded)
        return scale if scale != 1 else None

    def _window_weighs_nothing(self, optimizer_i: int) -> bool:
        """Whether no backward of the window has run, because its weights are numbers and 0."""
        if self._windows_are_single:
            return is_zero(self._run.weight)
        return self._run.windows[optimizer_i].is_all_zero

    def _closure(self, slot: OptimizerSlot) -> Callable[[], Any]:
        """Return the closure that evaluates the loss of this batch again, with its gradients.

        The first call returns the loss there is, as long as neither weights nor gradients have changed since its backward. SAM
        changes them before it calls.
        """
        unchanged = _versions(slot)
        is_first_call = True

        def closure() -> Any:
            nonlocal is_first_call
            if is_first_call and _versions(slot) == unchanged:
                is_first_call = False
                return self._run.closure_result
            is_first_call = False
            return self._evaluate_again(slot)

        return closure

    def _evaluate_again(self, slot: OptimizerSlot) -> Tensor:
        """Zero the gradients, and run ``training_step`` and backward for this batch; return the loss."""
        what = "optimizer_step called second_order_closure after a change of weights or gradients"
        if self._counters.gathered > 1:
            raise ModelError(
                f"{what}, in a window of {self._counters.gathered} backwards. It evaluates the last batch only, so the "
                f"gradients of the others would be lost. Use accumulate_grad_batches=1 without step guards."
            )
        if self.scalers is not None:
            raise ModelError(f"{what}, with precision=16: its gradients would not be scaled. Use precision='bf16'.")
        zero_grad(slot.optimizer)
        self._run.collects_logs = True
        with enable_grad():
            output = self._work.forward(self._run.split, self._counters.batch_nb, slot.index, self._hiddens)
            self._run.collects_logs = False
            loss, *_ = self._take_output(slot.index, output)
            if loss is None:
                raise ModelError(
                    "training_step returned None when second_order_closure called it again for a batch. Return the loss, or "
                    "None at the first call, too."
                )
            self._work.backward(loss, slot.index, single_scale(self._run.weight))
        if is_zero(self._run.weight):
            fill_with_zeros(slot.parameters)
        self._work.clip(slot)
        self._run.loss = None
        return loss.detach()

    # ---- round_end

    @property
    def has_end_hooks(self) -> bool:
        """Whether `end_round` has anything to do."""
        return self._on_batch_end is not None or self._on_train_batch_end is not None

    def end_round(self) -> None:
        """Call the hooks that end a batch after its last round. Only an action if there are such hooks."""
        counters, limits = self._counters, self._limits
        is_last = counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 == counters.batch_splits
        if not is_last or counters.saved:
            return
        if self._on_batch_end is not None:
            self._on_batch_end()
        if self._on_train_batch_end is not None:
            run = self._run
            outputs = run.outputs if len(run.outputs) > 1 else run.outputs[0]
            batch = run.splits[0] if self._split_size is None else run.batch
            self._on_train_batch_end(outputs, batch, counters.batch_nb)
            run.batch, run.outputs = None, [None for _ in self._loss_names]

    # ---- release

    def release(self) -> None:
        """Restore every parameter's ``requires_grad``, and release batches and graphs. Idempotent."""
        self.accumulate()
        if self.manual is not None:
            self.manual.release()
        self._run.loaders.train.end()
        self._batches, self._run.loss, self._run.splits, self._run.batch = None, None, [], None
        self._run.collects_logs = False
        self._run.epoch_metrics.reset()


def _versions(slot: OptimizerSlot) -> list[tuple[int, int, int]]:
    """Return what changes whenever a weight of the optimizer, or its gradient, is written or replaced.

    A write through ``.data`` is not seen.
    """
    versions = []
    for parameter in slot.parameters:
        gradient = parameter.grad
        versions.append((parameter._version, id(gradient), 0 if gradient is None else gradient._version))
    return versions
