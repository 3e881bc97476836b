"""Let a model find its trainer as ``self.trainer`` while it is built and run."""

from __future__ import annotations

from typing import Any

from torch import nn


class TrainerAttribute:
    """Set and remove ``model.trainer``.

    A class that declares the attribute keeps it. Any other module has it only while it is built and run, and one with a
    ``trainer`` of its own keeps its own.
    """

    def __init__(self, model: nn.Module, trainer: object) -> None:
        self._model: Any = model
        self._trainer = trainer
        self._is_ours = False

    def attach(self) -> None:
        """Set ``model.trainer``."""
        is_declared = hasattr(type(self._model), "trainer")
        if is_declared or not hasattr(self._model, "trainer"):
            self._model.trainer = self._trainer
            self._is_ours = not is_declared

    def detach(self) -> None:
        """Remove ``model.trainer`` if the class does not declare it. Idempotent."""
        if self._is_ours:
            del self._model.trainer
            self._is_ours = False
