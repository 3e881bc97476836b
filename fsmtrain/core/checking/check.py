"""Checks a loop before it runs: explores the very table that will run, and reports what is wrong or probably not meant.

The check knows the flags, the sizes, the guards, and what can be read of the model's ``optimizer_step``; nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsmtrain.core.checking.exploration import Choice, Exploration, Explorer, Moment
from fsmtrain.core.checking.findings import Finding, Report, error, warning
from fsmtrain.core.checking.optimizer_step_checks import opaque_hook_findings
from fsmtrain.core.checking.schedule_checks import missing_metric_findings, nb_schedule_batches, schedule_findings
from fsmtrain.core.checking.user_guards import UserGuard, may_tell_epochs_apart, user_guards, without_opaque
from fsmtrain.core.counters import SIGNALS
from fsmtrain.core.decisions import decisions
from fsmtrain.core.folding import facts, folded
from fsmtrain.core.guard_ast.expressions import fields_in
from fsmtrain.core.guard_ast.parse import guard_name, mark_opaque
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, full_table
from fsmtrain.core.trace import where

MAX_EXPLORED_MOMENTS = 100_000  # moments
MAX_SCHEDULE_BATCHES = 500_000  # train batches to be gone through, times optimizers
MAX_QUICK_BATCHES = 20_000  # the same, for the part that every run is told


def check_loop(loop: LoopSpec, *, max_moments: int = MAX_EXPLORED_MOMENTS) -> Report:
    """The report on a loop.

    Args:
        loop: The loop.
        most: Moments to look at before the exploration is given up, which the report then says.
    """
    tells_totals = may_tell_epochs_apart(without_opaque(loop.guards))
    explorer = Explorer(loop.table, loop.limits, loop.guards, distinguish_totals=tells_totals, max_moments=max_moments)
    found = explorer.explore()
    misread = [*_misread_findings(loop, found)]
    if _mark_misread_guards(loop, found):
        again = check_loop(loop, max_moments=max_moments)  # with those guards taken as they answer
        return Report(
            findings=(*misread, *again.findings),
            nb_moments=again.nb_moments,
            not_checked=again.not_checked,
            unused_rows=again.unused_rows,
        )
    findings, bounded = [*misread, *broken_laws(loop, found)], [*found.not_explored, *_unchecked_parts(loop, explorer)]
    if not findings:
        findings += [*_rank_findings(loop), *_unused_row_findings(loop, found)]
        if _can_plan(loop) and nb_schedule_batches(loop) > MAX_SCHEDULE_BATCHES:
            bounded.append(
                f"the schedule of {nb_schedule_batches(loop):,} batches was not gone through, so what it shows is not told"
            )
        else:
            findings += _schedule_findings(loop, {name: _path_lines(moment) for name, moment in found.held.items()})
    untaken = tuple(i for i in range(len(loop.table.rows)) if i not in found.taken)
    return Report(findings=tuple(findings), nb_moments=found.nb_moments, not_checked=tuple(bounded), unused_rows=untaken)


def quick_findings(loop: LoopSpec) -> tuple[Finding, ...]:
    """What can be found in a few milliseconds, for every run to be told before it begins; less for very long epochs.

    A guard that cannot be read is not asked: it may have a memory.
    """
    return tuple(_schedule_findings(loop, {}, most=MAX_QUICK_BATCHES))


# ---- the schedule


def _can_plan(loop: LoopSpec) -> bool:
    limits = loop.limits
    return limits.epochs > 0 and not limits.train_is_stream and not limits.evaluates_stream


def _schedule_findings(loop: LoopSpec, held: dict[str, tuple[str, ...]], most: int = MAX_SCHEDULE_BATCHES) -> list[Finding]:
    """What shows without a walk through every moment."""
    findings = [*missing_metric_findings(loop), *opaque_hook_findings(loop)]
    if not _can_plan(loop) or nb_schedule_batches(loop) > most:
        return findings
    seen, contradicting = schedule_findings(loop, held)
    if not contradicting:
        return [*findings, *seen]
    told = []
    for heard in contradicting:
        assert heard.disagreement is not None
        assert heard.counters is not None
        told.append(
            _misread_finding(
                heard.user_guard, heard.disagreement.source_answer, heard.disagreement.answer, (where(heard.counters),)
            )
        )
        mark_opaque(heard.user_guard.guard, MISREAD_GUARD)
    return [*told, *_schedule_findings(loop, held, most)]


# ---- guards whose source misleads

MISREAD_GUARD = "its source says otherwise than it answers"


def _misread_finding(own: UserGuard, says: object, answers: object, example: tuple[str, ...]) -> Finding:
    return warning(
        own.place,
        f"its source says {says} where it answers {answers}. It is taken as it answers, and told by its name alone. Has the "
        f"source been edited, or does it compare with something else than a plain number?",
        example,
    )


def _misread_findings(loop: LoopSpec, found: Exploration) -> Iterator[Finding]:
    """Each guard that contradicted its source, once: the user's; or else one of the table's own."""
    own = {id(one.guard): one for one in user_guards(loop.guards)}
    told: set[int] = set()
    blamed = [(seen, moment) for seen, moment in found.disagreements if id(seen.guard) in own]
    for seen, moment in blamed:
        if id(seen.guard) not in told:
            told.add(id(seen.guard))
            yield _misread_finding(own[id(seen.guard)], seen.source_answer, seen.answer, _path_lines(moment))
    for seen, moment in found.disagreements[:1] if not blamed else ():
        yield error(
            f"the guard {guard_name(seen.guard)}",
            f"its source gives {seen.source_answer}, but the call returned {seen.answer}, and the table was built from the "
            f"source. Restart Python, so that source and code are the same.",
            _path_lines(moment),
        )


def _mark_misread_guards(loop: LoopSpec, found: Exploration) -> bool:
    """Have the user's guards that contradicted their sources taken for opaque from now on; whether there were any."""
    own = {id(one.guard) for one in user_guards(loop.guards)}
    guards = [seen.guard for seen, _ in found.disagreements if id(seen.guard) in own]
    for guard in guards:
        mark_opaque(guard, MISREAD_GUARD)
    return bool(guards)


# ---- law 1: in each moment one row holds, and every run comes to its end


def broken_laws(loop: LoopSpec, found: Exploration) -> Iterator[Finding]:
    """The errors of a table: where not exactly one row holds, what never ends, gradients that no step takes."""
    told: set[tuple[State, bool]] = set()
    for choice in found.wrong_choices:
        kind = (choice.moment.state, bool(choice.rows))
        if kind not in told:
            told.add(kind)
            yield _choice_error(loop, choice)
    first: dict[str, Moment] = {}
    for message, moment in found.guard_errors:
        first.setdefault(message, moment)
    for message, moment in first.items():
        yield error(f"state {moment.state}", message, _path_lines(moment))
    endless = (
        (
            found.past_the_end,
            "it goes on beyond its bounds, since nothing ends it here. Give this state a row for the last batch.",
        ),
        (found.endless, "it may come back here with all counters the same, and so for ever. Let an effect count the rounds."),
    )
    for at, text in endless:
        if at is not None and not told:
            yield error(f"state {at.state}", f"a run that may never end: {text}", _path_lines(at))
    if found.unstepped_ends:
        moment = found.unstepped_ends[0]
        text = "the epoch ends with gathered gradients that no optimizer has stepped. Let every window close before."
        yield error(f"state {moment.state}", text, _path_lines(moment))
    if found.is_complete and loop.limits.epochs > 0 and not told and not found.guard_errors:
        for i in range(loop.limits.optimizers):
            if i not in found.stepped:
                yield error(f"optimizer {i}", "it never steps: no run of this table comes to its `step`.")


def _choice_error(loop: LoopSpec, choice: Choice) -> Finding:
    rows = [loop.table.rows[index] for index in choice.rows]
    if not rows:
        text = "no row holds, so the run could not go on. Add a row for this case, or an `unless` without `when`."
    else:
        targets = ", ".join(str(row.to) for row in rows)
        guards = ", ".join(guard_name(row.when) for row in rows if row.when is not None) or "rows without a guard"
        text = f"{len(rows)} rows hold at once, to {targets}. Give one of {guards} as `unless` where the other is `when`."
    return error(f"state {choice.moment.state}", text, _path_lines(choice.moment))


def _path_lines(moment: Moment) -> tuple[str, ...]:
    path = moment.path()
    lines = [f"{step.state} ({where(step.counters)})" for step in path[-6:]]
    return ("...", *lines) if len(lines) < len(path) else tuple(lines)


# ---- rows that somebody added


def _unused_row_findings(loop: LoopSpec, found: Exploration) -> Iterator[Finding]:
    """The rows that no run takes, and that are none of ours."""
    ours = {_row_key(row) for row in folded(full_table(decisions(loop.guards)), loop.limits, loop.guards)}
    entered = {State.START, *(loop.table.rows[index].to for index in found.taken)}
    for index, row in enumerate(loop.table) if found.is_complete else ():
        if index in found.taken or _row_key(row) in ours:
            continue
        if row.source not in entered:
            why = f"no run comes to the state {row.source}"
        elif row.when is not None:
            why = f"{guard_name(row.when)} never holds there where it is asked"
        else:
            why = "one of its `unless` always holds"
        yield warning(f"row {row.source} -> {row.to}", f"it is never taken: {why}.")


def _row_key(row: Row) -> tuple[object, ...]:
    """A row as it can be compared with one that was made anew."""
    return row.source, row.to, row.then, None if row.when is None else guard_name(row.when), tuple(map(guard_name, row.unless))


# ---- ranks


def _rank_findings(loop: LoopSpec) -> Iterator[Finding]:
    known = facts(loop.limits, loop.guards)
    for own in user_guards(loop.guards):
        reads = fields_in(fold(own.expression, known))
        # Every step of truncated BPTT depends on a batch's splits, whoever asks for them.
        local = sorted(
            r.name for r in reads if r.record == "signals" and SIGNALS[r.name].seen_by == "one rank" and r.name != "splits"
        )
        if local:
            yield warning(
                own.place,
                f"it reads {', '.join(local)}, which ranks may see differently. Ranks that take different transitions wait for "
                f"each other for ever. Decide by counters instead.",
            )


# ---- what the check cannot see


def _unchecked_parts(loop: LoopSpec, explorer: Explorer) -> Iterator[str]:
    limits = loop.limits
    if limits.train_is_stream or limits.evaluates_stream:
        yield f"streams were tried up to {explorer.longest_stream} batches, and one that never ends is not seen through"
    if limits.splits_batches:
        yield "batches were tried with up to 3 splits"
    for own in user_guards(loop.guards):
        if own.is_opaque:
            yield f"{own.place} cannot be read, as {own.opaque_reason}: both its answers were tried, and it was not called"
