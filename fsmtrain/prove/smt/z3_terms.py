"""Translate expressions and changes into Z3's terms. A valuation maps each field to the term for its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from fsmtrain.core.guard_ast.expressions import OPERATORS, Apply, Expression, Field, Opaque, Value
from fsmtrain.prove.loop_model.assumptions import other_window_is_legal, window_length_is_legal
from fsmtrain.prove.loop_model.effect_ast import Assign, Changes, read_predicate
from fsmtrain.prove.loop_model.fields import SORTS, argument_of, index_of
from fsmtrain.prove.smt.call_z3_and_cvc5 import z3

Term = Any  # of Z3, which has no types
Valuation = dict[Field, Term]

WATCHED_I = Field("ghost", "watched_i")
NEVER_ACCUMULATES = Field("ghost", "never_accumulates")
SAME_WINDOW = Field("ghost", "same_window")


def constant(field: Field, *, prefix: str = "") -> Term:
    """Return the free variable of a field; another one for each prefix."""
    name = f"{prefix}{field.record}.{field.name}"
    return z3().Bool(name) if SORTS[field] == "bool" else z3().Int(name)


@define
class Translator:
    """Translates one visit, and collects what is assumed of the unknowns in it.

    Args:
        arbitrary: Expressions that may have any value.
        shares_unknowns: Whether the same item of a list of another optimizer has the same value wherever it is read, to
            compare two tables.

    Attributes:
        assumed: What holds of the inputs and unknowns.
    """

    arbitrary: frozenset[Expression] = field(default=frozenset(), kw_only=True)
    shares_unknowns: bool = field(default=False, kw_only=True)
    assumed: list[Term] = field(factory=list, init=False)
    _answers: dict[object, Term] = field(factory=dict, init=False)  # of opaque guards: one answer a visit
    _unknowns: dict[tuple[Field, str], Term] = field(factory=dict, init=False)

    def term(self, expression: Expression, now: Valuation) -> Term:
        """Return the value of an expression."""
        if expression in self.arbitrary:
            return self._answer(expression)
        match expression:
            case Value(value=bool() as value):
                return z3().BoolVal(value)
            case Value(value=value):
                return z3().IntVal(value)
            case Field(name=name):
                if index_of(name) is not None:
                    return self._item(expression, now)
                argument = argument_of(name)
                return now[expression] if argument is None else self._window_of(now[Field("counters", argument)], now)
            case Opaque(guard=guard):
                return self._answer(guard)
            case Apply(op=op, args=args):
                return _OPERATORS[op](*(self.term(arg, now) for arg in args))
        raise TypeError(expression)

    def predicate(self, function: Callable[..., bool], now: Valuation) -> Term:
        """Return the value of a plain predicate."""
        return self.term(read_predicate(function), now)

    def after(self, changes: Changes, now: Valuation) -> Valuation:
        """Return the valuation after the changes."""
        values = dict(now)
        for change in changes:
            if isinstance(change, Assign):
                self._assign(change, values)
                continue
            condition = self.term(change.condition, values)
            then, otherwise = self.after(change.then, values), self.after(change.otherwise, values)
            for key in values:
                a, b = then[key], otherwise[key]
                values[key] = a if a.eq(b) else z3().If(condition, a, b)
        return values

    def _assign(self, change: Assign, values: Valuation) -> None:
        value = self.term(change.value, values)
        if index_of(change.target.name) is None:
            values[change.target] = value
        else:
            list_field, is_watched = self._cell(change.target, values)
            values[list_field] = z3().If(is_watched, value, values[list_field])

    def _answer(self, key: object) -> Term:
        """Return the unknown answer of a guard at this visit."""
        return self._answers.setdefault(key, z3().FreshBool("answer"))

    def _item(self, item: Field, now: Valuation) -> Term:
        """Return an item of a list: the watched optimizer's, or an unknown that stands for another optimizer's."""
        list_field, is_watched = self._cell(item, now)
        if z3().is_true(is_watched):
            return now[list_field]
        other = self._unknown(list_field, is_watched)
        if list_field.name == "gathered_by":
            legal = self.predicate(other_window_is_legal, {**now, Field("inputs", "gathered"): other})
            self.assumed.append(z3().Or(is_watched, legal))
        return z3().If(is_watched, now[list_field], other)

    def _cell(self, item: Field, now: Valuation) -> tuple[Field, Term]:
        """Return the list of an item, and whether the index is the watched optimizer's."""
        parts = index_of(item.name)
        assert parts is not None
        list_name, index = parts
        if index == WATCHED_I.name:
            return Field(item.record, list_name), z3().BoolVal(True)
        term = z3().IntVal(index) if isinstance(index, int) else now[Field("counters", index)]
        return Field(item.record, list_name), term == now[WATCHED_I]

    def _window_of(self, epoch: Term, now: Valuation) -> Term:
        """Return K of an epoch: the ghost state's if that epoch is next, else an unknown."""
        other = self._unknown(Field("ghost", "epoch_window"), epoch)
        self.assumed.append(self.predicate(window_length_is_legal, {**now, Field("inputs", "window"): other}))
        return z3().If(epoch == now[Field("ghost", "epochs_begun")], now[Field("ghost", "epoch_window")], other)

    def _unknown(self, field: Field, index: Term) -> Term:
        """Return a number of which nothing is known but what is assumed."""
        fresh = z3().FreshInt("other")
        return self._unknowns.setdefault((field, str(index)), fresh) if self.shares_unknowns else fresh


_OPERATORS: Mapping[str, Callable[..., Term]] = {
    **OPERATORS,
    "//": lambda a, b: a / b,  # Z3's / on integers: for a positive divisor the same as Python's //
    "and": lambda *args: z3().And(*args),
    "or": lambda *args: z3().Or(*args),
    "not": lambda arg: z3().Not(arg),
}


# ---- variables of a term

_FREE_CONSTANTS: dict[int, tuple[Term, frozenset[Term]]] = {}  # by Z3's id, which is valid as long as the term is kept here


def free_constants(term: Term) -> frozenset[Term]:
    """Return the free variables of a term."""
    pending = [term]  # a stack in place of recursion: terms can be deep
    while pending:
        current = pending[-1]
        if current.get_id() in _FREE_CONSTANTS:
            pending.pop()
            continue
        children = current.children()
        missing = [child for child in children if child.get_id() not in _FREE_CONSTANTS]
        if missing:
            pending.extend(missing)
            continue
        is_free = not children and z3().is_const(current) and current.decl().kind() == z3().Z3_OP_UNINTERPRETED
        names = frozenset({current} if is_free else ()).union(*(_FREE_CONSTANTS[child.get_id()][1] for child in children))
        _FREE_CONSTANTS[current.get_id()] = (current, names)
        pending.pop()
    return _FREE_CONSTANTS[term.get_id()][1]


def variable_names(term: Term) -> frozenset[str]:
    """Return the names of a term's free variables."""
    return frozenset(constant.decl().name() for constant in free_constants(term))
