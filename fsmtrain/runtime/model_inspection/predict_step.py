"""What a run that predicts calls with each batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def predict_step_of(model: nn.Module) -> Callable[..., Any] | None:
    """Return the model's ``predict_step``, or one that calls the model on the whole batch; None if there is no forward."""
    own = getattr(model, "predict_step", None)
    if callable(own):
        return own  # type: ignore[no-any-return]
    if type(model).forward is nn.Module.forward:
        return None

    def predict_step(batch: Any) -> Any:
        try:
            return model(batch)
        except Exception as error:
            error.add_note(
                f"{type(model).__name__} has no predict_step, so it is called on each batch as it is, here a "
                f"{type(batch).__name__}. Define predict_step(batch, batch_nb), which takes from the batch what forward needs."
            )
            raise

    return predict_step
