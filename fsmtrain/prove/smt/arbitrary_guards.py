"""The systems in which claims are made: the full table with guards of the user's that may answer anything.

In each of them at most one decision is the built-in one. So a claim about steps holds whatever the user's guards for checks,
saves and stops say, and a claim without a condition whatever any of them says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from fsmtrain.core import guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.guard_ast.expressions import Expression
from fsmtrain.core.guard_ast.parse import read
from fsmtrain.core.limits import Limits
from fsmtrain.core.table import Table, full_table
from fsmtrain.prove.claims.claim import Decision
from fsmtrain.prove.loop_model.assumptions import LEGAL_LIMITS, validation_interval_fits
from fsmtrain.prove.smt.transition_system import TransitionSystem, system


class ArbitraryGuard:
    """A guard of the user's that cannot be read: in proofs it may say anything, and the same to all who ask in one visit."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Asked by nobody: proofs do not run."""
        raise NotImplementedError(self.__name__)


def table_of(built_in: Decision | None) -> Table:
    """The full table with every decision replaced but one."""
    free = Guards(
        step={} if built_in == "step" else {0: ArbitraryGuard("step")},
        validate=None if built_in == "validate" else ArbitraryGuard("validate"),
        save=None if built_in == "save" else ArbitraryGuard("save"),
        stop=None if built_in == "stop" else ArbitraryGuard("stop"),
    )
    return full_table(decisions(free))


def world_of(table: Table, built_in: Decision | None) -> TransitionSystem:
    """A table's transition system.

    Any optimizer may have a step guard of its own. So, unless that decision is built in, the rule of the others may answer
    anything too: what it would say is among the answers.
    """
    legal: tuple[Callable[..., bool], ...] = (
        (*LEGAL_LIMITS, validation_interval_fits) if built_in == "validate" else LEGAL_LIMITS
    )
    own_steps: frozenset[Expression] = frozenset() if built_in == "step" else frozenset({read(ask.window_is_full)})
    return system(table, legal=legal, accumulates=built_in != "step", substitute=own_steps)


@functools.cache
def loop_system(built_in: Decision | None) -> TransitionSystem:
    """The transition system of the table that runs."""
    return world_of(table_of(built_in), built_in)
