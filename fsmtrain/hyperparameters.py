"""``save_hyperparameters``, of models and data modules."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from fsmtrain.runtime.model_files.hparams import HParams, hparams_to_dict, split_plain
from fsmtrain.runtime.model_files.init_arguments import select_init_arguments
from fsmtrain.user_warnings import warn


class KeepsHyperparameters:
    """A base class of objects that keep their hyperparameters.

    Attributes:
        hparams: The hyperparameters, if the subclass sets them.
        logs_hparams: Whether loggers get them.
    """

    hparams: Any = None
    logs_hparams: bool = True

    def save_hyperparameters(self, *hparams: Any, ignore: str | Iterable[str] = (), logger: bool = True, **values: Any) -> None:
        """Set ``self.hparams``, or add to it: checkpoints, the run's folder and loggers get it; read it as ``self.hparams.lr``.

        Without arguments, call it in ``__init__``: it keeps the arguments of ``__init__``, defaults and ``**kwargs`` included,
        and those of a subclass whose ``__init__`` called this one. Of them, files contain those that are plain data.

        Args:
            hparams: A dict, a namespace, an attrs object or a dataclass of plain data; or names of arguments of ``__init__``.
            ignore: Names of what is not kept.
            logger: Whether loggers get them, in their ``log_hyperparams``.
            values: More hyperparameters of plain data, by name.

        Raises:
            ModelError: A value passed is not plain data, there is no argument of this name, or no ``__init__`` is running.

        Example:
            >>> from fsmtrain import TrainingModule
            >>> class Model(TrainingModule):
            ...     def __init__(self, lr=0.1, hidden=64):
            ...         super().__init__()
            ...         self.save_hyperparameters()
            >>> Model(hidden=32).hparams
            HParams(lr=0.1, hidden=32)
        """
        names = [name for name in hparams if isinstance(name, str)]
        kept: dict[str, Any] = {}
        if names or not (hparams or values):
            kept = select_init_arguments(self, sys._getframe(1), names)
        for given in (*(given for given in hparams if not isinstance(given, str)), values):
            kept |= hparams_to_dict(given)
        ignored = {ignore} if isinstance(ignore, str) else set(ignore)
        kept = {name: value for name, value in kept.items() if name not in ignored}
        others = split_plain(kept)[1]
        if others and hasattr(self, "load_from_checkpoint"):
            listed = ", ".join(f"{name} ({type(value).__name__})" for name, value in others.items())
            first = next(iter(others))
            warn(
                f"save_hyperparameters(): no file can contain {listed}, only plain data. self.hparams has them, checkpoints do "
                f"not: pass them again, as in {type(self).__name__}.load_from_checkpoint(path, {first}=...). "
                f"save_hyperparameters(ignore={[*others]}) leaves them out without this warning."
            )
        before = vars(self.hparams) if isinstance(self.hparams, HParams) else {}
        self.hparams = HParams(**{**before, **kept})
        self.logs_hparams = logger
