"""Fold the full table for one configuration: remove the rows that it can never take, and the effects that do nothing.

`facts` lists what is constant in every run with these limits; each fact has its reason beside it. Folding only removes:
what holds for the full table holds for the folded one, as long as the facts are true.
"""

from __future__ import annotations

from attrs import evolve, fields

from fsmtrain.core import effects as do
from fsmtrain.core.accumulation_scaling import windows_are_single
from fsmtrain.core.counters import SIGNAL_DEFAULTS, SIGNALS
from fsmtrain.core.custom_guards import Checked, Guards
from fsmtrain.core.effects import AnyEffect
from fsmtrain.core.guard_ast.expressions import FALSE, TRUE, Expression, Fact
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table

Known = dict[tuple[str, str], Fact]


def may_change(signal: str, limits: Limits) -> bool:
    """Return whether a signal can ever differ from its default in a run with these limits."""
    needs = SIGNALS[signal].needs
    return not needs or bool(getattr(limits, needs))


def may_stop_early(limits: Limits, guards: Guards) -> bool:
    """Return whether a run may end within an epoch, or before ``max_nb_epochs``, by itself."""
    has_limit = limits.max_steps > 0 or limits.has_max_time or limits.is_past_last_epoch
    return has_limit or limits.stops_early or guards.stop is not None


def facts(limits: Limits, guards: Guards) -> Known:
    """Return the fields that are constant in every state of this configuration, with their values."""
    known: Known = {
        ("limits", f.name): value for f in fields(Limits) if isinstance(value := getattr(limits, f.name), (bool, int))
    }
    if limits.optimizers == 1:
        known["counters", "optimizer_i"] = 0
    if not limits.splits_batches:  # a batch is one split
        known["counters", "split_nb"] = 0
        known["counters", "batch_splits"] = 1
    if not limits.has_own_step:
        known["counters", "steps_made"] = 1
    known |= {("signals", name): SIGNAL_DEFAULTS[name] for name in SIGNALS if not may_change(name, limits)}
    if not may_stop_early(limits, guards):
        known["counters", "epoch_ended_early"] = False
    if not limits.saves_end:
        known["counters", "ending"] = 0
    if windows_are_single(limits, guards):
        known["counters", "window_length"] = 1
    if windows_are_single(limits, guards) or not may_stop_early(limits, guards):
        known["counters", "batches_waited"] = 0
    return known


def facts_at(state: State, limits: Limits, guards: Guards) -> Known:
    """Return the fields that are constant when the guards of one state are asked, beside `facts`."""
    known: Known = {}
    if state is State.ROUND_END and limits.val_check_epochs == 1:  # every epoch has validations
        known["counters", "epochs_since_validation"] = 1
    if state is State.BACKWARD and len(limits.windows) == 1 and limits.windows[0][0] == 0:  # K is the same in every epoch
        known["counters", "window_length"] = limits.windows[0][1]
    if windows_are_single(limits, guards):
        if state is State.TRAIN_BATCH:  # the backward before has been stepped
            known["counters", "gathered"] = 0
        elif state is State.BACKWARD:  # the window holds the backward that has just run
            known["counters", "gathered"] = 1
        elif state in (State.ROUND_END, State.EARLY_STOP):  # each backward has been stepped
            known["counters", "open_windows"] = 0
    return known


def _idle(limits: Limits, guards: Guards) -> frozenset[AnyEffect]:
    """Return the effects that change nothing in this configuration, or nothing that is read."""
    idle: set[AnyEffect] = set()
    if limits.optimizers == 1:
        idle.add(do.first_turn)
    if not limits.splits_batches:
        idle |= {do.begin_rounds, do.count_splits}
    if guards.save is None and not limits.saves_end:
        idle.add(do.reset_saved)
    if not limits.may_return_none or windows_are_single(limits, guards):
        idle |= {do.leave_out, do.reset_left_out}
    if not limits.has_own_step:
        idle.add(do.count_own_steps)
    if guards == Guards():  # only users' guards read what these count
        idle |= {do.begin_round, do.note_step}
    return frozenset(idle)


def folded(table: Table, limits: Limits, guards: Guards) -> Table:
    """Return the table of one configuration, without the states that it cannot reach."""
    known, idle = facts(limits, guards), _idle(limits, guards)
    rows = []
    for source in table.states:
        here = {**known, **facts_at(source, limits, guards)}
        for case in table.leaving(source):
            kept = _fold_row(case, here)
            if kept is not None:
                rows.append(evolve(kept, then=tuple(effect for effect in kept.then if effect not in idle)))
    return _reachable(Table(tuple(rows)))


def _is_users_guard(guard: Checked) -> bool:
    """Return True for every guard of a user's: its source may mislead, so no row is folded away by what it says."""
    return True


def _fold_row(case: Row, known: Known) -> Row | None:
    """Return the row without the guards that are decided; None if it can never be taken."""
    asked = TRUE if case.when is None else fold(parse_guard(case.when, keep_opaque=_is_users_guard), known)
    if asked == FALSE:
        return None
    unless: list[Guard] = []
    settled: list[Expression] = [FALSE]  # known to be false, or asked already
    for guard in case.unless:
        decided = fold(parse_guard(guard, keep_opaque=_is_users_guard), known)
        if decided in (TRUE, asked):  # what must not hold is the very thing that must
            return None
        if decided not in settled:
            unless.append(guard)
            settled.append(decided)
    return evolve(case, when=None if asked == TRUE else case.when, unless=tuple(unless))


def _reachable(table: Table) -> Table:
    """Return the rows that can be reached from the start."""
    met, new = {State.START}, [State.START]
    while new:
        for case in table.leaving(new.pop()):
            if case.to not in met:
                met.add(case.to)
                new.append(case.to)
    return Table(tuple(case for case in table if case.source in met))
