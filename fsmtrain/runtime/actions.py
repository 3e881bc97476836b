"""What is done at a visit to each state: the one place where the states meet the code that does their work."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.runtime.device_timer import device_timer
from fsmtrain.runtime.evaluation.passes import EvaluationPass, SanityPass, TestPass, ValidationPass
from fsmtrain.runtime.optimization.precision import GradScalers
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.deferred_stop import DeferredStop
from fsmtrain.runtime.training.epoch_end import EpochEnd
from fsmtrain.runtime.training.nonfinite_policy import RaisePolicy, RollbackPolicy, SkipPolicy, nonfinite_policy
from fsmtrain.runtime.training.train_batch import TrainBatch

Action = Callable[[], None]


class Releasable(Protocol):
    """Something that changes the model or the process for its own time, and puts it back."""

    def release(self) -> None:
        """Put back what is changed now. Harmless where nothing is."""
        ...


class Actions:
    """The actions of one run, made for the states that its table has. `by_state` is what the dispatcher is given.

    Args:
        parts: What the run is made of.
        memory: What it remembers.
        save: The action of the state `save`.
    """

    def __init__(self, parts: RunComponents, memory: RunState, save: Action) -> None:
        states = parts.loop.table.states
        self.by_state: dict[State, Action] = {}
        self.passes: dict[State, EvaluationPass] = {}
        self.scaling: GradScalers | None = None
        self._signals = memory.signals
        self._training: TrainBatch | None = None
        self._watching: RaisePolicy | SkipPolicy | RollbackPolicy | None = None
        self._restorables: list[Releasable] = []
        for state, make in ((State.SANITY_VAL, SanityPass), (State.VAL_CHECK, ValidationPass), (State.TEST, TestPass)):
            if state in states:
                made: SanityPass | ValidationPass | TestPass = make(parts, memory)
                self._restorables.append(made)
                self.passes[state] = made
                self.by_state[state] = made.visit
        if parts.optimizer_setup is not None:
            training = self._training = TrainBatch(parts, memory, parts.optimizer_setup.slots)
            self.scaling = training.scaling
            self._restorables.append(training)
            self.by_state |= {
                State.FETCH: training.fetch,
                State.TRAIN_BATCH: training.run_forward,
                State.BACKWARD: training.run_backward,
                State.STEP: training.run_step,
                State.EPOCH_END: EpochEnd(parts, memory, training, parts.optimizer_setup.epoch_schedulers).visit,
            }
            if State.SAVE in states:
                self.by_state[State.SAVE] = save
            if parts.loop.limits.optimizers > 1:
                self.by_state[State.ACCUMULATE] = training.accumulate
            if parts.hooks.on_batch_end is not None:
                self.by_state[State.ROUND_END] = training.end_round
            if State.SAVE in states and (parts.loop.limits.optimizers > 1 or parts.loop.limits.splits_batches):
                waiting = DeferredStop(parts, memory, self.by_state.get(State.ROUND_END))
                self.by_state[State.ROUND_END] = waiting.visit
            self._watching = nonfinite_policy(parts, memory, training)
            if self._watching is not None:
                self._restorables.append(self._watching)
                self.by_state = self._watching.wrap(self.by_state)
        self._device_timer = device_timer(parts.device)
        if self._device_timer is not None:
            self.by_state = {state: self._device_timer.wrap(state, act) for state, act in self.by_state.items()}

    def device_times(self) -> dict[State, Timing]:
        """What the states took a GPU, as far as that is known; nothing on the CPU."""
        return {} if self._device_timer is None else self._device_timer.times()

    def watch_the_clock(self, seconds: float) -> None:
        """Let a fetch say when this time has gone by since the run began, or since it said so last."""
        fetch, signals, last = self.by_state[State.FETCH], self._signals, monotonic()

        def fetch_and_look() -> None:
            nonlocal last
            fetch()
            now = monotonic()
            if now - last >= seconds:
                last, signals.save_wanted = now, True

        self.by_state[State.FETCH] = fetch_and_look

    def resume_epoch(self) -> None:
        """Take up the epoch that is under way, if one is."""
        if self._training is not None:
            self._training.resume_epoch()

    def raise_if_nonfinite(self) -> None:
        """Where the run has been stopped, look at the numbers that are read late.

        Raises:
            NonFiniteError: One was not finite, where that is an error.
        """
        if self._watching is not None:
            self._watching.raise_if_nonfinite()

    def may_save(self) -> bool:
        """Whether a checkpoint of now would be sound, as far as numbers are watched."""
        return self._watching is None or self._watching.may_save()

    def release(self) -> None:
        """Put back modes, ``requires_grad`` and random states, wherever the run stands. Harmless twice."""
        for restorable in self._restorables:
            restorable.release()
