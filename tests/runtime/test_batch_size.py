"""The number of samples in a batch of any form."""

from __future__ import annotations

from collections import UserDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from fsmtrain.runtime.batch_size import batch_size_of

Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (torch.ones(3, 2), 3),
        ((torch.ones(3, 2), torch.ones(3)), 3),
        ([torch.ones(3, 2), {"y": torch.ones(3), "names": ["a", "b", "c"]}], 3),
        (Pair(torch.ones(5), torch.ones(5, 1)), 5),
        (UserDict(x=torch.ones(4, 1)), 4),
        (np.ones((6, 2)), 6),
        ((torch.ones(6, 2), np.ones(6)), 6),
        (torch.ones(0, 2), 0),
        (pack_sequence([torch.ones(4, 2), torch.ones(2, 2), torch.ones(1, 2)]), 3),
        ((torch.ones(3), torch.ones(4)), None),
        ((torch.ones(3), torch.tensor(1.0)), None),
        (torch.tensor(1.0), None),
        (np.float64(1.0), None),
        (7, None),
        ("text", None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_dim_0_of_the_tensors_if_they_agree_on_it(batch: Any, samples: int | None) -> None:
    assert batch_size_of(batch) == samples
