"""Checks a loop before it runs: explores the very table that will run, and reports what is wrong or probably not meant.

The check knows the flags, the sizes and the guards, and nothing of tensors or of what the model's hooks do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

from attrs import asdict, frozen

from fsmtrain.core.counters import Counters, Signals, seen_by
from fsmtrain.core.dispatch import Dispatcher
from fsmtrain.core.exploring import Choice, Exploration, Explorer, Moment
from fsmtrain.core.expressions import fold, is_opaque, name_of, read, reads_of
from fsmtrain.core.folding import facts
from fsmtrain.core.guards import Guard
from fsmtrain.core.plan import Plan, Plannable, plan_of
from fsmtrain.core.planning import looks_at_growth
from fsmtrain.core.states import State
from fsmtrain.core.trace import where

MOST = 100_000  # moments
QUICK = 10_000  # train batches of an epoch, times optimizers


class Severity(Enum):
    """How bad a finding is: an error stops the run before it begins, a warning is shown."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@frozen(kw_only=True)
class Finding:
    """One thing that is wrong, or probably not meant.

    Attributes:
        severity: How bad it is.
        about: The flag or the guard.
        text: What happens, and the way out.
        example: The shortest way there, from the beginning of an epoch, a line a moment; empty where there is none to tell.
    """

    severity: Severity
    about: str
    text: str
    example: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.severity}: {self.about}: {self.text}", *(f"    {line}" for line in self.example)])


@frozen(kw_only=True)
class Report:
    """What a check found. Printed it is a text.

    Attributes:
        findings: Errors first.
        explored: The moments of a run that were looked at.
        bounded: What was not gone through to its end, and why.
        untaken: The rows of the table, by their index, that no run of this configuration takes.
    """

    findings: tuple[Finding, ...]
    explored: int
    bounded: tuple[str, ...]
    untaken: tuple[int, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a run."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    def as_dict(self) -> dict[str, Any]:
        """The report as numbers, strings, lists and dicts."""
        plain: dict[str, Any] = asdict(self, value_serializer=lambda _, __, v: v.value if isinstance(v, Enum) else v)
        return plain

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        looked = f"{self.explored:,} moments of the run were looked at" + "".join(f"; {bound}" for bound in self.bounded)
        return "\n".join([*(map(str, self.findings) if self.findings else ["nothing found"]), f"({looked})"])


def check_of(loop: Plannable, *, most: int = MOST) -> Report:
    """The report on a loop.

    Args:
        loop: The loop.
        most: Moments to look at before the exploration is given up, which the report then says.
    """
    explorer = Explorer(loop.table, loop.limits, tells_totals=looks_at_growth(loop.guards), most=most)
    found = explorer.explore()
    findings = [*_odd(loop, found)]
    if not findings:
        findings = [*_far_from_other_ranks(loop), *_never(loop)]
    findings.sort(key=lambda finding: finding.severity is not Severity.ERROR)
    return Report(
        findings=tuple(findings),
        explored=found.explored,
        bounded=tuple(found.bounded),
        untaken=tuple(i for i in range(len(loop.table.rows)) if i not in found.taken),
    )


def quick_findings(loop: Plannable) -> tuple[Finding, ...]:
    """What can be found in a few milliseconds, for every run to be told before it begins.

    Nothing for very long epochs, nor where a guard cannot be read: it may have a memory, and is asked by the run alone.
    """
    is_long = loop.limits.train_batches * loop.limits.optimizers > QUICK
    is_readable = not any(is_opaque(read(guard)) for _, guard in _own_guards(loop))
    return tuple(_never(loop)) if is_readable and not is_long else ()


# ---- law 1


def _odd(loop: Plannable, found: Exploration) -> Iterator[Finding]:
    """For each state in which not exactly one row holds, its first moment."""
    told: set[tuple[State, bool]] = set()
    for choice in found.odd:
        kind = (choice.moment.state, bool(choice.rows))
        if kind in told:
            continue
        told.add(kind)
        rows = [loop.table.rows[index] for index in choice.rows]
        if rows:
            targets = ", ".join(str(row.to) for row in rows)
            guards = ", ".join(name_of(row.when) for row in rows if row.when is not None) or "rows without a guard"
            text = f"{len(rows)} rows hold at once, to {targets}. Give one of {guards} as `unless` where the other is `when`."
        else:
            text = "no row holds, so the run could not go on. Add a row for this case, or an `unless` without `when`."
        yield Finding(severity=Severity.ERROR, about=f"state {choice.moment.state}", text=text, example=_way(choice))


def _way(choice: Choice) -> tuple[str, ...]:
    path = choice.moment.path()
    shown = path if len(path) <= 6 else path[-6:]
    lines = [_line(moment) for moment in shown]
    return ("...", *lines) if len(shown) < len(path) else tuple(lines)


def _line(moment: Moment) -> str:
    return f"{moment.state} ({where(moment.counters)})"


# ---- ranks


def _own_guards(loop: Plannable) -> Iterator[tuple[str, Guard]]:
    """The user's guards with their places."""
    for index, guard in loop.guards.step.items():
        yield f"Guards(step={{{index}: {name_of(guard)}}})", guard
    for name, own in (("check", loop.guards.check), ("save", loop.guards.save), ("stop", loop.guards.stop)):
        if own is not None:
            yield f"Guards({name}={name_of(own)})", own


def _far_from_other_ranks(loop: Plannable) -> Iterator[Finding]:
    known = facts(loop.limits, loop.guards)
    for place, guard in _own_guards(loop):
        reads = reads_of(fold(read(guard), known))
        # Every step of truncated BPTT depends on a batch's splits, whoever asks for them.
        local = sorted(r.name for r in reads if r.record == "signals" and seen_by(r.name) == "one rank" and r.name != "splits")
        if local:
            yield Finding(
                severity=Severity.WARNING,
                about=place,
                text=f"it reads {', '.join(local)}, which ranks may see differently. Ranks that take different transitions "
                f"wait for each other for ever. Decide by counters instead.",
            )


# ---- what never happens


def _never(loop: Plannable) -> Iterator[Finding]:
    limits = loop.limits
    if limits.epochs == 0 or limits.train_is_stream or limits.evaluates_stream:
        return
    yield from _guards_that_never_fire(loop)
    plan = plan_of(loop)
    yield from _checks_that_never_come(loop, plan)
    for index, (schedule, steps) in enumerate(zip(loop.sizes.schedulers, plan.scheduler_steps, strict=True)):
        name = f"scheduler {index}"
        if schedule.needs_check and steps == 0:
            text = "it waits for a metric of a check, and there is none in this run. See val_check_interval and the val loader."
            yield Finding(severity=Severity.WARNING, about=name, text=text)
        elif steps == 0:
            text = f"it acts every {schedule.frequency} {schedule.interval}s, and the run has fewer. Lower its frequency."
            yield Finding(severity=Severity.WARNING, about=name, text=text)
        elif schedule.length is not None and schedule.length > steps:
            text = f"it takes {schedule.length:,} steps to its end, and the run has {steps:,} for it."
            yield Finding(severity=Severity.WARNING, about=name, text=text)


def _guards_that_never_fire(loop: Plannable) -> Iterator[Finding]:
    """Walk the run once, and see which of the user's guards ever answer True."""
    own = [(place, guard) for place, guard in _own_guards(loop) if not is_opaque(read(guard))]
    silent = {id(guard) for _, guard in own}
    limits = loop.limits
    if not own or limits.epochs * max(1, limits.train_batches) > MOST:
        return
    counters, signals = Counters.begin(limits.optimizers), Signals(splits=loop.splits)
    run = Dispatcher(loop.table, limits, counters, signals, {})
    while not run.is_finished and silent:
        if run.state in (State.BACKWARD, State.ROUND_END, State.EARLY_STOP):
            for place, guard in own:
                if id(guard) in silent and _is_asked(place, run.state, counters) and guard(limits, counters, signals):
                    silent.discard(id(guard))
        run.advance()
    for place, guard in own:
        if id(guard) in silent:
            what = "the epoch's last batch alone closes this optimizer's windows" if "step=" in place else "it has no effect"
            yield Finding(
                severity=Severity.WARNING,
                about=place,
                text=f"it never fires in this run of {limits.epochs:,} epochs of {limits.train_batches:,} batches, so {what}.",
            )


def _is_asked(place: str, state: State, counters: Counters) -> bool:
    if "step=" in place:
        return state is State.BACKWARD and f"step={{{counters.optimizer_i}:" in place
    return state is not State.BACKWARD


def _checks_that_never_come(loop: Plannable, plan: Plan) -> Iterator[Finding]:
    options, rule = loop.options, loop.options.early_stopping
    has_val = any(n != 0 for n in loop.sizes.val)
    if has_val and plan.checks == 0 and options.val_percent_check > 0:
        if loop.guards.check is not None:
            about, way_out = f"Guards(check={name_of(loop.guards.check)})", "Let it fire within the run."
        else:
            about = f"check_val_every_n_epoch={options.check_val_every_n_epoch}"
            way_out = f"The run has {plan.epochs[-1].first + plan.epochs[-1].count} epochs; lower the flag."
        text = f"there are val loaders, and no check ever comes. {way_out}"
        yield Finding(severity=Severity.WARNING, about=about, text=text)
    elif rule is not None and has_val and plan.checks <= max(1, rule.patience):
        yield Finding(
            severity=Severity.WARNING,
            about=f"early_stop_callback: patience={rule.patience}",
            text=f"the run has {plan.checks} checks, so that it cannot give out before the end. Check more often, or lower it.",
        )
