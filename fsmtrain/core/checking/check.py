"""The static check: what is wrong with a run, or probably not intended, found before it begins and without training.

It knows the flags, the sizes, the guards and the source of an overridden ``optimizer_step``, but no tensors. It explores the
table that the run will take (`exploration`), and looks at the run's plan (`patience_and_schedule_checks`).
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from fsmtrain.core.checking.exploration import Exploration, Explorer, Moment
from fsmtrain.core.checking.findings import Finding, Report, error, warning
from fsmtrain.core.checking.flag_checks import flag_findings
from fsmtrain.core.checking.guards_to_check import UserGuard, may_tell_epochs_apart, user_guards, without_opaque
from fsmtrain.core.checking.optimizer_step_checks import opaque_hook_findings
from fsmtrain.core.checking.patience_and_schedule_checks import missing_metric_findings, nb_schedule_batches, schedule_findings
from fsmtrain.core.checking.row_choices import Disagreement
from fsmtrain.core.checking.stop_guard_checks import endless_stop_findings
from fsmtrain.core.counters import SIGNALS
from fsmtrain.core.decisions import decisions
from fsmtrain.core.folding import facts, folded, may_stop_early
from fsmtrain.core.guard_ast.expressions import fields_in
from fsmtrain.core.guard_ast.parse import guard_name, mark_opaque
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.core.trace import where
from fsmtrain.core.transition_table import Row, full_table
from fsmtrain.plurals import plural

MAX_EXPLORED_MOMENTS = 100_000
MAX_SCHEDULE_BATCHES = 500_000  # train batches that may have to be simulated, times optimizers
MAX_QUICK_BATCHES = 20_000  # the same for the findings that every run prints

MISREAD_REASON = "its source contradicts what it returns"


def check_loop(loop: LoopSpec, *, max_moments: int = MAX_EXPLORED_MOMENTS) -> Report:
    """Check a loop.

    Args:
        loop: The loop.
        max_moments: The number of moments after which the exploration stops; the report then says so.
    """
    distinguish_totals = may_tell_epochs_apart(without_opaque(loop.guards))
    explorer = Explorer(
        loop.table,
        loop.limits,
        loop.guards,
        distinguish_totals=distinguish_totals,
        max_moments=max_moments,
        beginning=loop.resumes_at,
    )
    explored = explorer.explore()
    if misread := [*_mark_misread_guards(loop, explored)]:
        again = check_loop(loop, max_moments=max_moments)
        return evolve(again, findings=(*misread, *again.findings))
    findings = [*_misread_table_findings(explored), *broken_laws(loop, explored)]
    not_checked = [*explored.not_explored, *_not_checked(loop, explorer)]
    if not findings:
        findings += [*_rank_findings(loop), *_unused_row_findings(loop, explored), *_open_window_findings(loop, explored)]
        batches = nb_schedule_batches(loop)
        if _can_plan(loop) and batches > MAX_SCHEDULE_BATCHES:
            not_checked.append(f"the schedule of {batches:,} batches was not simulated, so nothing is reported about it")
        else:
            findings += _schedule_findings(loop, {name: _path_lines(moment) for name, moment in explored.held.items()})
    return Report(
        findings=tuple(findings),
        nb_moments=explored.nb_moments,
        not_checked=tuple(not_checked),
        unused_rows=tuple(i for i in range(len(loop.table.rows)) if i not in explored.taken),
    )


def quick_findings(loop: LoopSpec) -> tuple[Finding, ...]:
    """Return what can be found in a few milliseconds, to be printed before every run; less if epochs are very long.

    A guard that cannot be read is not called: it may have a memory.
    """
    return tuple(_schedule_findings(loop, {}, max_batches=MAX_QUICK_BATCHES))


# ---- the schedule


def _can_plan(loop: LoopSpec) -> bool:
    limits = loop.limits
    return limits.epochs > 0 and not limits.train_is_stream and not limits.evaluates_stream


def _schedule_findings(
    loop: LoopSpec, examples: dict[str, tuple[str, ...]], max_batches: int = MAX_SCHEDULE_BATCHES
) -> list[Finding]:
    """Return the findings that need no exploration."""
    findings = [*missing_metric_findings(loop), *flag_findings(loop), *opaque_hook_findings(loop)]
    if not _can_plan(loop):
        return [*findings, *endless_stop_findings(loop)]
    if nb_schedule_batches(loop) > max_batches:
        return findings
    planned, contradicting = schedule_findings(loop, examples)
    if not contradicting:
        return [*findings, *planned]
    misread = []
    for probe in contradicting:
        assert probe.disagreement is not None
        assert probe.counters is not None
        misread.append(_misread_finding(probe.user_guard, probe.disagreement, (where(probe.counters),)))
        mark_opaque(probe.user_guard.guard, MISREAD_REASON)
    return [*misread, *_schedule_findings(loop, examples, max_batches)]


# ---- guards that contradict their source


def _misread_finding(guard: UserGuard, disagreement: Disagreement, example: tuple[str, ...]) -> Finding:
    return warning(
        guard.place,
        f"its source gives {disagreement.source_answer}, but it returned {disagreement.answer}. From here on it counts as a "
        f"guard that cannot be read. Has the source been edited, or does it compare with something other than a plain number?",
        example,
    )


def _mark_misread_guards(loop: LoopSpec, explored: Exploration) -> Iterator[Finding]:
    """Mark each user's guard that contradicted its source as opaque, and yield a finding for it."""
    guards = {id(guard.guard): guard for guard in user_guards(loop.guards)}
    for disagreement, moment in explored.disagreements:
        guard = guards.pop(id(disagreement.guard), None)
        if guard is not None:
            mark_opaque(guard.guard, MISREAD_REASON)
            yield _misread_finding(guard, disagreement, _path_lines(moment))


def _misread_table_findings(explored: Exploration) -> Iterator[Finding]:
    """Yield a finding if a guard of the table's own contradicted its source."""
    for disagreement, moment in explored.disagreements[:1]:
        yield error(
            f"the guard {guard_name(disagreement.guard)}",
            f"its source gives {disagreement.source_answer}, but it returned {disagreement.answer}, and the table was built "
            f"from the source. Restart Python, so that source and code are the same.",
            _path_lines(moment),
        )


# ---- law 1: at each moment exactly one row holds, and every run ends


def broken_laws(loop: LoopSpec, explored: Exploration) -> Iterator[Finding]:
    """Yield the errors of a table: no row or several, a run that never ends, gradients that no step applies."""
    for holding, moment in explored.wrong_choices.values():
        yield _choice_error(loop, holding, moment)
    for message, moment in explored.guard_errors.items():
        yield error(f"state {moment.state}", message, _path_lines(moment))
    endless = (
        (explored.past_the_end, "it continues after its last batch or epoch. Give this state a row for the last batch."),
        (explored.endless, "it can return here with all counters unchanged. Let an effect count the rounds."),
    )
    for at, text in endless:
        if at is not None and not explored.wrong_choices:
            yield error(f"state {at.state}", f"the run may never end: {text}", _path_lines(at))
    for moment in explored.unstepped_ends[:1]:
        text = "the epoch ends with gradients that no optimizer has stepped. Close every window before its end."
        yield error(f"state {moment.state}", text, _path_lines(moment))
    trains_an_epoch = loop.limits.epochs > 0 and loop.resumes_at is None  # a resumed run may have all of it behind it
    if explored.is_complete and trains_an_epoch and not explored.wrong_choices and not explored.guard_errors:
        for i in range(loop.limits.optimizers):
            if i not in explored.stepped and not loop.limits.manual_optimization:
                yield error(f"optimizer {i}", "it never steps: no run reaches its `step`.")


def _choice_error(loop: LoopSpec, holding: tuple[int, ...], moment: Moment) -> Finding:
    rows = [loop.table.rows[index] for index in holding]
    if not rows:
        text = "no row holds, so the run cannot continue. Add a row for this case, or one with `unless` and no `when`."
    else:
        targets = ", ".join(str(row.to) for row in rows)
        guards = ", ".join(guard_name(row.when) for row in rows if row.when is not None) or "rows without a guard"
        way_out = f"Use one of {guards} as `when` in one row and `unless` in the other."
        text = f"{len(rows)} rows hold at once, to {targets}. {way_out}"
    return error(f"state {moment.state}", text, _path_lines(moment))


def _path_lines(moment: Moment) -> tuple[str, ...]:
    """Return the last six moments of the path to this one as lines."""
    path = moment.path()
    lines = [f"{step.state} ({where(step.counters)})" for step in path[-6:]]
    return ("...", *lines) if len(lines) < len(path) else tuple(lines)


# ---- rows that a user added


def _unused_row_findings(loop: LoopSpec, explored: Exploration) -> Iterator[Finding]:
    """Yield a finding for each row that no run takes and that is not one of the full table."""
    built_in = {_row_key(row) for row in folded(full_table(decisions(loop.guards)), loop.limits, loop.guards)}
    entered = {State.START, *(loop.table.rows[index].to for index in explored.taken)}
    for index, row in enumerate(loop.table) if explored.is_complete else ():
        if index in explored.taken or _row_key(row) in built_in:
            continue
        if row.source not in entered:
            why = f"no run reaches the state {row.source}"
        elif row.when is not None:
            why = f"{guard_name(row.when)} never holds when it is called there"
        else:
            why = "one of its `unless` guards always holds"
        yield warning(f"row {row.source} -> {row.to}", f"it is never taken: {why}.")


def _row_key(row: Row) -> tuple[object, ...]:
    """Return what two equal rows of different tables have in common."""
    return row.source, row.to, row.then, None if row.when is None else guard_name(row.when), tuple(map(guard_name, row.unless))


# ---- windows that a stop waits for


def _open_window_findings(loop: LoopSpec, explored: Exploration) -> Iterator[Finding]:
    """Yield a finding if a run may stop within an epoch, and the windows of its optimizers never close together there."""
    limits, moment = loop.limits, explored.open_after_batch
    if moment is None or explored.closes_all_windows or not explored.is_complete or limits.optimizers == 1:
        return
    if may_stop_early(limits, loop.guards):
        yield warning(
            f"windows of {limits.optimizers} optimizers",
            f"they never close together before the end of an epoch. So a stop that is due waits for "
            f"{plural(limits.longest_window, 'batch')}, and the batch after closes all windows, some before they are full. Let "
            f"the guards in Guards(step=...) close all windows in one batch from time to time.",
            _path_lines(moment),
        )


# ---- several ranks


def _rank_findings(loop: LoopSpec) -> Iterator[Finding]:
    known = facts(loop.limits, loop.guards)
    for guard in user_guards(loop.guards):
        fields = fields_in(fold(guard.expression, known))
        signals = {field.name: SIGNALS[field.name] for field in fields if field.record == "signals"}
        for name, signal in signals.items():
            if signal.counter:
                text = f"it reads signals.{name}. Read counters.{signal.counter} instead, which it becomes."
                yield warning(guard.place, text)
        local = sorted(name for name, signal in signals.items() if signal.seen_by == "one rank" and not signal.counter)
        if local:
            yield warning(
                guard.place,
                f"it reads {', '.join(local)}, which may differ between ranks. Ranks that take different transitions wait for "
                f"each other forever. Decide by counters instead.",
            )


# ---- what the check does not cover


def _not_checked(loop: LoopSpec, explorer: Explorer) -> Iterator[str]:
    limits = loop.limits
    if limits.train_is_stream or limits.evaluates_stream:
        yield f"streams were tried with up to {explorer.longest_stream} batches; endless streams are not covered"
    if limits.splits_batches:
        yield "batches were tried with up to 3 splits"
    if limits.manual_optimization:
        yield "the steps are decided by training_step: it was tried with none and with one in each batch"
    for guard in user_guards(loop.guards):
        if guard.is_opaque:
            yield f"{guard.place} cannot be read, because {guard.opaque_reason}: both answers were tried, and it was not called"
