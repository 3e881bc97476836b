"""What a run's schedule shows before it begins: a guard that never fires, a check that never comes, a schedule without an end.

All of it is worked out on a plan, of the guards that can be read alone: the others may have a memory, and are asked by the
run and nobody else. What hangs on their answers is left untold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve, field, frozen

from fsmtrain.core.checking.findings import Finding, error, warning
from fsmtrain.core.checking.guard_probes import GuardProbe, with_probes
from fsmtrain.core.checking.optimizer_step_checks import hook_findings
from fsmtrain.core.checking.user_guards import UserGuard, may_tell_epochs_apart, user_guards, without_opaque
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.folding import facts
from fsmtrain.core.guard_ast.expressions import fields_in
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.plan import Plan
from fsmtrain.core.planning.planner import make_plan
from fsmtrain.core.sizes import Schedule
from fsmtrain.errors import GuardError
from fsmtrain.wording import plural

# What is the same however the windows and checks fall.
_FIXED = frozenset({"batch_nb", "current_epoch", "epochs_done", "batches_begun", "split_nb", "optimizer_i", "splits"})


def nb_schedule_batches(loop: LoopSpec) -> int:
    """The train batches that are gone through, of each optimizer, to work out what a run's plan shows."""
    limits = loop.limits
    kinds = limits.epochs
    if not may_tell_epochs_apart(without_opaque(loop.guards)):
        kinds = min(kinds, limits.val_check_epochs * len(limits.windows) + 2)
    return kinds * limits.train_batches * limits.optimizers * (2 if limits.stops_early else 1)


def schedule_findings(
    loop: LoopSpec, held: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[list[Finding], list[GuardProbe]]:
    """What the plan shows, and the guards that contradicted their sources on the way.

    Args:
        loop: The loop; not one with streams.
        held: For a guard's name, the way to a moment in which it holds, be it asked there or not.
    """
    guards, all_heard = with_probes(without_opaque(loop.guards))
    same: Any = loop
    listened: LoopSpec = evolve(same, guards=guards) if loop.guards != Guards() else loop
    try:
        plan = make_plan(listened)
    except GuardError as raised:
        return [error("the run cannot come to its end", str(raised))], []
    view = _View(loop=loop, plan=plan, held=held or {})
    return list(view.findings(all_heard)), [heard for heard in all_heard if heard.disagreement is not None]


@frozen(kw_only=True)
class _View:
    loop: LoopSpec
    plan: Plan
    held: Mapping[str, tuple[str, ...]]
    unknown: frozenset[tuple[str, int | None]] = field(init=False)  # the guards that cannot be read

    @unknown.default
    def _opaque(self) -> frozenset[tuple[str, int | None]]:
        return frozenset((own.field, own.optimizer_i) for own in user_guards(self.loop.guards) if own.is_opaque)

    def findings(self, all_heard: list[GuardProbe]) -> Iterator[Finding]:
        for heard in all_heard:
            if not heard.has_fired and self._is_certain(heard.user_guard):
                yield self._never_fires(heard)
        yield from self._checks()
        yield from self._patience()
        for index, schedule in enumerate(self.loop.sizes.schedulers):
            yield from self._schedule(f"scheduler {index}", schedule, self.plan.scheduler_steps[index])
        yield from hook_findings(self.loop, self.plan, {i for field, i in self.unknown if field == "step"})

    # ---- guards

    def _is_certain(self, own: UserGuard) -> bool:
        """Whether what was heard of this guard hangs on none that cannot be read, and on nothing from outside."""
        if any(r.record == "signals" for r in fields_in(fold(own.expression, facts(self.loop.limits, self.loop.guards)))):
            return False
        if not any(field in ("step", "validate") for field, _ in self.unknown):
            return True
        return all(r.record == "limits" or r.name in _FIXED for r in fields_in(own.expression))

    def _never_fires(self, heard: GuardProbe) -> Finding:
        own, limits = heard.user_guard, self.loop.limits
        run = f"this run of {plural(limits.epochs, 'epoch')} of {plural(limits.train_batches, 'batch')}"
        when = format_expression(fold(own.expression, facts(limits, self.loop.guards)))
        example = self.held.get(own.name, ())
        if own.field == "validate" and not limits.validates:
            return warning(own.place, "it is never asked: there is nothing to validate.")
        if own.field == "stop" and not heard.was_called:
            return warning(
                own.place,
                f"it is never asked: min_nb_epochs={limits.min_epochs} leaves no room to stop before the end. Lower the flag.",
            )
        if own.field == "stop" and example:
            return warning(
                own.place,
                f"it never stops {run}: it holds only where no stop is taken, that is before min_nb_epochs={limits.min_epochs} "
                f"epochs are done, or while an optimizer has gradients gathered. Let it hold from some batch on (>=).",
                example,
            )
        effect = {
            "step": f"the epoch's last batch alone closes the windows of optimizer {own.optimizer_i}",
            "validate": "no check ever comes",
            "save": "no checkpoint is ever written",
            "stop": "it stops nothing",
        }[own.field]
        return warning(own.place, f"it never fires in {run}, so {effect}. It waits for: {when}.", example)

    # ---- checks

    def _checks(self) -> Iterator[Finding]:
        options, guards = self.loop.options, self.loop.guards
        if guards.validate is not None or self.plan.validations or not _can_validate(self.loop):
            return
        yield warning(
            f"check_val_every_n_epoch={options.check_val_every_n_epoch}",
            f"there are val loaders, and no check ever comes: the run has {plural(self._epochs, 'epoch')}. Lower the flag.",
        )

    def _patience(self) -> Iterator[Finding]:
        rule, limits, checks = self.loop.options.early_stopping, self.loop.limits, self.plan.validations
        if rule is None or not checks or ("validate", None) in self.unknown:
            return
        patience = max(1, rule.patience)
        about = f"early_stop_callback: patience={rule.patience}"
        if checks < patience:
            yield warning(
                about,
                f"the run has {plural(checks, 'validation')}, so it can never give out. Validate more often, train longer or "
                f"lower it.",
            )
        elif checks == patience:
            yield warning(
                about,
                f"the run has {plural(checks, 'validation')}, so that it gives out after the very last one at best. Check more "
                f"often, train longer, or lower it.",
            )
        elif limits.min_epochs >= limits.epochs:
            yield warning(
                f"early_stop_callback: min_nb_epochs={limits.min_epochs}",
                f"early stopping has to wait for all {plural(limits.epochs, 'epoch')} of the run, so that it never "
                f"stops anything. Lower min_nb_epochs, or raise max_nb_epochs.",
            )

    @property
    def _epochs(self) -> int:
        return sum(group.count for group in self.plan.epochs)

    # ---- schedulers

    def _schedule(self, name: str, schedule: Schedule, steps: int) -> Iterator[Finding]:
        unit = "validations" if schedule.needs_validation else f"{schedule.interval}s"
        if schedule.needs_validation:
            if ("validate", None) in self.unknown or not _can_validate(self.loop):
                return
            if self.plan.validations == 0:
                yield warning(name, "it waits for a metric of a check, and there is none in this run, so it will never act.")
                return
            unit = "epochs with a check"
        elif schedule.interval == "step" and ("step", schedule.optimizer_i) in self.unknown:
            return
        if steps == 0:
            yield warning(name, f"it acts every {schedule.frequency} {unit}, and the run has fewer. Lower its frequency.")
        elif schedule.length is not None and schedule.length > steps:
            way_out = "Shorten it, or train longer."
            if schedule.interval == "epoch":
                way_out = "Shorten it, or count optimizer steps: {'scheduler': ..., 'interval': 'step'}."
            text_ = f"it takes {schedule.length:,} steps to its end or last part; the run has {steps:,} for it. {way_out}"
            yield warning(name, text_)
        elif schedule.is_over_then and schedule.length is not None and schedule.length < steps:
            yield warning(
                name,
                f"it has {schedule.length:,} steps and raises an error at the next one; the run has {steps:,} for it, so that "
                f"it ends there. Make it as long as the run (total_steps={steps}), or train shorter.",
            )


def missing_metric_findings(loop: LoopSpec) -> Iterator[Finding]:
    """What waits for a metric where there is nothing to validate."""
    if loop.limits.epochs == 0 or _can_validate(loop):
        return
    waiting = ["early_stop_callback"] if loop.options.early_stopping is not None else []
    waiting += [f"scheduler {index}" for index, schedule in enumerate(loop.sizes.schedulers) if schedule.needs_validation]
    for about in waiting:
        yield warning(
            about,
            "it will never act: there is nothing to validate, so its metric never comes. It needs a val loader, a "
            "validation_step and val_percent_check > 0.",
        )


def _can_validate(loop: LoopSpec) -> bool:
    """Whether there is something to validate, be there a check or not."""
    options = loop.options
    return any(n != 0 for n in loop.sizes.val) and (options.val_percent_check > 0 or options.overfit_pct > 0)
