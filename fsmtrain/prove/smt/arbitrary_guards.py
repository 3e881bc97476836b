"""The full table with user guards that may answer anything, as a transition system.

At most one decision is the built-in one. So a claim about steps holds whatever the user's guards for validations, saves and
stops answer, and a claim without a condition holds whatever any of them answers.
"""

from __future__ import annotations

import functools
from typing import Any

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.guard_ast.expressions import Expression
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_table import full_table
from fsmtrain.prove.claims.claim import Decision
from fsmtrain.prove.loop_model.assumptions import LEGAL_LIMITS, validation_interval_fits
from fsmtrain.prove.smt.transition_system import TransitionSystem, transition_system


class ArbitraryGuard:
    """A user guard whose source cannot be read: in proofs it may answer anything, once for each visit."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Not called: proofs run nothing."""
        raise NotImplementedError(self.__name__)


@functools.cache
def loop_system(built_in: Decision | None, *, resumed: bool = False) -> TransitionSystem:
    """Return the transition system of the table with all decisions but this one left to arbitrary guards.

    Any optimizer may have a step guard of its own. So, unless that decision is the built-in one, the built-in rule for the
    other optimizers may answer anything too, which includes its real answer.

    If `resumed`, runs may be resumed with other limits (`loop_model.resuming`), in which this decision is the built-in one too.
    """
    arbitrary: dict[str, Any] = {
        name: None if name == built_in else ArbitraryGuard(name) for name in ("validate", "save", "stop")
    }
    guards = Guards(step={} if built_in == "step" else {0: ArbitraryGuard("step")}, **arbitrary)
    legal = (*LEGAL_LIMITS, validation_interval_fits) if built_in == "validate" else LEGAL_LIMITS
    step_rule: frozenset[Expression] = frozenset() if built_in == "step" else frozenset({parse_guard(ask.window_is_full)})
    return transition_system(
        full_table(decisions(guards)),
        legal=legal,
        may_accumulate=built_in != "step",
        arbitrary=step_rule,
        resumed=guards if resumed else None,
    )
