"""A watch finds the first number that is not finite, whatever came before and after, and reads once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fsmtrain.runtime.optimization.detect_inf_nan import (
    MAX_PENDING_VALUES,
    NonFiniteMonitor,
    NonFiniteState,
    NonFiniteValue,
    all_finite,
)

numbers = st.sampled_from([0.0, -1.5, 3e38, 1e-45] * 8 + [math.nan, math.inf, -math.inf])
types = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


def place(n: int) -> tuple[int, int, int, int, int]:
    return n // 50, n % 50, n % 3, n % 2, n


@given(st.lists(st.lists(st.tuples(numbers, types), max_size=3 * MAX_PENDING_VALUES), min_size=1, max_size=3))
def test_the_first_since_the_last_reading_is_found(readings: list[list[tuple[float, torch.dtype]]]) -> None:
    """Also where numbers of several types came, and more of them than are kept as they are."""
    watch, n = NonFiniteMonitor(), 0
    for values in readings:
        expected = None
        for value, dtype in values:
            tensor = torch.tensor([value], dtype=torch.float64).to(dtype)
            n += 1
            what: Any = ("loss", "gradient")[n % 2]
            watch.add(tensor, place(n), what)
            if expected is None and not math.isfinite(float(tensor)):
                expected = NonFiniteValue(*place(n), what)
        assert watch.read() == expected
    assert watch.read() is None


@pytest.mark.parametrize("count", [1, MAX_PENDING_VALUES - 1, MAX_PENDING_VALUES, 5 * MAX_PENDING_VALUES + 1])
def test_one_reading_reads_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, lists = list[int](), Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: reads.append(1) or lists(tensor))  # type: ignore[func-returns-value]
    watch = NonFiniteMonitor()
    for n in range(count):
        watch.add(torch.tensor(float("nan") if n == count - 1 else 0.0), place(n), "loss")
    assert reads == []
    assert watch.read() == NonFiniteValue(*place(count - 1), "loss")
    assert len(reads) == 1


def test_a_watch_keeps_no_graph() -> None:
    watch, weight = NonFiniteMonitor(), torch.ones((), requires_grad=True)
    watch.add(weight * 2, place(0), "loss")
    assert not watch._values[0].requires_grad


@given(st.lists(st.tuples(st.lists(numbers, max_size=4), types | st.just(torch.complex64)), min_size=1, max_size=5))
def test_a_probe_is_finite_exactly_where_all_gradients_are_and_leaves_them_alone(
    gradients: list[tuple[list[float], torch.dtype]],
) -> None:
    """A norm of squares would overflow where these do not."""
    parameters = []
    for values, dtype in gradients:
        parameter = torch.zeros(len(values), dtype=dtype, requires_grad=True)
        parameter.grad = torch.tensor(values, dtype=torch.float64).to(dtype)
        parameters.append(parameter)
    before = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    found, after = all_finite(parameters), [parameter.grad for parameter in parameters if parameter.grad is not None]
    assert found is not None
    assert bool(found.isfinite()) is all(bool(gradient.isfinite().all()) for gradient in before)
    for one, two in zip(before, after, strict=True):
        assert torch.equal(torch.nan_to_num(torch.view_as_real(one) if one.is_complex() else one, nan=7.0),
                           torch.nan_to_num(torch.view_as_real(two) if two.is_complex() else two, nan=7.0))  # fmt: skip


def test_sparse_gradients_and_parameters_without_any_are_understood() -> None:
    embedding, other = torch.nn.Embedding(5, 2, sparse=True), torch.nn.Linear(1, 1)
    assert all_finite([*embedding.parameters(), *other.parameters()]) is None
    (embedding(torch.tensor([1, 1, 3])).sum() * float("inf")).backward()
    found = all_finite([*embedding.parameters(), *other.parameters()])
    assert found is not None
    assert not found.isfinite()


def test_the_nonfinite_state_is_restored_from_plain_data() -> None:
    one, two = NonFiniteValue(0, 3, 1, 0, 4, "loss"), NonFiniteValue(2, 0, 0, 1, 11, "gradient")
    remembered, again = NonFiniteState([None, two]), NonFiniteState([None, None])
    remembered.exclude([one, two])
    again.load_state_dict(remembered.state_dict())
    assert (again.bad_windows, again.excluded, again.excluded_batches) == ([None, two], (one, two), frozenset({4, 11}))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (NonFiniteValue(0, 3, 0, 0, 4, "loss"), "the loss of epoch 0, batch 3, optimizer 0"),
        (NonFiniteValue(1, 2, 1, 1, 9, "gradient"), "a gradient of epoch 1, batch 2, split 1, optimizer 1"),
    ],
)
def test_a_nonfinite_number_is_identified_by_its_index(found: NonFiniteValue, told: str) -> None:
    assert str(found) == told
