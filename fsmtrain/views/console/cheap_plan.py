"""A loop's plan for those who only mention it: where it can be had at once, and without a call to a user's own code."""

from __future__ import annotations

from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import read
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.plan import Plan
from fsmtrain.core.planning.planner import make_plan
from fsmtrain.errors import FsmtrainError

CHEAP = 5_000  # batches of an epoch whose schedule is looked up in some hundredths of a second


def cheap_plan(loop: LoopSpec) -> Plan | None:
    """The loop's plan; None for one with streams, long epochs, or a guard that cannot be read and may remember its calls."""
    guards = loop.guards
    own = [guard for guard in (*guards.step.values(), guards.validate, guards.save, guards.stop) if guard is not None]
    if not loop.limits.epochs or not 0 < loop.limits.train_batches <= CHEAP or any(is_opaque(read(guard)) for guard in own):
        return None
    try:
        return make_plan(loop)
    except FsmtrainError:  # such as that of a val stream
        return None
