"""The guards that a user gave, each with its place, and when it is asked."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.guard_ast.expressions import Expression, Opaque, fields_in, is_opaque, iter_parts
from fsmtrain.core.guard_ast.parse import guard_name, parse_guard
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State


@frozen(eq=False)
class UserGuard:
    """One guard of the user's.

    Attributes:
        field: The field of `Guards` that it was given as.
        optimizer_i: The optimizer whose windows it closes; None for what is no step guard.
        guard: The function.
    """

    field: str
    optimizer_i: int | None
    guard: Guard

    @property
    def name(self) -> str:
        """Where it was given: ``step={1: my_guard}``."""
        name = guard_name(self.guard)
        return f"{self.field}={name}" if self.optimizer_i is None else f"{self.field}={{{self.optimizer_i}: {name}}}"

    @property
    def place(self) -> str:
        """The same, for a finding: ``Guards(step={1: my_guard})``."""
        return f"Guards({self.name})"

    @property
    def expression(self) -> Expression:
        """What its source says."""
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
        """Whether what it decides is open in this moment, be something else in the way or not."""
        if self.optimizer_i is not None:
            return state is State.BACKWARD and counters.optimizer_i == self.optimizer_i
        if state is State.ROUND_END:
            return counters.optimizer_i + 1 == limits.optimizers and counters.split_nb + 1 == signals.splits
        return state is State.EARLY_STOP and self.field == "stop"


def user_guards(guards: Guards) -> Iterator[UserGuard]:
    """The user's guards, in the order of the fields of `Guards`."""
    for index, guard in guards.step.items():
        yield UserGuard("step", index, guard)
    for field, own in (("validate", guards.validate), ("save", guards.save), ("stop", guards.stop)):
        if own is not None:
            yield UserGuard(field, None, own)


def without_opaque(guards: Guards) -> Guards:
    """Those guards that can be read; the others may have a memory, and are asked by the run alone."""
    opaque = {(own.field, own.optimizer_i) for own in user_guards(guards) if own.is_opaque}
    kept = {field: None for field, index in opaque if index is None}
    return evolve(guards, step={i: guard for i, guard in guards.step.items() if ("step", i) not in opaque}, **kept)


# Counters that only ever grow: an epoch that a guard sees through one of these is like no other.
_GROWING = frozenset(
    {
        "current_epoch",
        "epochs_done",
        "batches_begun",
        "global_step",
        "validations_done",
        "steps_skipped",
        "round_nb",
        "optimizer_steps",
        "stepped_in",
    }
)


def may_tell_epochs_apart(guards: Guards) -> bool:
    """Whether a guard of the user's may tell one epoch from another that began alike."""
    return any(
        own.is_opaque or any(r.name.split("[")[0] in _GROWING for r in fields_in(own.expression)) for own in user_guards(guards)
    )
