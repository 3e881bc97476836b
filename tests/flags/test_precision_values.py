"""The precisions that the flag offers are those that have properties, and torch has their dtypes."""

from __future__ import annotations

from typing import get_args, get_type_hints

import torch

from fsmtrain.flags.precision_values import PRECISIONS
from fsmtrain.options import Options


def test_the_flag_precision_offers_exactly_the_known_precisions() -> None:
    assert set(get_args(get_type_hints(Options)["precision"])) == set(PRECISIONS)
    for name, precision in PRECISIONS.items():
        assert Options(precision=name).mixed_precision is precision
        assert precision.name == name


def test_torch_has_every_dtype_of_autocast() -> None:
    for precision in PRECISIONS.values():
        if precision.autocast_dtype is not None:
            assert isinstance(getattr(torch, precision.autocast_dtype), torch.dtype)
