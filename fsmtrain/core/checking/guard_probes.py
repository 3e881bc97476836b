"""Probes around the user's guards: which are called while a plan is worked out, fire, or contradict their source."""

from __future__ import annotations

from typing import Any

from attrs import define, evolve, field, frozen

from fsmtrain.core.checking.guards_to_check import UserGuard, user_guards
from fsmtrain.core.checking.row_choices import Disagreement, compare_with_source
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Checked, Guards
from fsmtrain.core.guard_ast.evaluate import Evaluator, compile_expression
from fsmtrain.core.limits import Limits


@define(eq=False)
class GuardProbe:
    """What was observed of one guard. `counters` are those of its first disagreement with its source."""

    user_guard: UserGuard
    evaluate: Evaluator
    was_called: bool = False
    has_fired: bool = False
    disagreement: Disagreement | None = None
    counters: Counters | None = None


@frozen(eq=False)
class _ProbedGuard(Checked):
    """A user's guard that records its calls in a probe."""

    probe: GuardProbe = field(kw_only=True)

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        answer, probe = self.guard(limits, counters, signals), self.probe
        probe.was_called = True
        probe.has_fired = probe.has_fired or answer
        if probe.disagreement is None:
            probe.disagreement = compare_with_source(self.guard, answer, probe.evaluate, (limits, counters, signals))
            probe.counters = counters.copy() if probe.disagreement is not None else None
        return answer


def with_probes(guards: Guards) -> tuple[Guards, list[GuardProbe]]:
    """Return the same guards with a probe around each, and the probes."""
    probes = [GuardProbe(guard, compile_expression(guard.expression)) for guard in user_guards(guards)]
    probed = [(p.user_guard, _ProbedGuard(p.user_guard.guard, p.user_guard.name, False, probe=p)) for p in probes]
    step = {own.optimizer_i: guard for own, guard in probed if own.optimizer_i is not None}
    others: dict[str, Any] = {own.field: guard for own, guard in probed if own.optimizer_i is None}
    return evolve(guards, step=step, **others), probes
