"""Nested tuples, lists and mappings: the tensors in one, with their places, and copies with other leaves."""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fsmtrain.runtime.nested_tensors import detach, iter_tensors, map_nested, named_tensors


class Pair(NamedTuple):
    """A nest with names."""

    x: Any
    y: Any


NESTS = [
    torch.ones(2),
    (torch.ones(2), [torch.ones(3), "text"], None),
    {"x": torch.ones(2), 3: (torch.ones(1), {})},
    Pair(torch.ones(2), Pair([torch.ones(3)], 1)),
    OrderedDict(b=torch.ones(2), a=torch.ones(1)),
    UserDict({"x": torch.ones(2)}),
    defaultdict(lambda: torch.ones(0), {"x": torch.ones(2)}),
    [],
    "text",
]


@pytest.mark.parametrize("nest", NESTS, ids=lambda nest: type(nest).__name__)
def test_all_walks_meet_the_same_tensors_in_the_same_order(nest: Any) -> None:
    met: list[Tensor] = []
    copy = map_nested(lambda tensor: met.append(tensor) or tensor, nest)  # type: ignore[func-returns-value]
    assert [id(t) for t in met] == [id(t) for t in iter_tensors(nest)] == [id(t) for _, t in named_tensors(nest)]
    assert type(copy) is type(nest)
    assert [id(t) for t in iter_tensors(copy)] == [id(t) for t in met]


def test_the_place_of_a_tensor_is_written_as_python_would() -> None:
    nest = {"x": [torch.ones(1), Pair(torch.ones(1), {"z": torch.ones(1)})]}
    assert [name for name, _ in named_tensors(nest)] == ["x[0]", "x[1].x", "x[1].y.z"]
    assert [name for name, _ in named_tensors(torch.ones(1))] == [""]


def test_below_the_greatest_depth_no_tensor_is_named() -> None:
    nest: Any = torch.ones(1)
    for _ in range(10):
        nest = [nest]
    assert list(named_tensors(nest)) == []
    assert len(list(named_tensors(nest[0]))) == 1


def test_a_container_can_be_a_leaf() -> None:
    assert map_nested(lambda pair: pair.x, [Pair(1, 2), (3, 4)], lambda value: isinstance(value, Pair)) == [1, (3, 4)]


def test_detached_hiddens_share_memory_and_have_no_graph() -> None:
    hidden = torch.ones(2, requires_grad=True) * 2
    [copy] = iter_tensors(detach({"h": (hidden,)}))
    assert not copy.requires_grad
    assert copy.data_ptr() == hidden.data_ptr()
