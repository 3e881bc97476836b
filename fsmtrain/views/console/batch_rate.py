"""`BatchRates`: how many batches per second a run has lately done, separately for training and for each kind of evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State

IN_BATCH = tuple(state for state in State if state.info.place == "in a batch")
EVALUATIONS = tuple(state for state in State if state.info.kind == "evaluation")
MAX_SAMPLES = 50


class BatchRates:
    """Moving averages over the last samples that had new batches.

    The time of other states does not count, so a validation does not slow down the training that it interrupts.
    """

    def __init__(self) -> None:
        kinds = (State.FETCH, *EVALUATIONS)
        self._samples = {kind: deque([(0, 0.0)], maxlen=MAX_SAMPLES) for kind in kinds}  # (batches, seconds), cumulative

    def add_sample(self, times: Mapping[State, Timing]) -> None:
        """Add a sample: what each state has taken so far."""
        for kind, samples in self._samples.items():
            if kind in times and times[kind].count != samples[-1][0]:
                states = IN_BATCH if kind is State.FETCH else (kind,)
                samples.append((times[kind].count, sum(times[state].seconds for state in states if state in times)))

    def batches_per_second(self, state: State) -> float:
        """Return the rate of the kind of batches that a state works on; 0 if it is not known."""
        samples = self._samples[state if state in EVALUATIONS else State.FETCH]
        (first_count, first_seconds), (count, seconds) = samples[0], samples[-1]
        return (count - first_count) / (seconds - first_seconds) if seconds > first_seconds else 0.0

    def restart(self) -> None:
        """Drop all samples but the last: the next rate is that of the time from now on."""
        self._samples = {kind: deque([samples[-1]], maxlen=MAX_SAMPLES) for kind, samples in self._samples.items()}
