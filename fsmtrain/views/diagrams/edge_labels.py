"""The words on a diagram's edges: each row's guard in plain language, with the numbers of this configuration.

Shapes, colours and file formats do not belong here. `core.guard_ast` simplifies the guards; this module also leaves out what a
reader takes for granted, such as that no count is negative.
"""

from __future__ import annotations

from fsmtrain.core.folding import Known, facts, facts_at
from fsmtrain.core.guard_ast.expressions import TRUE, Apply, Expression, Field, Opaque, Value, iter_parts, negate
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row

# Name of a flag -> its words if it is set, and if it is not.
FLAGS: dict[str, tuple[str, str]] = {
    "epoch_ended_early": ("epoch ended early", "epoch complete"),
    "nonfinite": ("not finite", "finite"),
    "pass_ended": ("pass ended", "pass continues"),
    "patience_exhausted": ("patience exhausted", "patience left"),
    "saved": ("saved", "not saved"),
    "step_skipped": ("step skipped", "step not skipped"),
    "stop_requested": ("stop requested", "no stop requested"),
    "stream_ended": ("stream ended", "stream continues"),
}
# The words of other fields are their names, with these exceptions.
NAMES = {
    "batches_since_validation": "batches since val",
    "epochs_since_validation": "epochs since val",
    "optimizer_steps": "steps",
}
SIGNS = {"==": "=", "!=": "≠", "<=": "≤", ">=": "≥", "*": "·"}
MAX_OPPOSITE_CHARACTERS = 60  # a longer opposite of another edge's condition becomes "else"

BATCH_NB, ROUND_NB = Field("counters", "batch_nb"), Field("counters", "round_nb")
OPTIMIZER_I = Field("counters", "optimizer_i")
EPOCHS_DONE, CURRENT_EPOCH = Field("counters", "epochs_done"), Field("counters", "current_epoch")
EPOCH_FINISHED = Apply("==", (EPOCHS_DONE, Apply("+", (CURRENT_EPOCH, Value(1)))))
# Counters that go up one by one and their limits. Only a run that was resumed with another limit can have passed one.
REACHED = {
    (Field("counters", "gathered"), Field("counters", "window_length")),
    (Field("counters", "batches_since_validation"), Field("counters", "epoch_val_check_batches")),
    (Field("counters", "epochs_since_validation"), Field("limits", "val_check_epochs")),
    (Field("counters", "epochs_done"), Field("limits", "epochs")),
}
ONE_EPOCH_DONE = Apply(">=", (EPOCHS_DONE, Value(1)))

# Both sides of a comparison -> its words if the left side has reached the right one, and if it has not.
Phrases = dict[tuple[Expression, Expression], tuple[str, str]]


def edge_labels(loop: LoopSpec) -> tuple[str, ...]:
    """Return the condition of each row of the loop's table, in its order.

    A label has only the row's own condition, not that the rows before it did not apply, nor that no stop was requested. It is
    empty if there is no condition, and ``else`` if the rows before have conditions and this one has none. If two rows are each
    other's opposite, both have a label. Each clause has a line of its own.

    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.options import Options
    >>> loop = LoopSpec(Options(accumulate_grad_batches=4), Sizes(train=45))
    >>> [label for row, label in zip(loop.table, edge_labels(loop), strict=True) if row.source is State.BACKWARD]
    ['gathered = 4 or last batch of 45', 'gathered ≠ 4 and not last batch of 45']
    """
    return tuple(_label(loop, row) for row in loop.table)


def _label(loop: LoopSpec, row: Row) -> str:
    if loop.limits.manual_optimization and row.source is State.TRAIN_BATCH:
        return "steps: decided by training_step"
    phrases = _phrases(loop.limits, row.source)
    if row.when is not None:
        own = condition(loop, row.source, row.when)
        return "\n".join(_by_optimizer(own, loop.limits, phrases) or [_spell(own, phrases)])
    others = [r for r in loop.table.leaving(row.source) if r is not row and r.to is not State.STOPPED]
    if not others:
        return ""
    if len(others) == 1 and others[0].when is not None:
        other = condition(loop, row.source, others[0].when)
        opposite = _spell(negate(other), phrases)
        is_short = len(opposite) <= MAX_OPPOSITE_CHARACTERS
        if is_short and not any(part == OPTIMIZER_I or _period(part) for part in iter_parts(other)):
            return opposite
    return "else"


# ---- the condition


def condition(loop: LoopSpec, state: State, guard: Guard) -> Expression:
    """Return a guard simplified by everything that is always true when it is evaluated in this state."""
    limits = loop.limits
    known: Known = {**facts(limits, loop.guards), **facts_at(state, limits, loop.guards), **_first_epoch(limits)}
    # These hold from the beginning of the first epoch on, and no guard reads them before.
    if len(limits.windows) == 1 and limits.windows[0][0] == 0:
        known["counters", "window_length"] = limits.windows[0][1]
    if limits.val_check_epochs == 1:
        known["counters", "epochs_since_validation"] = 1
    expression = parse_guard(guard)
    return fold(_plain(fold(expression if loop.resumes_at is not None else _reached(expression), known)), {})


def _reached(expression: Expression) -> Expression:
    """Return an expression that says of a limit that it is reached, where the guard asks whether it is reached or passed."""
    match expression:
        case Apply(op=(">=" | "<") as op, args=args) if args in REACHED:
            return Apply("==" if op == ">=" else "!=", args)
        case Apply(op=op, args=args):
            return Apply(op, tuple(map(_reached, args)))
    return expression


def _plain(expression: Expression) -> Expression:
    """Return an expression without what a reader takes for granted: no count is negative, after an epoch at least 1 is done."""
    match expression:
        case Apply(op=("==" | "!=") as op, args=(Apply(op="+", args=(Field(record="counters"), Value(value=n))), zero)) if (
            n > 0 and zero == Value(0)
        ):
            return Value(op == "!=")
        case Apply(op=(">=" | "<") as op, args=(Field(record="counters"), Value(value=0))):
            return Value(op == ">=")
        case Apply(op="and", args=args) if EPOCH_FINISHED in args:
            return Apply("and", tuple(_plain(_replaced(arg, ONE_EPOCH_DONE, TRUE)) for arg in args))
        case Apply(op=op, args=args):
            return Apply(op, tuple(map(_plain, args)))
    return expression


def _replaced(expression: Expression, old: Expression, new: Expression) -> Expression:
    if expression == old:
        return new
    if isinstance(expression, Apply):
        return Apply(expression.op, tuple(_replaced(arg, old, new) for arg in expression.args))
    return expression


def _first_epoch(limits: Limits) -> Known:
    """Return the lengths of the first epoch, which a diagram shows for all."""
    interval = limits.val_check_batches
    return {("counters", "epoch_batches"): limits.train_batches, ("counters", "epoch_val_check_batches"): interval}


# ---- spelling


def _phrases(limits: Limits, state: State) -> Phrases:
    """Return the comparisons that have words of their own in one state."""
    eval_pass = state.info.eval_pass
    counted = (
        ("batch_nb", "batch", limits.train_batches),
        ("optimizer_i", "optimizer", limits.optimizers),
        ("eval_nb", "test batch" if eval_pass == "test" else "val batch", limits.eval_batches(eval_pass) if eval_pass else 0),
    )
    lasts: dict[tuple[Expression, Expression], str]
    lasts = {(_after(name), Value(bound)): f"last {thing} of {bound}" for name, thing, bound in counted if bound}
    lasts[_after("split_nb"), Field("counters", "batch_splits")] = "last split"
    steps: Phrases = {}
    for i in range(limits.optimizers):
        steps[Field("counters", f"stepped_in[{i}]"), ROUND_NB] = (f"optimizer {i} stepped", f"optimizer {i} did not step")
        steps[_after(f"stepped_in[{i}]"), ROUND_NB] = (f"optimizer {i} just stepped", f"optimizer {i} did not just step")
    return {
        **steps,
        **{sides: (last, f"not {last}") for sides, last in lasts.items()},
        (EPOCHS_DONE, _after("current_epoch")): ("epoch finished", "epoch not finished"),
        (Field("counters", "open_windows"), Value(0)): ("no window open", "a window open"),
    }


def _after(name: str) -> Expression:
    return Apply("+", (Field("counters", name), Value(1)))


def _spell(expression: Expression, phrases: Phrases) -> str:
    match expression:
        case Value(value=bool() as value):
            return "always" if value else "never"
        case Value(value=value):
            return str(value)
        case Opaque(name=name):
            return name
        case Field(name=name):
            return _name(name)
        case Apply(op="not", args=(Field(name=name),)) if name in FLAGS:
            return FLAGS[name][1]
        case Apply(op="not", args=(arg,)):
            return f"not {_operand(arg, phrases)}"
        case Apply(op=("and" | "or") as op):
            return f" {op} ".join(_parts(expression, phrases))
        case _ if (period := _period(expression)) is not None:
            return period[0]
        case Apply(op=("==" | ">=" | "!=" | "<") as op, args=sides) if sides in phrases:
            return phrases[sides][op in ("!=", "<")]
        case Apply(op=op, args=(left, right)):
            return f"{_operand(left, phrases)} {SIGNS.get(op, op)} {_operand(right, phrases)}"
    raise TypeError(expression)


def _name(name: str) -> str:
    field, _, index = name.partition("[")
    if index:
        return f"{_name(field)} of optimizer {index.rstrip(']')}"
    return FLAGS[name][0] if name in FLAGS else NAMES.get(name, name.replace("_", " "))


def _operand(expression: Expression, phrases: Phrases) -> str:
    spelled = _spell(expression, phrases)
    return f"({spelled})" if isinstance(expression, Apply) and expression.op != "not" else spelled


def _parts(junction: Apply, phrases: Phrases) -> list[str]:
    """Return the words between the ``and`` or ``or`` of a junction. A period says itself when it starts."""
    starts = [Apply(">=", (BATCH_NB, Value(period[1]))) for period in map(_period, junction.args) if period is not None]
    args = [arg for arg in junction.args if junction.op == "or" or arg not in starts]
    return [
        f"({_spell(arg, phrases)})" if isinstance(arg, Apply) and arg.op in ("and", "or") else _spell(arg, phrases)
        for arg in args
    ]


def _period(expression: Expression) -> tuple[str, int] | None:
    """Return a period in words ("every 4 batches") and its first batch or step; None if the expression is not just a period."""
    match expression:
        case Apply(op="==", args=(Apply(op="%", args=(counted, Value(value=n))), Value(value=0))):
            batches = "every batch" if n == 1 else f"every {n} batches"
            match counted:
                case Apply(op="-", args=(nb, Value(value=first))) if nb == BATCH_NB:
                    return batches if first == n - 1 else f"{batches} from batch nb {first} on", first
                case Field(name=name) if name.startswith("optimizer_steps["):
                    whose = _name(name).removeprefix("steps")
                    return f"every step{whose}" if n == 1 else f"every {n} steps{whose}", n - 1
                case _ if counted == _after("batch_nb"):
                    return batches, n - 1
    return None


def _by_optimizer(condition: Expression, limits: Limits, phrases: Phrases) -> list[str]:
    """Return a line for each optimizer whose condition differs from the others'; empty if all have the same condition."""
    cases = [fold(condition, {("counters", "optimizer_i"): index}) for index in range(limits.optimizers)]
    if cases.count(cases[0]) == len(cases) or _after("optimizer_i") in iter_parts(condition):
        return []
    reasons = [case.args if isinstance(case, Apply) and case.op == "or" else (case,) for case in cases]
    shared = tuple(reason for reason in reasons[0] if all(reason in others for others in reasons))
    optimizers: dict[str, list[int]] = {}  # by the words of the condition
    for index, case_reasons in enumerate(reasons):
        own = tuple(reason for reason in case_reasons if reason not in shared)
        if own:
            optimizers.setdefault(_spell(fold(Apply("or", own), {}), phrases), []).append(index)
    lines = [f"optimizer{'s' * (len(which) > 1)} {', '.join(map(str, which))}: {own}" for own, which in optimizers.items()]
    return [*lines, *(f"or {part}" for part in _parts(Apply("or", shared), phrases))]
