"""The three passes over val and test loaders, and what each does with its metrics: sanity pass, validation, test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from fsmtrain.core.states import State
from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.evaluation.eval_pass import EvalPass
from fsmtrain.runtime.feed_early_stopping import feed_early_stopping
from fsmtrain.runtime.metrics.epoch_metrics import EPOCH
from fsmtrain.runtime.metrics.metric_queue import MetricQueue, loss_names
from fsmtrain.runtime.metrics.monitor import Monitor
from fsmtrain.runtime.metrics.step_outputs import Metrics
from fsmtrain.runtime.optimization.optimizers import SchedulerConfig
from fsmtrain.runtime.optimization.step_scheduler import monitors_a_metric, step_scheduler
from fsmtrain.runtime.rng import RngState, get_rng_state, set_rng_state
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.user_warnings import warn


class SanityPass:
    """Try validation out before the first epoch: metrics are thrown away, and no random state changes.

    If a metric is monitored that this pass did not return, and that ``training_step`` does not name, it warns. The first
    validation raises an error if it is missing there too.
    """

    def __init__(self, components: RunComponents, run: RunState) -> None:
        limits = components.spec.limits.sanity_loaders
        self.eval_pass = EvalPass(State.SANITY_VAL, "val", components, run, run.loaders.val, limits)
        self._loaders, self._monitors = components.val_loaders, components.monitors
        self._model, self._optimizers = components.model, components.spec.limits.optimizers
        self._rng_before: tuple[RngState, list[Any]] | None = None  # of the process, and of each loader

    def visit(self) -> None:
        """Evaluate one batch of the sanity pass."""
        if self._rng_before is None:
            self._rng_before = get_rng_state(), [get_loader_rng_state(loader) for loader in self._loaders]
        metrics = self.eval_pass.visit()
        if metrics is None:
            return
        self.release()
        for monitor in self._monitors:
            if monitor.metric not in metrics and not self._is_of_training(monitor):
                warn(monitor.explain_missing(metrics, "the sanity pass") + " The first validation raises an error without it.")

    def _is_of_training(self, monitor: Monitor) -> bool:
        """Return whether the metric is the loss, or a name that stands in the code of ``training_step``."""
        code = getattr(getattr(self._model, "training_step", None), "__code__", None)
        names = {monitor.metric, monitor.metric.removesuffix(EPOCH)}
        return not monitor.needs_validation and not names.isdisjoint({*loss_names(self._optimizers), *_texts_in(code)})

    def release(self) -> None:
        """Restore the modes and the random states."""
        self.eval_pass.release()
        if self._rng_before is not None:
            rng, loaders = self._rng_before
            set_rng_state(rng)
            for loader, state in zip(self._loaders, loaders, strict=True):
                set_loader_rng_state(loader, state, type(loader).__name__, with_epochs=False)  # each pass sets its own
            self._rng_before = None

    def state_dict(self) -> dict[str, Any]:
        """The random states from before the pass; the pass itself is `eval_pass`'s."""
        before = self._rng_before
        return {"rng_before": before and {"rng": before[0].state_dict(), "loaders": before[1]}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the random states from before a pass that is under way."""
        before = state["rng_before"]
        self._rng_before = before and (RngState.from_state_dict(before["rng"]), before["loaders"])


class ValidationPass:
    """Validate. After the last batch early stopping gets its metric, then the hooks are called."""

    def __init__(self, components: RunComponents, run: RunState, metric_queue: MetricQueue | None) -> None:
        limits = components.spec.limits.val_loaders
        self.eval_pass = EvalPass(State.VAL_CHECK, "val", components, run, run.loaders.val, limits)
        self._run, self._metric_queue = run, metric_queue
        setup = components.optimizer_setup
        self._schedulers = [] if setup is None else setup.validation_schedulers
        # What on_epoch_end may log is unknown before the end of the epoch, where `EpochEnd` looks for it.
        self._required = () if components.hooks.epoch_may_log else components.strict_monitors

    def visit(self) -> None:
        """Evaluate one batch of a validation."""
        run = self._run
        metrics = self.eval_pass.visit()
        if metrics is None:
            return
        run.validation_metrics, run.validation_epoch = metrics, run.counters.current_epoch
        run.metrics.update(metrics)
        run.progress_bar_metrics.update(self.eval_pass.bar_metrics)
        if self._metric_queue is not None:
            self._metric_queue.metrics("validation", self.eval_pass.recorded(metrics))
        training = run.epoch_metrics.names
        for monitor in self._required:
            if monitor.metric not in metrics and monitor.metric not in training:
                raise monitor.missing(metrics, "the validation", {*run.metrics, *training} - metrics.keys())
        if run.early_stopping is not None:
            monitor = Monitor("early_stop_callback", run.early_stopping.rule.monitor)
            feed_early_stopping(run, monitor.of_validation(metrics))
        for config in self._schedulers:
            if config.schedule.is_due(run.counters.validations_done + 1):
                self._step(config, metrics)
        self.eval_pass.end_hooks(metrics)

    def _step(self, config: SchedulerConfig, metrics: Metrics) -> None:
        """Step a scheduler, with its metric if it monitors one."""
        monitor = config.metric_monitor
        if not monitors_a_metric(config) or monitor is None:
            has_stepped = self._run.counters.optimizer_steps[config.schedule.optimizer_i] > 0
            step_scheduler(config, has_stepped=has_stepped)
            return
        value = monitor.of_validation(metrics)
        if value is None:
            raise monitor.missing(metrics, "the validation", self._run.metrics.keys() - metrics.keys())
        step_scheduler(config, value)


def _texts_in(code: Any) -> Iterator[str]:
    """Iterate over the constant strings in the code of a function and of those inside it."""
    for constant in getattr(code, "co_consts", ()):
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):
            yield from (item for item in constant if isinstance(item, str))
        else:
            yield from _texts_in(constant)


class TestPass:
    """Run the test set, or the validation set in a run that only validates."""

    def __init__(self, components: RunComponents, run: RunState, metric_queue: MetricQueue | None) -> None:
        limits = components.spec.limits.test_loaders
        self.eval_pass = EvalPass(State.TEST, components.evaluates, components, run, run.loaders.test, limits)
        self._run, self._metric_queue = run, metric_queue
        self._kind: Literal["validate", "test"] = "validate" if components.evaluates == "val" else "test"
        self._hooks_of_fit = [pair for pair in (components.hooks.train, components.hooks.fit) if pair is not None]

    def visit(self) -> None:
        """Evaluate one batch of the test. Before the first one, what trained is over."""
        for pair in self._hooks_of_fit:
            if pair.is_open:
                pair.end()
        metrics = self.eval_pass.visit()
        if metrics is not None:
            self._run.metrics.update(metrics)
            self._run.progress_bar_metrics.update(self.eval_pass.bar_metrics)
            if self._metric_queue is not None:
                self._metric_queue.metrics(self._kind, self.eval_pass.recorded(metrics))
            self.eval_pass.end_hooks(metrics)
