"""`build` and `Machine`: a run as an object, with everything that can be asked of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from fsmtrain.core.guards import Guards
from fsmtrain.loops import Loop
from fsmtrain.options import Options
from fsmtrain.runtime.building import Loaders
from fsmtrain.runtime.machine import Engine


class Machine(Engine):
    """One run of a model through its loop. Made by `build`; ``run`` it, or ``advance`` one transition at a time."""

    loop_class = Loop


def build(
    options: Options,
    model: nn.Module,
    *,
    train_dataloader: Any = None,
    val_dataloaders: Any = None,
    test_dataloaders: Any = None,
    guards: Guards | None = None,
    callbacks: Iterable[object] = (),
) -> Machine:
    """A machine that fits a model and then, where there are test loaders, tests it.

    Args:
        options: The flags.
        model: An ``nn.Module`` with ``training_step`` and ``configure_optimizers``; it is moved to the options' device.
        train_dataloader: Anything that yields batches, anew each time it is iterated over. None asks the model.
        val_dataloaders: One loader or a list of them. None asks the model; an empty list is none.
        test_dataloaders: The same for the test.
        guards: The decisions that are replaced.
        callbacks: Objects with any of the hooks of `Callback`.

    Raises:
        FsmtrainError: Anything that is wrong and can be seen before the first batch.
    """
    loaders = Loaders(train=train_dataloader, val=val_dataloaders, test=test_dataloaders)
    return Machine(options, model, loaders, guards=guards, callbacks=callbacks)
