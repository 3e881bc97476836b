"""`Claim`: a sentence about every run, and the predicate that must hold at the visits it is about."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Literal

from attrs import field, frozen
from attrs.converters import optional

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State

Decision = Literal["step", "validate", "save", "stop"]

ALL_STATES = frozenset(State)
IN_ROUND = frozenset(state for state in State if state.info.place == "in a batch") - {State.FETCH}
AFTER_FETCH = IN_ROUND | {State.SAVE, State.VAL_CHECK}
IN_EPOCH = AFTER_FETCH | {State.FETCH, State.EPOCH_END}
STOPPABLE = frozenset({State.START, State.SANITY_VAL, State.ROUND_END, State.VAL_CHECK, State.EARLY_STOP, State.TEST})


def a_limit_is_reached(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``max_steps`` or ``max_time`` ends the run, whatever the minima, or it was resumed past its last epoch."""
    return (
        (limits.max_steps >= 1 and counters.global_step >= limits.max_steps) or signals.time_is_up or limits.is_past_last_epoch
    )  # fmt: skip


def the_minima_are_reached(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Return whether ``min_nb_epochs`` epochs and ``min_steps`` steps are done."""
    return counters.epochs_done >= limits.min_epochs and counters.global_step >= limits.min_steps


def _states(value: State | Set[State]) -> frozenset[State]:
    return frozenset({value} if isinstance(value, State) else value)


@frozen
class Claim:
    """What is claimed of every run.

    Args:
        statement: The claim as a sentence.
        holds: The predicate, evaluated after a state's work and before its guards. Its parameters are records: ``limits``,
            ``counters``, ``signals``, ``ghost``.
        at: The states at whose visits it must hold.
        to: If given, it must hold only if a row to one of these states is taken.
        built_in: If given, the claim is made only for runs in which this decision is the built-in one. All other guards of
            the user may answer anything.
        resumed: Whether it is also proved of runs that are resumed with other limits (`loop_model.resuming`).
        group: Claims of one group are invariants only together: each is proved by an induction over all of them.
    """

    statement: str
    holds: Callable[..., bool]
    at: frozenset[State] = field(default=ALL_STATES, converter=_states)
    to: frozenset[State] | None = field(default=None, converter=optional(_states))
    built_in: Decision | None = None
    resumed: bool = field(default=True, kw_only=True)
    group: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """The name of the predicate."""
        return self.holds.__name__


def all_except(*states: State) -> frozenset[State]:
    """Return all states but these."""
    return ALL_STATES - frozenset(states)
