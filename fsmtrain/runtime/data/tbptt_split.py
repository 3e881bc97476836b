"""Truncated backpropagation through time: split a batch along its time dimension.

Any structure of batch is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fsmtrain.errors import DataError
from fsmtrain.runtime.nested_tensors import is_record, rebuild_mapping, rebuild_record, rebuild_sequence, record_items


def split_in_time(batch: Any, split_size: int) -> list[Any]:
    """Split a batch along its time dimension into parts of `split_size` steps; the last may be shorter.

    The time dimension of a tensor is dim 1. A tensor with fewer dims, such as one label per sequence, goes whole into every
    split. A list or tuple inside the batch is a list of sequences, each of which is cut along its first dimension.

    Args:
        batch: A tensor, or a tuple, list, mapping, dataclass or attrs object of tensors and of lists of sequences.
        split_size: Time steps per split.

    Raises:
        DataError: The batch has no time dimension, or its parts have different lengths.

    >>> import torch
    >>> [split.shape[1] for split in split_in_time(torch.zeros(4, 5), 2)]
    [2, 2, 1]
    """
    lengths = sorted(set(_lengths(batch, is_structure=True)))
    if not lengths:
        raise DataError(
            f"truncated_bptt_steps={split_size}: the batch has no time dimension: it contains no tensor with 2 or more "
            f"dimensions and no list of sequences. Override tbptt_split_batch(batch, split_size) to split it your way."
        )
    if len(lengths) > 1:
        raise DataError(
            f"truncated_bptt_steps={split_size}: the parts of the batch have different numbers of time steps (dim 1): "
            f"{', '.join(map(str, lengths))}. Pad them to one length, or override tbptt_split_batch(batch, split_size)."
        )
    starts = range(0, lengths[0], split_size)
    return [_cut(batch, slice(start, start + split_size), is_structure=True) for start in starts]


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _lengths(part: Any, *, is_structure: bool) -> list[int]:
    """Return the time lengths in a part of a batch.

    A list is the batch's structure, or else a list of sequences.
    """
    if isinstance(part, Tensor):
        return [part.shape[1]] if part.dim() >= 2 else []
    if isinstance(part, Mapping):
        return [n for item in part.values() for n in _lengths(item, is_structure=False)]
    if is_record(part):
        return [n for item in record_items(part).values() for n in _lengths(item, is_structure=False)]
    if _is_sequence(part):
        if is_structure:
            return [n for item in part for n in _lengths(item, is_structure=False)]
        return [len(item) for item in part if _has_length_in_time(item)]
    return []


def _has_length_in_time(item: Any) -> bool:
    """Return whether an item of a list of sequences is a sequence."""
    return item.dim() >= 1 if isinstance(item, Tensor) else _is_sequence(item)


def _cut(part: Any, steps: slice, *, is_structure: bool) -> Any:
    if isinstance(part, Tensor):
        return part[:, steps] if part.dim() >= 2 else part
    if isinstance(part, Mapping):
        return rebuild_mapping(part, {key: _cut(item, steps, is_structure=False) for key, item in part.items()})
    if is_record(part):
        return rebuild_record(part, {name: _cut(item, steps, is_structure=False) for name, item in record_items(part).items()})
    if _is_sequence(part):
        if is_structure:
            items = [_cut(item, steps, is_structure=False) for item in part]
        else:
            items = [item[steps] if _has_length_in_time(item) else item for item in part]
        return rebuild_sequence(part, items) if isinstance(part, (tuple, list)) else items
    return part
