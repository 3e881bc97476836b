"""The plan of a loop, if computing it is fast and calls none of the user's code: for the header and the run folder."""

from __future__ import annotations

from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.errors import FsmtrainError

MAX_TRAIN_BATCHES = 5_000  # of an epoch, whose plan takes some hundredths of a second


def cheap_plan(loop: LoopSpec) -> Plan | None:
    """Return the loop's plan; None for streams, long epochs, and opaque guards, which would have to be called."""
    batches = loop.limits.train_batches
    opaque = any(is_opaque(parse_guard(guard)) for guard in loop.guards)
    if not loop.limits.epochs or not 0 < batches <= MAX_TRAIN_BATCHES or opaque:
        return None
    try:
        return make_plan(loop)
    except FsmtrainError:  # such as that of a val stream
        return None
