"""The table as a transition system in Z3's terms: for each state a symbolic visit, and its rows with conditions and effects.

The rows are those of the table that runs. Around them stand what the environment does at a visit (`assumptions`) and the
updates of the ghost state (`ghost_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from attrs import fields, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import Expression, Field
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.prove.loop_model import assumptions
from fsmtrain.prove.loop_model.effect_ast import read_effect, read_guard
from fsmtrain.prove.loop_model.fields import SORTS
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, GhostState
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3
from fsmtrain.prove.smt.z3_terms import NEVER_ACCUMULATES, SAME_WINDOW, WATCHED_I, Term, Translator, Valuation, constant


@frozen
class SymbolicTransition:
    """A row, the condition under which it is taken, and the valuation with which its target is entered."""

    row: Row
    condition: Term
    after: Valuation


@frozen
class SymbolicVisit:
    """A visit to a state.

    Attributes:
        at_guards: The valuation in which the guards are evaluated, after the state's work.
        transitions: The rows that leave the state.
        assumed: What holds of the inputs, and of the unknowns that stand for other optimizers.
    """

    at_guards: Valuation
    transitions: tuple[SymbolicTransition, ...]
    assumed: tuple[Term, ...]


@frozen
class TransitionSystem:
    """All visits, over the variables of one valuation, with which a state is entered.

    Attributes:
        entry: The free variables.
        visits: By state.
        start: The valuation with which ``start`` is entered.
        legal: What holds of the limits in every visit.
        assumed_at_start: What holds of the inputs before the first visit.
    """

    entry: Valuation
    visits: Mapping[State, SymbolicVisit]
    start: Valuation
    legal: tuple[Term, ...]
    assumed_at_start: tuple[Term, ...]


def transition_system(
    table: Table,
    *,
    legal: tuple[Callable[..., bool], ...] = assumptions.LEGAL_LIMITS,
    may_accumulate: bool = False,
    arbitrary: frozenset[Expression] = frozenset(),
    states: Collection[State] = tuple(State),
    shares_unknowns: bool = False,
) -> TransitionSystem:
    """Translate a table.

    Args:
        table: The rows.
        legal: What is assumed of the limits.
        may_accumulate: Whether an optimizer may have a step guard of its own, so that nothing is known of window lengths.
        arbitrary: Expressions that may have any value.
        states: The states whose visits are needed.
        shares_unknowns: Whether rows that read the same item of a list read the same value, to compare two tables.
    """
    entry = {field: constant(field) for field in SORTS if field.record != "inputs"}
    translator = Translator()
    legal_terms = [translator.predicate(function, entry) for function in legal]
    optimizers = entry[Field("limits", "optimizers")]
    legal_terms += [entry[WATCHED_I] >= 0, entry[WATCHED_I] < optimizers, entry[SAME_WINDOW] >= 0]
    if may_accumulate:
        legal_terms.append(z3().Not(entry[NEVER_ACCUMULATES]))
    start, assumed_at_start = _start(entry)
    visits = {
        state: _visit(table, state, entry, Translator(arbitrary=arbitrary, shares_unknowns=shares_unknowns))
        for state in State
        if state in states
    }
    return TransitionSystem(entry, visits, start, tuple(legal_terms), assumed_at_start)


def _visit(table: Table, state: State, entry: Valuation, translator: Translator) -> SymbolicVisit:
    now = _with_inputs(entry, translator)
    for function in (assumptions.request_stop, assumptions.ACTIONS.get(state), BEFORE_GUARDS.get(state)):
        if function is not None:
            now = translator.after(read_effect(function), now)
    leaving = now if state not in AFTER_GUARDS else translator.after(read_effect(AFTER_GUARDS[state]), now)

    def answer(guard: Guard) -> Term:
        return translator.term(read_guard(guard), now)

    transitions = []
    for row in table.leaving(state):
        answers = [z3().BoolVal(True) if row.when is None else answer(row.when), *(z3().Not(answer(g)) for g in row.unless)]
        condition = answers[0] if len(answers) == 1 else z3().And(*answers)
        after = leaving
        for effect in row.then:
            after = translator.after(read_effect(effect), after)
        transitions.append(SymbolicTransition(row, condition, after))
    return SymbolicVisit(now, tuple(transitions), tuple(translator.assumed))


def _start(entry: Valuation) -> tuple[Valuation, tuple[Term, ...]]:
    """Return the valuation with which ``start`` is entered, and what is assumed of its inputs."""
    translator = Translator()
    values: Valuation = {field: term for field, term in entry.items() if field.record == "limits"}
    for name, record in (("counters", Counters.begin(1)), ("signals", Signals()), ("ghost", GhostState())):
        for f in fields(type(record)):
            value = getattr(record, f.name)
            value = value[0] if isinstance(value, list) else value
            values[Field(name, f.name)] = z3().BoolVal(value) if isinstance(value, bool) else z3().IntVal(value)
    values |= {field: entry[field] for field in (WATCHED_I, NEVER_ACCUMULATES, SAME_WINDOW)}
    values = translator.after(read_effect(assumptions.begin_run), _with_inputs(values, translator))
    return values, tuple(translator.assumed)


def _with_inputs(values: Valuation, translator: Translator) -> Valuation:
    """Add fresh inputs, and assume that they are legal."""
    values = {**values, **{field: constant(field) for field in SORTS if field.record == "inputs"}}
    for predicate in (assumptions.inputs_are_legal, assumptions.window_length_is_legal):
        translator.assumed.extend(translator.predicate(predicate, values).children())
    return values
