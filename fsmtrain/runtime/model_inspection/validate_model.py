"""Refuse what cannot be trained: what is no module, Lightning's own modules, and manual optimization."""

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
            f"model: {type(model).__name__} is a {lightning}, which only Lightning's own Trainer can run: derive it from "
            f"fsmtrain.LightningModule instead (from fsmtrain import LightningModule)."
        )


def validate_optimization(model: nn.Module) -> None:
    """Check that the model does not expect to step its optimizers itself.

    Raises:
        ModelError: It has ``automatic_optimization = False``, which nothing here reads.
    """
    if getattr(model, "automatic_optimization", True) is False:
        raise ModelError(
            f"{type(model).__name__}.automatic_optimization=False: the run calls backward and steps the optimizers. Return the "
            f"loss from training_step; several optimizers take turns by optimizer_i, at intervals of Guards(step=...); or "
            f"write the loop yourself, driven by fsmtrain.Loop."
        )
