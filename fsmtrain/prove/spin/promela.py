"""Print the table as a Promela model, which Spin explores exhaustively within small bounds.

This second opinion has other weak spots than the solvers: here each optimizer has its own item in every list, nothing is left
out or approximated, and each claim is an assertion. But the numbers are small.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from attrs import define, field, fields

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import CountedEffect
from fsmtrain.core.guard_ast.expressions import Apply, Expression, Field, Opaque, Value, fields_in, iter_parts
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.loop_model import assumptions
from fsmtrain.prove.loop_model.effect_ast import Assign, Changes, fields_read, read_effect, read_guard, read_predicate
from fsmtrain.prove.loop_model.fields import RECORDS, SORTS, argument_of, index_of
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, GhostState
from fsmtrain.prove.spin.bounds import MAX_OPTIMIZERS, Bounds, Range

_LISTS = {f.name for f in fields(Counters) if str(f.type) == "list[int]"}
_OPERATORS = {"and": "&&", "or": "||"}


def promela_model(table: Table, claims: Iterable[Claim], bounds: Bounds) -> str:
    """Return the text of the model."""
    return _Printer(table, tuple(claims), bounds).text()


@define
class _Printer:
    table: Table
    claims: tuple[Claim, ...]
    bounds: Bounds
    opaque_guards: list[object] = field(factory=list)  # one variable for the answer of each

    def text(self) -> str:
        body = [self.visit(state) for state in State]
        declarations = []
        for read, sort in SORTS.items():
            size = f"[{MAX_OPTIMIZERS}]" if read.record == "counters" and read.name in _LISTS else ""
            declarations.append(f"{'bool' if sort == 'bool' else 'int'} {read.record}_{read.name}{size};")
        declarations += [f"bool answer_{i};" for i in range(len(self.opaque_guards))]
        states = [f"#define AT_{state.name} {i}" for i, state in enumerate(State)]
        return "\n".join(
            [
                *(*states, *declarations, "int at; int holding; int taken;"),
                *("active proctype machine() {", "atomic {", *self.start(), "};"),
                *("do", *body, "od", "}"),
            ]
        )

    def start(self) -> list[str]:
        """Choose legal limits, initialize all records, and choose the first lengths."""
        limits = [read.name for read in SORTS if read.record == "limits"]
        lines = [_choose(f"limits_{name}", self.bounds.limits.get(name, (0, 0))) for name in limits]
        legal_limits = (*assumptions.LEGAL_LIMITS, assumptions.run_is_fresh, assumptions.validation_interval_fits)
        lines += [f"({self.expression(read_predicate(legal))});" for legal in legal_limits]
        for name, record in (("counters", Counters.begin(MAX_OPTIMIZERS)), ("signals", Signals()), ("ghost", GhostState())):
            for f in fields(type(record)):
                value = getattr(record, f.name)
                for i, item in enumerate(value if isinstance(value, list) else [value]):
                    index = f"[{i}]" if isinstance(value, list) else ""
                    lines.append(f"{name}_{f.name}{index} = {int(item)};")
        lines.append(_choose("ghost_watched_i", (0, MAX_OPTIMIZERS - 1)))
        lines.append("(ghost_watched_i < limits_optimizers);")
        begin_run = read_effect(assumptions.begin_run)
        lines += self.choose_inputs({read.name for read in fields_read(begin_run)})
        return [*lines, *self.changes(begin_run), f"at = AT_{State.START.name};"]

    def visit(self, state: State) -> str:
        if state.is_final:
            return f":: at == AT_{state.name} -> d_step {{ {' '.join(self.assertions(state))} }}; break"
        before = [
            f for f in (assumptions.request_stop, assumptions.ACTIONS.get(state), BEFORE_GUARDS.get(state)) if f is not None
        ]
        after = [AFTER_GUARDS[state]] if state in AFTER_GUARDS else []
        rows = self.table.leaving(state)
        reads = {read for function in (*before, *after) for read in fields_read(read_effect(function))}
        inputs = {read.name for read in reads if read.record == "inputs"}
        lines = [f":: at == AT_{state.name} -> atomic {{", *self.choose_inputs(inputs)]
        answers = sorted({self.answer(guard) for row in rows for guard in _opaque_guards(row)})
        lines += [_choose(answer, (0, 1)) for answer in answers]
        lines += [*self.all_changes(before), "holding = 0;"]
        lines += [f"if :: {self.condition(row)} -> holding++; taken = {n} :: else fi;" for n, row in enumerate(rows)]
        lines += ["assert(holding == 1);", *self.assertions(state), *self.all_changes(after), "if"]
        for number, row in enumerate(rows):
            lines.append(f":: taken == {number} -> {' '.join(self.all_changes(row.then))} at = AT_{row.to.name}")
        # Variables that no later visit reads are reset, so that states that differ only in them are one.
        unread = sorted(("holding", "taken", *answers, *(f"inputs_{name}" for name in inputs)))
        return "\n".join([*lines, "fi; " + " ".join(f"{name} = 0;" for name in unread) + " }"])

    def assertions(self, state: State) -> list[str]:
        lines = []
        for claim in self.claims:
            if state not in claim.at:
                continue
            holds = self.expression(read_predicate(claim.holds))
            if claim.to is None:
                lines.append(f"assert({holds});")
            else:
                numbers = [n for n, row in enumerate(self.table.leaving(state)) if row.to in claim.to]
                lines += [f"assert(taken != {n} || {holds});" for n in numbers]
        return lines

    def choose_inputs(self, names: Collection[str]) -> list[str]:
        """Choose legal values of these inputs."""
        names = [name for name in sorted(names) if Field("inputs", name) in SORTS]
        lines = []
        for name in names:
            default = (0, 0) if SORTS[Field("inputs", name)] == "bool" else (1, 1)
            lines.append(_choose(f"inputs_{name}", self.bounds.inputs.get(name, default)))
        for legal in (assumptions.inputs_are_legal, assumptions.window_length_is_legal):
            predicate = read_predicate(legal)
            for part in predicate.args if isinstance(predicate, Apply) and predicate.op == "and" else (predicate,):
                inputs = {read.name for read in fields_in(part) if read.record == "inputs"}
                if inputs and inputs <= set(names):
                    lines.append(f"({self.expression(part)});")
        return lines

    def answer(self, guard: object) -> str:
        """Return the variable for the answer of an opaque guard, which is chosen at each visit."""
        if guard not in self.opaque_guards:
            self.opaque_guards.append(guard)
        return f"answer_{self.opaque_guards.index(guard)}"

    def condition(self, row: Row) -> str:
        conditions = [] if row.when is None else [self.expression(read_guard(row.when))]
        return " && ".join(conditions + [f"!({self.expression(read_guard(guard))})" for guard in row.unless]) or "true"

    def all_changes(self, functions: Iterable[Callable[..., None] | CountedEffect]) -> list[str]:
        return [line for function in functions for line in self.changes(read_effect(function))]

    def changes(self, changes: Changes) -> list[str]:
        lines = []
        for change in changes:
            if isinstance(change, Assign):
                lines.append(f"{self.expression(change.target)} = {self.expression(change.value)};")
            else:
                then, otherwise = (" ".join(self.changes(part)) or "skip;" for part in (change.then, change.otherwise))
                lines.append(f"if :: {self.expression(change.condition)} -> {then} :: else -> {otherwise} fi;")
        return lines

    def expression(self, expression: Expression) -> str:
        match expression:
            case Value(value=value):
                return str(int(value))
            case Opaque(guard=guard):
                return self.answer(guard)
            case Field(record=record, name=name):
                item, argument = index_of(name), argument_of(name)
                if item is not None:
                    return f"{record}_{item[0]}[{item[1] if isinstance(item[1], int) else _index_variable(item[1])}]"
                if argument is not None:  # K of an epoch
                    return f"(counters_{argument} == ghost_epochs_begun -> ghost_epoch_window : 1)"
                return f"{record}_{name}"
            case Apply(op="not", args=(arg,)):
                return f"!({self.expression(arg)})"
            case Apply(op=op, args=args):
                return "(" + f" {_OPERATORS.get(op, op)} ".join(map(self.expression, args)) + ")"
        raise TypeError(expression)


def _choose(variable: str, values: Range) -> str:
    """Return a statement that gives a variable any value of an inclusive range."""
    choices = " ".join(f":: {variable} = {value}" for value in range(values[0], values[1] + 1))
    return f"if {choices} fi;"


def _index_variable(name: str) -> str:
    return next(f"{record}_{name}" for record in RECORDS if Field(record, name) in SORTS)


def _opaque_guards(row: Row) -> Iterable[object]:
    for guard in (row.when, *row.unless):
        if guard is not None:
            yield from (part.guard for part in iter_parts(read_guard(guard)) if isinstance(part, Opaque))
