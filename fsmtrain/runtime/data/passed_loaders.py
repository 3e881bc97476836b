"""What was passed as a loader: one loader, several, or something that is none. One rule for train, val and test.

What was passed is never itself a batch. An iterable that is no list and no tuple is a loader. A list or tuple is

- a loader, if its items are batches: a tensor, a mapping, a dataclass, a tuple, a list with a tensor in it, anything that is
  not iterable, such as a number;
- several loaders, if its items are loaders: a ``DataLoader``, another iterable, any other list.

A list of tensors can be either: a batch, as ``list(DataLoader(...))`` has them, or a loader of batches that are tensors. It is
a batch, unless the train loader is itself a list of tensors: then batches are tensors, so it is a loader.

Source: semantics, "Sizes".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fsmtrain.errors import ModelError
from fsmtrain.runtime.nested_tensors import children, is_record, iter_tensors

Loader = Iterable[Any]
Item = Literal["batch", "loader"]

_TOGETHER = (
    "To take one batch of each at a time, pass one iterable that yields them together: a class with "
    "`def __iter__(self): return zip(a, b)` and `def __len__(self): return min(len(a), len(b))`; or one DataLoader of a "
    "torch.utils.data.StackDataset. To take one loader after the other, pass one DataLoader of a "
    "torch.utils.data.ConcatDataset, or iterate over them in such a class."
)


def passed_loaders(value: Any, name: str, *, beside: Any = None) -> tuple[Loader, ...]:
    """Return what was passed as a tuple of loaders; an empty one for None.

    Args:
        value: One loader, or a list or tuple of loaders.
        name: The argument, for errors.
        beside: The train loader of the same model, which shows whether batches are tensors; None if there is none.

    Raises:
        ModelError: It is no loader, a dict of loaders, a bare batch, or a list of both batches and loaders.

    >>> import torch
    >>> batch = torch.ones(2)
    >>> [len(passed_loaders(value, "val_dataloaders")) for value in ([batch, batch], [[(batch, 1)], [(batch, 1)]], [], None)]
    [1, 2, 0, 0]
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        return (_as_loader(value, name),)
    batches_are_tensors = _is_list_of_tensors(beside)
    kinds: list[Item] = [
        "loader" if batches_are_tensors and _is_list_of_tensors(item) else _kind_of(item, name) for item in value
    ]
    if len(set(kinds)) == 2:
        raise ModelError(
            f"{name}: a {type(value).__name__} of both batches and loaders: item {kinds.index('batch')} is a batch and item "
            f"{kinds.index('loader')} a loader. Pass a list of batches, or a list of loaders."
        )
    if not kinds or kinds[0] == "loader":
        return tuple(value)
    if hasattr(value, "_fields"):
        raise _not_a_loader(value, name)
    return (value,)


def passed_train_loader(value: Any) -> Loader | None:
    """Return what was passed as the one train loader; None if nothing was.

    Raises:
        ModelError: It is no loader, or there are several.
    """
    loaders = passed_loaders(value, "train_dataloader")
    if len(loaders) > 1:
        raise ModelError(f"train_dataloader: {len(loaders)} loaders, and a run trains on one. {_TOGETHER}")
    return loaders[0] if loaders else value


def _as_loader(value: Any, name: str) -> Loader:
    """Return a loader unchanged.

    Raises:
        ModelError: It is none.
    """
    if isinstance(value, Mapping):
        way_out = _TOGETHER if name.startswith("train") else "Pass a list of the values: the steps get the index dataloader_i."
        raise ModelError(f"{name}: a {type(value).__name__} with the keys {_keys(value)} is not a loader. {way_out}")
    if isinstance(value, (Tensor, np.ndarray, str, bytes)) or (is_record(value) and not isinstance(value, Iterable)):
        raise _not_a_loader(value, name)
    if isinstance(value, type) or not (isinstance(value, Iterable) or hasattr(value, "__getitem__")):
        raise ModelError(f"{name}: {value!r} is not a loader. Pass something that yields batches, such as a DataLoader.")
    loader: Loader = value
    return loader


def _kind_of(item: Any, name: str) -> Item:
    """Return whether an item of a list is a batch or a loader.

    Raises:
        ModelError: It is a list or tuple in which there are loaders, too.
    """
    if item is None:
        raise ModelError(f"{name}: an item of the list is None, which is not a loader. Leave it out.")
    if isinstance(item, (DataLoader, Dataset)):
        return "loader"
    if any(isinstance(part, DataLoader) for part in children(item)):
        raise ModelError(f"{name}: a {type(item).__name__} of loaders within another list. Pass one flat list of loaders.")
    if isinstance(item, (list, tuple)):
        is_batch = isinstance(item, tuple) or any(isinstance(part, (Tensor, np.ndarray)) for part in item)
        return "batch" if is_batch else "loader"
    if isinstance(item, (Tensor, np.ndarray, str, bytes, Mapping)) or callable(getattr(item, "to", None)):
        return "batch"
    if is_record(item) and any(True for _ in iter_tensors(item)):
        return "batch"
    return "loader" if isinstance(item, Iterable) else "batch"


def _is_list_of_tensors(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Tensor) for item in value)


def _not_a_loader(value: Any, name: str) -> ModelError:
    what = repr(value) if isinstance(value, (str, bytes)) else f"one batch, a {type(value).__name__},"
    return ModelError(
        f"{name}: {what} is not a loader. Pass something that yields batches: a DataLoader, or a list of batches."
    )


def _keys(mapping: Mapping[Any, Any]) -> str:
    keys = list(map(repr, mapping))
    return ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "") if keys else "none"
