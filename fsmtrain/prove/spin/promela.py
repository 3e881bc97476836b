"""The table as a Promela model, which Spin runs through in every possible way for small bounds.

A second opinion with other weak spots: here all optimizers have their own items in the lists, nothing is left out or
approximated, and every claim is an assertion. But the numbers are small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field, fields, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import Apply, Expression, Opaque, Read, Value, reads_of
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, Table
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.loop_model.assumptions import (
    ACTIONS,
    LEGAL_LIMITS,
    begin_run,
    inputs_are_legal,
    request_stop,
    validation_interval_fits,
    window_length_is_legal,
)
from fsmtrain.prove.loop_model.effect_ast import (
    Assign,
    Changes,
    argument_of,
    fields_read,
    index_of,
    read_effect,
    read_predicate,
)
from fsmtrain.prove.loop_model.ghost_state import AFTER_GUARDS, BEFORE_GUARDS, GhostState
from fsmtrain.prove.smt.transition_system import read_guard
from fsmtrain.prove.smt.z3_terms import SORTS

Range = tuple[int, int]


@frozen(kw_only=True)
class Bounds:
    """The least and the greatest value of each limit that is not fixed at 0, and of inputs."""

    limits: Mapping[str, Range]
    inputs: Mapping[str, Range] = field(factory=dict)


# Each looks at a part of the loop with all else small or off: together they would be too many.
WINDOWS = Bounds(
    limits={"fits": (1, 1), "epochs": (1, 2), "train_batches": (0, 3), "train_is_stream": (0, 1), "optimizers": (1, 2),
            "splits_batches": (0, 1), "val_check_epochs": (1, 1)},
    inputs={"splits": (1, 2), "batches": (1, 3), "window": (1, 3)},
)  # fmt: skip
CHECKS = Bounds(
    limits={"fits": (1, 1), "epochs": (0, 2), "min_epochs": (0, 1), "train_batches": (0, 2), "train_is_stream": (0, 1),
            "validates": (0, 1), "val_batches": (0, 2), "evaluates_stream": (0, 1), "val_check_batches": (0, 2),
            "val_check_epochs": (1, 2), "optimizers": (1, 1), "stops_early": (0, 1)},
    inputs={"batches": (1, 2), "val_check_batches": (1, 2), "patience_exhausted": (0, 1)},
)  # fmt: skip
PASSES = Bounds(
    limits={"fits": (0, 1), "epochs": (0, 1), "min_epochs": (0, 0), "train_batches": (0, 1), "validates": (0, 1),
            "val_batches": (0, 2), "sanity_batches": (0, 2), "has_sanity": (0, 1), "tests": (0, 1), "test_batches": (0, 2),
            "evaluates_stream": (0, 1), "val_check_batches": (0, 1), "val_check_epochs": (1, 1), "optimizers": (1, 1),
            "stops_early": (0, 1), "rolls_back": (0, 1)},
    inputs={"sanity_batches": (1, 2), "val_check_batches": (1, 2), "test_batches": (1, 2), "stop": (0, 1),
            "patience_exhausted": (0, 1), "nonfinite": (0, 1)},
)  # fmt: skip
ALL_BOUNDS: Mapping[str, Bounds] = {"windows": WINDOWS, "checks": CHECKS, "passes": PASSES}
MAX_OPTIMIZERS = 2


def promela_model(table: Table, claims: Iterable[Claim], bounds: Bounds) -> str:
    """The model's text."""
    return _Printer(table, tuple(claims), bounds).text()


@frozen
class _Printer:
    table: Table
    claims: tuple[Claim, ...]
    bounds: Bounds
    answers: list[object] = field(factory=list)  # the opaque guards

    def text(self) -> str:
        body = [self.visit(state) for state in State]
        lists = {f.name for f in fields(Counters) if str(f.type) == "list[int]"}
        declared = []
        for known, sort in SORTS.items():
            size = f"[{MAX_OPTIMIZERS}]" if known.name in lists and known.record == "counters" else ""
            declared.append(f"{'bool' if sort == 'bool' else 'int'} {self.name(known)}{size};")
        declared += [f"bool answer_{i};" for i in range(len(self.answers))]
        states = "\n".join(f"#define AT_{state.name} {i}" for i, state in enumerate(State))
        return "\n".join(
            [
                *(states, *declared, "int at; int holding; int taken;"),
                *("active proctype machine() {", "atomic {", *self.start(), "};"),
                *("do", *body, "od", "}"),
            ]
        )

    def start(self) -> list[str]:
        lines = []
        for known in SORTS:
            if known.record == "limits":
                lines.append(self.any_of(self.name(known), self.bounds.limits.get(known.name, (0, 0))))
        lines += [self.require(read_predicate(function)) for function in (*LEGAL_LIMITS, validation_interval_fits)]
        for record, values in (("counters", Counters.begin(MAX_OPTIMIZERS)), ("signals", Signals()), ("ghost", GhostState())):
            for f in fields(type(values)):
                value = getattr(values, f.name)
                for i, item in enumerate(value if isinstance(value, list) else [value]):
                    at = f"[{i}]" if isinstance(value, list) else ""
                    lines.append(f"{record}_{f.name}{at} = {int(item)};")
        lines.append(self.any_of("ghost_watched_i", (0, MAX_OPTIMIZERS - 1)))
        lines.append("(ghost_watched_i < limits_optimizers);")
        lines += self.inputs(
            [Read("inputs", f) for f in ("batches", "sanity_batches", "val_check_batches", "test_batches", "window")]
        )
        lines += [*self.changes(read_effect(begin_run)), f"at = AT_{State.START.name};"]
        return lines

    def visit(self, state: State) -> str:
        if state.is_final:
            return f":: at == AT_{state.name} -> d_step {{ {' '.join(self.asserted(state))} }}; break"
        functions = [f for f in (request_stop, ACTIONS.get(state), BEFORE_GUARDS.get(state)) if f is not None]
        leaving = [AFTER_GUARDS[state]] if state in AFTER_GUARDS else []
        inputs = {r for f in (*functions, *leaving) for r in fields_read(read_effect(f)) if r.record == "inputs"}
        rows = self.table.leaving(state)
        opaque = {guard for row in rows for guard in self.opaque_in(row)}
        lines = [f":: at == AT_{state.name} -> atomic {{", *self.inputs(sorted(inputs, key=lambda read: read.name))]
        lines += [self.any_of(f"answer_{i}", (0, 1)) for i, guard in enumerate(self.answers) if guard in opaque]
        lines += [line for function in functions for line in self.changes(read_effect(function))]
        lines.append("holding = 0;")
        for number, row in enumerate(rows):
            lines.append(f"if :: {self.condition(row)} -> holding++; taken = {number} :: else fi;")
        lines.append("assert(holding == 1);")
        lines += self.asserted(state)
        lines += [line for function in leaving for line in self.changes(read_effect(function))]
        lines.append("if")
        for number, row in enumerate(rows):
            effects = " ".join(line for effect in row.then for line in self.changes(read_effect(effect)))
            lines.append(f":: taken == {number} -> {effects} at = AT_{row.to.name}")
        used = [f"inputs_{read.name}" for read in inputs] + [f"answer_{self.answers.index(guard)}" for guard in opaque]
        lines.append("fi; " + " ".join(f"{name} = 0;" for name in sorted((*used, "holding", "taken"))) + " }")
        return "\n".join(lines)

    def asserted(self, state: State) -> list[str]:
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

    # ---- pieces

    def name(self, known: Read) -> str:
        return f"{known.record}_{known.name}"

    def any_of(self, name: str, values: Range) -> str:
        choices = " ".join(f":: {name} = {value}" for value in range(values[0], values[1] + 1))
        return f"if {choices} fi;"

    def inputs(self, inputs: Iterable[Read]) -> list[str]:
        lines, names = [], {read.name for read in inputs}
        for name in sorted(names):
            lines.append(
                self.any_of(
                    f"inputs_{name}", self.bounds.inputs.get(name, (0, 0) if SORTS[Read("inputs", name)] == "bool" else (1, 1))
                )
            )
        for legal in (inputs_are_legal, window_length_is_legal):
            known = read_predicate(legal)
            parts = known.args if isinstance(known, Apply) and known.op == "and" else (known,)
            for part in parts:
                asked = {read.name for read in reads_of(part) if read.record == "inputs"}
                if asked and asked <= names:
                    lines.append(f"({self.expression(part)});")
        return lines

    def require(self, expression: Expression) -> str:
        return f"({self.expression(expression)});"

    def opaque_in(self, row: Row) -> Iterable[object]:
        for guard in (row.when, *row.unless):
            if guard is not None:
                yield from _opaque(read_guard(guard))

    def condition(self, row: Row) -> str:
        asked = [] if row.when is None else [self.expression(read_guard(row.when))]
        return " && ".join(asked + [f"!({self.expression(read_guard(guard))})" for guard in row.unless]) or "true"

    def changes(self, changes: Changes) -> list[str]:
        lines = []
        for change in changes:
            if isinstance(change, Assign):
                lines.append(f"{self.expression(change.target)} = {self.expression(change.value)};")
            else:
                then, other = (" ".join(self.changes(part)) or "skip;" for part in (change.then, change.otherwise))
                lines.append(f"if :: {self.expression(change.condition)} -> {then} :: else -> {other} fi;")
        return lines

    def expression(self, expression: Expression) -> str:
        match expression:
            case Value(value=value):
                return str(int(value))
            case Opaque(guard=guard):
                if guard not in self.answers:
                    self.answers.append(guard)
                return f"answer_{self.answers.index(guard)}"
            case Read(record=record, name=name):
                item, argument = index_of(name), argument_of(name)
                if item is not None:
                    at = str(item[1]) if isinstance(item[1], int) else self.name(_index(item[1]))
                    return f"{record}_{item[0]}[{at}]"
                if argument is not None:
                    return f"(counters_{argument} == ghost_epochs_begun -> ghost_epoch_window : 1)"
                return f"{record}_{name}"
            case Apply(op="not", args=(arg,)):
                return f"!({self.expression(arg)})"
            case Apply(op=op, args=args):
                return "(" + f" {_OPERATORS.get(op, op)} ".join(map(self.expression, args)) + ")"
        raise TypeError(expression)


_OPERATORS = {"and": "&&", "or": "||"}


def _index(name: str) -> Read:
    return next(read for record in ("counters", "ghost") if (read := Read(record, name)) in SORTS)


def _opaque(expression: Expression) -> Iterable[object]:
    if isinstance(expression, Opaque):
        yield expression.guard
    elif isinstance(expression, Apply):
        for arg in expression.args:
            yield from _opaque(arg)
