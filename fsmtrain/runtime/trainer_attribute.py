"""Let a model find its trainer as ``self.trainer`` while it is built and run."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


class TrainerReference:
    """Stands for the trainer, or the machine, in a model that is not ours, and is left out of the model's copies.

    A copy of the model, such as one for an average of the weights, and a pickle of it have None in its place: they must not
    contain the run. A `TrainingModule` needs none, since it omits its trainer itself.
    """

    def __init__(self, model: nn.Module, trainer: object) -> None:
        self.__dict__.update(_model=model, _trainer=trainer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_trainer"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_trainer"], name, value)

    def __repr__(self) -> str:
        return repr(self.__dict__["_trainer"])

    def __eq__(self, other: object) -> bool:
        return bool(self.__dict__["_trainer"] == getattr(other, "__dict__", {}).get("_trainer", other))

    def __hash__(self) -> int:
        return hash(self.__dict__["_trainer"])

    def __copy__(self) -> Any:
        return copy.copy(self.__dict__["_trainer"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        is_in_model = id(self.__dict__["_model"]) in memo
        return None if is_in_model else copy.deepcopy(self.__dict__["_trainer"], memo)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


class TrainerAttribute:
    """Set and remove ``model.trainer``.

    A class that declares the attribute keeps it. Any other module has it only while it is built and run, and one with a
    ``trainer`` of its own keeps its own.
    """

    def __init__(self, model: nn.Module, trainer: object) -> None:
        self._model: Any = model
        self.trainer = trainer
        # The model's own attribute `trainer`, None or none at all, if it is replaced.
        self._before: dict[str, Any] | None = None

    def attach(self) -> None:
        """Set ``model.trainer``."""
        if hasattr(type(self._model), "trainer"):
            self._model.trainer = self.trainer
        elif getattr(self._model, "trainer", None) is None:
            self._before = {"trainer": None} if hasattr(self._model, "trainer") else {}
            self._model.trainer = TrainerReference(self._model, self.trainer)

    def detach(self) -> None:
        """Remove ``model.trainer`` if the class does not declare it. Idempotent."""
        if self._before is not None:
            del self._model.trainer
            vars(self._model).update(self._before)
            self._before = None
