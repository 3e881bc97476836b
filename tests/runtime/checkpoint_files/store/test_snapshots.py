"""Copies of a state: the same numbers in memory of their own, and none of it in the training's way."""

from __future__ import annotations

import mmap

import pytest
import torch

from fsmtrain.runtime.checkpoint_files.codec.codec import decode, encode_unnamed
from fsmtrain.runtime.checkpoint_files.store.snapshots import MIN_MAPPED_BYTES, take_snapshot
from tests.models import same_bits

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_copy_of_any_size_and_dtype_is_equal_and_independent(dtype: torch.dtype) -> None:
    sizes = {"none": 0, "one": 1, "small": 100, "large": MIN_MAPPED_BYTES, "uneven": MIN_MAPPED_BYTES + 3}
    tree = {name: torch.arange(size).remainder(2).to(dtype).reshape(size, 1) for name, size in sizes.items()}
    before = {name: tensor.clone() for name, tensor in tree.items()}
    taken = take_snapshot(encode_unnamed(tree), {})
    for tensor in tree.values():
        tensor.zero_()
    assert same_bits(decode(taken.named()), before)


def test_large_copies_are_not_in_the_heap_of_the_gradients() -> None:
    """Memory that is mapped on its own begins with a page; torch's own allocations have a header before them."""
    taken = take_snapshot(encode_unnamed({"large": torch.zeros(MIN_MAPPED_BYTES), "small": torch.zeros(10)}), {})
    large = max(taken.named().tensors.values(), key=torch.numel)
    assert large.data_ptr() % mmap.PAGESIZE == 0


def test_the_memory_of_a_copy_can_be_reused() -> None:
    tree = {"large": torch.zeros(MIN_MAPPED_BYTES), "small": torch.zeros(10)}
    first = take_snapshot(encode_unnamed(tree), {})
    places = {name: tensor.data_ptr() for name, tensor in first.named().tensors.items()}
    second = take_snapshot(encode_unnamed({name: tensor + 1 for name, tensor in tree.items()}), {}, spare=first.spare_memory())
    assert {name: tensor.data_ptr() for name, tensor in second.named().tensors.items()} == places
    assert same_bits(decode(second.named()), {name: tensor + 1 for name, tensor in tree.items()})
