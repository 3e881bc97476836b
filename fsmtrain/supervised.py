"""`Supervised`: train a plain ``nn.Module`` with a loss function, an optimizer and metrics, without a class of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fsmtrain.errors import DataError, ModelError
from fsmtrain.module import TrainingModule
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.metrics.metric_objects import is_metric_object
from fsmtrain.runtime.metrics.named_metrics import NamedMetrics, require_two_arguments
from fsmtrain.runtime.metrics.step_outputs import metrics_of
from fsmtrain.runtime.model_inspection.validate_model import validate_model
from fsmtrain.runtime.optimization.optimizers import parse_configure_optimizers

Function = Callable[..., Any]
_OWN_LOSS = (
    "Pass loss=..., a function of predictions and targets such as torch.nn.CrossEntropyLoss(), or let the model return its "
    "loss: a tensor with one element, or a dict or an object with 'loss'."
)


class Supervised(TrainingModule):
    """A plain ``nn.Module`` together with a loss function, an optimizer and metrics: all that a run needs.

    A batch is one of these:

    - a tuple or list, whose last item is the targets; those before are the arguments of the model, by position;
    - a dict: the item `targets` is the targets, the others are the arguments of the model, by name.

    The predictions are what the model returns; of an output with ``loss`` and ``logits``, as the models of transformers return
    it, the ``logits``.
    Without `loss` the model gets the whole batch and returns its loss itself: a tensor with one element, or a dict or an object
    with ``loss``.

    Training has the metric ``loss``; a validation ``val_loss``, and ``val_accuracy`` for ``metrics={"accuracy": ...}``; a test
    ``test_loss`` and ``test_accuracy``. A batch counts in their means with its number of samples, or with the ``"weight"`` that
    the loss function returned.

    Args:
        model: The model. It is trained in place, so after the run it has the weights.
        loss: A function of predictions and targets, or a module, such as ``torch.nn.CrossEntropyLoss()``. It may return what
            ``training_step`` may: the loss, or a dict of ``"loss"``, ``"weight"`` and further metrics. None: the model
            returns its loss.
        optimizer: A torch optimizer over the model's parameters; or a function of the parameters that returns one, such as
            ``torch.optim.Adam`` or ``functools.partial(torch.optim.SGD, lr=0.1)``. None: the model is only tested.
        schedulers: A scheduler, a dict ``{"scheduler": ..., "interval": ...}``, or a list of these, as ``configure_optimizers``
            may return them. In the place of a scheduler there may be a function of the optimizer that returns one, such as
            ``functools.partial(StepLR, step_size=10)``. If it has a parameter ``total_steps``, it gets the steps of the run,
            and its scheduler steps with the optimizer: ``functools.partial(OneCycleLR, max_lr=0.1)``.
        metrics: Metrics of validations and tests by name, each a function of predictions and targets that returns a number, or
            a metric object of torchmetrics; or a ``MetricCollection``.
        train_metrics: The same for training, as means over each epoch: ``train_accuracy``.
        targets: The key of the targets in batches that are dicts.
        train_dataloader: The train loader, if `fit` is not passed any; likewise the next two. For the command line.
        val_dataloaders: The val loader, or a list of them.
        test_dataloaders: The test loader, or a list of them.

    Attributes:
        model: The plain model, whose weights can be saved and loaded without fsmtrain: ``supervised.model.state_dict()``.

    Raises:
        ModelError: An argument is none of these, or two metrics have the same name.

    Example:
        >>> import functools, torch
        >>> model = Supervised(
        ...     torch.nn.Linear(8, 3),
        ...     loss=torch.nn.CrossEntropyLoss(),
        ...     optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        ...     metrics={"accuracy": lambda scores, targets: (scores.argmax(1) == targets).float().mean()},
        ... )
        >>> model(torch.zeros(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Function | None = None,
        optimizer: Optimizer | Function | None = None,
        schedulers: Any = None,
        metrics: Mapping[str, Any] | nn.Module | None = None,
        train_metrics: Mapping[str, Any] | nn.Module | None = None,
        targets: str = "labels",
        train_dataloader: Any = None,
        val_dataloaders: Any = None,
        test_dataloaders: Any = None,
    ) -> None:
        super().__init__()
        _validate_plain_model(model)
        self.model = model
        self.training = model.training  # so that `fit` puts a model that was loaded in eval mode into train mode
        if loss is not None and not callable(loss):
            raise ModelError(
                f"Supervised(loss={loss!r}): must be a function of predictions and targets, as torch.nn.CrossEntropyLoss() is."
            )
        if isinstance(loss, type) and issubclass(loss, nn.Module):
            raise ModelError(f"Supervised(loss={loss.__name__}): is a class. Pass an instance: loss={loss.__name__}().")
        if loss is not None:
            require_two_arguments(loss, f"Supervised(loss={_shown(loss)})")
        self.loss: Any = loss
        self.optimizer: Any = _validated_optimizer(optimizer, self)
        self.schedulers = _validated_schedulers(schedulers, optimizer)
        self.metrics = NamedMetrics("metrics", metrics)
        self.train_metrics = NamedMetrics("train_metrics", train_metrics)
        _require_own_objects(self.metrics, self.train_metrics)
        if not isinstance(targets, str):
            raise ModelError(f"Supervised(targets={targets!r}): must be the key of the targets in batches that are dicts.")
        self.targets = targets
        loaders = {"train": train_dataloader, "val": val_dataloaders, "test": test_dataloaders}
        for kind, loader in loaders.items():
            if loader is not None:
                setattr(self, f"{kind}_dataloader", loader)

    def _get_name(self) -> str:
        """Return the name for ``repr``, summaries and run folders, which tells runs with different models apart."""
        return f"{type(self).__name__}({type(self.model).__name__})"

    def forward(self, *args: Any, **named: Any) -> Any:
        """Call the model."""
        return self.model(*args, **named)

    def training_step(self, batch: Any, batch_nb: int) -> dict[str, Any]:
        """Return the loss of a batch, and what the loss function returned beside it."""
        predictions, targets, returned = self._call(batch)
        for name, value in self.train_metrics.values(predictions, targets):
            self.log(f"train_{name}", value, on_step=False, on_epoch=True)
        return {**returned}  # a dict that is written out here, so that the plan knows that no batch is left out

    def validation_step(self, batch: Any, batch_nb: int) -> dict[str, Any]:
        """Return the metrics of a batch of a validation, with ``val_`` before their names."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_nb: int) -> dict[str, Any]:
        """Return the metrics of a batch of a test, with ``test_`` before their names."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_nb: int) -> Any:
        """Return the predictions for a batch. It may be the inputs alone, or have the targets too, which are left out."""
        if isinstance(batch, Mapping):
            return _predictions_of(self(**{name: value for name, value in batch.items() if name != self.targets}))
        if _is_plain_sequence(batch):
            return _predictions_of(self(*(batch[:-1] if len(batch) > 1 else batch)))
        return _predictions_of(self(batch))

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedulers."""
        if self.optimizer is None:
            raise ModelError(
                "Supervised(optimizer=None): fit needs one. Pass optimizer=functools.partial(torch.optim.Adam, lr=0.001)."
            )
        given = self.optimizer
        optimizer = given if isinstance(given, Optimizer) else given(self.parameters())
        if not isinstance(optimizer, Optimizer):
            raise ModelError(
                f"Supervised(optimizer={_shown(given)}): called with the parameters, it returned {a_type_of(optimizer)}. It "
                f"must return one torch optimizer. For several, which take turns, write a TrainingModule with a "
                f"configure_optimizers of your own."
            )
        returned = [optimizer], [self._scheduler(scheduler, optimizer) for scheduler in self.schedulers]
        try:
            parse_configure_optimizers(returned)
        except ModelError as error:
            raise ModelError(f"Supervised(schedulers=...): {error}") from None
        return returned

    # ---- one batch

    def _call(self, batch: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Return the predictions for a batch, its targets, and its loss with what was returned beside it."""
        args, named, targets = self._arguments(batch)
        output = self(*args, **named)
        predictions = _predictions_of(output)
        if self.loss is None:
            return predictions, targets, self._own_loss(output, named)
        returned = self.loss(predictions, targets)
        loss = returned.get("loss") if isinstance(returned, Mapping) else returned
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return predictions, targets, dict(returned) if isinstance(returned, Mapping) else {"loss": loss}
        if isinstance(loss, Tensor):
            raise ModelError(
                f"Supervised(loss={_shown(self.loss)}): it returned a loss of shape {tuple(loss.shape)}. A loss is one number: "
                f"reduce it, say with .mean()."
            )
        raise ModelError(
            f"Supervised(loss={_shown(self.loss)}): it returned {a_type_of(returned)}. It must return the loss, a tensor, or a "
            f"dict with the loss under 'loss'."
        )

    def _arguments(self, batch: Any) -> tuple[tuple[Any, ...], Mapping[str, Any], Any]:
        """Return the arguments of the model by position and by name, and the targets."""
        if isinstance(batch, Mapping):
            if self.loss is None:
                return (), batch, batch.get(self.targets)
            if self.targets not in batch:
                raise DataError(
                    f"Supervised(targets={self.targets!r}): the batch has no such key; it has "
                    f"{', '.join(map(repr, batch)) or 'none'}. Pass the key of its targets, as in targets='y'."
                )
            return (), {name: value for name, value in batch.items() if name != self.targets}, batch[self.targets]
        if not _is_plain_sequence(batch):
            raise DataError(
                f"Supervised: the batch is {a_type_of(batch)}. It must be a tuple (inputs, targets), or a dict with the "
                f"arguments of the model by name. For others write a TrainingModule with a training_step of your own."
            )
        if self.loss is None:
            return tuple(batch), {}, batch[-1] if len(batch) > 1 else None
        if len(batch) < 2:
            raise DataError(
                f"Supervised: the batch is {a_type_of(batch)} with {len(batch)} of the two items inputs and targets. To "
                f"reconstruct the inputs, let the dataset return them twice: (inputs, inputs)."
            )
        *inputs, targets = batch
        return tuple(inputs), {}, targets

    def _own_loss(self, output: Any, named: Mapping[str, Any]) -> dict[str, Any]:
        """Return the loss that the model computed, and the metrics in a dict that it returned."""
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", output)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f", called with {', '.join(named)}" if named else ""
            what = f"{a_type_of(output)} of shape {tuple(output.shape)}" if isinstance(output, Tensor) else a_type_of(output)
            missing = "without a loss" if loss is None or loss is output else f"whose loss is {a_type_of(loss)}"
            raise ModelError(
                f"Supervised(loss=None): {type(self.model).__name__}{got}, returned {what}, {missing}. {_OWN_LOSS}"
            )
        if not isinstance(output, Mapping):
            return {"loss": loss}
        weight = {"weight": output["weight"]} if output.get("weight") is not None else {}
        return {**metrics_of(output, of_training=True), **weight, "loss": loss}

    def _evaluate(self, batch: Any, prefix: str) -> dict[str, Any]:
        predictions, targets, returned = self._call(batch)
        metrics = {f"{prefix}_loss": returned["loss"]}
        metrics |= {f"{prefix}_{name}": value for name, value in metrics_of(returned, of_training=True).items()}
        for name, value in self.metrics.values(predictions, targets):
            if f"{prefix}_{name}" in metrics:
                raise ModelError(
                    f"Supervised(metrics={{{name!r}: ...}}): what the loss function returned has {name!r}, too. Rename one of "
                    f"them: both would be {prefix}_{name}."
                )
            if isinstance(value, nn.Module):
                self.log(f"{prefix}_{name}", value)
            else:
                metrics[f"{prefix}_{name}"] = value
        return {**metrics, "weight": returned["weight"]} if "weight" in returned else metrics

    # ---- schedulers

    def _scheduler(self, given: Any, optimizer: Optimizer) -> Any:
        """Return a scheduler or a dict with one, its function called."""
        options = dict(given) if isinstance(given, Mapping) else {}
        scheduler: Any = options.get("scheduler") if options else given
        if not _is_function(scheduler):
            return given
        arguments = {}
        if _asks_for_total_steps(scheduler):
            arguments["total_steps"] = self.trainer.total_steps
            options.setdefault("interval", "step")
        made = scheduler(optimizer, **arguments)
        if isinstance(made, Mapping):
            return {**options, **made}
        return {**options, "scheduler": made}


def _validate_plain_model(model: object) -> None:
    validate_model(model)
    if callable(getattr(model, "training_step", None)):
        name = type(model).__name__
        raise ModelError(f"Supervised({name}): it has a training_step of its own, so pass it to fit as it is.")


def _require_own_objects(metrics: NamedMetrics, train_metrics: NamedMetrics) -> None:
    """Raise a `ModelError` if a metric object is in both: a validation within an epoch would reset what the epoch gathered."""
    of_training = {id(module) for module in train_metrics.modules()}
    for module in metrics.modules():
        if is_metric_object(module) and id(module) in of_training:
            raise ModelError(
                f"Supervised(metrics=..., train_metrics=...): the same {type(module).__name__} object is in both, "
                f"where it would mix the samples of training and of validations. Make two, as with metric.clone()."
            )


def _validated_optimizer(optimizer: Any, model: nn.Module) -> Any:
    if optimizer is None or _is_function(optimizer):
        return optimizer
    if not isinstance(optimizer, Optimizer):
        raise ModelError(
            f"Supervised(optimizer={optimizer!r}): must be one torch optimizer, or a function of the parameters such as "
            f"functools.partial(torch.optim.Adam, lr=0.001). For several optimizers, which take turns, write a TrainingModule "
            f"with a configure_optimizers of your own."
        )
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise ModelError(
            f"Supervised(optimizer={type(optimizer).__name__}(...)): it has none of the model's parameters. Make it of "
            f"model.parameters(), or pass a function of them: functools.partial({type(optimizer).__name__}, lr=...)."
        )
    return optimizer


def _validated_schedulers(given: Any, optimizer: Any) -> list[Any]:
    schedulers = [] if given is None else [*given] if isinstance(given, (list, tuple)) else [given]
    for each in schedulers:
        scheduler = each.get("scheduler") if isinstance(each, Mapping) else each
        followed = getattr(scheduler, "optimizer", optimizer)
        if not _is_function(scheduler) and followed is not optimizer:
            name = type(scheduler).__name__
            raise ModelError(
                f"Supervised(schedulers={name}(...)): it follows another optimizer than optimizer=... . Make it of that one, "
                f"or pass a function of it: functools.partial({name}, ...)."
            )
    return schedulers


def _is_function(value: object) -> bool:
    """Return whether a value is to be called to make an optimizer or scheduler: a function, a partial or a class."""
    return isinstance(value, type) or (callable(value) and not callable(getattr(value, "state_dict", None)))


def _asks_for_total_steps(function: Function) -> bool:
    try:
        parameter = inspect.signature(function).parameters.get("total_steps")
    except ValueError:  # a function of C without a signature
        return False
    return parameter is not None and (parameter.default is parameter.empty or parameter.default is None)


def _is_plain_sequence(batch: object) -> bool:
    """Return whether a batch is a tuple or list, a named one that is not one value such as a packed sequence."""
    return isinstance(batch, (tuple, list)) and not isinstance(batch, nn.utils.rnn.PackedSequence)


def _predictions_of(output: Any) -> Any:
    """Return the predictions in what a model returned. A distribution or a dict of several heads may have logits, too."""
    if hasattr(output, "loss"):
        return output if (logits := getattr(output, "logits", None)) is None else logits
    if isinstance(output, Mapping) and "loss" in output:
        return output.get("logits", output)
    return output


def _shown(function: Any) -> str:
    """Return the name of a function, as short as it was written."""
    return getattr(function, "__name__", None) or f"{type(function).__name__}(...)"
