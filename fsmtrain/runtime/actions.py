"""The action of each state, and everything that wraps one: the list `Actions.wrappers`, outermost first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Protocol

from fsmtrain.core.counters import Signals
from fsmtrain.core.dispatcher import Action, Timing
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.runtime.device_timer import DeviceTimer, device_timer
from fsmtrain.runtime.evaluation.eval_pass import EvalPass
from fsmtrain.runtime.evaluation.predict_pass import PredictPass
from fsmtrain.runtime.evaluation.sanity_val_test import SanityPass, TestPass, ValidationPass
from fsmtrain.runtime.hooks.hook_pair import call_all
from fsmtrain.runtime.metrics.metric_queue import MetricQueue
from fsmtrain.runtime.optimization.precision import GradScalers
from fsmtrain.runtime.run_clock import MaxTime
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.before_zero_grad import BeforeZeroGrad
from fsmtrain.runtime.training.deferred_stop import DeferredStop
from fsmtrain.runtime.training.epoch_end import EpochEnd
from fsmtrain.runtime.training.manual_optimization import ManualOptimization
from fsmtrain.runtime.training.on_nonfinite_policies import NonFinitePolicy, nonfinite_policy
from fsmtrain.runtime.training.train_batch import TrainBatch


class Wrapper(Protocol):
    """What surrounds the actions of some states."""

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Return the actions, with those of some states wrapped."""
        ...


class Releasable(Protocol):
    """Something that changes the model or the process for a time."""

    def release(self) -> None:
        """Undo these changes. Idempotent."""
        ...


class SaveClock:
    """Ask for a save at the first fetch after each interval, for ``ModelCheckpoint(every_n_seconds=...)``."""

    def __init__(self, signals: Signals, seconds: float) -> None:
        self._signals, self._seconds, self._last = signals, seconds, monotonic()
        self.asks = False  # until the save

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Wrap the fetch."""
        fetch = actions[State.FETCH]

        def fetch_and_look_at_the_clock() -> None:
            fetch()
            now = monotonic()
            if now - self._last >= self._seconds:
                self._last, self._signals.save_wanted = now, True
                self.asks = True

        return {**actions, State.FETCH: fetch_and_look_at_the_clock}


class Actions:
    """The actions of one run, for the states of its table. The dispatcher gets `by_state`.

    Args:
        components: What the run is made of.
        run: Its state.
        metric_queue: Where metrics are queued for the recorder; None if nothing is recorded.
        save: The action of the state `save`.
        save_every_seconds: For each rule for checkpoints, how often its clock asks for a save; None if never.
    """

    def __init__(
        self,
        components: RunComponents,
        run: RunState,
        *,
        metric_queue: MetricQueue | None,
        save: Action,
        save_every_seconds: Sequence[float | None] = (),
    ) -> None:
        self.spec = components.spec  # of a resumed run: that from where it continues
        table, setup = components.spec.table, components.optimizer_setup
        self.sanity_pass = SanityPass(components, run) if State.SANITY_VAL in table.states else None
        passes: dict[State, SanityPass | ValidationPass | TestPass | PredictPass] = {}
        self.predict_pass = PredictPass(components, run) if components.evaluates == "predict" else None
        if self.sanity_pass is not None:
            passes[State.SANITY_VAL] = self.sanity_pass
        if State.VAL_CHECK in table.states:
            passes[State.VAL_CHECK] = ValidationPass(components, run, metric_queue)
        if State.TEST in table.states:
            passes[State.TEST] = self.predict_pass or TestPass(components, run, metric_queue)
        self.eval_passes: dict[State, EvalPass] = {state: a_pass.eval_pass for state, a_pass in passes.items()}
        actions: dict[State, Action] = {state: a_pass.visit for state, a_pass in passes.items()}

        self._train_batch: TrainBatch | None = None
        self.scalers: GradScalers | None = None  # of fp16
        self._nonfinite_policy: NonFinitePolicy | None = None
        if setup is not None:
            train_batch = self._train_batch = TrainBatch(components, run, metric_queue)
            self.scalers = train_batch.scalers
            actions |= {
                State.FETCH: train_batch.fetch,
                State.TRAIN_BATCH: train_batch.run_forward,
                State.EPOCH_END: EpochEnd(components, run, train_batch, setup, metric_queue).visit,
            }
            if train_batch.manual is None:
                actions |= {State.BACKWARD: train_batch.run_backward, State.STEP: train_batch.run_step}
            if State.SAVE in table.states:
                actions[State.SAVE] = save
            if components.spec.limits.optimizers > 1:
                actions[State.ACCUMULATE] = train_batch.accumulate
            if train_batch.has_end_hooks:
                actions[State.ROUND_END] = train_batch.end_round
            self._nonfinite_policy = nonfinite_policy(components, run, train_batch)

        saves, steps = State.SAVE in table.states, State.STEP in table.states
        before_zero_grad = components.hooks.on_before_zero_grad if steps else None
        has_rounds = components.spec.limits.optimizers > 1 or components.spec.limits.splits_batches
        self._device_timer: DeviceTimer | None = device_timer(components.device)
        max_seconds = components.spec.options.max_seconds if components.spec.limits.has_max_time else None
        self._max_time = None if max_seconds is None else MaxTime(run.clock, run.signals, max_seconds)
        self.save_clocks = tuple(
            None if seconds is None or setup is None else SaveClock(run.signals, seconds) for seconds in save_every_seconds
        )
        # Outermost first. None is left out.
        self.wrappers: tuple[Wrapper | None, ...] = (
            *self.save_clocks,
            self._max_time,
            self._device_timer,
            BeforeZeroGrad(components, run, before_zero_grad) if before_zero_grad is not None else None,
            self._nonfinite_policy,
            DeferredStop(components, run) if saves and has_rounds else None,
        )
        for wrapper in reversed(self.wrappers):
            if wrapper is not None:
                actions = wrapper.wrap(actions)
        self.by_state = actions

    @property
    def device_times(self) -> dict[State, Timing]:
        """The time of a GPU in each state, as far as it is known; empty on the CPU."""
        return {} if self._device_timer is None else self._device_timer.times()

    def look_at_the_clock(self) -> None:
        """Give the signal of ``max_time`` if it is over: by this run's rule, in a run that is resumed."""
        if self._max_time is not None:
            self._max_time.look()

    def resume_epoch(self) -> None:
        """Continue the epoch in which the train loader stands, if it stands in one."""
        if self._train_batch is not None:
            self._train_batch.resume_epoch()

    def set_spec(self, spec: LoopSpec) -> None:
        """Act by another spec from now on: that of a run which is resumed."""
        self.spec = spec
        if self._train_batch is not None:
            self._train_batch.set_limits(spec.limits)

    @property
    def manual_optimization(self) -> ManualOptimization | None:
        """What a ``training_step`` that steps by itself calls; None with automatic optimization."""
        return None if self._train_batch is None else self._train_batch.manual

    def raise_if_nonfinite(self) -> None:
        """Read the values that are read late, when the run has been stopped.

        Raises:
            NonFiniteError: One was inf or NaN, and ``on_nonfinite="raise"``.
        """
        if self._nonfinite_policy is not None:
            self._nonfinite_policy.raise_if_nonfinite()

    def may_save(self) -> bool:
        """Return whether a checkpoint of now would hold only finite numbers, as far as ``on_nonfinite`` checks them."""
        return self._nonfinite_policy is None or self._nonfinite_policy.may_save()

    def end_unfinished_passes(self) -> None:
        """Call the hooks that end a validation or test, if one has begun and will not be finished."""
        if self.predict_pass is not None:
            self.predict_pass.release()  # its hooks find the outputs
        call_all([eval_pass.end_unfinished for eval_pass in self.eval_passes.values()])

    def release(self) -> None:
        """Undo temporary changes (train/eval modes, requires_grad, RNG of the sanity pass). Idempotent."""
        owners: tuple[Releasable | None, ...]
        owners = (self.sanity_pass, self._train_batch, self._nonfinite_policy, self.predict_pass)
        for owner in (*self.eval_passes.values(), *owners):
            if owner is not None:
                owner.release()
