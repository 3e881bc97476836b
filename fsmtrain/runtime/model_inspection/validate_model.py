"""Refuse what cannot be trained: what is no module, and Lightning's own modules."""

from __future__ import annotations

from torch import nn

from fsmtrain.errors import ModelError
from fsmtrain.runtime.model_inspection.lightning_objects import lightning_class


def validate_model(model: object) -> None:
    """Check that an object is a module, and one that is not written for another trainer's base class.

    Raises:
        ModelError: It is not.
    """
    if not isinstance(model, nn.Module):
        what = f"{model.__name__} is a class" if isinstance(model, type) else f"{model!r} is not a torch.nn.Module"
        raise ModelError(f"model: {what}. Pass an instance of torch.nn.Module, as in Model().")
    lightning = lightning_class(model, "LightningModule")
    if lightning is not None:
        raise ModelError(
            f"model: {type(model).__name__} is a {lightning}, which the Trainer of "
            f"fsmtrain.adapters.lightning runs as it is; or derive it from "
            f"fsmtrain.LightningModule instead (from fsmtrain import LightningModule)."
        )
