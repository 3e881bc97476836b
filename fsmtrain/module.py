"""`TrainingModule`, the optional base class of user models: an ``nn.Module`` with default hooks."""

from __future__ import annotations

import os
from typing import Any, Self, Unpack

import torch
from torch import nn
from torch.optim import Optimizer

from fsmtrain.runtime.data.tbptt_split import split_in_time
from fsmtrain.runtime.metrics.logged_metrics import LogOptions
from fsmtrain.runtime.model_files.hparams import HParams, hparams_to_dict, read_tags_csv
from fsmtrain.runtime.model_files.weights import build_model, load_weights
from fsmtrain.runtime.optimization.optimizer_step import step_and_zero
from fsmtrain.user_warnings import warn


class TrainingModule(nn.Module):
    """A model together with its training.

    A subclass must define ``training_step`` and ``configure_optimizers``. It may define ``validation_step``,
    ``validation_end``, ``test_step``, ``test_end``, ``train_dataloader``, ``val_dataloader``, ``test_dataloader``, and hooks
    such as ``on_epoch_end``.

    Attributes:
        trainer: The trainer or machine that runs the model; None before the first run. Copies and pickles do not contain it.
        hparams: The model's hyperparameters, if the subclass sets them.
    """

    trainer: Any = None
    hparams: Any = None

    @property
    def current_epoch(self) -> int:
        """Index of the current epoch, from 0; 0 outside of a run."""
        return self.trainer.current_epoch if self.trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps so far; those of several optimizers in one round count once. 0 outside of a run."""
        return self.trainer.global_step if self.trainer is not None else 0

    def log(self, name: str, value: Any, **options: Unpack[LogOptions]) -> None:
        """Log a metric in a step method or hook: it is recorded, and early stopping can monitor it.

        In ``training_step`` it belongs to the batch; in ``validation_step`` and ``test_step`` it is averaged over all batches.
        Does nothing outside of a run.

        Args:
            name: The metric's name.
            value: A number, or a tensor with one element.
            options: ``prog_bar=True`` shows it in the progress bar.

        Raises:
            ModelError: The value is neither.
        """
        if self.trainer is not None:
            self.trainer.log(name, value, **options)

    def optimizer_step(
        self, current_epoch: int, batch_nb: int, optimizer: Optimizer, optimizer_i: int, second_order_closure: Any = None
    ) -> None:
        """Step an optimizer and zero its gradients. Called at the end of each of its accumulation windows.

        An override that does not zero the gradients, or does not step, leaves them in ``.grad``.

        Args:
            current_epoch: Index of the epoch, from 0.
            batch_nb: Index of the batch in the epoch, from 0.
            optimizer: The optimizer whose window ends.
            optimizer_i: Its index, from 0.
            second_order_closure: Evaluates the loss again, for an optimizer that requires it (LBFGS); else None.
        """
        step_and_zero(optimizer, second_order_closure)

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        """Split a batch along dim 1 (time) into parts of `split_size`; the last one may be shorter."""
        return split_in_time(batch, split_size)

    def save_hyperparameters(self, hparams: Any = None, **values: Any) -> None:
        """Set ``self.hparams``, which every checkpoint contains; read it as ``self.hparams.lr``.

        Args:
            hparams: A dict, a namespace, an attrs object or a dataclass of plain data.
            values: More hyperparameters, by name.

        Raises:
            ModelError: A value is not plain data.
        """
        self.hparams = HParams(**{**hparams_to_dict(hparams), **hparams_to_dict(values)})

    @classmethod
    def load_from_checkpoint(cls, path: str | os.PathLike[str], map_location: Any = None) -> Self:
        """Load a model, in eval mode, from a file or from the folder of a run's checkpoint.

        The file may be one of ``trainer.save_checkpoint`` or of another trainer. The model is built as ``cls(hparams)`` with
        the saved hyperparameters if it has a parameter ``hparams``, else with each of them by its name; as ``cls()`` if none
        are saved. No code in the file is executed.

        Args:
            path: The file, or the checkpoint's folder.
            map_location: Device of the tensors, as for ``torch.load``.

        Raises:
            CheckpointError: The file is damaged, or contains anything but tensors and plain data.
            ModelError: The class cannot be called with these hyperparameters, or the weights do not fit it.
        """
        content = load_weights(path, map_location)
        hparams = content.get("hparams")
        return build_model(cls, HParams(**hparams) if hparams else None, content["state_dict"])

    @classmethod
    def load_from_metrics(
        cls,
        weights_path: str | os.PathLike[str],
        tags_csv: str | os.PathLike[str],
        on_gpu: bool = False,
        map_location: Any = None,
    ) -> Self:
        """Load a model, in eval mode, with the weights of one file and the hyperparameters of another.

        Args:
            weights_path: A checkpoint with a ``state_dict``.
            tags_csv: A CSV file of hyperparameters with the header ``key,value``; values are bool, int, float or str.
            on_gpu: Move the model to the first GPU; if there is none, warn and leave it on the CPU.
            map_location: Device of the tensors, as for ``torch.load``.

        Raises:
            CheckpointError: The file of weights is damaged, or contains anything but tensors and plain data.
            UsageError: The file of hyperparameters has another header.
            ModelError: The class cannot be called with these hyperparameters, or the weights do not fit it.
        """
        gpu = on_gpu and torch.cuda.is_available()
        if on_gpu and not gpu:
            warn("load_from_metrics(on_gpu=True): there is no GPU, so the model stays on the CPU.")
        content = load_weights(weights_path, map_location or ("cuda" if gpu else "cpu"))
        model = build_model(cls, read_tags_csv(tags_csv), content["state_dict"])
        return model.to("cuda") if gpu and map_location is None else model

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}


LightningModule = TrainingModule
