"""What shows beforehand of a model's own ``optimizer_step``: the loop calls it where a window closes, and it steps or not."""

from __future__ import annotations

from collections.abc import Iterator, Set

from fsmtrain.core.checking.findings import Finding, warning
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.evaluate import compile_expression
from fsmtrain.core.guard_ast.expressions import Expression, fields_in, is_opaque
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.plan import Plan

MAX_HOOK_CALLS = 100_000  # calls of a hook that tells one epoch from another


def hook_findings(loop: LoopSpec, plan: Plan, unknown: Set[int | None]) -> Iterator[Finding]:
    """Optimizers that the model's own hook never steps, or not in every window.

    Nothing of one that cannot be read, nor under truncated BPTT, where the plan does not know the splits of a batch.

    Args:
        loop: The loop.
        plan: Its plan.
        unknown: The optimizers of whose windows the plan knows nothing.
    """
    hook, limits = loop.hook, loop.limits
    if hook is None or is_opaque(hook) or limits.splits_batches:
        return
    by_epoch = any(r.name == "current_epoch" for r in fields_in(hook))
    if by_epoch and sum(plan.optimizer_steps) > MAX_HOOK_CALLS:
        return
    answer = compile_expression(hook)
    for i in range(limits.optimizers):
        if i in unknown or not plan.optimizer_steps[i]:
            continue
        counters, signals = Counters(optimizer_i=i), Signals()
        called: list[int] = []
        stepped = 0
        for group in plan.epochs:
            for epoch in range(group.first, group.first + (group.count if by_epoch else 1)):
                for batch_nb in window_ends(group.epoch.windows[i]):
                    counters.current_epoch, counters.batch_nb = epoch, batch_nb
                    called.append(batch_nb)
                    stepped += bool(answer(limits, counters, signals))
        yield from _hook_finding(loop, hook, i, called, stepped)


def _hook_finding(loop: LoopSpec, hook: Expression, i: int, called: list[int], stepped: int) -> Iterator[Finding]:
    about, limits, guards = f"optimizer_step of optimizer {i}", loop.limits, loop.guards
    when = format_expression(fold(hook, {("counters", "optimizer_i"): i}))
    way_out = f"Let it always step, and say when with Guards(step={{{i}: every_n_batches(n)}})."
    if stepped == 0:
        places = ", ".join(str(batch_nb) for batch_nb in called[:4]) + (", ..." if len(called) > 4 else "")
        steps = "does not step it" if when == "false" else f"steps it only where {when}"
        text_ = (
            f"optimizer {i} never steps in this run: the model's own hook {steps}, and is called where a window closes, which "
            f"is after the batches {places}. {way_out}"
        )
        yield warning(about, text_)
    elif stepped < len(called) and (i in guards.step or any(length > 1 for _, length in limits.windows)):
        text_ = (
            f"the model's own hook steps {stepped:,} of {len(called):,} windows, those where {when}; the gradients of the "
            f"others are left to add up. {way_out}"
        )
        yield warning(about, text_)


def window_ends(windows: tuple[tuple[int, int], ...]) -> Iterator[int]:
    """The batches, from 0, that close windows of these lengths, each (length, how many in a row).

    >>> list(window_ends(((4, 2), (1, 1))))
    [3, 7, 8]
    """
    done = 0
    for length, count in windows:
        for _ in range(count):
            done += length
            yield done - 1


def opaque_hook_findings(loop: LoopSpec) -> Iterator[Finding]:
    """The model's own hook, where it cannot be read, together with windows that it may not know of."""
    hook, limits = loop.hook, loop.limits
    if hook is None or not is_opaque(hook) or limits.epochs == 0:
        return
    given = [f"Guards(step={{{i}: ...}})" for i in sorted(loop.guards.step)]
    if any(length > 1 for _, length in limits.windows):
        given.insert(0, f"accumulate_grad_batches={loop.options.accumulate_grad_batches}")
    if given:
        yield warning(
            "optimizer_step",
            f"with {' and '.join(given)} the model's own hook is called only where a window closes. If it picks batches to "
            f"step at, as in `if batch_nb % 2 == 0`, it may never meet one. Let it always step, or leave the windows single.",
        )
