"""`TrainingModule`: what users subclass. An ``nn.Module`` with the hooks' defaults; any module with the methods will do."""

from __future__ import annotations

import os
from typing import Any, Self

import torch
from torch import nn
from torch.optim import Optimizer

from fsmtrain.runtime.data.tbptt_split import split_in_time
from fsmtrain.runtime.model_files.hparams import HParams, plain_hparams, read_tags_csv
from fsmtrain.runtime.model_files.weights import load_weights, restore_model
from fsmtrain.runtime.training.train_batch import step_and_zero
from fsmtrain.user_warnings import warn


class TrainingModule(nn.Module):
    """A model together with how it is trained.

    A subclass writes ``training_step`` and ``configure_optimizers``, and as it needs them ``validation_step``,
    ``validation_end``, ``test_step``, ``test_end``, ``train_dataloader``, ``val_dataloader``, ``test_dataloader``, and hooks
    such as ``on_epoch_end``.

    Attributes:
        trainer: The trainer or machine that runs the model; None before there is one. Not part of copies and pickles.
        hparams: The model's hyperparameters, where the subclass sets them.
    """

    trainer: Any = None
    hparams: Any = None

    @property
    def current_epoch(self) -> int:
        """The index of the epoch under way, from 0; 0 outside of a run."""
        return self.trainer.current_epoch if self.trainer is not None else 0

    @property
    def global_step(self) -> int:
        """The rounds so far in which an optimizer stepped; 0 outside of a run."""
        return self.trainer.global_step if self.trainer is not None else 0

    def log(self, name: str, value: Any, *, prog_bar: bool = False) -> None:
        """Log a metric, in a step method or in a hook: it is recorded, and early stopping can watch it.

        In ``training_step`` it is one of this batch; in ``validation_step`` and ``test_step`` it is averaged over the pass.
        Outside of a run nothing is done.

        Args:
            name: The metric's name.
            value: A number, or a tensor with one element.
            prog_bar: Whether the progress bar shows it.

        Raises:
            ModelError: The value is neither.
        """
        if self.trainer is not None:
            self.trainer.log(name, value, prog_bar=prog_bar)

    def optimizer_step(
        self,
        current_epoch: int,
        batch_nb: int,
        optimizer: Optimizer,
        optimizer_i: int,
        second_order_closure: Any = None,
    ) -> None:
        """Called in the state ``step``, when a window closes: step the optimizer and zero its gradients.

        An override decides for itself whether to do either: nothing is zeroed behind it, and what it leaves unstepped
        stays in ``.grad``.

        Args:
            current_epoch: Index of the epoch, from 0.
            batch_nb: Index of the batch in the epoch, from 0.
            optimizer: The optimizer whose window closes.
            optimizer_i: Its index, from 0.
            second_order_closure: Evaluates the loss anew, for an optimizer that requires one (LBFGS); else None.
        """
        step_and_zero(optimizer, second_order_closure)

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        """Cut a batch along its time dimension, dim 1, into splits of `split_size` steps; the last one may be shorter."""
        return split_in_time(batch, split_size)

    def save_hyperparameters(self, hparams: Any = None, **values: Any) -> None:
        """Keep hyperparameters as ``self.hparams``, readable by attribute and by item, and saved with every checkpoint.

        Args:
            hparams: A dict, a namespace, an attrs object or a dataclass of plain data.
            values: More of them, by name.

        Raises:
            ModelError: A value is not plain data.
        """
        self.hparams = HParams(**{**plain_hparams(hparams), **plain_hparams(values)})

    @classmethod
    def load_from_checkpoint(cls, path: str | os.PathLike[str], map_location: Any = None) -> Self:
        """The model in a file that ``trainer.save_checkpoint`` wrote, or in a run's checkpoint, in eval mode.

        Built as ``cls(hparams)`` with the saved hyperparameters, or with each by its name where the class has a parameter for
        each and none that is ``hparams``; as ``cls()`` where there are none. Nothing in the file is executed. Files of other
        trainers are read as well.

        Args:
            path: The file, or the checkpoint's folder.
            map_location: Where the tensors go, as for ``torch.load``.

        Raises:
            CheckpointError: It is damaged, or holds anything but tensors and plain data.
            ModelError: The class cannot be built so, or the weights do not fit it.
        """
        content = load_weights(path, map_location)
        hparams = content.get("hparams")
        return restore_model(cls, HParams(**hparams) if hparams else None, content["state_dict"])

    @classmethod
    def load_from_metrics(
        cls,
        weights_path: str | os.PathLike[str],
        tags_csv: str | os.PathLike[str],
        on_gpu: bool = False,
        map_location: Any = None,
    ) -> Self:
        """The model with the weights of one file and the hyperparameters of another, in eval mode.

        Args:
            weights_path: A checkpoint with a ``state_dict``.
            tags_csv: The hyperparameters, with the header ``key,value``; values read as bool, then int, float, str.
            on_gpu: Whether to move the model to the first GPU; where there is none it stays on the CPU, and says so.
            map_location: Where the tensors go, as for ``torch.load``.

        Raises:
            CheckpointError: The weights' file is not what it should be.
            UsageError: Nor is the other one.
            ModelError: The class cannot be built so, or the weights do not fit it.
        """
        gpu = on_gpu and torch.cuda.is_available()
        if on_gpu and not gpu:
            warn("load_from_metrics(on_gpu=True): there is no GPU here, so the model stays on the CPU.")
        content = load_weights(weights_path, map_location or ("cuda" if gpu else "cpu"))
        model = restore_model(cls, read_tags_csv(tags_csv), content["state_dict"])
        return model.to("cuda") if gpu and map_location is None else model

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}


LightningModule = TrainingModule
