"""The time that a run has taken, and ``max_time``, the time that it may take."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any

from fsmtrain.core.counters import Signals
from fsmtrain.core.dispatcher import Action
from fsmtrain.core.states import State


class RunClock:
    """The seconds that a run has taken, all its parts together. It stands until `start`."""

    def __init__(self) -> None:
        self._before = 0.0
        self._started_at: float | None = None

    @property
    def seconds(self) -> float:
        """The time so far."""
        return self._before if self._started_at is None else self._before + monotonic() - self._started_at

    def start(self) -> None:
        """Count from now on."""
        self._started_at = monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return the time so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the time of a run that was saved. Where this run has taken longer, as before a rollback, that stays."""
        self._before = max(self.seconds, float(state["seconds"]))
        if self._started_at is not None:
            self.start()


class MaxTime:
    """Give the signal `time_is_up` at the end of each turn once ``max_time`` is over."""

    def __init__(self, clock: RunClock, signals: Signals, seconds: float) -> None:
        self._clock, self._signals, self._seconds = clock, signals, seconds

    def wrap(self, actions: Mapping[State, Action]) -> dict[State, Action]:
        """Wrap the end of a turn."""
        end_round = actions.get(State.ROUND_END)

        def end_round_and_look_at_the_clock() -> None:
            if end_round is not None:
                end_round()
            self.look()

        return {**actions, State.ROUND_END: end_round_and_look_at_the_clock}

    def look(self) -> None:
        """Give the signal if the time is over."""
        self._signals.time_is_up = self._clock.seconds >= self._seconds
