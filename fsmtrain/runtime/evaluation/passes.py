"""The three passes over val and test loaders, and what each does with its metrics: sanity pass, check, test."""

from __future__ import annotations

import logging
from typing import Any, Literal

from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.evaluation.eval_pass import Evaluation
from fsmtrain.runtime.evaluation.pass_snapshot import PassSnapshot
from fsmtrain.runtime.metrics.step_outputs import Metrics, monitored_value
from fsmtrain.runtime.rng import RngState, get_rng_state, set_rng_state
from fsmtrain.runtime.run_state import RunComponents, RunState

log = logging.getLogger("fsmtrain")


class EvaluationPass:
    """What the three have in common: how they are left, saved and taken up."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def release(self) -> None:
        """Put back the modes."""
        self._evaluation.release()

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands."""
        return {"pass": self._evaluation.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the pass up."""
        self._evaluation.load_state_dict(state["pass"])

    @property
    def snapshot(self) -> PassSnapshot | None:
        """Where the pass that is under way began, if that was kept."""
        return self._evaluation.snapshot


class SanityPass(EvaluationPass):
    """Tries validation out before the first epoch: its metrics are thrown away, and no random state is changed by it."""

    def __init__(self, parts: RunComponents, memory: RunState) -> None:
        super().__init__(Evaluation("val", parts, memory, memory.loaders.val, parts.loop.limits.sanity_loaders))
        self._loaders = parts.val_loaders
        self._before: tuple[RngState, list[Any]] | None = None  # of the process, and of each loader

    def visit(self) -> None:
        """A batch of the sanity pass."""
        if self._before is None:
            self._before = get_rng_state(), [get_loader_rng_state(loader) for loader in self._loaders]
        if self._evaluation.visit() is not None:
            self.release()

    def release(self) -> None:
        """Put back the modes and the random states."""
        super().release()
        if self._before is not None:
            rng, loaders = self._before
            set_rng_state(rng)
            for loader, state in zip(self._loaders, loaders, strict=True):
                set_loader_rng_state(loader, state, type(loader).__name__)
            self._before = None

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands, and the random states of before it."""
        return {
            **super().state_dict(),
            "before": self._before and {"rng": self._before[0].state_dict(), "loaders": self._before[1]},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the pass up."""
        super().load_state_dict(state)
        before = state["before"]
        self._before = before and (RngState.from_state_dict(before["rng"]), before["loaders"])


class ValidationPass(EvaluationPass):
    """Validates; after its last batch early stopping is fed, then the hooks are called."""

    def __init__(self, parts: RunComponents, memory: RunState) -> None:
        super().__init__(Evaluation("val", parts, memory, memory.loaders.val, parts.loop.limits.val_loaders))
        self._parts, self._memory = parts, memory

    def visit(self) -> None:
        """A batch of a check."""
        parts, memory = self._parts, self._memory
        if not self._evaluation.is_under_way and parts.hooks.on_validation_start is not None:
            parts.hooks.on_validation_start(parts.machine)
        metrics = self._evaluation.visit()
        if metrics is None:
            return
        memory.validation_metrics, memory.validation_epoch = metrics, memory.counters.current_epoch
        memory.metrics.update(metrics)
        memory.progress_bar_metrics.update(self._evaluation.shown)
        if parts.notes is not None:
            parts.notes.metrics("validation", metrics)
        self._feed_early_stopping(metrics)
        if parts.hooks.on_validation_end is not None:
            parts.hooks.on_validation_end(parts.machine, metrics)

    def _feed_early_stopping(self, metrics: Metrics) -> None:
        patience, signals = self._memory.early_stopping, self._memory.signals
        if patience is None:
            return
        rule = patience.rule
        signals.patience_exhausted = patience.feed(monitored_value(metrics, rule.monitor, "early_stop_callback"))
        if rule.verbose and signals.patience_exhausted:
            log.warning("early stopping: %s was best at %g, %d checks ago.", rule.monitor, patience.best, patience.wait)


class TestPass(EvaluationPass):
    """Runs the test set, or the validation set of a run that only validates."""

    def __init__(self, parts: RunComponents, memory: RunState) -> None:
        super().__init__(Evaluation(parts.evaluates, parts, memory, memory.loaders.test, parts.loop.limits.test_loaders))
        self._memory, self._notes = memory, parts.notes
        self._kind: Literal["validate", "test"] = "validate" if parts.evaluates == "val" else "test"

    def visit(self) -> None:
        """A batch of the test."""
        metrics = self._evaluation.visit()
        if metrics is not None:
            self._memory.metrics.update(metrics)
            self._memory.progress_bar_metrics.update(self._evaluation.shown)
            if self._notes is not None:
                self._notes.metrics(self._kind, metrics)
