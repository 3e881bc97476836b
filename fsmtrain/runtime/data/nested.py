"""Batches of any shape: moving one to a device, and splitting one along its time dimension. No loader here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fsmtrain.errors import DataError


def move_to(batch: Any, device: torch.device) -> Any:
    """The batch with all its tensors on `device`, copied without waiting where they were elsewhere.

    Tensors and objects with a ``.to`` method (packed sequences are such) are moved; tuples, named tuples, lists and mappings
    are rebuilt around their moved items; anything else stays as it is.

    >>> move_to({"x": [torch.ones(2)], "name": "a"}, torch.device("meta"))["x"][0].device.type
    'meta'
    """
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if callable(getattr(batch, "to", None)):
        method = getattr(type(batch), "to", batch.to)
        return batch.to(device, non_blocking=True) if _takes_non_blocking(method) else batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move_to(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(move_to(item, device) for item in batch)
    if isinstance(batch, Mapping):
        return _like(batch, {key: move_to(item, device) for key, item in batch.items()})
    return batch


def _like(mapping: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """A mapping of the same type with other items under its keys."""
    if type(mapping) is dict:
        return items
    if isinstance(mapping, MutableMapping):
        filled = copy.copy(mapping)
        filled.update(items)
        return filled
    return type(mapping)(items)  # type: ignore[call-arg]


@lru_cache(maxsize=256)
def _takes_non_blocking(method: Callable[..., Any]) -> bool:
    """Whether a ``.to`` method takes ``non_blocking``."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "non_blocking" or p.kind is p.VAR_KEYWORD for p in parameters)


def split_in_time(batch: Any, split_size: int) -> list[Any]:
    """The batch cut along its time dimension into splits of `split_size` steps; the last one may be shorter.

    A tensor's time dimension is dim 1; one with fewer dims (a label for each sequence, say) goes whole into every split. A
    batch is a tensor, or a tuple, list or mapping of tensors and of lists of sequences, each of which is cut along its own
    first dimension.

    Raises:
        DataError: The batch has no time dimension, or parts of different lengths.

    >>> [split.shape[1] for split in split_in_time(torch.zeros(4, 5), 2)]
    [2, 2, 1]
    """
    lengths = sorted(set(_lengths(batch, whole=True)))
    if not lengths:
        raise DataError(
            f"truncated_bptt_steps={split_size}: the batch has no time dimension: no tensor of 2 dims or more, no list of "
            f"sequences. Override tbptt_split_batch(batch, split_size) to split it your way."
        )
    if len(lengths) > 1:
        raise DataError(
            f"truncated_bptt_steps={split_size}: the batch's parts have different lengths in time, {lengths}. Pad them to one "
            f"length, or override tbptt_split_batch(batch, split_size)."
        )
    return [_cut(batch, slice(start, start + split_size), whole=True) for start in range(0, lengths[0], split_size)]


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _lengths(part: Any, *, whole: bool) -> list[int]:
    """The time lengths in a part of a batch; `whole` where a list in it is a batch's structure, not a list of sequences."""
    if isinstance(part, Tensor):
        return [part.shape[1]] if part.dim() >= 2 else []
    if isinstance(part, Mapping):
        return [n for item in part.values() for n in _lengths(item, whole=False)]
    if _is_sequence(part):
        if whole:
            return [n for item in part for n in _lengths(item, whole=False)]
        return [len(item) for item in part if _is_cut_whole(item)]
    return []


def _is_cut_whole(item: Any) -> bool:
    """Whether an item of a list is a sequence of its own."""
    return item.dim() >= 1 if isinstance(item, Tensor) else _is_sequence(item)


def _cut(part: Any, steps: slice, *, whole: bool) -> Any:
    if isinstance(part, Tensor):
        return part[:, steps] if part.dim() >= 2 else part
    if isinstance(part, Mapping):
        return _like(part, {key: _cut(item, steps, whole=False) for key, item in part.items()})
    if _is_sequence(part):
        if whole:
            items = [_cut(item, steps, whole=False) for item in part]
        else:
            items = [item[steps] if _is_cut_whole(item) else item for item in part]
        if isinstance(part, tuple) and hasattr(part, "_fields"):
            return type(part)(*items)
        return type(part)(items) if isinstance(part, (tuple, list)) else items
    return part
