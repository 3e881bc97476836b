"""Let a model and a data module find their trainer as ``self.trainer`` while a run is built and run."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any


class TrainerReference:
    """Stands for the trainer, or the machine, in a model that is not ours, and is left out of the model's copies.

    A copy of the model, such as one for an average of the weights, and a pickle of it have None in its place: they must not
    contain the run. A `TrainingModule` needs none, since it omits its trainer itself.
    """

    def __init__(self, model: object, trainer: object) -> None:
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
    """Set and remove ``model.trainer``, and that of a data module.

    A class that declares the attribute keeps it. Any other object has it only while it is built and run, and one with a
    ``trainer`` of its own keeps its own.

    Args:
        trainer: The trainer or the machine.
        owners: The model and the data module; None for one that there is not.
    """

    def __init__(self, trainer: object, *owners: object | None) -> None:
        self.trainer = trainer
        self._owners: list[Any] = [owner for owner in owners if owner is not None]
        # Of each owner whose attribute is replaced: what was there before, None or nothing at all.
        self._before: list[tuple[Any, dict[str, Any]]] = []

    def attach(self) -> None:
        """Set the attribute."""
        for owner in self._owners:
            if hasattr(type(owner), "trainer"):
                owner.trainer = self.trainer
            elif getattr(owner, "trainer", None) is None:
                before = {"trainer": None} if hasattr(owner, "trainer") else {}
                with suppress(AttributeError):  # a data module that is frozen, or has slots
                    owner.trainer = TrainerReference(owner, self.trainer)
                    self._before.append((owner, before))

    def detach(self) -> None:
        """Remove it from each owner whose class does not declare it. Idempotent."""
        before, self._before = self._before, []
        for owner, attributes in before:
            del owner.trainer
            vars(owner).update(attributes)
