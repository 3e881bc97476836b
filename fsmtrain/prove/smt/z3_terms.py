"""From expressions and changes to Z3's terms: one moment of a run is a mapping from fields to terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, fields, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import Apply, Expression, Opaque, Read, Value
from fsmtrain.core.limits import Limits
from fsmtrain.prove.loop_model.assumptions import other_window_is_legal, window_length_is_legal
from fsmtrain.prove.loop_model.effect_ast import Assign, Changes, argument_of, index_of, read_predicate
from fsmtrain.prove.loop_model.ghost_state import GhostState, Inputs
from fsmtrain.prove.smt.solvers import z3

Term = Any  # one of Z3's: it has no types of its own
Valuation = dict[Read, Term]

RECORDS: Mapping[str, type] = {
    "limits": Limits,
    "counters": Counters,
    "signals": Signals,
    "ghost": GhostState,
    "inputs": Inputs,
}


def sorts() -> dict[Read, str]:
    """All fields that a proof can speak of: ``"int"`` or ``"bool"``. Of a list it knows one item, the watched optimizer's."""
    known = {"int": "int", "bool": "bool", "list[int]": "int"}
    return {
        Read(record, f.name): known[str(f.type)]
        for record, kind in RECORDS.items()
        for f in fields(kind)
        if str(f.type) in known
    }


SORTS = sorts()


def constant(field: Read, suffix: str = "") -> Term:
    """A free variable for a field."""
    name = f"{field.record}.{field.name}{suffix}"
    return z3().Bool(name) if SORTS[field] == "bool" else z3().Int(name)


ME, NEVER_ACCUMULATES = Read("ghost", "watched_i"), Read("ghost", "never_accumulates")
OTHER = Read("inputs", "gathered")
NEXT_EPOCH, NEXT_WINDOW = Read("ghost", "epochs_begun"), Read("ghost", "epoch_window")


@frozen
class Translator:
    """One visit's translation: it collects what is assumed of the values that it makes up.

    Args:
        substitute: Expressions in whose place any answer may come.
        assumed: Filled with what holds of the values that were made up.
        answers: Of the opaque guards: one answer for each visit.
        shares: Whether two rows that read the same item of a list find the same there, for a comparison of two tables.
    """

    substitute: frozenset[Expression]
    assumed: list[Term]
    answers: dict[object, Term]
    shares_unknowns: bool = False
    unknowns: dict[tuple[Read, str], Term] = field(factory=dict)

    def term(self, expression: Expression, now: Valuation) -> Term:
        """The value of an expression in a moment."""
        if expression in self.substitute:
            return self.answer(expression)
        match expression:
            case Value(value=bool() as value):
                return z3().BoolVal(value)
            case Value(value=value):
                return z3().IntVal(value)
            case Read(name=name):
                if index_of(name) is not None:
                    return self.item(expression, now)
                argument = argument_of(name)
                return now[expression] if argument is None else self.window(now[Read("counters", argument)], now)
            case Opaque(guard=guard):
                return self.answer(guard)
            case Apply(op=op, args=args):
                return _OPERATORS[op](*(self.term(arg, now) for arg in args))
        raise TypeError(expression)

    def answer(self, key: object) -> Term:
        """What a guard that is not looked into says at this visit."""
        return self.answers.setdefault(key, z3().FreshBool("answer"))

    def item(self, item: Read, now: Valuation) -> Term:
        """An item of a list: the watched optimizer's, or what another optimizer may have there."""
        whole, is_mine = self.cell(item, now)
        if z3().is_true(is_mine):
            return now[whole]
        other = self.unknown(whole, is_mine)
        if whole.name == "gathered_by":
            self.assumed.append(z3().Or(is_mine, self.holds(other_window_is_legal, {**now, OTHER: other})))
        return z3().If(is_mine, now[whole], other)

    def unknown(self, field: Read, key: Term) -> Term:
        """A number of which nothing is known but what will be assumed."""
        made_up = z3().FreshInt("other")
        return self.unknowns.setdefault((field, str(key)), made_up) if self.shares_unknowns else made_up

    def cell(self, field: Read, now: Valuation) -> tuple[Read, Term]:
        """The list of an item, and whether the index is the watched optimizer's."""
        found = index_of(field.name)
        assert found is not None
        whole, at = found
        if at == ME.name:
            return Read(field.record, whole), z3().BoolVal(True)
        index = z3().IntVal(at) if isinstance(at, int) else now[Read("counters", at)]
        return Read(field.record, whole), index == now[ME]

    def window(self, epoch: Term, now: Valuation) -> Term:
        """K of an epoch: a natural number, the same whenever it is asked for while the epoch goes on."""
        other = self.unknown(NEXT_WINDOW, epoch)
        self.assumed.append(self.holds(window_length_is_legal, {**now, Read("inputs", "window"): other}))
        return z3().If(epoch == now[NEXT_EPOCH], now[NEXT_WINDOW], other)

    def after(self, changes: Changes, now: Valuation) -> Valuation:
        """The moment after the changes."""
        then = dict(now)
        for change in changes:
            if isinstance(change, Assign):
                self._assign(change, then)
                continue
            condition = self.term(change.condition, then)
            yes, no = self.after(change.then, then), self.after(change.otherwise, then)
            for known in then:
                one, other = yes[known], no[known]
                then[known] = one if one.eq(other) else z3().If(condition, one, other)
        return then

    def _assign(self, change: Assign, then: Valuation) -> None:
        value = self.term(change.value, then)
        if index_of(change.target.name) is None:
            then[change.target] = value
        else:
            whole, is_mine = self.cell(change.target, then)
            then[whole] = z3().If(is_mine, value, then[whole])

    def holds(self, function: Callable[..., bool], now: Valuation) -> Term:
        """A plain predicate in a moment."""
        return self.term(read_predicate(function), now)


def new_translator(substitute: frozenset[Expression] = frozenset(), *, shares: bool = False) -> Translator:
    """A translation that has assumed nothing yet."""
    return Translator(substitute, [], {}, shares)


_OPERATORS: Mapping[str, Callable[..., Term]] = {
    "and": lambda *a: z3().And(*a),
    "or": lambda *a: z3().Or(*a),
    "not": lambda a: z3().Not(a),
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a / b,
    "%": lambda a, b: a % b,
}


# ---- what stands in a term

_MEMORY: dict[int, tuple[Term, frozenset[Term]]] = {}  # by Z3's id, which lives as long as the term


def free_constants(term: Term) -> frozenset[Term]:
    """The free variables in a term."""
    left = [term]
    while left:
        here = left[-1]
        if here.get_id() in _MEMORY:
            left.pop()
            continue
        children = here.children()
        missing = [child for child in children if child.get_id() not in _MEMORY]
        if missing:
            left.extend(missing)
            continue
        own = {here} if not children and z3().is_const(here) and here.decl().kind() == z3().Z3_OP_UNINTERPRETED else set()
        _MEMORY[here.get_id()] = (here, frozenset(own).union(*(_MEMORY[child.get_id()][1] for child in children)))
        left.pop()
    return _MEMORY[term.get_id()][1]


def variable_names(term: Term) -> frozenset[str]:
    """Their names."""
    return frozenset(constant.decl().name() for constant in free_constants(term))
