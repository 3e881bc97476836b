"""The size of a batch in samples, by which its metrics count where the step returns no ``"weight"``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fsmtrain.runtime.nested_tensors import children


def batch_size_of(batch: Any) -> int | None:
    """Return dim 0 of the tensors of a batch; None if they differ in it, or there is none.

    NumPy arrays count as tensors. Nothing is read from a device.

    >>> import torch
    >>> batch_size_of({"x": torch.ones(3, 8), "y": torch.ones(3), "name": "a"})
    3
    >>> batch_size_of([torch.ones(3, 8), torch.ones(4)]) is None
    True
    """
    sizes = set(_first_dims(batch))
    return sizes.pop() if len(sizes) == 1 else None


def _first_dims(value: Any) -> Iterator[int | None]:
    """Yield dim 0 of each tensor in a nest; None for a tensor without dimensions."""
    if isinstance(value, PackedSequence):
        yield int(value.batch_sizes[0])  # on the host in any case
    elif isinstance(value, Tensor):
        yield value.size(0) if value.dim() else None
    elif isinstance(value, np.ndarray):
        yield value.shape[0] if value.ndim else None
    else:
        for item in children(value):
            yield from _first_dims(item)
