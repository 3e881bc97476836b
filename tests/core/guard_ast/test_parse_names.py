"""The names that a guard does not bind itself: read as what they stand for only where that cannot change behind its back."""

# ruff: noqa: B007, B023, E731, F811, F841, PIE794, RET504, RUF018, SIM105 (here names are bound as they should not be)

from __future__ import annotations

import math as numbers_of
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import Opaque, Value, iter_parts
from fsmtrain.core.guard_ast.format import format_expression
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard

Make = Callable[[], Guard]
LIMIT = 3
lower = 3
TWICE = 1
TWICE = 2
SET_BY_A_FUNCTION = 1
for COUNTED in range(2):
    pass


def set_it() -> None:
    global SET_BY_A_FUNCTION, SET_BY_A_FUNCTION_ALONE
    SET_BY_A_FUNCTION = SET_BY_A_FUNCTION_ALONE = 2  # type: ignore[name-defined]


set_it()


# ---- bound once


def by_a_parameter(n: int = 3) -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == n


def by_one_that_has_to_be_named(*, n: int = 3) -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == n


def by_one_assignment() -> Guard:
    n = 3
    return lambda limits, counters, signals: counters.batch_nb == n


def by_one_assignment_while_a_function_has_its_own() -> Guard:
    n = 3

    def other() -> int:
        n = 4
        n = 5
        return n

    other()
    return lambda limits, counters, signals: counters.batch_nb == n


def by_one_assignment_around_a_class_that_has_its_own() -> Guard:
    n = 3

    class Holder:
        n = 4
        n = 5

        def guard(limits: Limits, counters: Counters, signals: Signals) -> bool:  # type: ignore[misc]
            return counters.batch_nb == n

    return Holder.guard


def by_one_assignment_beside_a_loop() -> Guard:
    n = 3
    for _ in range(2):
        pass
    return lambda limits, counters, signals: counters.batch_nb == n


def by_a_constant_of_the_module() -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == LIMIT


@pytest.mark.parametrize(
    "make",
    [
        by_a_parameter,
        by_one_that_has_to_be_named,
        by_one_assignment,
        by_one_assignment_while_a_function_has_its_own,
        by_one_assignment_around_a_class_that_has_its_own,
        by_one_assignment_beside_a_loop,
        by_a_constant_of_the_module,
    ],
)
def test_a_name_that_is_bound_once_is_read_as_its_number(make: Make) -> None:
    assert format_expression(parse_guard(make())) == "batch_nb == 3"


def test_a_flag_is_read_as_a_truth_value_and_a_number_as_a_plain_one() -> None:
    class Number(int):
        """One that may be equal to whatever it likes."""

    is_on, n = True, Number(3)
    expression = parse_guard(lambda limits, counters, signals: is_on and counters.batch_nb == n)
    assert format_expression(expression) == "true and batch_nb == 3"
    assert {type(part.value) for part in iter_parts(expression) if isinstance(part, Value)} == {bool, int}


# ---- bound more than once, or nobody knows how often


def by_two_assignments() -> Guard:
    n = 3
    n = 4
    return lambda limits, counters, signals: counters.batch_nb == n


def by_a_parameter_and_an_assignment(n: int = 3) -> Guard:
    n = n + 1
    return lambda limits, counters, signals: counters.batch_nb == n


def by_any_parameters(*n: int) -> Guard:
    n = (1, 2)
    return lambda limits, counters, signals: counters.batch_nb == n


def by_an_addition() -> Guard:
    n = 3
    n += 1
    return lambda limits, counters, signals: counters.batch_nb == n


def by_a_loop() -> Guard:
    for n in range(3):
        guard: Guard = lambda limits, counters, signals: counters.batch_nb == n
    return guard


def by_a_loop_with_an_end() -> Guard:
    n = 0
    while n < 1:
        n = 3
    return lambda limits, counters, signals: counters.batch_nb == n


def in_a_loop() -> Guard:
    left = 1
    while left:
        left, n = 0, 3
    return lambda limits, counters, signals: counters.batch_nb == n


def in_a_part_of_a_loop() -> Guard:
    for left in range(3):
        if left:
            n = left
    return lambda limits, counters, signals: counters.batch_nb == n


def in_a_comprehension() -> Guard:
    guards: list[Guard] = [lambda limits, counters, signals: counters.batch_nb == n for n in range(3)]
    return guards[0]


def by_a_walrus_in_a_comprehension() -> Guard:
    assert [n := i for i in range(3)]
    return lambda limits, counters, signals: counters.batch_nb == n


def by_an_exception() -> Guard:
    n: object = 3
    try:
        pass
    except ValueError as n:
        pass
    return lambda limits, counters, signals: counters.batch_nb == n


def by_a_pattern() -> Guard:
    n = 2
    match (3, 4):
        case (n, _):
            pass
    return lambda limits, counters, signals: counters.batch_nb == n


def by_the_rest_of_a_pattern() -> Guard:
    n: object = 2
    match (3, 4):
        case (_, *n):
            pass
    return lambda limits, counters, signals: counters.batch_nb == n


def by_an_import() -> Guard:
    n: object = 3
    import math as n

    return lambda limits, counters, signals: counters.batch_nb == n


def by_a_function_of_that_name() -> Guard:
    n: object = 3

    def n() -> None:  # type: ignore[no-redef]
        pass

    return lambda limits, counters, signals: counters.batch_nb == n


def by_another_function() -> Guard:
    n = 3

    def count() -> None:
        nonlocal n
        n += 1

    count()
    return lambda limits, counters, signals: counters.batch_nb == n


def by_a_function_in_another() -> Guard:
    n = 3

    def outer() -> Callable[[], None]:
        def count() -> None:
            nonlocal n
            n = 4

        return count

    outer()()
    return lambda limits, counters, signals: counters.batch_nb == n


def of_the_module_by_two_assignments() -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == TWICE


def of_the_module_by_a_function() -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == SET_BY_A_FUNCTION


def of_the_module_by_a_function_alone() -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == SET_BY_A_FUNCTION_ALONE  # type: ignore[name-defined]


def of_the_module_by_a_loop() -> Guard:
    return lambda limits, counters, signals: counters.batch_nb == COUNTED


@pytest.mark.parametrize(
    "make",
    [
        by_two_assignments,
        by_a_parameter_and_an_assignment,
        by_any_parameters,
        by_an_addition,
        by_a_loop,
        by_a_loop_with_an_end,
        in_a_loop,
        in_a_part_of_a_loop,
        in_a_comprehension,
        by_a_walrus_in_a_comprehension,
        by_an_exception,
        by_a_pattern,
        by_the_rest_of_a_pattern,
        by_an_import,
        by_a_function_of_that_name,
        by_another_function,
        by_a_function_in_another,
        of_the_module_by_two_assignments,
        of_the_module_by_a_function,
        of_the_module_by_a_function_alone,
        of_the_module_by_a_loop,
    ],
)
def test_a_name_that_may_be_bound_again_is_not_read(make: Make) -> None:
    expression = parse_guard(make())
    assert isinstance(expression, Opaque)
    assert expression.reason.endswith("may change")


# ---- names of a module, and names without a value


def test_a_variable_of_a_module_is_not_read_since_others_may_set_it() -> None:
    expression = parse_guard(lambda limits, counters, signals: counters.batch_nb == lower)
    assert isinstance(expression, Opaque)
    assert expression.reason == "`lower` is a module variable, which other code may set. Write it in capitals if it is constant"


def test_a_name_without_a_visible_binding_is_not_read() -> None:
    globals()["UNSEEN"] = 3
    expression = parse_guard(lambda limits, counters, signals: counters.batch_nb == UNSEEN)  # type: ignore[name-defined] # noqa: F821
    assert isinstance(expression, Opaque)
    assert expression.reason == "`UNSEEN` may change"


def test_a_name_without_a_value_yet_is_unknown() -> None:
    def later() -> Iterator[Guard]:
        yield lambda limits, counters, signals: counters.batch_nb == n  # type: ignore[has-type]
        n = 3

    expression = parse_guard(next(later()))
    assert isinstance(expression, Opaque)
    assert expression.reason == "`n` is unknown"


@pytest.mark.parametrize(
    ("guard", "reason"),
    [
        (lambda a, b, c: numbers_of.isqrt(a, b, c), "it is not a plain function"),  # type: ignore[call-arg]
        (lambda a, b, c: numbers_of.no_such_name(a, b, c), "is not supported"),  # type: ignore[attr-defined]
        (lambda a, b, c: product.no_such_name(a, b, c), "is not supported"),  # type: ignore[attr-defined]
        (lambda limits, counters, signals: limits.epochs(limits, counters, signals), "`limits` is unknown"),
        (lambda limits, counters, signals: counters.x.y(limits, counters, signals), "is not supported"),
    ],
    ids=["no guard", "no member", "no module", "a field", "a field of a field"],
)
def test_what_is_called_is_a_guard_or_the_member_of_a_module(guard: Guard, reason: str) -> None:
    expression = parse_guard(guard)
    assert isinstance(expression, Opaque)
    assert expression.reason.endswith(reason)
