"""The three passes over val and test loaders, and what each does with its metrics: sanity pass, validation, test."""

from __future__ import annotations

import logging
from typing import Any, Literal

from fsmtrain.core.states import State
from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.evaluation.eval_pass import EvalPass
from fsmtrain.runtime.metrics.metric_queue import MetricQueue
from fsmtrain.runtime.metrics.monitor import Monitor
from fsmtrain.runtime.metrics.step_outputs import Metrics
from fsmtrain.runtime.rng import RngState, get_rng_state, set_rng_state
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.user_warnings import warn

log = logging.getLogger("fsmtrain")


class SanityPass:
    """Try validation out before the first epoch: metrics are thrown away, and no random state changes.

    If somebody monitors a metric that this pass did not return, it warns. The first validation raises an error if it is
    missing there too.
    """

    def __init__(self, components: RunComponents, run: RunState) -> None:
        limits = components.spec.limits.sanity_loaders
        self.eval_pass = EvalPass(State.SANITY_VAL, "val", components, run, run.loaders.val, limits)
        self._loaders, self._monitors = components.val_loaders, components.monitors
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
            if monitor.metric not in metrics:
                warn(monitor.explain_missing(metrics, "the sanity pass") + " The first validation raises an error without it.")

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
            self._metric_queue.metrics("validation", metrics)
        self._feed_early_stopping(metrics)
        self.eval_pass.end_hooks(metrics)

    def _feed_early_stopping(self, metrics: Metrics) -> None:
        patience, signals = self._run.early_stopping, self._run.signals
        if patience is None:
            return
        rule = patience.rule
        signals.patience_exhausted = patience.feed(
            Monitor("early_stop_callback", rule.monitor).value(metrics, self._run.metrics)
        )
        if rule.verbose and signals.patience_exhausted:
            log.warning("early stopping: %s was best at %g, %d validations ago.", rule.monitor, patience.best, patience.wait)


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
                self._metric_queue.metrics(self._kind, metrics)
            self.eval_pass.end_hooks(metrics)
