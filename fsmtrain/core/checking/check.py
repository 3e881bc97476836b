"""Checks a loop before it runs: explores the very table that will run, and reports what is wrong or probably not meant.

The check knows the flags, the sizes, the guards, and what can be read of the model's ``optimizer_step``; nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator

from fsmtrain.core.checking.exploration import Choice, Exploration, Explorer, Moment
from fsmtrain.core.checking.findings import Finding, Report, error, warning
from fsmtrain.core.checking.optimizer_step_checks import unforeseen_steps
from fsmtrain.core.checking.schedule_checks import length_of, missing_metric, schedule_findings
from fsmtrain.core.checking.user_guards import UserGuard, looks_at_growth, readable, user_guards
from fsmtrain.core.counters import SIGNALS
from fsmtrain.core.decisions import decisions
from fsmtrain.core.folding import facts, folded
from fsmtrain.core.guard_ast.expressions import reads_of
from fsmtrain.core.guard_ast.parse import mark_opaque, name_of
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, full_table
from fsmtrain.core.trace import where

MAX_EXPLORED_MOMENTS = 100_000  # moments
LONG = 500_000  # train batches to be gone through, times optimizers
QUICK = 20_000  # the same, for the part that every run is told


def check_of(loop: LoopSpec, *, most: int = MAX_EXPLORED_MOMENTS) -> Report:
    """The report on a loop.

    Args:
        loop: The loop.
        most: Moments to look at before the exploration is given up, which the report then says.
    """
    tells_totals = looks_at_growth(readable(loop.guards))
    explorer = Explorer(loop.table, loop.limits, loop.guards, tells_totals=tells_totals, most=most)
    found = explorer.explore()
    misread = [*_misread(loop, found)]
    if _mark_all_opaque(loop, found):
        again = check_of(loop, most=most)  # with those guards taken as they answer
        return Report(
            findings=(*misread, *again.findings), explored=again.explored, bounded=again.bounded, untaken=again.untaken
        )
    findings, bounded = [*misread, *broken_laws(loop, found)], [*found.bounded, *_out_of_sight(loop, explorer)]
    if not findings:
        findings += [*_ranks(loop), *_untaken(loop, found)]
        if _has_plan(loop) and length_of(loop) > LONG:
            bounded.append(f"the schedule of {length_of(loop):,} batches was not gone through, so what it shows is not told")
        else:
            findings += _schedule(loop, {name: _way(moment) for name, moment in found.held.items()})
    untaken = tuple(i for i in range(len(loop.table.rows)) if i not in found.taken)
    return Report(findings=tuple(findings), explored=found.explored, bounded=tuple(bounded), untaken=untaken)


def quick_findings(loop: LoopSpec) -> tuple[Finding, ...]:
    """What can be found in a few milliseconds, for every run to be told before it begins; less for very long epochs.

    A guard that cannot be read is not asked: it may have a memory.
    """
    return tuple(_schedule(loop, {}, most=QUICK))


# ---- the schedule


def _has_plan(loop: LoopSpec) -> bool:
    limits = loop.limits
    return limits.epochs > 0 and not limits.train_is_stream and not limits.evaluates_stream


def _schedule(loop: LoopSpec, held: dict[str, tuple[str, ...]], most: int = LONG) -> list[Finding]:
    """What shows without a walk through every moment."""
    findings = [*missing_metric(loop), *unforeseen_steps(loop)]
    if not _has_plan(loop) or length_of(loop) > most:
        return findings
    seen, contradicting = schedule_findings(loop, held)
    if not contradicting:
        return [*findings, *seen]
    told = []
    for heard in contradicting:
        assert heard.disagreement is not None
        assert heard.at is not None
        told.append(_contradiction(heard.own, heard.disagreement.says, heard.disagreement.answers, (where(heard.at),)))
        mark_opaque(heard.own.guard, MISREAD_GUARD)
    return [*told, *_schedule(loop, held, most)]


# ---- guards whose source misleads

MISREAD_GUARD = "its source says otherwise than it answers"


def _contradiction(own: UserGuard, says: object, answers: object, example: tuple[str, ...]) -> Finding:
    return warning(
        own.place,
        f"its source says {says} where it answers {answers}. It is taken as it answers, and told by its name alone. Has the "
        f"source been edited, or does it compare with something else than a plain number?",
        example,
    )


def _misread(loop: LoopSpec, found: Exploration) -> Iterator[Finding]:
    """Each guard that contradicted its source, once: the user's; or else one of the table's own."""
    own = {id(one.guard): one for one in user_guards(loop.guards)}
    told: set[int] = set()
    blamed = [(seen, moment) for seen, moment in found.disagreements if id(seen.guard) in own]
    for seen, moment in blamed:
        if id(seen.guard) not in told:
            told.add(id(seen.guard))
            yield _contradiction(own[id(seen.guard)], seen.says, seen.answers, _way(moment))
    for seen, moment in found.disagreements[:1] if not blamed else ():
        yield error(
            f"the guard {name_of(seen.guard)}",
            f"its source says {seen.says} where it answers {seen.answers}, and the table was folded by what it says. Restart "
            f"Python, so that source and code are the same.",
            _way(moment),
        )


def _mark_all_opaque(loop: LoopSpec, found: Exploration) -> bool:
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
    for choice in found.odd:
        kind = (choice.moment.state, bool(choice.rows))
        if kind not in told:
            told.add(kind)
            yield _odd(loop, choice)
    first: dict[str, Moment] = {}
    for message, moment in found.raised:
        first.setdefault(message, moment)
    for message, moment in first.items():
        yield error(f"state {moment.state}", message, _way(moment))
    endless = (
        (found.beyond, "it goes on beyond its bounds, since nothing ends it here. Give this state a row for the last batch."),
        (found.circling, "it may come back here with all counters the same, and so for ever. Let an effect count the rounds."),
    )
    for at, text in endless:
        if at is not None and not told:
            yield error(f"state {at.state}", f"a run that may never end: {text}", _way(at))
    if found.unstepped:
        moment = found.unstepped[0]
        text = "the epoch ends with gathered gradients that no optimizer has stepped. Let every window close before."
        yield error(f"state {moment.state}", text, _way(moment))
    if found.is_whole and loop.limits.epochs > 0 and not told and not found.raised:
        for i in range(loop.limits.optimizers):
            if i not in found.stepped:
                yield error(f"optimizer {i}", "it never steps: no run of this table comes to its `step`.")


def _odd(loop: LoopSpec, choice: Choice) -> Finding:
    rows = [loop.table.rows[index] for index in choice.rows]
    if not rows:
        text = "no row holds, so the run could not go on. Add a row for this case, or an `unless` without `when`."
    else:
        targets = ", ".join(str(row.to) for row in rows)
        guards = ", ".join(name_of(row.when) for row in rows if row.when is not None) or "rows without a guard"
        text = f"{len(rows)} rows hold at once, to {targets}. Give one of {guards} as `unless` where the other is `when`."
    return error(f"state {choice.moment.state}", text, _way(choice.moment))


def _way(moment: Moment) -> tuple[str, ...]:
    path = moment.path()
    lines = [f"{step.state} ({where(step.counters)})" for step in path[-6:]]
    return ("...", *lines) if len(lines) < len(path) else tuple(lines)


# ---- rows that somebody added


def _untaken(loop: LoopSpec, found: Exploration) -> Iterator[Finding]:
    """The rows that no run takes, and that are none of ours."""
    ours = {_explain_law(row) for row in folded(full_table(decisions(loop.guards)), loop.limits, loop.guards)}
    entered = {State.START, *(loop.table.rows[index].to for index in found.taken)}
    for index, row in enumerate(loop.table) if found.is_whole else ():
        if index in found.taken or _explain_law(row) in ours:
            continue
        if row.source not in entered:
            why = f"no run comes to the state {row.source}"
        elif row.when is not None:
            why = f"{name_of(row.when)} never holds there where it is asked"
        else:
            why = "one of its `unless` always holds"
        yield warning(f"row {row.source} -> {row.to}", f"it is never taken: {why}.")


def _explain_law(row: Row) -> tuple[object, ...]:
    """A row as it can be compared with one that was made anew."""
    return row.source, row.to, row.then, None if row.when is None else name_of(row.when), tuple(map(name_of, row.unless))


# ---- ranks


def _ranks(loop: LoopSpec) -> Iterator[Finding]:
    known = facts(loop.limits, loop.guards)
    for own in user_guards(loop.guards):
        reads = reads_of(fold(own.reading, known))
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


def _out_of_sight(loop: LoopSpec, explorer: Explorer) -> Iterator[str]:
    limits = loop.limits
    if limits.train_is_stream or limits.evaluates_stream:
        yield f"streams were tried up to {explorer.longest_stream} batches, and one that never ends is not seen through"
    if limits.splits_batches:
        yield "batches were tried with up to 3 splits"
    for own in user_guards(loop.guards):
        if own.is_opaque:
            yield f"{own.place} cannot be read, as {own.reason}: both its answers were tried, and it was not called"
