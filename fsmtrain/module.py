"""`TrainingModule`, the optional base class of user models: an ``nn.Module`` with default hooks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, Unpack, overload

import torch
from torch import nn
from torch.optim import Optimizer

from fsmtrain.errors import UsageError
from fsmtrain.hyperparameters import KeepsHyperparameters
from fsmtrain.recorded_checkpoints import existing_weights
from fsmtrain.runtime.data.device_transfer import move_to
from fsmtrain.runtime.data.tbptt_split import split_in_time
from fsmtrain.runtime.metrics.logged_metrics import LogOptions
from fsmtrain.runtime.model_files.hparams import read_tags_csv
from fsmtrain.runtime.model_files.weights import build_model, load_weights
from fsmtrain.runtime.optimization.gradient_clipping import ClipAlgorithm, clip_gradients, parameters_of
from fsmtrain.runtime.optimization.optimizer_step import step_and_zero
from fsmtrain.user_warnings import warn

T = TypeVar("T")


class _UnlessSet(Generic[T]):
    """An attribute of a model that is found at each access. It has no ``__set__``, so that a model may set one of its own."""

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find, self.__doc__ = find, find.__doc__

    @overload
    def __get__(self, model: None, owner: type) -> Self: ...
    @overload
    def __get__(self, model: nn.Module, owner: type) -> T: ...
    def __get__(self, model: nn.Module | None, owner: type) -> Self | T:
        return self if model is None else self._find(model)


class TrainingModule(KeepsHyperparameters, nn.Module):
    """A model together with its training.

    A subclass defines ``training_step`` and ``configure_optimizers``, and whichever others it needs. Parameters of the steps
    are matched by these names, or by position where they have others (``batch_idx``, ``optimizer_idx`` and ``dataloader_idx``
    are known, too); a step may leave out those that it does not use.

    Methods:
        training_step(batch, batch_nb, optimizer_i, hiddens): Return the loss, a tensor with one element, or a dict with it
            under ``"loss"``; None leaves the batch out. Beside the loss: ``"weight"``, the samples or tokens of which it is the
            mean, >= 0; ``"hiddens"`` for the next split, under truncated BPTT; numbers, which are metrics of the batch, also in
            dicts under ``"log"`` and ``"progress_bar"``. ``optimizer_i`` says which of several optimizers trains.
        validation_step(batch, batch_nb, dataloader_i): Return a dict of metrics, which are averaged over the samples of the
            pass, or by ``"weight"``. A number alone is ``val_loss``. Other values are for ``validation_end``.
        validation_end(outputs): Return the metrics of the pass from the list of what the steps returned; with several loaders,
            a list for each. Without this method they are the averages.
        test_step(batch, batch_nb, dataloader_i): As ``validation_step``; a number alone is ``test_loss``.
        test_end(outputs): As ``validation_end``.
        predict_step(batch, batch_nb, dataloader_i): Return the outputs for a batch. Without this method the model is called
            with it.
        configure_optimizers(): Return the optimizer; several; two lists, of optimizers and of schedulers; or dicts
            ``{"optimizer": ..., "lr_scheduler": ...}``. A scheduler may be a dict ``{"scheduler": ..., "interval": "epoch",
            "step" or "validation", "frequency": n, "monitor": name}``. ``self.trainer.total_steps`` is known here.
        train_dataloader(): Return an iterable of batches, for a run that is not passed one.
        val_dataloader(): Return one, or a list of them.
        test_dataloader(): Return one, or a list of them.
        predict_dataloader(): Return one, or a list of them.

    It may have hooks, too, such as ``on_epoch_end``: those that ``help(Callback)`` lists, without the machine.

    Attributes:
        trainer: The trainer or machine that runs the model; None before the first run. Copies and pickles do not contain it.
        hparams: The model's hyperparameters, if the subclass sets them.
        logs_hparams: Whether loggers get them.
        automatic_optimization: If false, the loop makes no backward and no step: ``training_step`` calls `manual_backward`, and
            ``step`` and ``zero_grad`` of the `optimizers`.
        device: The device of the model's parameters, for tensors made in a step; that of the run once it is built.
        logger: The first logger of the run, as in ``self.logger.experiment.add_image(...)``; None if it has none.
        loggers: All of them. These three may be set by the subclass, as ``self.logger = logging.getLogger()``.
    """

    trainer: Any = None
    automatic_optimization: bool = True

    @_UnlessSet
    def device(self) -> torch.device:
        """The device of the model's parameters, or else of its buffers; the CPU for a model without any."""
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def current_epoch(self) -> int:
        """Index of the current epoch, from 0; 0 outside of a run."""
        return self.trainer.current_epoch if self.trainer is not None else 0

    @_UnlessSet
    def logger(self) -> Any:
        """The first logger of the run, as in ``self.logger.experiment.add_image(...)``; None if it has none."""
        return self.trainer.loggers[0] if self.trainer is not None and self.trainer.loggers else None

    @_UnlessSet
    def loggers(self) -> list[Any]:
        """The loggers of the run; an empty list outside of a run."""
        return list(self.trainer.loggers) if self.trainer is not None else []

    @property
    def global_step(self) -> int:
        """Optimizer steps so far; those of several optimizers in one round count once. 0 outside of a run."""
        return self.trainer.global_step if self.trainer is not None else 0

    def log(self, name: str, value: Any, **options: Unpack[LogOptions]) -> None:
        """Log a metric in a step method or hook: it is recorded, and early stopping can monitor it.

        In ``training_step`` it belongs to the batch; in ``validation_step`` and ``test_step`` it is averaged over the samples
        of the pass.
        Does nothing outside of a run.

        Args:
            name: The metric's name.
            value: A number, a tensor with one element, or a metric object of torchmetrics that is an attribute of this module:
                it is computed and reset at the end of the epoch or the pass.
            options: ``prog_bar=True`` shows it in the progress bar; with ``logger=False`` it is not recorded. In
                ``training_step``, ``on_epoch=True`` adds its mean over the epoch as ``name_epoch``, beside each batch's
                ``name_step``; with ``on_step=False`` there is only the mean, as ``name``. ``batch_size`` is how much the value
                counts in the mean, in place of the step's ``"weight"`` or its number of samples; ``reduce`` is ``"mean"``,
                ``"sum"``, ``"min"`` or ``"max"``.

        Raises:
            ModelError: The value is none of these, or there is no such option, or it has no meaning in this method.
        """
        if self.trainer is not None:
            self.trainer.log(name, value, **options)

    def log_dict(self, metrics: Any, **options: Unpack[LogOptions]) -> None:
        """Log several metrics with the same options.

        Args:
            metrics: A dict of values by name, or a collection of torchmetrics, whose metrics have their names in it.
            options: As of `log`.

        Raises:
            ModelError: As `log`, or it is neither.
        """
        if self.trainer is not None:
            self.trainer.log_dict(metrics, **options)

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

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: ClipAlgorithm | None = None
    ) -> None:
        """Clip the gradients of an optimizer, right before its step. An override decides how, and may call `clip_gradients`.

        It is called before every step, also if ``gradient_clip_val`` is not set.

        Args:
            optimizer: The optimizer whose window ends.
            gradient_clip_val: The flag.
            gradient_clip_algorithm: The flag.

        Example:
            >>> class GAN(TrainingModule):
            ...     def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            ...         if optimizer is self.trainer.machine.optimizers[1]:  # only the discriminator
            ...             self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        """
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: ClipAlgorithm | None = None
    ) -> None:
        """Clip the gradients of an optimizer's parameters.

        Args:
            optimizer: The optimizer.
            gradient_clip_val: The limit. 0 or None: no clipping.
            gradient_clip_algorithm: ``"norm"`` limits the 2-norm of all gradients together, ``"value"`` each element. None
                is ``"norm"``.
        """
        if gradient_clip_val:
            clip_gradients(parameters_of(optimizer), gradient_clip_val, gradient_clip_algorithm or "norm")

    def optimizers(self) -> Any:
        """Return the run's optimizer; of several, the list in the order of ``configure_optimizers``."""
        return _one_or_list(self._running("optimizers").optimizers)

    def lr_schedulers(self) -> Any:
        """Return the run's learning-rate scheduler; of several, the list in the order of ``configure_optimizers``; or None."""
        return _one_or_list(self._running("lr_schedulers").lr_schedulers)

    def manual_backward(self, loss: torch.Tensor, *args: Any, **options: Any) -> None:
        """Call ``loss.backward`` with these arguments, and the hooks before and after a backward.

        For ``automatic_optimization = False``.

        Example:
            >>> class Model(TrainingModule):
            ...     automatic_optimization = False
            ...
            ...     def training_step(self, batch, batch_nb):
            ...         optimizer = self.optimizers()
            ...         self.manual_backward(self.layer(batch).mean())
            ...         if batch_nb % 2:
            ...             optimizer.step()
            ...             optimizer.zero_grad()

        Raises:
            UsageError: There is no run, or it makes backwards and steps itself.
        """
        self._running("manual_backward").manual_optimization("manual_backward").backward(loss, *args, **options)

    def toggle_optimizer(self, optimizer: Optimizer) -> None:
        """Switch ``requires_grad`` off for the parameters of all other optimizers.

        It lasts until `untoggle_optimizer`, the next `toggle_optimizer`, or the end of ``training_step``.

        For ``automatic_optimization = False``; otherwise the run does it, in each optimizer's turn.
        """
        self._running("toggle_optimizer").manual_optimization("toggle_optimizer").toggle(optimizer)

    def untoggle_optimizer(self, optimizer: Optimizer) -> None:
        """Switch ``requires_grad`` on again for the parameters of the other optimizers."""
        self._running("untoggle_optimizer").manual_optimization("untoggle_optimizer").untoggle()

    def _running(self, name: str) -> Any:
        """Return the trainer or machine.

        Raises:
            UsageError: There is none.
        """
        if self.trainer is None:
            raise UsageError(f"self.{name}(): there is no run. Call it in a step or a hook, while a trainer fits the model.")
        return self.trainer

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        """Split a batch along dim 1 (time) into parts of `split_size`; the last one may be shorter."""
        return split_in_time(batch, split_size)

    def transfer_batch_to_device(self, batch: Any, device: torch.device) -> Any:
        """Return a batch of train, val or test data with its tensors on the device.

        Override it for batches that are neither tensors nor nests of them (tuples, lists, mappings, dataclasses, attrs
        objects, objects with ``.to``). An override is called on the CPU too.
        """
        return move_to(batch, device)

    @classmethod
    def load_from_checkpoint(cls, path: str | os.PathLike[str], map_location: Any = None, **arguments: Any) -> Self:
        """Load a model, in eval mode, from a file or from the folder of a run's checkpoint.

        The file may be one of ``trainer.save_checkpoint`` or of another trainer. The model is built as ``cls(hparams)`` with
        the saved hyperparameters if it has a parameter ``hparams``, else with each of them by its name; as ``cls()`` if none
        are saved. No code in the file is executed.

        Args:
            path: The file, or the checkpoint's folder; of a run ``fsmtrain.best_checkpoint("runs/3")``.
            map_location: Device of the tensors, as for ``torch.load``.
            arguments: Arguments for the class, in place of saved ones, or because they are no plain data and were not saved.

        Raises:
            CheckpointError: There is none, it is damaged, or contains anything but tensors and plain data.
            UsageError: It is a folder of several checkpoints; the message names the newest.
            ModelError: The class cannot be called with these hyperparameters, or the weights do not fit it.
        """
        asked = f"{cls.__name__}.load_from_checkpoint({os.fspath(path)!r})"
        content = load_weights(existing_weights(Path(path), asked), map_location)
        return build_model(cls, content.get("hparams"), content["state_dict"], arguments, written=content["written"])

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
        model = build_model(cls, vars(read_tags_csv(tags_csv)), content["state_dict"])
        return model.to("cuda") if gpu and map_location is None else model

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles contain: neither the trainer nor what ``compile`` made, which calls this object."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        state.pop("trainer", None)
        return state


def _one_or_list(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values or None


def note_attribute_of_training_module(error: BaseException, model: nn.Module) -> None:
    """Add the way out to the error of a plain ``nn.Module`` that uses an attribute of `TrainingModule`, as ``self.log``."""
    if not isinstance(error, AttributeError) or error.obj is not model or isinstance(model, TrainingModule):
        return
    if error.name is not None and not error.name.startswith("_") and hasattr(TrainingModule, error.name):
        name = type(model).__name__
        error.add_note(
            f"self.{error.name} is an attribute of fsmtrain.TrainingModule, and {name} is another nn.Module. Inherit from it: "
            f"class {name}(fsmtrain.TrainingModule)."
        )


LightningModule = TrainingModule
