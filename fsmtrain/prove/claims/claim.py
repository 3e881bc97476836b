"""What a claim is: a plain predicate about the moment at which a state's guards are asked.

A claim speaks of the run's own records and of what the witness has `Seen`. `at` says in which states it is made. A claim with
`to` is about the rows that lead there: it holds whenever such a row is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attrs import frozen

from fsmtrain.core.states import State

Decision = Literal["step", "validate", "save", "stop"]

ALL_STATES = frozenset(State)
IN_ROUND = frozenset({State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROUND_END})
AFTER_FETCH = IN_ROUND | {State.SAVE, State.VAL_CHECK}
IN_EPOCH = AFTER_FETCH | {State.FETCH, State.EPOCH_END}
STOPPABLE = frozenset({State.START, State.SANITY_VAL, State.ROUND_END, State.VAL_CHECK, State.EARLY_STOP, State.TEST})


@frozen
class Claim:
    """A claim.

    Args:
        says: The claim in a sentence.
        holds: The predicate; its parameters are records.
        at: The states.
        to: Where given, only rows that lead to one of these are meant.
        built_in: Where given, the claim is made for runs in which this decision is not replaced. Whatever else may be
            replaced, and answer as it likes.
    """

    statement: str
    holds: Callable[..., bool]
    at: frozenset[State] = ALL_STATES
    to: frozenset[State] | None = None
    built_in: Decision | None = None

    @property
    def name(self) -> str:
        """The predicate's name."""
        return self.holds.__name__


def all_except(*states: State) -> frozenset[State]:
    """All states but these."""
    return ALL_STATES - frozenset(states)
