"""Findings about an overridden ``optimizer_step``: windows that it does not step.

The loop calls the hook only when a window closes. A hook that picks batches by itself may miss them.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import accumulate

from fsmtrain.core.checking.findings import Finding, warning
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.evaluate import compile_expression
from fsmtrain.core.guard_ast.expressions import Expression, fields_in, is_opaque
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.epoch_builder import Windows
from fsmtrain.core.planning.plan_values import Plan

MAX_HOOK_CALLS = 100_000  # of a hook that depends on the epoch


def hook_findings(loop: LoopSpec, plan: Plan, unknown: Set[int | None]) -> Iterator[Finding]:
    """Yield a finding for each optimizer that the model's hook never steps, or not in every window.

    Nothing is reported about a hook that cannot be read, nor under truncated BPTT, where a plan does not know the splits.

    Args:
        loop: The loop.
        plan: Its plan.
        unknown: The optimizers whose windows the plan does not know.
    """
    hook, limits = loop.hook, loop.limits
    if hook is None or is_opaque(hook) or limits.splits_batches:
        return
    by_epoch = any(f.name == "current_epoch" for f in fields_in(hook))
    if by_epoch and plan.global_step * limits.optimizers > MAX_HOOK_CALLS:
        return
    evaluate = compile_expression(hook)
    for i in range(limits.optimizers):
        if i in unknown or not any(group.epoch.windows[i] for group in plan.epochs):
            continue
        counters, signals = Counters(optimizer_i=i), Signals()
        calls: list[int] = []  # the batch of each call
        steps = 0
        for group in plan.epochs:
            for epoch in range(group.first, group.first + (group.count if by_epoch else 1)):
                for batch_nb in window_ends(group.epoch.windows[i]):
                    counters.current_epoch, counters.batch_nb = epoch, batch_nb
                    calls.append(batch_nb)
                    steps += bool(evaluate(limits, counters, signals))
        yield from _hook_finding(loop, hook, i, calls, steps)


def _hook_finding(loop: LoopSpec, hook: Expression, i: int, calls: list[int], steps: int) -> Iterator[Finding]:
    about, has_long_windows = f"optimizer_step of optimizer {i}", any(length > 1 for _, length in loop.limits.windows)
    condition = format_expression(fold(hook, {("counters", "optimizer_i"): i}))
    way_out = f"Let it always step, and choose the batches with Guards(step={{{i}: every_n_batches(n)}})."
    if steps == 0:
        batches = ", ".join(map(str, calls[:4])) + (", ..." if len(calls) > 4 else "")
        what = "does not step it" if condition == "false" else f"steps it only if {condition}"
        yield warning(
            about,
            f"optimizer {i} never steps in this run: the model's optimizer_step {what}, and is called only when a window "
            f"closes, here at batch_nb {batches}. {way_out}",
        )
    elif steps < len(calls) and (i in loop.guards.step or has_long_windows):
        yield warning(
            about,
            f"the model's optimizer_step steps {steps:,} of {len(calls):,} windows, those with {condition}; the gradients of "
            f"the others keep adding up. {way_out}",
        )


def window_ends(windows: Windows) -> Iterator[int]:
    """Return the batches, from 0, that close windows of these lengths, each (length, how many in a row).

    >>> list(window_ends(((4, 2), (1, 1))))
    [3, 7, 8]
    """
    ends = accumulate(length for length, count in windows for _ in range(count))
    return (end - 1 for end in ends)


def opaque_hook_findings(loop: LoopSpec) -> Iterator[Finding]:
    """Yield a finding if the model's hook cannot be read and there are windows that it may not expect."""
    hook, limits = loop.hook, loop.limits
    if hook is None or not is_opaque(hook) or limits.epochs == 0:
        return
    settings = [f"Guards(step={{{i}: ...}})" for i in sorted(loop.guards.step)]
    follows_flag = any(i not in loop.guards.step for i in range(limits.optimizers))
    if follows_flag and any(length > 1 for _, length in limits.windows):
        settings.insert(0, f"accumulate_grad_batches={loop.options.accumulate_grad_batches}")
    if settings:
        yield warning(
            "optimizer_step",
            f"with {' and '.join(settings)} the model's optimizer_step is called only when a window closes. If it picks "
            f"batches by itself, as in `if batch_nb % 2 == 0`, it may miss them all. Let it always step, or use windows of one "
            f"batch.",
        )
