"""`UserGuard`: a guard that the user passed in `Guards`, with its place and its parsed source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.guard_ast.expressions import Apply, Expression, Opaque, fields_in, is_opaque, iter_parts
from fsmtrain.core.guard_ast.parse import guard_name, parse_guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard, never

# Counters of the whole run. No built-in guard tells two moments of one epoch apart by them.
RUN_TOTALS = frozenset(
    {
        "batches_begun", "global_step", "validations_done", "steps_skipped", "round_nb", "optimizer_steps", "stepped_in",
        "left_out", "steps_made",
    }
)  # fmt: skip


@frozen(eq=False)
class UserGuard:
    """One guard of the user.

    Attributes:
        field: The field of `Guards` in which it was passed.
        optimizer_i: The optimizer whose windows it closes; None unless `field` is "step".
        guard: The function.
    """

    field: str
    optimizer_i: int | None
    guard: Guard

    @property
    def name(self) -> str:
        """The argument as it was passed: ``step={1: my_guard}``."""
        name = guard_name(self.guard)
        return f"{self.field}={name}" if self.optimizer_i is None else f"{self.field}={{{self.optimizer_i}: {name}}}"

    @property
    def place(self) -> str:
        """The same for a finding: ``Guards(step={1: my_guard})``."""
        return f"Guards({self.name})"

    @property
    def expression(self) -> Expression:
        """Its source, parsed."""
        return parse_guard(self.guard)

    @property
    def is_opaque(self) -> bool:
        """Whether a part of it cannot be read."""
        return is_opaque(self.expression)

    @property
    def opaque_reason(self) -> str:
        """Why it cannot be read."""
        return next(part.reason for part in iter_parts(self.expression) if isinstance(part, Opaque))

    def decides_at(self, state: State, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether its decision is due at this moment, even if another guard comes first and it is not called."""
        if self.optimizer_i is not None:
            return state is State.BACKWARD and counters.optimizer_i == self.optimizer_i
        if state is State.ROUND_END:
            return counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 >= counters.batch_splits
        return state is State.EARLY_STOP and self.field == "stop"


def user_guards(guards: Guards) -> Iterator[UserGuard]:
    """Yield the user's guards in the order of the fields of `Guards`."""
    for index, guard in guards.step.items():
        yield UserGuard("step", index, guard)
    for field, own in (("validate", guards.validate), ("save", guards.save), ("stop", guards.stop)):
        if own is not None:
            yield UserGuard(field, None, own)


def opaque_places(guards: Guards) -> frozenset[tuple[str, int | None]]:
    """Return the field and the optimizer of each guard that cannot be read."""
    return frozenset((guard.field, guard.optimizer_i) for guard in user_guards(guards) if guard.is_opaque)


def without_opaque(guards: Guards) -> Guards:
    """Return the guards without those that cannot be read: they may have a memory, so only the run calls them.

    The flags that a guard for validations replaces do not come back: `never` stands in for it.
    """
    opaque = opaque_places(guards)
    stand_ins: dict[str, Any] = {field: never if field == "validate" else None for field, index in opaque if index is None}
    return evolve(guards, step={i: guard for i, guard in guards.step.items() if ("step", i) not in opaque}, **stand_ins)


def may_tell_epochs_apart(guards: Guards, *, by_more_than_order: bool = False) -> bool:
    """Return whether a user's guard may answer differently in two epochs that begin alike.

    Args:
        guards: The guards.
        by_more_than_order: Whether to leave out guards that only compare, as ``after_steps`` does. Their answers change a
            few times in a run, and a plan skips what lies between.
    """
    growing = RUN_TOTALS | {"current_epoch", "epochs_done"}
    for guard in user_guards(guards):
        only_compares = by_more_than_order and not any(
            isinstance(part, Apply) and part.op in ("%", "//", "*") for part in iter_parts(guard.expression)
        )
        grows = any(f.name.split("[")[0] in growing for f in fields_in(guard.expression))
        if guard.is_opaque or (grows and not only_compares):
            return True
    return False
