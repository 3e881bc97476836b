"""The table as a transition system in Z3's terms: each state's visit, and each row with its condition and what it leaves.

The rows are those of the table that runs. Around them stand what the world does at a visit (`environment`) and what the
proofs write down (`witness`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from attrs import fields, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import Expression, Read
from fsmtrain.core.guard_ast.parse import read
from fsmtrain.core.guards import Guard
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, Table
from fsmtrain.prove.loop_model.assumptions import (
    ACTIONS,
    LEGAL_LIMITS,
    begin_run,
    inputs_are_legal,
    request_stop,
    window_length_is_legal,
)
from fsmtrain.prove.loop_model.effect_ast import read_effect
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, GhostState
from fsmtrain.prove.smt.solvers import z3
from fsmtrain.prove.smt.z3_terms import ME, NEVER_ACCUMULATES, SORTS, Term, Translator, Valuation, constant, new_translator

INPUT_ASSUMPTIONS = (inputs_are_legal, window_length_is_legal)
SAME_WINDOW = Read("ghost", "same_window")


@frozen
class SymbolicTransition:
    """A row as a transition: when it is taken, and the moment at which its target is entered."""

    row: Row
    condition: Term
    after: Valuation


@frozen
class SymbolicVisit:
    """A visit to a state: the moment at which its guards are asked, its rows, and what is assumed of values made up."""

    state: State
    at_guards: Valuation
    transitions: tuple[SymbolicTransition, ...]
    assumed: tuple[Term, ...]


@frozen
class TransitionSystem:
    """All visits, over the same free variables: those of the moment at which a state is entered."""

    entry: Valuation
    visits: Mapping[State, SymbolicVisit]
    start: Valuation
    legal: tuple[Term, ...]  # of the limits, in every moment
    assumed_at_start: tuple[Term, ...]


def system(
    table: Table,
    *,
    legal: tuple[Callable[..., bool], ...] = LEGAL_LIMITS,
    accumulates: bool = False,
    substitute: frozenset[Expression] = frozenset(),
    states: Collection[State] = tuple(State),
    shares: bool = False,
) -> TransitionSystem:
    """The transition system of a table.

    Args:
        table: The rows.
        legal: What is known of the limits.
        accumulates: Whether an optimizer may have a guard of its own, so that nothing is known of its windows' lengths.
        substitute: Expressions in whose place any answer may come.
        states: Those whose visits are wanted.
        shares: Whether rows that read the same item of a list find the same there.
    """
    entered = {field: constant(field) for field in SORTS if field.record != "inputs"}
    plain = new_translator()
    legal_terms = [plain.holds(function, entered) for function in legal]
    optimizers = entered[Read("limits", "optimizers")]
    legal_terms += [entered[ME] >= 0, entered[ME] < optimizers, entered[SAME_WINDOW] >= 0]
    if accumulates:
        legal_terms.append(z3().Not(entered[NEVER_ACCUMULATES]))
    start, assumed = _start(entered)
    visits = {
        state: _visit(table, state, entered, new_translator(substitute, shares=shares)) for state in State if state in states
    }
    return TransitionSystem(entered, visits, start, tuple(legal_terms), assumed)


def _visit(table: Table, state: State, entered: Valuation, made: Translator) -> SymbolicVisit:
    now = {**entered, **{field: constant(field) for field in SORTS if field.record == "inputs"}}
    for known in INPUT_ASSUMPTIONS:
        made.assumed.extend(made.holds(known, now).children())
    for function in (request_stop, ACTIONS.get(state), BEFORE_GUARDS.get(state)):
        if function is not None:
            now = made.after(read_effect(function), now)
    left = now if state not in AFTER_GUARDS else made.after(read_effect(AFTER_GUARDS[state]), now)

    def asked(guard: Guard) -> Term:
        return made.term(read_guard(guard), now)

    rows = []
    for row in table.leaving(state):
        answers = [z3().BoolVal(True) if row.when is None else asked(row.when), *(z3().Not(asked(g)) for g in row.unless)]
        condition = answers[0] if len(answers) == 1 else z3().And(*answers)
        after = left
        for effect in row.then:
            after = made.after(read_effect(effect), after)
        rows.append(SymbolicTransition(row, condition, after))
    return SymbolicVisit(state, now, tuple(rows), tuple(made.assumed))


def read_guard(guard: Guard) -> Expression:
    """A guard as an expression; one that carries its own is taken at its word."""
    carried: Expression | None = getattr(guard, "expression", None)
    return read(guard) if carried is None else carried


def _start(entered: Valuation) -> tuple[Valuation, tuple[Term, ...]]:
    """The moment at which `start` is entered."""
    made = new_translator()
    begun: Valuation = {field: value for field, value in entered.items() if field.record == "limits"}
    records = (("counters", Counters.begin(1)), ("signals", Signals()), ("ghost", GhostState()))
    for record, values in records:
        for f in fields(type(values)):
            value = getattr(values, f.name)
            value = value[0] if isinstance(value, list) else value
            begun[Read(record, f.name)] = z3().BoolVal(value) if isinstance(value, bool) else z3().IntVal(value)
    begun |= {field: entered[field] for field in (ME, NEVER_ACCUMULATES, SAME_WINDOW)}
    begun |= {field: constant(field) for field in SORTS if field.record == "inputs"}
    for known in INPUT_ASSUMPTIONS:
        made.assumed.extend(made.holds(known, begun).children())
    return made.after(read_effect(begin_run), begun), tuple(made.assumed)
