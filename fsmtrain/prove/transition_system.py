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
from fsmtrain.prove.assumptions import ACTIONS, LEGAL, ask_to_stop, begins, chances_are_legal, window_is_legal
from fsmtrain.prove.effect_ast import changes_of
from fsmtrain.prove.ghost_state import ON_LEAVING, ON_VISIT, Seen
from fsmtrain.prove.solvers import z3
from fsmtrain.prove.z3_terms import ME, NEVER_ACCUMULATES, SORTS, Moment, Term, Translation, constant, translation

CHANCES = (chances_are_legal, window_is_legal)
SAME_WINDOW = Read("seen", "same_window")


@frozen
class Taken:
    """A row as a transition: when it is taken, and the moment at which its target is entered."""

    row: Row
    condition: Term
    after: Moment


@frozen
class Visit:
    """A visit to a state: the moment at which its guards are asked, its rows, and what is assumed of values made up."""

    state: State
    now: Moment
    rows: tuple[Taken, ...]
    assumed: tuple[Term, ...]


@frozen
class System:
    """All visits, over the same free variables: those of the moment at which a state is entered."""

    entered: Moment
    visits: Mapping[State, Visit]
    start: Moment
    legal: tuple[Term, ...]  # of the limits, in every moment
    assumed_at_start: tuple[Term, ...]


def system(
    table: Table,
    *,
    legal: tuple[Callable[..., bool], ...] = LEGAL,
    accumulates: bool = False,
    substitute: frozenset[Expression] = frozenset(),
    states: Collection[State] = tuple(State),
    shares: bool = False,
) -> System:
    """The transition system of a table.

    Args:
        table: The rows.
        legal: What is known of the limits.
        accumulates: Whether an optimizer may have a guard of its own, so that nothing is known of its windows' lengths.
        substitute: Expressions in whose place any answer may come.
        states: Those whose visits are wanted.
        shares: Whether rows that read the same item of a list find the same there.
    """
    entered = {field: constant(field) for field in SORTS if field.record != "chance"}
    plain = translation()
    legal_terms = [plain.holds(function, entered) for function in legal]
    optimizers = entered[Read("limits", "optimizers")]
    legal_terms += [entered[ME] >= 0, entered[ME] < optimizers, entered[SAME_WINDOW] >= 0]
    if accumulates:
        legal_terms.append(z3().Not(entered[NEVER_ACCUMULATES]))
    start, assumed = _start(entered)
    visits = {
        state: _visit(table, state, entered, translation(substitute, shares=shares)) for state in State if state in states
    }
    return System(entered, visits, start, tuple(legal_terms), assumed)


def _visit(table: Table, state: State, entered: Moment, made: Translation) -> Visit:
    now = {**entered, **{field: constant(field) for field in SORTS if field.record == "chance"}}
    for known in CHANCES:
        made.assumed.extend(made.holds(known, now).children())
    for function in (ask_to_stop, ACTIONS.get(state), ON_VISIT.get(state)):
        if function is not None:
            now = made.after(changes_of(function), now)
    left = now if state not in ON_LEAVING else made.after(changes_of(ON_LEAVING[state]), now)

    def asked(guard: Guard) -> Term:
        return made.term(reading(guard), now)

    rows = []
    for row in table.leaving(state):
        answers = [z3().BoolVal(True) if row.when is None else asked(row.when), *(z3().Not(asked(g)) for g in row.unless)]
        condition = answers[0] if len(answers) == 1 else z3().And(*answers)
        after = left
        for effect in row.then:
            after = made.after(changes_of(effect), after)
        rows.append(Taken(row, condition, after))
    return Visit(state, now, tuple(rows), tuple(made.assumed))


def reading(guard: Guard) -> Expression:
    """A guard as an expression; one that carries its own is taken at its word."""
    carried: Expression | None = getattr(guard, "expression", None)
    return read(guard) if carried is None else carried


def _start(entered: Moment) -> tuple[Moment, tuple[Term, ...]]:
    """The moment at which `start` is entered."""
    made = translation()
    begun: Moment = {field: value for field, value in entered.items() if field.record == "limits"}
    records = (("counters", Counters.begin(1)), ("signals", Signals()), ("seen", Seen()))
    for record, values in records:
        for f in fields(type(values)):
            value = getattr(values, f.name)
            value = value[0] if isinstance(value, list) else value
            begun[Read(record, f.name)] = z3().BoolVal(value) if isinstance(value, bool) else z3().IntVal(value)
    begun |= {field: entered[field] for field in (ME, NEVER_ACCUMULATES, SAME_WINDOW)}
    begun |= {field: constant(field) for field in SORTS if field.record == "chance"}
    for known in CHANCES:
        made.assumed.extend(made.holds(known, begun).children())
    return made.after(changes_of(begins), begun), tuple(made.assumed)
