"""What detects a fault in the table: the proofs, the static check, or traces compared with nested loops."""

from __future__ import annotations

import copy
import dataclasses
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
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.limits import Limits
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Table, full_table
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import SizesError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.prove.claims import ALL_CLAIMS
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.loop_model.assumptions import LEGAL_LIMITS, validation_interval_fits
from fsmtrain.prove.loop_model.effect_ast import read_guard
from fsmtrain.prove.prove_all import TABLE_CLAIMS, all_violations
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3, z3_refutes
from fsmtrain.prove.smt.obligations import Invariants, proof_obligations
from fsmtrain.prove.smt.prove_claim import add_facts, group_of, prove
from fsmtrain.prove.smt.transition_system import Moment, TransitionSystem, transition_system
from fsmtrain.prove.smt.z3_terms import Term
from tests.reference import Event, Every, Replaced, Script
from tests.strategies import Case, ScriptPlayer, reset_signals

MAX_MOMENTS = 400  # that the check explores in one configuration: with a fault, counters may grow for ever
MAX_VISITS = 400  # of one trace


class EverySecondBatch:
    """A guard that cannot be read: in proofs it may answer anything, in runs it fires as `Every(2)` does."""

    __name__ = "every_second_batch"

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether the batch has an odd index."""
        return counters.batch_nb % 2 == 1


@cache
def whole_table() -> Table:
    """Return the table in which faults are planted: built-in decisions, and a save guard, so that every row is used."""
    return full_table(decisions(Guards(save=EverySecondBatch())))


# ---- the proofs

CLAIMS: tuple[Claim | str, ...] = (*(claim for claim in ALL_CLAIMS if claim.built_in != "save"), *TABLE_CLAIMS)


def system_of(table: Table, states: Collection[State] = tuple(State), *, shares_unknowns: bool = False) -> TransitionSystem:
    """Return the transition system of a table with the built-in decisions, with the visits to these states only."""
    legal = (*LEGAL_LIMITS, validation_interval_fits)
    return transition_system(table, legal=legal, states=states, shares_unknowns=shares_unknowns)


@cache
def faultless_system() -> TransitionSystem:
    """Return the transition system of the table without a fault."""
    return system_of(whole_table())


@cache
def faultless_invariants(number: int) -> Invariants:
    """Return the invariants that prove a claim about the table without a fault."""
    system = faultless_system()
    claim = CLAIMS[number]
    group = group_of(system, ALL_CLAIMS, claim) if isinstance(claim, Claim) else []
    proof = prove(system, all_violations(system, claim), facts_before(system, number), group=group)
    assert proof is not None, CLAIMS[number]
    return proof.invariants


def facts_before(system: TransitionSystem, number: int) -> dict[Moment, list[Term]]:
    """Return what the claims before this one say."""
    facts: dict[Moment, list[Term]] = {}
    for claim in CLAIMS[:number]:
        add_facts(facts, all_violations(system, claim))
    return facts


def lost_claim(table: Table, *, timeout_seconds: float = 3.0) -> str | None:
    """Return the first claim that is no longer proved of a table with a fault; None if all still are.

    The proof for the table without the fault still holds if the obligations of the changed states do. Otherwise a new proof
    is searched for.
    """
    changed = {row.source for row, original in zip(table, whole_table(), strict=True) if row != original}
    part = evolve(faultless_system(), visits=system_of(table, changed).visits)
    facts: dict[Moment, list[Term]] = {}
    for number, claim in enumerate(CLAIMS):
        violations = all_violations(part, claim)
        obligations = proof_obligations(part, violations, facts, faultless_invariants(number))
        if not all(z3_refutes(obligation.conjuncts) for obligation in obligations):
            whole = evolve(part, visits={**faultless_system().visits, **part.visits})
            known = facts_before(whole, number)
            if prove(whole, all_violations(whole, claim), known, timeout_seconds=timeout_seconds) is None:
                return claim.name if isinstance(claim, Claim) else claim
        add_facts(facts, violations)
    return None


def is_equivalent(table: Table) -> bool:
    """Return whether a table with a fault provably does what the original does, at every visit that the claims allow.

    The rows of both tables are translated together, so that both see the same inputs and unknowns.
    """
    pairs = list(zip(whole_table(), table, strict=True))
    for state in {original.source for original, row in pairs if original != row}:
        originals, rows = zip(*(pair for pair in pairs if pair[0].source is state), strict=True)
        both = system_of(Table((*originals, *rows)), (state,), shares_unknowns=True)
        visit, facts = both.visits[state], facts_before(faultless_system(), len(CLAIMS))[state]
        for a, b in zip(visit.transitions[: len(rows)], visit.transitions[len(rows) :], strict=True):
            differs = [a.condition != b.condition]
            if a.row.to is not b.row.to:
                differs.append(a.condition)
            differs += [z3().And(a.condition, term != b.after[field]) for field, term in a.after.items()]
            if not z3_refutes((*both.legal, *visit.assumed, *facts, z3().Or(*differs))):
                return False
    return True


# ---- the check


@cache
def configurations() -> tuple[tuple[Case, Loop], ...]:
    """Return each configuration of the grid once: the check itself tries all signals."""
    loops: dict[str, tuple[Case, Loop]] = {}
    for case, _, _ in grid():
        loop = Loop(case.options, case.sizes, guards=Guards(save=EverySecondBatch()))
        loops.setdefault(f"{case.options} {case.sizes} {case.skips_steps}", (case, loop))
    return tuple(loops.values())


def check_finding(table: Table) -> str | None:
    """Return the first error that the check reports about a table, in any configuration of the grid; None if there is none."""
    with patch.object(row_choices, "parse_guard", lambda guard, keep_opaque: read_guard(guard)):  # a planted guard has none
        for case, loop in configurations():
            changed = copy.copy(loop.spec)
            object.__setattr__(changed, "table", table)
            object.__setattr__(changed, "limits", case.limits)
            explorer = Explorer(table, case.limits, loop.guards, distinguish_totals=False, max_moments=MAX_MOMENTS)
            try:
                errors = [*broken_laws(changed, explorer.explore())]
            except IndexError:  # an optimizer that does not exist
                return "IndexError"
            if errors:
                return f"{errors[0].about}: {errors[0].text}"
    return None


# ---- the traces


def trace(table: Table, case: Case) -> tuple[list[tuple[object, ...]], State]:
    """Return the visits of a run that takes the first row that holds, and the state in which it ended."""
    limits, counters, world = case.limits, Counters.begin(case.limits.optimizers), ScriptPlayer(case)
    signals = limits.begin_signals()
    state = State.START
    visits: list[tuple[object, ...]] = []
    while not state.is_final and len(visits) < MAX_VISITS:
        reset_signals(signals, state)
        world.play(state, signals)
        visits.append(_position(state, counters))
        row = next((row for row in table.leaving(state) if row.holds(limits, counters, signals)), None)
        if row is None:
            break
        apply_effects(row.then, limits, counters, signals)
        state = row.to
    return visits, state


_IN_ROUND = frozenset({State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROUND_END})
_IN_EPOCH = _IN_ROUND | {State.FETCH, State.SAVE, State.VAL_CHECK, State.EPOCH_END, State.EARLY_STOP}


def _position(state: State, counters: Counters) -> tuple[object, ...]:
    epoch = (counters.current_epoch, counters.batch_nb) if state in _IN_EPOCH else (None, None)
    split = (counters.split_nb, counters.optimizer_i) if state in _IN_ROUND else (None, None)
    return (state.value, *epoch, *split, counters.global_step)


def _expected(event: Event) -> tuple[object, ...]:
    return (event.state, event.epoch, event.batch, event.split, event.optimizer, event.global_step)


def with_manual_optimization(case: Case) -> Case:
    """Return a case in which ``training_step`` steps by itself: not at all, once or twice in turns."""
    return evolve(
        case,
        options=evolve(case.options, accumulate_grad_batches=1),
        sizes=evolve(case.sizes, manual_optimization=True),
        script=dataclasses.replace(case.script, made=(0, 1, 2)),
    )


@cache
def grid() -> tuple[tuple[Case, list[tuple[object, ...]], State], ...]:
    """Return small configurations, all combinations of the values below, with the visits of the nested loops."""
    expected = []
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
        for each in [case, with_manual_optimization(case)] if k == 1 and splits is None else [case]:
            try:
                schedule = each.schedule()
                _ = each.limits
            except SizesError:
                continue
            end = State.STOPPED if schedule.stopped else State.DONE
            expected.append((each, [_expected(event) for event in schedule.events], end))
    return tuple(expected)


def case_with_another_trace(table: Table) -> Case | None:
    """Return the first configuration of the grid in which a table differs from the nested loops; None if there is none."""
    for case, expected, end in grid():
        try:
            if trace(table, case) != (expected, end):
                return case
        except IndexError:
            return case
    return None
