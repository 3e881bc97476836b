"""What is done at a visit to each state: the one place where the states meet the code that does their work."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fsmtrain.core.states import State
from fsmtrain.runtime import random_states
from fsmtrain.runtime.evaluation import Evaluation
from fsmtrain.runtime.memory import Memory, Parts
from fsmtrain.runtime.outputs import Metrics, monitored
from fsmtrain.runtime.training import Training

Action = Callable[[], None]

log = logging.getLogger("fsmtrain")


class Actions:
    """The actions of one run, made for the states that its table has. `by_state` is what the dispatcher is given."""

    def __init__(self, parts: Parts, memory: Memory) -> None:
        self._parts, self._memory = parts, memory
        limits, states = parts.loop.limits, parts.loop.table.states
        self._random: random_states.RandomStates | None = None  # as it was before the sanity pass
        self._training = Training(parts, memory) if State.FETCH in states else None
        self._sanity = self._evaluation("val", limits.sanity_loaders) if State.SANITY_VAL in states else None
        self._check = self._evaluation("val", limits.val_loaders) if State.VAL_CHECK in states else None
        self._test = self._evaluation("test", limits.test_loaders) if State.TEST in states else None
        self.by_state: dict[State, Action] = {}
        if self._sanity is not None:
            self.by_state[State.SANITY_VAL] = self.try_validation
        if self._training is not None:
            self.by_state |= {
                State.FETCH: self._training.fetch,
                State.TRAIN_BATCH: self._training.run_forward,
                State.BACKWARD: self._training.run_backward,
                State.STEP: self._training.run_step,
                State.EPOCH_END: self.end_epoch,
            }
            if limits.optimizers > 1:
                self.by_state[State.ACCUMULATE] = self._training.accumulate
            if parts.hooks.on_batch_end is not None:
                self.by_state[State.ROUND_END] = self._training.end_round
        if self._check is not None:
            self.by_state[State.VAL_CHECK] = self.check
        if self._test is not None:
            self.by_state[State.TEST] = self.test

    def _evaluation(self, kind: str, limits: tuple[int | None, ...]) -> Evaluation:
        parts, memory = self._parts, self._memory
        loaders = parts.val_loaders if kind == "val" else parts.test_loaders
        return Evaluation(
            "val" if kind == "val" else "test", parts.model, loaders, limits, parts.move, memory.counters, memory.signals
        )

    def try_validation(self) -> None:
        """A batch of the sanity pass: its metrics are thrown away, and the random states put back when it is over."""
        assert self._sanity is not None
        if self._memory.counters.eval_nb == 0:
            self._random = random_states.take(self._parts.val_loaders)
        if self._sanity.visit() is not None:
            self._put_random_states_back()

    def _put_random_states_back(self) -> None:
        if self._random is not None:
            random_states.put_back(self._random)
            self._random = None

    def check(self) -> None:
        """A batch of a check; after its last one, early stopping is fed, then the hooks are called."""
        assert self._check is not None
        parts, memory = self._parts, self._memory
        if memory.counters.eval_nb == 0 and parts.hooks.on_check_start is not None:
            parts.hooks.on_check_start(parts.machine)
        metrics = self._check.visit()
        if metrics is None:
            return
        memory.checked, memory.checked_epoch = metrics, memory.counters.current_epoch
        memory.metrics.update(metrics)
        memory.progress.update(self._check.shown)
        self._feed_early_stopping(metrics)
        if parts.hooks.on_check_end is not None:
            parts.hooks.on_check_end(parts.machine, metrics)

    def _feed_early_stopping(self, metrics: Metrics) -> None:
        patience, signals = self._memory.patience, self._memory.signals
        if patience is None:
            return
        rule = patience.rule
        signals.patience_exhausted = patience.feed(monitored(metrics, rule.monitor, "early_stop_callback"))
        if rule.verbose and signals.patience_exhausted:
            log.warning("early stopping: %s has not improved on %g for %d checks.", rule.monitor, patience.best, patience.wait)

    def end_epoch(self) -> None:
        """The hooks, then the schedulers, unless the epoch was cut short."""
        assert self._training is not None and self._parts.optimization is not None
        parts, memory = self._parts, self._memory
        self._training.end_epoch()
        if parts.hooks.on_epoch_end is not None:
            parts.hooks.on_epoch_end(parts.machine)
        if memory.counters.cut:
            return
        epoch = memory.counters.current_epoch
        for scheduling in self._parts.optimization.epoch_schedulings:
            if (epoch + 1) % scheduling.frequency:
                continue
            if scheduling.monitor is None:
                scheduling.scheduler.step()
            elif memory.checked_epoch == epoch:
                value = monitored(memory.checked, scheduling.monitor, type(scheduling.scheduler).__name__)
                scheduling.scheduler.step(value)  # type: ignore[arg-type]

    def test(self) -> None:
        """A batch of the test."""
        assert self._test is not None
        metrics = self._test.visit()
        if metrics is not None:
            self._memory.metrics.update(metrics)

    def restore(self) -> None:
        """Put back what a visit changes for its own time: modes, ``requires_grad``, random states. Harmless twice."""
        for evaluation in (self._sanity, self._check, self._test):
            if evaluation is not None:
                evaluation.restore()
        self._put_random_states_back()
        if self._training is not None:
            self._training.end_epoch()
            self._training.restore()
