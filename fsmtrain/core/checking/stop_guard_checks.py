"""Findings about ``Guards(stop=)``: it holds from the beginning on, or ``min_nb_epochs`` keeps it from acting."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from fsmtrain.core.checking.findings import Finding, warning
from fsmtrain.core.checking.guards_to_check import UserGuard, user_guards
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.evaluate import compile_expression
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.plurals import plural


def stop_guard_findings(loop: LoopSpec, plan: Plan) -> Iterator[Finding]:
    """Yield a finding if the stop guard, whose answers depend on no signal, stops the run otherwise than it says.

    Args:
        loop: The loop, with guards that can be read.
        plan: Its plan.
    """
    limits = loop.limits
    if plan.nb_epochs < limits.epochs and _holds_at_the_beginning(loop):
        yield _always_finding(loop, f", after {plural(plan.global_step, 'step')}")
    elif limits.min_epochs > 0:
        free = make_plan(evolve(loop, options=evolve(loop.options, min_nb_epochs=0)))
        if free.global_step < plan.global_step:
            yield warning(
                _stop_guard(loop).place,
                f"by itself it would stop the run after {plural(free.global_step, 'step')}, but "
                f"min_nb_epochs={limits.min_epochs} allows no stop before {plural(limits.min_epochs, 'epoch')}, so the run "
                f"makes {plan.global_step:,}. To stop earlier pass min_nb_epochs=0.",
            )


def endless_stop_findings(loop: LoopSpec) -> Iterator[Finding]:
    """Yield a finding if the stop guard of a loop that cannot be planned holds from the beginning on, or may never act."""
    limits = loop.limits
    if loop.guards.stop is None or limits.epochs == 0:
        return
    if not _stop_guard(loop).is_opaque and _holds_at_the_beginning(loop):
        yield _always_finding(loop, "")
    elif limits.train_is_stream and limits.min_epochs > 0:
        yield warning(
            _stop_guard(loop).place,
            f"min_nb_epochs={limits.min_epochs} allows no stop before the train loader, which has no length, has come to its "
            f"end{f' {limits.min_epochs} times' if limits.min_epochs > 1 else ''}; if it never does, the run never stops. To "
            f"stop within its first epoch pass min_nb_epochs=0.",
        )


def _holds_at_the_beginning(loop: LoopSpec) -> bool:
    """Return whether the stop guard, which can be read, holds before the first batch."""
    try:
        holds = compile_expression(_stop_guard(loop).expression)
        return bool(holds(loop.limits, Counters.begin(loop.limits.optimizers), Signals()))
    except (ArithmeticError, AttributeError, IndexError, TypeError):
        return False  # it fails at its first call, which says so


def _always_finding(loop: LoopSpec, end: str) -> Finding:
    """Return the finding about a stop guard that holds from the beginning on."""
    return warning(
        _stop_guard(loop).place,
        f"it holds before the first batch already, so the run ends as soon as min_nb_epochs={loop.limits.min_epochs} "
        f"allows{end}. Let it wait for something, as after_steps(n) does.",
    )


def _stop_guard(loop: LoopSpec) -> UserGuard:
    [guard] = [guard for guard in user_guards(loop.guards) if guard.field == "stop"]
    return guard
