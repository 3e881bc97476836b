"""Findings from the plan of a run: patience that is too long, guards that never fire, schedulers longer than the run.

The plan is worked out with the user's guards that can be read. The others may have a memory, so that only the run calls
them, and nothing is reported that depends on their answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import evolve, frozen

from fsmtrain.core.checking.findings import Finding, error, warning
from fsmtrain.core.checking.guard_probes import GuardProbe, with_probes
from fsmtrain.core.checking.guards_to_check import UserGuard, may_tell_epochs_apart, opaque_places, without_opaque
from fsmtrain.core.checking.optimizer_step_checks import hook_findings
from fsmtrain.core.checking.stop_guard_checks import stop_guard_findings
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.folding import facts
from fsmtrain.core.fractions_to_batches import is_switched_off
from fsmtrain.core.guard_ast.expressions import fields_in
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.core.sizes import Schedule
from fsmtrain.early_stopping import is_of_validation
from fsmtrain.errors import GuardError
from fsmtrain.plurals import plural

# Counters and signals that have the same values wherever windows close and validations take place.
_INDEPENDENT = frozenset(
    {"batch_nb", "current_epoch", "epochs_done", "batches_begun", "split_nb", "optimizer_i", "batch_splits"}
)


def nb_schedule_batches(loop: LoopSpec) -> int:
    """Return how many train batches may have to be simulated for the plan, counted for each optimizer."""
    limits = loop.limits
    epochs = min(limits.epochs, limits.max_steps or limits.epochs)  # each epoch has a step
    if not may_tell_epochs_apart(without_opaque(loop.guards), by_more_than_order=True):
        epochs = min(epochs, limits.val_check_epochs * len(limits.windows) + 2)
    return epochs * limits.train_batches * limits.optimizers * (2 if limits.stops_early else 1)


def schedule_findings(loop: LoopSpec, examples: Mapping[str, tuple[str, ...]]) -> tuple[list[Finding], list[GuardProbe]]:
    """Return the findings from the plan, and the guards that contradicted their source while it was worked out.

    Args:
        loop: A loop without streams.
        examples: For the name of a guard, the path to a moment at which it holds, whether it is called there or not.
    """
    guards, probes = with_probes(without_opaque(loop.guards))
    try:
        plan = make_plan(evolve(loop, guards=guards) if loop.guards != Guards() else loop)
    except GuardError as failure:
        return [error("the run cannot reach its end", str(failure))], []
    checks = _ScheduleChecks(loop=loop, plan=plan, examples=examples, opaque=opaque_places(loop.guards))
    return list(checks.findings(probes)), [probe for probe in probes if probe.disagreement is not None]


@frozen(kw_only=True)
class _ScheduleChecks:
    loop: LoopSpec
    plan: Plan
    examples: Mapping[str, tuple[str, ...]]
    opaque: frozenset[tuple[str, int | None]]  # field and optimizer of each guard that cannot be read

    def findings(self, probes: list[GuardProbe]) -> Iterator[Finding]:
        for probe in probes:
            stands_in = (probe.user_guard.field, probe.user_guard.optimizer_i) in self.opaque
            if not stands_in and not probe.has_fired and self._is_certain(probe.user_guard):
                yield self._never_fires(probe)
            elif probe.user_guard.field == "stop" and not stands_in and self._is_certain(probe.user_guard):
                yield from stop_guard_findings(evolve(self.loop, guards=without_opaque(self.loop.guards)), self.plan)
        yield from self._validation_findings()
        yield from self._patience_findings()
        for index, schedule in enumerate(self.loop.sizes.schedulers):
            yield from self._scheduler_findings(f"scheduler {index}", schedule, self.plan.scheduler_steps[index])
        yield from hook_findings(self.loop, self.plan, {i for name, i in self.opaque if name == "step"})

    # ---- guards

    def _is_certain(self, guard: UserGuard) -> bool:
        """Return whether the guard's calls in the plan depend on no opaque guard and on no signal."""
        if any(f.record == "signals" for f in fields_in(fold(guard.expression, facts(self.loop.limits, self.loop.guards)))):
            return False
        if not any(name in ("step", "validate") for name, _ in self.opaque):
            return True
        return all(f.record == "limits" or f.name in _INDEPENDENT for f in fields_in(guard.expression))

    def _never_fires(self, probe: GuardProbe) -> Finding:
        guard, limits = probe.user_guard, self.loop.limits
        epochs = limits.epochs if limits.has_max_epochs else self.plan.nb_epochs
        run = f"this run of {plural(epochs, 'epoch')} of {plural(limits.train_batches, 'batch')}"
        condition = format_expression(fold(guard.expression, facts(limits, self.loop.guards)))
        example = self.examples.get(guard.name, ())
        if guard.field == "validate" and not limits.validates:
            return warning(guard.place, "it is never called, because there is nothing to validate.")
        if guard.field == "stop" and not probe.was_called:
            text = f"it is never called: min_nb_epochs={limits.min_epochs} allows no stop before the end. Lower the flag."
            return warning(guard.place, text)
        if guard.field == "stop" and example:
            return warning(
                guard.place,
                f"it never stops {run}: it holds only when no stop is allowed, before min_nb_epochs={limits.min_epochs} "
                f"epochs{f' and min_steps={limits.min_steps} steps' if limits.min_steps else ''} are done. Let it hold from "
                f"some batch on (>=).",
                example,
            )
        consequence = {
            "step": f"only the epoch's last batch closes the windows of optimizer {guard.optimizer_i}",
            "validate": "no validation takes place",
            "save": "no checkpoint is written",
            "stop": "it never stops the run",
        }[guard.field]
        return warning(guard.place, f"it never fires in {run}, so {consequence}. It waits for: {condition}.", example)

    # ---- validation

    def _validation_findings(self) -> Iterator[Finding]:
        options, guards = self.loop.options, self.loop.guards
        if guards.validate is None and not self.plan.validations and _can_validate(self.loop):
            yield warning(
                f"check_val_every_n_epoch={options.check_val_every_n_epoch}",
                f"there are val loaders, but no validation takes place: the run has {plural(self.plan.nb_epochs, 'epoch')}. "
                f"Lower the flag.",
            )

    def _patience_findings(self) -> Iterator[Finding]:
        rule, limits, validations = self.loop.options.early_stopping, self.loop.limits, self.plan.validations
        if rule is None or not validations or ("validate", None) in self.opaque:
            return
        if not is_of_validation(rule.monitor) and self.plan.nb_epochs > max(1, rule.patience):
            return  # if it is a metric of training, each epoch has a value
        patience = max(1, rule.patience)
        if validations <= patience:
            when = "in this run" if validations < patience else "before the last validation"
            yield warning(
                f"early_stop_callback: patience={rule.patience}",
                f"early stopping cannot act {when}: there {'is' if validations == 1 else 'are'} only "
                f"{plural(validations, 'validation')}. Validate more often, train longer, or lower patience.",
            )
        elif limits.min_epochs >= limits.epochs:
            yield warning(
                f"early_stop_callback: min_nb_epochs={limits.min_epochs}",
                f"early stopping cannot act before the end: it waits for all {plural(limits.epochs, 'epoch')}. "
                f"Lower min_nb_epochs, or raise max_nb_epochs.",
            )

    # ---- schedulers

    def _scheduler_findings(self, name: str, schedule: Schedule, steps: int) -> Iterator[Finding]:
        unit = f"{schedule.interval}s"
        if schedule.needs_validation:
            if ("validate", None) in self.opaque or not _can_validate(self.loop):
                return
            if self.plan.validations == 0:
                yield warning(name, "it will never act: it needs a validation metric, and this run has no validation.")
                return
            unit = "validations" if schedule.interval == "validation" else "epochs with a validation"
        elif schedule.interval == "step" and ("step", schedule.optimizer_i) in self.opaque:
            return
        if steps == 0:
            yield warning(
                name,
                f"it will never act: frequency={schedule.frequency} is counted in {unit}, and this run has fewer. "
                f"Lower the frequency, or train longer.",
            )
        elif schedule.length is not None and schedule.length > steps:
            way_out = "Shorten it, or train longer."
            if schedule.interval == "epoch":
                way_out = "Shorten it, or count optimizer steps: {'scheduler': ..., 'interval': 'step'}."
            length = f"it takes {plural(schedule.length, 'step')} to reach its end or last milestone"
            yield warning(name, f"{length}, but the run makes only {steps:,}. {way_out}")
        elif schedule.raises_after_end and schedule.length is not None and schedule.length < steps:
            yield warning(
                name,
                f"it raises an error after {plural(schedule.length, 'step')}, but the run makes {steps:,}. "
                f"Make it as long as the run (total_steps={steps}), or train shorter.",
            )


def missing_metric_findings(loop: LoopSpec) -> Iterator[Finding]:
    """Yield a finding for early stopping and each scheduler that need a metric of the validation, if nothing is validated."""
    if loop.limits.epochs == 0 or _can_validate(loop):
        return
    text = (
        "it will never act: there is nothing to validate, so its metric{name} is missing. It needs a val loader, a "
        "validation_step and val_percent_check > 0."
    )
    rule = loop.options.early_stopping
    if rule is not None and is_of_validation(rule.monitor):
        way_out = " To stop by a metric of training, monitor it by its name, as in EarlyStopping(monitor='loss')."
        yield warning("early_stop_callback", text.format(name=f" {rule.monitor!r}") + way_out)
    for index, schedule in enumerate(loop.sizes.schedulers):
        if schedule.needs_validation:
            yield warning(f"scheduler {index}", text.format(name=""))


def _can_validate(loop: LoopSpec) -> bool:
    """Return whether there is something to validate, whether a validation is ever due or not."""
    return any(n != 0 for n in loop.sizes.val) and not is_switched_off(loop.options, "val_percent_check")
