"""Guards as expressions: what is read means what the function answers, and folding, negating and telling keep the meaning."""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import re
from collections.abc import Callable
from typing import Any

import pytest
from attrs import fields
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Checked, Guards
from fsmtrain.core.decisions import Decisions, decisions
from fsmtrain.core.guard_ast.evaluate import compile_expression
from fsmtrain.core.guard_ast.expressions import Apply, Expression, Facts, Field, Opaque, Value, fields_in, is_opaque, negate
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.parse import guard_name, mark_opaque, parse_guard
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.interval_guards import after_batches, after_steps, every_n_batches, every_n_steps_of
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard
from tests.strategies import enough_steps, moments

Moment = tuple[Limits, Counters, Signals]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip


def value_of(expression: Expression, moment: Moment) -> Any:
    """What an expression comes to, by the rules of Python."""
    match expression:
        case Value(value=value):
            return value
        case Field(record=record, name=name):
            field, _, index = name.removesuffix("]").partition("[")
            value = getattr(dict(zip(("limits", "counters", "signals"), moment, strict=True))[record], field)
            return value[int(index)] if index else value
        case Opaque(guard=guard):
            assert callable(guard)
            return guard(*moment)
        case Apply(op="and", args=args):
            for arg in args:
                result = value_of(arg, moment)
                if not result:
                    break
            return result
        case Apply(op="or", args=args):
            for arg in args:
                result = value_of(arg, moment)
                if result:
                    break
            return result
        case Apply(op="not", args=(arg,)):
            return not value_of(arg, moment)
        case Apply(op=op, args=(left, right)):
            return OPERATORS[op](value_of(left, moment), value_of(right, moment))
    raise AssertionError(expression)


def names_of(record: type[Any]) -> list[str]:
    """The fields of one of the records."""
    return [f.name for f in fields(record)]


def facts_of(moment: Moment, keep: Callable[[str], bool] = lambda name: True) -> Facts:
    """What is true at a moment, of the fields whose names are kept."""
    return {
        (record, name): value
        for record, values in zip(("limits", "counters", "signals"), moment, strict=True)
        for name in names_of(type(values))
        if isinstance(value := getattr(values, name), (bool, int)) and keep(name)
    }


def some_moment(**counters: Any) -> Moment:
    """A moment with these counters."""
    values: dict[str, Any] = {f.name: 0 for f in fields(Limits)} | {"windows": ()}
    return Limits(**values), Counters(**counters), Signals()


# ---- guards of every kind


def chained(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """A comparison of three."""
    return 0 < counters.batch_nb + 1 <= limits.train_batches != 3


def arithmetic(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return (counters.batch_nb - 2) * 3 // 2 % 4 >= -1 + limits.val_check_batches - (counters.split_nb - 1)


def by_index(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.optimizer_steps[1] > counters.gathered_by[0] or counters.optimizer_steps[2] == 0


def with_other_names(a: Limits, b: Counters, c: Signals, /) -> bool:
    return not (a.tests and b.batch_nb > 1) or c.stop_requested


def through_a_module(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return ask.epoch_is_over(limits, counters, signals) and not ask.window_is_full(limits, counters, signals)


EVERY = 2
second_batch = every_n_batches(2, first=1)


def through_others(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return second_batch(limits, counters, signals) != (counters.batch_nb % EVERY == 0) or chained(limits, counters, signals)


def either(first: Guard, second: Guard) -> Guard:
    """A combination in plain Python."""

    def one_of_them(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return first(limits, counters, signals) or second(limits, counters, signals)

    return one_of_them


half_an_epoch: Guard = lambda limits, counters, signals: counters.batch_nb * 2 == limits.train_batches  # noqa: E731
in_brackets = Guards(validate=lambda a, b, c: (b.batch_nb == 2
                                            and not c.splits > a.epochs))  # fmt: skip

BUILT_IN: dict[str, Guard] = {
    name: function
    for name, function in vars(ask).items()
    if inspect.isfunction(function) and list(inspect.signature(function).parameters) == ["limits", "counters", "signals"]
}
OWN = Guards(
    step={0: every_n_batches(3), 2: arithmetic}, validate=every_n_batches(2, first=0), save=chained, stop=enough_steps(3)
)
DECISIONS: dict[str, Guard] = {
    f"{f.name}, {kind}": getattr(decisions(guards), f.name)
    for kind, guards in (("by default", Guards()), ("by guards", OWN))
    for f in fields(Decisions)
}
USERS: dict[str, Guard] = {
    **{f.__name__: f for f in (chained, arithmetic, by_index, with_other_names, through_a_module, through_others)},
    "every third": every_n_batches(3),
    "every second from the fourth": every_n_batches(2, first=4),
    "every second step of the third": every_n_steps_of(2, 2),
    "after batches": after_batches(2),
    "after steps": after_steps(3),
    "enough steps": enough_steps(2),
    "either": either(chained, either(enough_steps(3), every_n_batches(2))),
    "lambda": half_an_epoch,
    "checked": Checked(chained, "stop=chained", watched=True),
}
assert in_brackets.validate is not None
USERS["lambda in brackets"] = in_brackets.validate
READABLE = BUILT_IN | DECISIONS | USERS


def test_all_guards_of_the_package_are_among_them() -> None:
    assert len(BUILT_IN) >= 20
    assert {"window_is_full", "validation_interval_is_over", "epoch_is_over", "never"} <= set(BUILT_IN)


@pytest.mark.parametrize("name", READABLE)
def test_a_guard_in_the_subset_is_read_to_its_last_part(name: str) -> None:
    assert not is_opaque(parse_guard(READABLE[name]))


@given(moments)
@settings(max_examples=60, deadline=None)
def test_what_is_read_means_what_the_guard_answers(moment: Moment) -> None:
    """At any moment, also at those that no run ever meets; the guards of one file at a time."""
    for name, guard in READABLE.items():
        answer = guard(*moment)
        assert value_of(parse_guard(guard), moment) == answer, name
        assert value_of(negate(parse_guard(guard)), moment) == (not answer), name
        assert compile_expression(parse_guard(guard))(*moment) is answer, name


@given(moments, st.sets(st.sampled_from([*names_of(Limits), *names_of(Counters), *names_of(Signals)])))
@settings(max_examples=60, deadline=None)
def test_folding_with_facts_that_are_true_changes_no_answer(moment: Moment, known: set[str]) -> None:
    facts = facts_of(moment, lambda name: name in known)
    for name, guard in READABLE.items():
        left = fold(parse_guard(guard), facts)
        assert value_of(left, moment) == guard(*moment), name
        assert not any((field.record, field.name) in facts for field in fields_in(left)), name


@given(moments)
@settings(max_examples=30, deadline=None)
def test_folding_with_all_facts_leaves_a_truth_value(moment: Moment) -> None:
    for name, guard in (BUILT_IN | DECISIONS).items():
        left = fold(parse_guard(guard), facts_of(moment))
        assert isinstance(left, Value), name
        assert left.value is guard(*moment), name


@given(moments)
@settings(max_examples=30, deadline=None)
def test_formatted_guards_can_be_parsed_again(moment: Moment) -> None:
    """The text of a guard is an expression of Python over the fields' bare names, with the same answer."""
    for name, guard in READABLE.items():
        assert evaluated(format_expression(parse_guard(guard)), moment) == guard(*moment), name


def evaluated(told: str, moment: Moment) -> Any:
    """What a text comes to at a moment."""
    names = {name: getattr(record, name) for record in moment for name in names_of(type(record))}
    return eval(told, {"__builtins__": {}, "true": True, "false": False}, names)


def test_the_fields_of_the_three_records_have_different_names() -> None:
    """So that a text can name them without their record."""
    names = [*names_of(Limits), *names_of(Counters), *names_of(Signals)]
    assert len(names) == len(set(names))


# ---- expressions of any shape

NUMBERS = [Field("counters", "batch_nb"), Field("counters", "split_nb"), Field("limits", "epochs"), Field("signals", "splits")]
FLAGS = [
    Field("limits", "tests"),
    Field("counters", "epoch_ended_early"),
    Field("signals", "stop_requested"),
    Field("signals", "pass_ended"),
]


def applied(ops: tuple[str, ...], *args: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """One of the operators with its operands."""
    return st.builds(Apply, st.sampled_from(ops), st.tuples(*args))


def numbers_from(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Arithmetic."""
    divisors: st.SearchStrategy[Expression] = st.builds(Value, st.integers(1, 4))
    return applied(("+", "-", "*"), inner, inner) | applied(("//", "%"), inner, divisors)


def truths_from(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """``and``, ``or``, ``not``."""
    more = st.lists(inner, min_size=2, max_size=4).map(tuple)
    return st.builds(Apply, st.sampled_from(["and", "or"]), more) | st.builds(Apply, st.just("not"), st.tuples(inner))


values: st.SearchStrategy[Expression] = st.builds(Value, st.integers(-2, 4))
numbers = st.recursive(values | st.sampled_from(NUMBERS), numbers_from, max_leaves=4)
comparisons = applied(("==", "!=", "<", "<=", ">", ">="), numbers, numbers)
truths = st.recursive(comparisons | st.sampled_from(FLAGS) | st.builds(Value, st.booleans()), truths_from, max_leaves=8)
known_names = st.sets(st.sampled_from([read.name for read in [*NUMBERS, *FLAGS]]))


@given(truths, moments, known_names)
@settings(max_examples=250, deadline=None)
def test_folding_and_negating_keep_the_meaning_of_any_expression(
    expression: Expression, moment: Moment, known: set[str]
) -> None:
    facts = facts_of(moment, lambda name: name in known)
    whole, left = value_of(expression, moment), fold(expression, facts)
    assert value_of(left, moment) is whole
    assert value_of(negate(expression), moment) is (not whole)
    assert compile_expression(expression)(*moment) is whole
    assert value_of(negate(left), moment) is (not whole)
    assert fold(left, facts) == left


@given(truths, moments)
@settings(max_examples=150, deadline=None)
def test_the_text_of_any_expression_has_its_meaning(expression: Expression, moment: Moment) -> None:
    assert evaluated(format_expression(expression), moment) == value_of(expression, moment)


counted = comparisons | st.sampled_from(FLAGS) | st.builds(Value, st.booleans()) | numbers
compared = applied(("==", "!=", "<", ">="), counted, counted) | applied(("==", "<"), truths_from(comparisons), counted)


@given(compared, moments, known_names)
@example(Apply("==", (Apply("not", (Apply("not", (Field("signals", "pass_ended"),)),)), Value(1))), some_moment(), set())
@example(Apply("<", (Apply("<", (Value(2), Value(1))), Value(1))), some_moment(), set())
@settings(max_examples=150, deadline=None)
def test_truth_values_may_be_compared_and_counted(expression: Expression, moment: Moment, known: set[str]) -> None:
    """As in Python, where they are 0 and 1."""
    left = fold(expression, facts_of(moment, lambda name: name in known))
    assert value_of(left, moment) == value_of(expression, moment)
    assert value_of(negate(expression), moment) == (not value_of(expression, moment))
    assert evaluated(format_expression(expression), moment) == value_of(expression, moment)


@pytest.mark.parametrize(
    "guard",
    [
        lambda limits, counters, signals: (counters.batch_nb or 1) == 5,
        lambda limits, counters, signals: (counters.batch_nb and 1) == 1,
        lambda limits, counters, signals: (not not counters.batch_nb) == 1,  # noqa: SIM208
        lambda limits, counters, signals: counters.batch_nb % (limits.epochs or 2) == 1,
    ],
    ids=["or", "and", "not not", "or in a divisor"],
)
def test_a_number_where_a_truth_value_is_needed_is_read_as_it_is_or_not_at_all(guard: Guard) -> None:
    """``limits.epochs or 2`` is a number: what only keeps its truth would answer otherwise."""
    for batch in range(8):
        moment = some_moment(batch_nb=batch)
        for facts in ({}, facts_of(moment), facts_of(moment, lambda name: name != "batch_nb")):
            left = fold(parse_guard(guard), facts)
            assert is_opaque(left) or value_of(left, moment) == guard(*moment)


@pytest.mark.parametrize(
    "guard",
    [
        lambda limits, counters, signals: (counters.batch_nb == counters.split_nb) == signals.stop_requested,
        lambda limits, counters, signals: (counters.batch_nb < counters.split_nb) < 1,
    ],
    ids=["equal", "less"],
)
def test_the_text_of_a_compared_comparison_keeps_its_brackets(guard: Guard) -> None:
    """Without them Python reads a chain."""
    for batch in range(3):
        for split in range(3):
            moment = some_moment(batch_nb=batch, split_nb=split)
            assert evaluated(format_expression(parse_guard(guard)), moment) == guard(*moment)


BINARY = ("or", "and", "==", "<", "+", "-", "*", "//", "%")


def parsed(told: str) -> str:
    return ast.dump(ast.parse(told, mode="eval"))


@pytest.mark.parametrize("outer", [*BINARY, "not"])
@pytest.mark.parametrize("inner", [*BINARY, "not"])
def test_a_text_has_the_brackets_that_it_needs_and_no_others(outer: str, inner: str) -> None:
    """As Python reads it."""
    a, b, c = Field("limits", "a"), Field("limits", "b"), Field("limits", "c")
    within, spelled = (Apply("not", (a,)), "(not a)") if inner == "not" else (Apply(inner, (a, b)), f"(a {inner} b)")
    if outer == "not":
        ways = [(Apply(outer, (within,)), f"not {spelled}")]
    else:
        ways = [(Apply(outer, (within, c)), f"{spelled} {outer} c"), (Apply(outer, (c, within)), f"c {outer} {spelled}")]
    for expression, whole in ways:
        told, bare = format_expression(expression), whole.replace("(", "").replace(")", "")
        if outer == inner in ("or", "and"):
            assert told == bare  # the same either way
        elif told != bare:
            assert told == whole
            assert _is_another(bare, whole)
        else:
            assert parsed(told) == parsed(whole)


def _is_another(bare: str, whole: str) -> bool:
    try:
        return parsed(bare) != parsed(whole)
    except SyntaxError:
        return True


# ---- a few readings word by word


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        (ask.window_is_full, "gathered >= window_length"),
        (ask.batch_is_last, "batch_nb + 1 >= epoch_batches and epoch_batches > 0 or stream_ended"),
        (every_n_batches(4), "batch_nb >= 3 and (batch_nb - 3) % 4 == 0 and not split_nb + 1 < batch_splits"),
        (enough_steps(5), "global_step >= 5"),
        (chained, "0 < batch_nb + 1 and batch_nb + 1 <= train_batches and train_batches != 3"),
        (by_index, "optimizer_steps[1] > gathered_by[0] or optimizer_steps[2] == 0"),
        (with_other_names, "not (tests and batch_nb > 1) or stop_requested"),
    ],
)
def test_a_guard_is_formatted_from_its_source(guard: Guard, told: str) -> None:
    assert format_expression(parse_guard(guard)) == told


def test_known_numbers_are_put_in_and_what_they_decide_is_left_out() -> None:
    facts: Facts = {("counters", "epoch_batches"): 10, ("signals", "stream_ended"): False, ("signals", "splits"): 1}
    assert format_expression(fold(parse_guard(ask.batch_is_last), facts)) == "batch_nb + 1 >= 10"
    assert format_expression(
        fold(parse_guard(every_n_batches(4)), {("counters", "batch_splits"): 1, ("counters", "split_nb"): 0})
    ) == ("batch_nb >= 3 and (batch_nb - 3) % 4 == 0")


def test_a_division_by_a_known_zero_is_not_folded() -> None:
    expression = Apply("==", (Apply("%", (Field("counters", "batch_nb"), Field("limits", "epochs"))), Value(0)))
    facts: Facts = {("limits", "epochs"): 0, ("counters", "batch_nb"): 4}
    assert format_expression(fold(expression, facts)) == "4 % 0 == 0"


def test_negation_moves_inwards() -> None:
    guard: Guard = lambda limits, counters, signals: limits.tests and counters.batch_nb < 3 and not signals.pass_ended  # noqa: E731
    assert format_expression(negate(parse_guard(guard))) == "not tests or batch_nb >= 3 or pass_ended"


def test_the_fields_that_a_guard_reads_are_known() -> None:
    assert fields_in(parse_guard(ask.batch_is_last)) == {
        Field("counters", "batch_nb"),
        Field("counters", "epoch_batches"),
        Field("signals", "stream_ended"),
    }


# ---- what cannot be read


class Callable_:
    """A guard with a memory."""

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb > 1

    def method(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        """The same as a method."""
        return counters.batch_nb > 1


def decorated(function: Guard) -> Guard:
    """A decorator that leaves traces."""

    @functools.wraps(function)
    def wrapper(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return function(limits, counters, signals)

    return wrapper


@decorated
def with_a_decorator(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > 1


def marked(function: Guard) -> Guard:
    """A decorator that gives back what it was given."""
    return function


@marked
def with_a_mark(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > 1


def in_two_statements(limits: Limits, counters: Counters, signals: Signals) -> bool:
    batch = counters.batch_nb
    return batch > 1


def with_a_default(limits: Limits, counters: Counters, signals: Signals, n: int = 1) -> bool:
    return counters.batch_nb > n


def with_any_arguments(*args: Any) -> bool:
    return bool(args[1].batch_nb > 1)


def of_two(limits: Limits, counters: Counters) -> bool:
    return counters.batch_nb > 1


def of_four(limits: Limits, counters: Counters, signals: Signals, n: int) -> bool:
    return counters.batch_nb > n


def with_more_arguments(limits: Limits, counters: Counters, signals: Signals, *more: int) -> bool:
    return counters.batch_nb > 1


def with_named_arguments(limits: Limits, counters: Counters, signals: Signals, **more: int) -> bool:
    return counters.batch_nb > 1


def with_a_named_argument(limits: Limits, counters: Counters, signals: Signals, *, n: int = 1) -> bool:
    return counters.batch_nb > 1


def with_a_line_before(limits: Limits, counters: Counters, signals: Signals) -> bool:
    print()
    return counters.batch_nb > 1


def with_a_number_before(limits: Limits, counters: Counters, signals: Signals) -> bool:
    1  # noqa: B018
    return counters.batch_nb > 1


def that_raises(limits: Limits, counters: Counters, signals: Signals) -> bool:
    raise NotImplementedError


async def of_another_kind(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > 1


def that_only_says_what_it_is(limits: Limits, counters: Counters, signals: Signals) -> bool:  # type: ignore[empty-body]
    """It returns nothing."""


def that_returns_nothing(limits: Limits, counters: Counters, signals: Signals) -> None:
    return


def with_a_call(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return max(counters.batch_nb, 0) > 1


def by_an_index_that_varies(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.optimizer_steps[counters.optimizer_i] > 1


def with_a_fraction(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > 1.5


def with_a_choice(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > 1 if limits else False


def with_a_membership(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb in (2, 3, 4, 5)


def by_identity(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb is limits.epochs


def with_a_name_that_there_is_not(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > no_such_name  # type: ignore[name-defined, no-any-return]  # noqa: F821


def that_calls_itself(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return counters.batch_nb > 1 or that_calls_itself(limits, counters, signals)


def with_mixed_up_arguments(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return ask.epoch_is_over(limits, signals, counters)  # type: ignore[arg-type]


def that_counts(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return bool((counters.batch_nb or 1) == 5)


made: dict[str, Any] = {}
exec("def from_nowhere(limits, counters, signals):\n    return counters.batch_nb > 1", made)
two_lambdas: list[Guard] = [lambda limits, counters, signals: counters.batch_nb > 1, lambda limits, counters, signals: True]
two_lambdas += [lambda limits, counters, signals: False, lambda limits, counters, signals: counters.batch_nb < 1]

OPAQUE: dict[str, tuple[Any, str]] = {
    "an object": (Callable_(), "not a plain function"),
    "a method": (Callable_().method, "not a plain function"),
    "a partial": (functools.partial(chained), "not a plain function"),
    "a decorator": (with_a_decorator, "it is wrapped in a decorator"),
    "a decorator that leaves no trace": (with_a_mark, "it has a decorator"),
    "two statements": (in_two_statements, "more than one return"),
    "a default": (with_a_default, "parameters"),
    "any arguments": (with_any_arguments, "parameters"),
    "two arguments": (of_two, "parameters"),
    "four arguments": (of_four, "parameters"),
    "more arguments": (with_more_arguments, "parameters"),
    "named arguments": (with_named_arguments, "parameters"),
    "a named argument": (with_a_named_argument, "parameters"),
    "a line before": (with_a_line_before, "more than one return"),
    "a number before": (with_a_number_before, "more than one return"),
    "a raise": (that_raises, "more than one return"),
    "a docstring alone": (that_only_says_what_it_is, "more than one return"),
    "nothing": (that_returns_nothing, "more than one return"),
    "a coroutine": (of_another_kind, "its source is not one function"),
    "a call": (with_a_call, "`max(counters.batch_nb, 0)` is not supported"),
    "an index that varies": (by_an_index_that_varies, "`counters.optimizer_steps[counters.optimizer_i]` is not supported"),
    "a fraction": (with_a_fraction, "`1.5` is not supported"),
    "a choice": (with_a_choice, "`counters.batch_nb > 1 if limits else False` is not supported"),
    "a membership": (with_a_membership, "is not supported"),
    "an identity": (by_identity, "`Is` is not supported"),
    "an unknown name": (with_a_name_that_there_is_not, "`no_such_name` is unknown"),
    "a number for a truth value": (that_counts, "is not supported"),
    "no source": (made["from_nowhere"], "its source cannot be found"),
    "mixed up arguments": (with_mixed_up_arguments, "is not supported"),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_a_guard_outside_the_subset_is_opaque_with_a_reason(name: str) -> None:
    guard, reason = OPAQUE[name]
    expression = parse_guard(guard)
    assert isinstance(expression, Opaque)
    assert re.search(re.escape(reason), expression.reason)
    assert expression.name == guard_name(guard) == format_expression(expression)
    assert is_opaque(expression)
    assert fields_in(expression) == frozenset()
    assert fold(expression, {}) == expression
    assert format_expression(negate(expression)) == f"not {guard_name(guard)}"


def test_a_guard_that_calls_itself_is_opaque_where_it_does() -> None:
    expression = parse_guard(that_calls_itself)
    assert isinstance(expression, Apply)
    assert expression.args[0] == Apply(">", (Field("counters", "batch_nb"), Value(1)))
    assert isinstance(expression.args[1], Opaque)
    assert expression.args[1].reason == "it calls itself"


def test_an_opaque_part_leaves_the_rest_readable() -> None:
    """And where the rest decides, the part is of no interest."""
    expression = parse_guard(either(in_two_statements, ask.test_follows))
    assert is_opaque(expression)
    assert format_expression(expression) == "in_two_statements or tests"
    assert fold(expression, {("limits", "tests"): True}) == Value(True)
    assert format_expression(fold(expression, {("limits", "tests"): False})) == "in_two_statements"


@pytest.mark.parametrize("guard", [True, None, 3, "window_is_full"])
def test_what_is_no_function_cannot_be_read(guard: Any) -> None:
    assert isinstance(parse_guard(guard), Opaque)


def test_a_guard_that_is_distrusted_is_opaque_and_no_other_of_its_source_is() -> None:
    one, other = every_n_batches(7), every_n_batches(7)
    mark_opaque(one, "it was seen to answer otherwise")
    mark_opaque(Callable_(), "it cannot be read anyway")
    expression = parse_guard(one)
    assert isinstance(expression, Opaque)
    assert expression.reason == "it was seen to answer otherwise"
    assert not is_opaque(parse_guard(other))


def test_names_are_those_of_the_functions() -> None:
    assert guard_name(chained) == "chained"
    assert guard_name(Checked(chained, "stop=chained", watched=False)) == "chained"
    assert guard_name(USERS["lambda"]) == "lambda"
    assert guard_name(Callable_()) == "Callable_"


# ---- source that says something else than the function does


def test_of_two_lambdas_in_a_line_the_right_one_is_read() -> None:
    assert [format_expression(parse_guard(guard)) for guard in two_lambdas] == ["batch_nb > 1", "true", "false", "batch_nb < 1"]


def test_of_a_lambda_in_a_lambda_the_inner_one_is_read() -> None:
    outer: Any = lambda limits, counters, signals: lambda limits, counters, signals: counters.batch_nb > 1  # noqa: E731
    assert format_expression(parse_guard(outer(None, None, None))) == "batch_nb > 1"
    assert is_opaque(parse_guard(outer))
    longer: list[Any] = [lambda limits, counters, signals: [lambda limits, counters, signals: counters.batch_nb > 2,
        1][0]]  # fmt: skip
    assert format_expression(parse_guard(longer[0](None, None, None))) == "batch_nb > 2"


def test_a_lambda_is_read_to_its_end_or_not_at_all() -> None:
    """Python gives only the first line of one that goes on in the next line without brackets of its own."""
    guards = Guards(
        stop=lambda limits, counters, signals: counters.global_step >= 5
        and counters.batch_nb > 2,
        save=lambda limits, counters, signals: limits.tests
        or counters.global_step == 1,
    )  # fmt: skip
    for guard in (guards.stop, guards.save):
        assert guard is not None
        for step in range(8):
            for batch in range(4):
                moment = some_moment(global_step=step, batch_nb=batch)
                expression = parse_guard(guard)
                assert is_opaque(expression) or value_of(expression, moment) == guard(*moment)


def test_a_variable_that_may_change_is_not_read_as_the_number_that_it_is_now() -> None:
    """A name that some function sets again later is no constant."""
    enough = False

    def somebody_said_so(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return enough

    def say_so() -> None:
        nonlocal enough
        enough = True

    expression = parse_guard(somebody_said_so)
    say_so()
    assert somebody_said_so(*some_moment()) is True
    assert is_opaque(expression) or value_of(expression, some_moment()) is True
