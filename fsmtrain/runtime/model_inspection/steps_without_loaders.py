"""Warn of val and test loaders that no step method uses, and of a ``validation_step`` that gets no loader.

A ``test_step`` without a loader is usual: the test is another call, after the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from fsmtrain.user_warnings import warn

_STEPS = {"val": ("validation_step", "validated"), "test": ("test_step", "tested")}


def warn_of_unused_loaders(model: nn.Module, kind: Literal["val", "test"], passed: object, loaders: Sequence[object]) -> None:
    """Warn if there is a loader and no step method for it; for a validation also the other way round.

    Args:
        model: The model.
        kind: Which loaders.
        passed: What the caller passed; an empty list says that there is to be none.
        loaders: The loaders of the run.
    """
    step, done = _STEPS[kind]
    name, has_step = type(model).__name__, callable(getattr(model, step, None))
    if loaders and not has_step:
        warn(
            f"{kind}_dataloaders: {name} has no method {step}, so nothing is {done}. Define {step}(batch, batch_nb), or pass "
            f"{kind}_dataloaders=[]."
        )
    is_ours = getattr(getattr(type(model), step, None), "__module__", "").startswith(
        "fsmtrain."
    )  # nobody wrote it for this run
    if kind == "val" and has_step and not is_ours and passed is None and not loaders:
        warn(
            f"{name}.{step}: there is no loader for it, so nothing is {done}. Pass {kind}_dataloaders=..., or [] if there is "
            f"to be none; or give {name} a method {kind}_dataloader."
        )
