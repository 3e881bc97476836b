"""`TrainingModule`: what users subclass. An ``nn.Module`` with the hooks' defaults; any module with the methods will do."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from fsmtrain.runtime.batches import split_in_time
from fsmtrain.runtime.training import default_optimizer_step


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
        default_optimizer_step(current_epoch, batch_nb, optimizer, optimizer_i, second_order_closure)

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        """Cut a batch along its time dimension, dim 1, into splits of `split_size` steps; the last one may be shorter."""
        return split_in_time(batch, split_size)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}


LightningModule = TrainingModule
