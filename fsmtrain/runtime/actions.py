"""What is done at a visit to each state: the one place where the states meet the code that does their work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fsmtrain.core.dispatch import Spent
from fsmtrain.core.states import State
from fsmtrain.runtime.device_times import device_times
from fsmtrain.runtime.epochs import EpochEnd
from fsmtrain.runtime.memory import Memory, Parts
from fsmtrain.runtime.passes import Check, SanityPass, Test
from fsmtrain.runtime.training import Training
from fsmtrain.runtime.weights import save_weights

Action = Callable[[], None]


CHECKPOINTS = Path("checkpoints")  # in the working directory


def save_checkpoint(parts: Parts, memory: Memory) -> None:
    """Write the weights and hyperparameters where ``Guards(save=...)`` asked for it, named by epoch and batch, from 0."""
    counters = memory.counters
    path = CHECKPOINTS / f"epoch-{counters.current_epoch:04}-batch-{counters.batch_nb:06}.ckpt"
    save_weights(path, parts.model, {"epoch": counters.current_epoch, "global_step": counters.global_step})


class Restorable(Protocol):
    """Something that changes the model or the process for its own time, and puts it back."""

    def restore(self) -> None:
        """Put back what is changed now. Harmless where nothing is."""
        ...


class Actions:
    """The actions of one run, made for the states that its table has. `by_state` is what the dispatcher is given."""

    def __init__(self, parts: Parts, memory: Memory) -> None:
        states = parts.loop.table.states
        self.by_state: dict[State, Action] = {}
        self._restorables: list[Restorable] = []
        for state, make in ((State.SANITY_VAL, SanityPass), (State.VAL_CHECK, Check), (State.TEST, Test)):
            if state in states:
                made: SanityPass | Check | Test = make(parts, memory)
                self._restorables.append(made)
                self.by_state[state] = made.visit
        if parts.optimization is not None:
            training = Training(parts, memory, parts.optimization.turns)
            self._restorables.append(training)
            self.by_state |= {
                State.FETCH: training.fetch,
                State.TRAIN_BATCH: training.run_forward,
                State.BACKWARD: training.run_backward,
                State.STEP: training.run_step,
                State.EPOCH_END: EpochEnd(parts, memory, training, parts.optimization.epoch_schedulings).visit,
            }
            if State.SAVE in states:
                self.by_state[State.SAVE] = lambda: save_checkpoint(parts, memory)
            if parts.loop.limits.optimizers > 1:
                self.by_state[State.ACCUMULATE] = training.accumulate
            if parts.hooks.on_batch_end is not None:
                self.by_state[State.ROUND_END] = training.end_round
        self._device_times = device_times(parts.device)
        if self._device_times is not None:
            self.by_state = {state: self._device_times.timed(state, act) for state, act in self.by_state.items()}

    def device_times(self) -> dict[State, Spent]:
        """What the states took a GPU, as far as that is known; nothing on the CPU."""
        return {} if self._device_times is None else self._device_times.times()

    def restore(self) -> None:
        """Put back modes, ``requires_grad`` and random states, wherever the run stands. Harmless twice."""
        for restorable in self._restorables:
            restorable.restore()
