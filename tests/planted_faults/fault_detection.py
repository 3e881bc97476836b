"""Who catches a fault: the proofs; the check, or the traces beside those of nested loops, both of these on a small grid."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection
from functools import cache
from unittest.mock import patch

from attrs import evolve

from fsmtrain.core.checking import row_choices
from fsmtrain.core.checking.check import broken_laws
from fsmtrain.core.checking.exploration import Explorer
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.limits import Limits
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.table import Table, full_table
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import SizesError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.loop_model.assumptions import LEGAL_LIMITS, validation_interval_fits
from fsmtrain.prove.prove_all import ALL_CLAIMS, TABLE_CLAIMS, TableClaim, table_violations
from fsmtrain.prove.smt.obligations import Invariants, Obligation, proof_obligations, z3_refutes
from fsmtrain.prove.smt.prove_claim import prove, violations_of
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.transition_system import TransitionSystem, read_guard, system
from fsmtrain.prove.smt.z3_terms import Term
from tests.reference import Event, Every, Replaced, Script
from tests.strategies import Case, World, reset_signals

MAX_MOMENTS = 400  # for the check of one configuration; with a fault its counters may grow for ever


class EverySecondBatch:
    """A guard that cannot be read: in the proofs it may answer anything, in the runs it fires as `Every(2)` does."""

    __name__ = "every_second_batch"

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """After batches 1, 3, 5, ..."""
        return counters.batch_nb % 2 == 1


@cache
def whole_table() -> Table:
    """The table in which faults are planted: the built-in decisions, and a guard for saving, so that no row is idle."""
    return full_table(decisions(Guards(save=EverySecondBatch())))


# ---- the proofs

CLAIMS: tuple[Claim | TableClaim, ...] = (*(claim for claim in ALL_CLAIMS if claim.built_in != "save"), *TABLE_CLAIMS)


def system_of(table: Table, states: Collection[State] = tuple(State), *, shares: bool = False) -> TransitionSystem:
    """A table's transition system, with the built-in decisions; of these states' visits alone."""
    return system(table, legal=(*LEGAL_LIMITS, validation_interval_fits), states=states, shares=shares)


def _bad(system: TransitionSystem, claim: Claim | TableClaim) -> dict[State, Term]:
    return violations_of(system, claim) if isinstance(claim, Claim) else table_violations(system, claim)


@cache
def base() -> TransitionSystem:
    """The system of the table without a fault."""
    return system_of(whole_table())


@cache
def base_invariants(number: int) -> Invariants:
    """The invariants that prove a claim of the table without a fault."""
    proof = prove(base(), _bad(base(), CLAIMS[number]), _known(base(), number))
    assert proof is not None, CLAIMS[number]
    return proof.invariants


def _known(system: TransitionSystem, number: int) -> dict[State, list[Term]]:
    """What the claims before this one give."""
    known: dict[State, list[Term]] = {}
    for claim in CLAIMS[:number]:
        _add(known, _bad(system, claim))
    return known


def _add(known: dict[State, list[Term]], bad: dict[State, Term]) -> None:
    for state, term in bad.items():
        known.setdefault(state, []).append(z3().Not(term))


def lost_claim(table: Table, *, seconds: float = 3.0) -> str | None:
    """The first claim that is no longer proved of a table with a fault; None where all still are.

    A proof of the table without the fault still stands where the obligations of the changed states do. Else a new one is
    looked for.
    """
    changed = {one.source for one, other in zip(table, whole_table(), strict=True) if one != other}
    part = evolve(base(), visits=system_of(table, changed).visits)
    known: dict[State, list[Term]] = {}
    for number, claim in enumerate(CLAIMS):
        bad = _bad(part, claim)
        if not all(map(z3_refutes, proof_obligations(part, bad, known, base_invariants(number)))):
            whole = evolve(part, visits={**base().visits, **part.visits})
            if prove(whole, _bad(whole, claim), _known(whole, number), seconds=seconds) is None:
                return claim.name if isinstance(claim, Claim) else claim
        _add(known, bad)
    return None


def is_equivalent(table: Table) -> bool:
    """Whether a table with a fault provably does what the one without does, at every visit that the claims allow.

    Both tables' rows are translated together, so that both see the same answers of inputs.
    """
    pairs = [(one, other) for one, other in zip(whole_table(), table, strict=True)]
    for state in {one.source for one, other in pairs if one != other}:
        here = [(one, other) for one, other in pairs if one.source is state]
        together = Table((*(one for one, _ in here), *(other for _, other in here)))
        both = system_of(together, (state,), shares=True)
        rows, known = both.visits[state].transitions, _known(base(), len(CLAIMS))[state]
        for one, other in zip(rows[: len(here)], rows[len(here) :], strict=True):
            differs = [one.condition != other.condition]
            if one.row.to is not other.row.to:
                differs.append(one.condition)
            differs += [z3().And(one.condition, term != other.after[field]) for field, term in one.after.items()]
            due = Obligation("the rows do the same", (*both.legal, *both.visits[state].assumed, *known, z3().Or(*differs)))
            if not z3_refutes(due):
                return False
    return True


# ---- the check


@cache
def configurations() -> tuple[tuple[Case, Loop], ...]:
    """The configurations of the grid, each once, whatever comes from outside to them: the check tries that by itself."""
    found: dict[str, tuple[Case, Loop]] = {}
    for case, _, _ in grid():
        loop = Loop(case.options, case.sizes, guards=Guards(save=EverySecondBatch()))
        found.setdefault(f"{case.options} {case.sizes} {case.skips_steps}", (case, loop))
    return tuple(found.values())


def check_finding(table: Table) -> str | None:
    """The first error that the check reports of a table's transitions, in any configuration of the grid."""
    with patch.object(row_choices, "read", lambda guard, whole: read_guard(guard)):  # a planted guard has no source
        for case, loop in configurations():
            changed = copy.copy(loop.spec)
            object.__setattr__(changed, "table", table)
            object.__setattr__(changed, "limits", case.limits)
            explorer = Explorer(table, case.limits, loop.guards, tells_totals=False, most=MAX_MOMENTS)
            try:
                errors = [*broken_laws(changed, explorer.explore())]
            except IndexError:  # an optimizer that there is not
                return "IndexError"
            if errors:
                return f"{errors[0].about}: {errors[0].text}"
    return None


# ---- the traces


def trace(table: Table, case: Case, most: int = 400) -> tuple[list[tuple[object, ...]], State]:
    """The visits of a run through a table, the first row that holds taken at each, and the state in which it ended."""
    limits, counters, signals, world = case.limits, Counters.begin(case.sizes.optimizers), Signals(), World(case)
    state = State.START
    visits: list[tuple[object, ...]] = []
    while not state.is_final and len(visits) < most:
        reset_signals(signals, state)
        world.meets(state, signals)
        visits.append(_position(state, counters))
        row = next((row for row in table.leaving(state) if row.holds(limits, counters, signals)), None)
        if row is None:
            break
        for effect in row.then:
            effect(limits, counters)
        state = row.to
    return visits, state


_IN_ROUND = frozenset({State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROUND_END})
_IN_EPOCH = _IN_ROUND | {State.FETCH, State.SAVE, State.VAL_CHECK, State.EPOCH_END, State.EARLY_STOP}


def _position(state: State, counters: Counters) -> tuple[object, ...]:
    epoch = (counters.current_epoch, counters.batch_nb) if state in _IN_EPOCH else (None, None)
    turn = (counters.split_nb, counters.optimizer_i) if state in _IN_ROUND else (None, None)
    return (state.value, *epoch, *turn, counters.global_step)


def _expected(event: Event) -> tuple[object, ...]:
    return (event.state, event.epoch, event.batch, event.split, event.optimizer, event.global_step)


@cache
def grid() -> tuple[tuple[Case, list[tuple[object, ...]], State], ...]:
    """Small configurations with the visits that the nested loops make: all combinations of the values below."""
    found = []
    for train, k, epochs, optimizers, splits, val, early, stop_at in itertools.product(
        (3, None), (1, 2), (0, 2), (1, 2), (None, 2), ((), (2,), (None,)), (False, True), (None, 0, 9, 14)
    ):
        options = Options(
            accumulate_grad_batches={0: k, 1: 3},
            max_nb_epochs=epochs,
            min_nb_epochs=0 if early else min(1, epochs),
            truncated_bptt_steps=splits and 5,
            early_stop_callback=EarlyStopping(patience=1) if early else None,
            val_check_interval=1 if k == 1 else (2 if train is None else 1.0),
            check_val_every_n_epoch=1 if early else 2,
            nb_sanity_val_steps=1,
        )
        sizes = Sizes(train=train, val=val, test=(2,) if optimizers == 1 else (), optimizers=optimizers, splits=splits or 1)
        script = Script(improved=(True, False), stop_at=stop_at, train=(2, 3), splits=(splits or 1,), skipped=(False, True))
        case = Case(options=options, sizes=sizes, replaced=Replaced(save=Every(n=2)), script=script, skips_steps=k == 2)
        try:
            schedule = case.schedule()
            _ = case.limits
        except SizesError:
            continue
        end = State.STOPPED if schedule.stopped else State.DONE
        found.append((case, [_expected(event) for event in schedule.events], end))
    return tuple(found)


def case_with_another_trace(table: Table) -> Case | None:
    """The first small configuration that a table runs through in another way than the nested loops do."""
    for case, expected, end in grid():
        try:
            if trace(table, case) != (expected, end):
                return case
        except IndexError:
            return case
    return None
