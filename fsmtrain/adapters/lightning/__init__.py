"""Lightning 2 programs on our machine: ``from fsmtrain.adapters import lightning as pl`` in place of Lightning's own import.

`Trainer` is ours; every other name (``pl.LightningModule``, ``pl.callbacks``, ``pl.seed_everything``) is that of the installed
package. Lightning is imported when a name is asked for.
"""

from __future__ import annotations

from typing import Any

from fsmtrain.machine import Machine

__all__ = ["Trainer", "build"]

Trainer: Any  # a subclass of Lightning's, made when it is asked for


def build(
    module: Any,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    *,
    callbacks: Any = (),
    options: dict[str, Any] | None = None,
    **flags: Any,
) -> Machine:
    """Return the machine of a fit of a Lightning module: to plan, check, draw, step through or run.

    Args:
        module: The LightningModule.
        train_dataloaders: As of ``Trainer.fit``.
        val_dataloaders: As of ``Trainer.fit``.
        datamodule: As of ``Trainer.fit``.
        callbacks: Callbacks of Lightning's, and of fsmtrain's.
        options: Flags of `fsmtrain.Options` that Lightning has none for, such as ``{"runs_dir": "runs"}``.
        flags: Those of ``Trainer``.
    """
    from fsmtrain.adapters.lightning.packages import package_of

    theirs = [callback for callback in callbacks if package_of([callback]) is not None]
    ours = [callback for callback in callbacks if package_of([callback]) is None]
    trainer = __getattr__("Trainer")(callbacks=theirs or None, **flags)
    machine: Machine = trainer.build(module, train_dataloaders, val_dataloaders, datamodule, callbacks=ours, **(options or {}))
    return machine


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    from fsmtrain.adapters.lightning.packages import default_package, part_of

    if name == "Trainer":
        from fsmtrain.adapters.lightning.lightning_trainer import trainer_class

        return trainer_class(default_package())
    return getattr(part_of(default_package()), name)
