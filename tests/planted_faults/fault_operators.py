"""Fault operators: every small change of a row, guard or effect of the table. None is left out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import AnyEffect, CountedEffect
from fsmtrain.core.guard_ast.expressions import OPERATORS, Apply, Expression, Field, Opaque, Value, negate
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.prove.loop_model.effect_ast import Assign, Branch, Change, Changes, read_effect, read_guard
from fsmtrain.prove.loop_model.fields import argument_of, index_of

Records = dict[str, Any]

# ---- guards and effects that are data and can be called


@frozen(eq=False)
class PlantedGuard:
    """A guard that evaluates an expression."""

    expression: Expression
    name: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        return bool(evaluate(self.expression, {"limits": limits, "counters": counters, "signals": signals}))


@frozen(eq=False)
class PlantedEffect:
    """An effect that makes changes given as data."""

    changes: Changes
    name: str

    def __call__(self, limits: Limits, counters: Counters, signals: Signals | None = None) -> None:
        apply_changes(self.changes, {"limits": limits, "counters": counters, "signals": signals})


def planted_effect(effect: AnyEffect, changes: Changes) -> AnyEffect:
    """Other changes in the place of an effect's own; one that counts a signal still does."""
    planted = PlantedEffect(changes, effect.__name__)
    return CountedEffect(planted, effect.signal) if isinstance(effect, CountedEffect) else planted


def evaluate(expression: Expression, records: Records) -> Any:
    """Return the value of an expression."""
    match expression:
        case Value(value=known):
            return known
        case Opaque(guard=guard):
            assert callable(guard)
            return guard(records["limits"], records["counters"], records["signals"])
        case Field(record=record, name=name):
            item, argument = index_of(name), argument_of(name)
            if item is not None:
                return getattr(records[record], item[0])[_index(item[1], records)]
            if argument is not None:
                return getattr(records[record], name.split("(")[0])(getattr(records["counters"], argument))
            return getattr(records[record], name)
        case Apply(op="and", args=args):
            return all(evaluate(arg, records) for arg in args)
        case Apply(op="or", args=args):
            return any(evaluate(arg, records) for arg in args)
        case Apply(op="not", args=(arg,)):
            return not evaluate(arg, records)
        case Apply(op=op, args=(left, right)):
            return OPERATORS[op](evaluate(left, records), evaluate(right, records))
    raise TypeError(expression)


def _index(name: str | int, records: Records) -> int:
    return name if isinstance(name, int) else int(getattr(records["counters"], name))


def apply_changes(changes: Changes, records: Records) -> None:
    """Apply changes to the records."""
    for change in changes:
        if isinstance(change, Branch):
            apply_changes(change.then if evaluate(change.condition, records) else change.otherwise, records)
            continue
        item, new = index_of(change.target.name), evaluate(change.value, records)
        record = records[change.target.record]
        if item is None:
            setattr(record, change.target.name, new)
        else:
            getattr(record, item[0])[_index(item[1], records)] = new


# ---- operators


@frozen
class Fault:
    """A table with one fault."""

    operator: str
    place: str
    table: Table


NEIGHBOURS = {"==": ("!=", "<=", ">="), "!=": ("==", "<", ">"), "<": ("<=",), "<=": ("<",), ">": (">=",), ">=": (">",)}


def faults(table: Table) -> Iterator[Fault]:
    """Yield every fault of a table."""
    for number, row in enumerate(table):
        for operator, changed in (*_of_guards(row), *_of_target(row), *_of_effects(row)):
            rows = (*table.rows[:number], changed, *table.rows[number + 1 :])
            yield Fault(operator, f"row {number}, {row.source} -> {row.to}", Table(rows))
    guards = list(dict.fromkeys(g for row in table for g in (row.when, *row.unless) if g is not None))
    for guard in guards:
        for operator, expression in _of_expression(read_guard(guard)):
            planted = PlantedGuard(expression, guard_name(guard))
            yield Fault(f"guard: {operator}", f"guard {guard_name(guard)}", _with_guard(table, guard, planted))


def _with_guard(table: Table, old: Guard, new: Guard) -> Table:
    """Return the table with one guard replaced in every row."""
    return Table(
        tuple(
            evolve(row, when=new if row.when is old else row.when, unless=tuple(new if g is old else g for g in row.unless))
            for row in table
        )
    )


def _of_guards(row: Row) -> Iterator[tuple[str, Row]]:
    if row.when is not None:
        yield "drop when", evolve(row, when=None)
        yield "negate when", evolve(row, when=PlantedGuard(negate(read_guard(row.when)), f"not {guard_name(row.when)}"))
    for i, guard in enumerate(row.unless):
        others = (*row.unless[:i], *row.unless[i + 1 :])
        yield "drop unless", evolve(row, unless=others)
        yield (
            "negate unless",
            evolve(row, unless=(*others, PlantedGuard(negate(read_guard(guard)), f"not {guard_name(guard)}"))),
        )


def _of_target(row: Row) -> Iterator[tuple[str, Row]]:
    states = list(State)
    index = states.index(row.to)
    for to in dict.fromkeys((states[(index + 1) % len(states)], states[index - 1], row.source)):
        if to is not row.to:
            yield "redirect", evolve(row, to=to)


def _of_effects(row: Row) -> Iterator[tuple[str, Row]]:
    for i, effect in enumerate(row.then):
        before, after = row.then[:i], row.then[i + 1 :]
        yield "drop effect", evolve(row, then=(*before, *after))
        yield "repeat effect", evolve(row, then=(*before, effect, effect, *after))
        if after:
            yield "swap effects", evolve(row, then=(*before, after[0], effect, *after[1:]))
        changes = read_effect(effect)
        for operator, changed in _of_changes(changes):
            yield f"effect: {operator}", evolve(row, then=(*before, planted_effect(effect, changed), *after))


def _of_changes(changes: Changes) -> Iterator[tuple[str, Changes]]:
    for i, change in enumerate(changes):
        before, after = changes[:i], changes[i + 1 :]
        if len(changes) > 1:
            yield "drop a change", (*before, *after)
        for operator, changed in _of_change(change):
            yield operator, (*before, *changed, *after)


def _of_change(change: Change) -> Iterator[tuple[str, Changes]]:
    if isinstance(change, Assign):
        for operator, expression in _of_expression(change.value):
            yield operator, (Assign(change.target, expression),)
        return
    yield "drop the if", change.then
    for operator, expression in _of_expression(change.condition):
        yield operator, (Branch(expression, change.then, change.otherwise),)
    for operator, then in _of_changes(change.then):
        yield operator, (Branch(change.condition, then, change.otherwise),)


def _of_expression(expression: Expression) -> Iterator[tuple[str, Expression]]:
    match expression:
        case Value(value=bool() as known):
            yield "flip a constant", Value(not known)
        case Value(value=number):
            yield "raise a constant", Value(number + 1)
            yield "lower a constant", Value(number - 1)
        case Apply(op=op, args=args):
            for other in NEIGHBOURS.get(op, ()):
                yield "change a comparison", Apply(other, args)
            if op in ("and", "or"):
                yield "and for or", Apply("or" if op == "and" else "and", args)
                for i in range(len(args)):
                    rest = (*args[:i], *args[i + 1 :])
                    yield "drop an operand", rest[0] if len(rest) == 1 else Apply(op, rest)
            if op in ("+", "-"):
                yield "plus for minus", Apply("-" if op == "+" else "+", args)
            if op == "not":
                yield "drop a not", args[0]
            for i, arg in enumerate(args):
                for operator, changed in _of_expression(arg):
                    yield operator, Apply(op, (*args[:i], changed, *args[i + 1 :]))
