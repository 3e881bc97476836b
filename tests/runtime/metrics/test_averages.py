"""Averages over a pass: float64 sums whatever the dtype, over samples or weights, of all loaders and of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self

import pytest
import torch
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fsmtrain.runtime.checkpoint_files.codec.codec import decode, encode_unnamed
from fsmtrain.runtime.checkpoint_files.store.snapshots import take_snapshot
from fsmtrain.runtime.metrics import averages as averages_module
from fsmtrain.runtime.metrics import weighted_mean
from fsmtrain.runtime.metrics.averages import Averages
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar, number
from tests.models import same_bits

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, None]


@define
class Added:
    """A value of the metric ``m``, as a tensor of this dtype (None: a float), with its weight, from this loader."""

    loader_i: int
    value: float
    dtype: torch.dtype | None
    weight: Fraction
    weight_is_tensor: bool

    @property
    def metric(self) -> Scalar:
        """What the step returns."""
        return self.value if self.dtype is None else torch.tensor(self.value).to(self.dtype)

    @property
    def exact(self) -> Fraction:
        """The value that it holds."""
        return Fraction(number(self.metric))


ADDED = st.builds(
    Added,
    loader_i=st.integers(0, 2),
    value=st.floats(0, 200, width=16),
    dtype=st.sampled_from(DTYPES),
    weight=st.sampled_from([Fraction(0), Fraction(1), Fraction(1, 4), Fraction(7), Fraction(3, 2), Fraction(4096)]),
    weight_is_tensor=st.booleans(),
)


def exact_mean(added: Sequence[Added]) -> Fraction | None:
    """Σ weight · value / Σ weight, in rational numbers; None without any weight."""
    weight = sum((one.weight for one in added), Fraction(0))
    return sum((one.weight * one.exact for one in added), Fraction(0)) / weight if weight else None


def collected(added: Sequence[Added], device: str = "cpu") -> Averages:
    averages = Averages(3)
    for one in added:
        weight: Scalar = float(one.weight)
        if one.weight_is_tensor:
            weight = torch.tensor(weight, dtype=torch.float64, device=device)
        averages.add({"m": one.metric.to(device) if isinstance(one.metric, Tensor) else one.metric}, weight, one.loader_i)
    return averages


def is_close(actual: Scalar, exact: Fraction | None) -> bool:
    if exact is None:
        return math.isnan(number(actual))
    return abs(number(actual) - float(exact)) <= 1e-13 * max(1.0, abs(float(exact)))


def assert_means(averages: Averages, added: Sequence[Added]) -> None:
    expected = {"m": exact_mean(added)} if added else {}
    for index in sorted({one.loader_i for one in added}):
        expected[f"m/{index}"] = exact_mean([one for one in added if one.loader_i == index])
    results = averages.results()
    assert list(results) == list(expected)
    for name, exact in expected.items():
        assert is_close(results[name], exact), name


@given(st.lists(ADDED, max_size=30))
def test_a_metric_is_its_weighted_mean_of_all_loaders_and_of_each(added: list[Added]) -> None:
    assert_means(collected(added), added)


@pytest.mark.parametrize("zero", [0.0, torch.tensor(0.0), torch.tensor(0, dtype=torch.int64)])
@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan)])
def test_a_value_of_weight_0_is_left_out_even_if_it_is_not_finite(value: Scalar, zero: Scalar) -> None:
    averages = Averages()
    averages.add({"m": value}, zero)
    assert math.isnan(number(averages.results()["m"]))
    averages.add({"m": 3.0}, 2)
    averages.add({"m": value}, zero)
    assert number(averages.results()["m"]) == 3.0


@given(st.lists(ADDED, min_size=1, max_size=20), st.integers(0, 20))
def test_averages_that_were_saved_in_between_end_in_the_same_bits(added: list[Added], saved_after: int) -> None:
    first, then = added[:saved_after], added[saved_after:]
    saved = decode(take_snapshot(encode_unnamed({"averages": collected(first).state_dict()}), {}).named())["averages"]
    resumed = Averages.from_state_dict(saved)
    for one in then:
        weight: Scalar = torch.tensor(float(one.weight), dtype=torch.float64) if one.weight_is_tensor else float(one.weight)
        resumed.add({"m": one.metric}, weight, one.loader_i)
    assert same_bits(_in_order(resumed.results()), _in_order(collected(added).results()))


def _in_order(metrics: Metrics) -> list[tuple[str, float]]:
    """As numbers; NaN as a word, since it is not equal to itself."""
    return [(name, -1.5 if math.isnan(number(value)) else number(value)) for name, value in sorted(metrics.items())]


@given(st.lists(ADDED, max_size=30), st.integers(1, 5))
def test_on_a_device_without_float64_values_wait_there_and_are_summed_on_the_host(added: list[Added], waiting: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weighted_mean, "_has_float64", lambda value: not isinstance(value, Tensor))
        patch.setattr(weighted_mean, "MAX_WAITING_VALUES", waiting)
        averages = collected(added)
        assert_means(averages, added)
        resumed = Averages.from_state_dict(collected(added).state_dict())
        assert same_bits(_in_order(resumed.results()), _in_order(averages.results()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.bool])
def test_the_mean_of_many_ones_is_one_in_every_dtype(dtype: torch.dtype) -> None:
    averages = Averages()
    for _ in range(4000):
        averages.add({"ones": torch.ones((), dtype=dtype)}, 3)
    assert number(averages.results()["ones"]) == 1.0


def test_a_value_that_is_overwritten_later_was_added_with_its_value_of_then() -> None:
    averages, value = Averages(), torch.ones((), dtype=torch.float64)
    for _ in range(3):
        averages.add({"m": value}, 1)
        value.fill_(5.0)
    assert number(averages.results()["m"]) == pytest.approx(11 / 3)


def test_floats_stay_floats_and_tensors_become_float64_tensors_on_their_device() -> None:
    averages = Averages()
    averages.add({"float": 1.0, "tensor": torch.ones((), dtype=torch.bfloat16)}, 1)
    results = averages.results()
    assert isinstance(results["float"], float)
    assert isinstance(results["tensor"], Tensor)
    assert (results["tensor"].dtype, results["tensor"].shape) == (torch.float64, ())


def test_a_name_of_the_user_s_own_is_not_replaced_by_that_of_a_loader() -> None:
    averages = Averages(2)
    averages.add({"m": 1.0, "m/0": 7.0}, 1, 0)
    averages.add({"m": 3.0}, 1, 1)
    assert averages.results() == {"m": 2.0, "m/1": 3.0, "m/0": 7.0, "m/0/0": 7.0}


def test_values_and_weights_on_a_device_are_added_there_and_never_read() -> None:
    """Reading a tensor on the device ``meta`` is an error."""
    averages = Averages(2)
    for loader_i in (0, 0, 1):
        value = torch.ones((), dtype=torch.bfloat16, device="meta")
        averages.add({"counted": value}, 3, loader_i)
        averages.add({"weighted": value, "number": 1.0}, torch.ones((), dtype=torch.float32, device="meta"), loader_i)
        averages.add({"mixed": 1.0}, 2, loader_i)
        averages.add({"mixed": value}, 2, loader_i)
    for result in averages.results().values():
        assert isinstance(result, Tensor)
        assert (result.dtype, result.device.type, result.shape) == (torch.float64, "meta", ())
    assert isinstance(averages.weights()["weighted"], Tensor)


@define
class Largest:
    """Another reduction, as a user of the package might ask for."""

    weight: Scalar = 0.0
    value: float = -math.inf

    def add(self, value: Scalar, weight: Scalar) -> None:
        self.value, self.weight = max(self.value, number(value)), self.weight + weight

    def result(self) -> Scalar:
        return self.value

    @classmethod
    def merge(cls, parts: Any) -> Self:
        parts = list(parts)
        return cls(sum(number(part.weight) for part in parts), max(part.value for part in parts))

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "value": self.value}

    @classmethod
    def from_state_dict(cls, state: Any) -> Self:
        return cls(state["weight"], state["value"])


def test_another_reduction_joins_with_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(averages_module.REDUCTIONS, "max", Largest)
    averages = Averages(2)
    for loader_i, value in ((0, 1.0), (0, 5.0), (1, 3.0)):
        averages.add({"largest": value}, 1, loader_i, reduce="max")
        averages.add({"mean": value}, 1, loader_i)
    resumed = Averages.from_state_dict(averages.state_dict())
    expected = {"largest": 5.0, "largest/0": 5.0, "largest/1": 3.0, "mean": 3.0, "mean/0": 3.0, "mean/1": 3.0}
    assert averages.results() == resumed.results() == expected
