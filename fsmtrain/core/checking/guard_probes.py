"""Listens to the user's guards while a plan is worked out: which are asked, which fire, which contradict their source."""

from __future__ import annotations

from attrs import define, evolve, field, frozen

from fsmtrain.core.checking.row_choices import Disagreement, compare_with_source
from fsmtrain.core.checking.user_guards import UserGuard, user_guards
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Checked, Guards
from fsmtrain.core.guard_ast.evaluate import Evaluator, compile_expression
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits


@define(eq=False)
class GuardProbe:
    """What was heard of one guard."""

    user_guard: UserGuard
    evaluate: Evaluator
    was_called: bool = False
    has_fired: bool = False
    disagreement: Disagreement | None = None
    counters: Counters | None = None  # of the disagreement


@frozen(eq=False)
class _ProbedGuard(Checked):
    """The user's guard, overheard."""

    probe: GuardProbe = field(kw_only=True)

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        answer, heard = self.guard(limits, counters, signals), self.probe
        heard.was_called = True
        heard.has_fired = heard.has_fired or answer
        if heard.disagreement is None:
            heard.disagreement = compare_with_source(self.guard, answer, heard.evaluate, (limits, counters, signals))
            heard.counters = counters.copy() if heard.disagreement is not None else None
        return answer


def with_probes(guards: Guards) -> tuple[Guards, list[GuardProbe]]:
    """The same guards, and where what is heard of each will be written down."""
    all_heard = [GuardProbe(own, compile_expression(own.expression)) for own in user_guards(guards)]
    step: dict[int, Guard] = {}
    others: dict[str, Guard] = {}
    for heard in all_heard:
        own = heard.user_guard
        guard = _ProbedGuard(own.guard, own.name, False, probe=heard)
        if own.optimizer_i is None:
            others[own.field] = guard
        else:
            step[own.optimizer_i] = guard
    return evolve(guards, step=step, **others), all_heard
