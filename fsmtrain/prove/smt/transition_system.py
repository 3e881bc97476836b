"""The table as a transition system in Z3's terms: for each state a symbolic visit, and its rows with conditions and effects.

The rows are those of the table that runs. Around them stand what the environment does at a visit (`assumptions`) and the
updates of the ghost state (`ghost_state`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from attrs import evolve, fields, frozen

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.guard_ast.expressions import Expression, Field
from fsmtrain.core.resume_point import adoptions
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.prove.loop_model import assumptions, resuming
from fsmtrain.prove.loop_model.effect_ast import read_effect, read_guard
from fsmtrain.prove.loop_model.fields import SORTS
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, GhostState
from fsmtrain.prove.loop_model.resuming import RESUMPTIONS, Resumption
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


Moment = State | Resumption


def state_entered(moment: Moment) -> State:
    """Return the state with whose entry a visit begins: of a resumption, the one in which the checkpoint was saved."""
    return moment if isinstance(moment, State) else moment.saved_in


@frozen
class TransitionSystem:
    """All visits, over the variables of one valuation, with which a state is entered.

    A resumption is a visit too: the work that came before the checkpoint, then another run loads it, with limits of its own,
    and takes a row. So a run is resumed any number of times, and what is proved of every visit is proved of resumed runs.

    Attributes:
        entry: The free variables.
        visits: By state, and by resumption.
        start: The valuation with which ``start`` is entered.
        legal: What holds of the limits in every visit.
        assumed_at_start: What holds of the inputs before the first visit.
    """

    entry: Valuation
    visits: Mapping[Moment, SymbolicVisit]
    start: Valuation
    legal: tuple[Term, ...]
    assumed_at_start: tuple[Term, ...]

    @property
    def resumes(self) -> bool:
        """Whether its runs may be resumed with other limits."""
        return any(isinstance(moment, Resumption) for moment in self.visits)


def transition_system(
    table: Table,
    *,
    legal: tuple[Callable[..., bool], ...] = assumptions.LEGAL_LIMITS,
    may_accumulate: bool = False,
    arbitrary: frozenset[Expression] = frozenset(),
    states: Collection[State] = tuple(State),
    shares_unknowns: bool = False,
    resumed: Guards | None = None,
) -> TransitionSystem:
    """Translate a table.

    Args:
        table: The rows.
        legal: What is assumed of the limits.
        may_accumulate: Whether an optimizer may have a step guard of its own, so that nothing is known of window lengths.
        arbitrary: Expressions that may have any value.
        states: The states whose visits are needed.
        shares_unknowns: Whether rows that read the same item of a list read the same value, to compare two tables.
        resumed: The guards of runs that are resumed; None for runs that begin at their beginning.
    """
    entry = {field: constant(field) for field in SORTS if field.record != "inputs"}
    translator = Translator()

    def legal_terms(values: Valuation) -> tuple[Term, ...]:
        terms = [translator.predicate(function, values) for function in legal]
        optimizers = values[Field("limits", "optimizers")]
        terms += [values[WATCHED_I] >= 0, values[WATCHED_I] < optimizers, values[SAME_WINDOW] >= 0]
        if may_accumulate:
            terms.append(z3().Not(values[NEVER_ACCUMULATES]))
        return tuple(terms)

    def new_translator() -> Translator:
        return Translator(arbitrary=arbitrary, shares_unknowns=shares_unknowns)

    fresh = tuple(translator.predicate(assumptions.run_is_fresh, entry).children())
    start, assumed_at_start = _start(entry)
    visits: dict[Moment, SymbolicVisit] = {
        state: _visit(table, state, entry, new_translator()) for state in State if state in states
    }
    if resumed is None:
        return TransitionSystem(entry, visits, start, (*legal_terms(entry), *fresh), assumed_at_start)
    for resumption in RESUMPTIONS:
        if resumption.saved_in in states:
            visits[resumption] = _resumption(table, resumption, resumed, entry, new_translator, legal_terms)
    return TransitionSystem(entry, visits, start, legal_terms(entry), (*assumed_at_start, *fresh))


def _visit(table: Table, state: State, entry: Valuation, translator: Translator) -> SymbolicVisit:
    return _take_row(table, state, _work(state, entry, translator), translator)


def _work(state: State, entry: Valuation, translator: Translator) -> Valuation:
    """Return the valuation after the work of a state, in which its guards are asked."""
    now = _with_inputs(entry, translator)
    for function in (assumptions.request_stop, assumptions.ACTIONS.get(state), BEFORE_GUARDS.get(state)):
        if function is not None:
            now = translator.after(read_effect(function), now)
    return now


def _take_row(table: Table, state: State, now: Valuation, translator: Translator) -> SymbolicVisit:
    """Ask the guards of a state, and take a row."""
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


def _resumption(
    table: Table,
    resumption: Resumption,
    guards: Guards,
    entry: Valuation,
    new_translator: Callable[[], Translator],
    legal_terms: Callable[[Valuation], tuple[Term, ...]],
) -> SymbolicVisit:
    """Translate a resumption: the visit in which the checkpoint is saved, loading it, and the rest of the visit."""
    before, loading, after = new_translator(), new_translator(), new_translator()
    saved = _work(resumption.saved_in, entry, before) if resumption.was_begun else entry
    now = _with_other_limits(saved, resumption)
    now = _with_inputs(now, loading, prefix="loaded ")
    assumed = [*before.assumed, *legal_terms(now)]
    rules: tuple[Callable[..., bool], ...] = (resuming.fits, resuming.windows_are_as_before, *resumption.when)
    assumed += [loading.predicate(rule, now) for rule in rules]
    for function in resuming.loading(resumption):
        now = loading.after(read_effect(function), now)
    now = loading.after(resuming.FORGOTTEN_SIGNALS, now)
    for function in adoptions(resumption.point, guards):
        now = loading.after(read_effect(function), now)
    assumed += _epoch_is_as_said(resumption, guards, loading, now)
    if resumption.epoch in ("continues", "is complete"):
        now = loading.after(read_effect(resuming.epoch_continues), now)
    for function in resuming.resuming_ghost(resumption.state):
        now = loading.after(read_effect(function), now)
    if not resumption.work_done:
        row = Row(resumption.saved_in, to=resumption.state)
        return SymbolicVisit(now, (SymbolicTransition(row, z3().BoolVal(True), now),), (*assumed, *loading.assumed))
    visit = _take_row(table, resumption.state, _with_inputs(now, after), after)
    return evolve(visit, assumed=(*assumed, *loading.assumed, *visit.assumed))


def _epoch_is_as_said(resumption: Resumption, guards: Guards, translator: Translator, now: Valuation) -> list[Term]:
    """Return what decides, at the end of `adopt_limits`, in which state a run continues."""
    if resumption.epoch == "any":
        return []
    conditions = []
    if resumption.point is State.EPOCH_END:
        is_due = translator.term(read_guard(decisions(guards).stop_is_due), now)
        conditions.append(is_due if resumption.epoch == "ended early" else z3().Not(is_due))
    if resumption.epoch != "ended early":
        answers = [translator.term(read_guard(guard), now) for guard in (ask.epoch_is_under_way, ask.epoch_is_over)]
        conditions.append(z3().And(*answers) if resumption.epoch == "is complete" else z3().Not(z3().And(*answers)))
    return conditions


def _with_other_limits(saved: Valuation, resumption: Resumption) -> Valuation:
    """Return a valuation with other limits, and with the parameters of the ghost state that go with them."""
    values = {key: term for key, term in saved.items() if key.record != "inputs"}
    values |= {Field("saved_limits", key.name): term for key, term in saved.items() if key.record == "limits"}
    for key in values:
        if key.record == "limits" or key in (NEVER_ACCUMULATES, SAME_WINDOW):
            values[key] = constant(key, prefix="loaded ")
    translator = Translator()
    for name, rule in resuming.LIMITS_OF_RESUMED_RUNS.items():
        applies = resumption.is_within_training or name != "is_past_last_epoch"
        values[Field("limits", name)] = translator.predicate(rule, values) if applies else z3().BoolVal(False)
    return values


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


def _with_inputs(values: Valuation, translator: Translator, *, prefix: str = "") -> Valuation:
    """Add fresh inputs, and assume that they are legal."""
    values = {**values, **{field: constant(field, prefix=prefix) for field in SORTS if field.record == "inputs"}}
    for predicate in (assumptions.inputs_are_legal, assumptions.window_length_is_legal):
        translator.assumed.extend(translator.predicate(predicate, values).children())
    return values
