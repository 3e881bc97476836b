"""`Trainer`: the documented facade. It holds the flags, and builds a machine for each call."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

from attrs import define, field, frozen
from torch import nn

from fsmtrain.core.custom_guards import Guards
from fsmtrain.errors import ResumeError, UsageError
from fsmtrain.flags.unknown_flags import explain_unknown_flags
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.runtime.build import Loaders
from fsmtrain.runtime.checkpointing.compatibility import with_way_out
from fsmtrain.runtime.engine import Result
from fsmtrain.runtime.model_files.weights import save_weights
from fsmtrain.user_warnings import warn


def _tuple(callbacks: Iterable[object]) -> tuple[object, ...]:
    return tuple(callbacks)


@define
class _Runs:
    """The runs of a trainer."""

    fitted: Machine | None = None  # the last fit
    active: Machine | None = None  # what runs now, or ran last


@explain_unknown_flags
@frozen(kw_only=True, eq=False)
class Trainer(Options):
    """Fits and tests models with the documented flags, which are those of `Options`.

    Args:
        guards: The decisions that are replaced.
        callbacks: Objects with any of the hooks of `Callback`.
        resume: Where `fit` goes on. ``"auto"`` is the newest run that this command began, which is how a job that was killed
            goes on; where there is none, the run begins anew. A run's folder is that run. A checkpoint, or a folder of them, of
            which the newest valid one is taken, is where a run of its own begins. None begins anew.
        resume_strict: If false, resume even if flags, guards or sizes differ from those saved; the differences are a warning.

    Example:
        >>> trainer = Trainer(max_nb_epochs=20, accumulate_grad_batches=4, val_check_interval=0.25)
        >>> trainer.max_nb_epochs
        20
    """

    guards: Guards = field(factory=Guards)
    callbacks: Iterable[object] = field(default=(), converter=_tuple)
    resume: str | os.PathLike[str] | None = None
    resume_strict: bool = True
    _runs: _Runs = field(factory=_Runs, init=False, repr=False)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A trainer's runs are not copied: a copy, or a pickle, of a model that knows its trainer has None in its place."""
        return type(None), ()

    def fit(self, model: nn.Module, train_dataloader: Any = None, val_dataloaders: Any = None) -> Result:
        """Train a model, from its first epoch to the end. It is not tested; call `test` for that.

        Args:
            model: An ``nn.Module`` with ``training_step`` and ``configure_optimizers``.
            train_dataloader: Yields batches, anew in each epoch. None asks the model's method of that name.
            val_dataloaders: One loader or a list of them. None asks the model's ``val_dataloader``.

        Returns:
            How the run ended. A trainer fits once: a second call does nothing, says so, and returns the first result.

        Raises:
            FsmtrainError: Anything that is wrong with the flags, the model and the data together.
        """
        done = self._runs.fitted
        if done is not None and done.stop_reason is not None:
            warn("fit: this trainer has finished its run already, so nothing was done. Make a new Trainer to train again.")
            return done.result
        machine = self._machine(model, Loaders(train=train_dataloader, val=val_dataloaders, test=()), runs="fit")
        self._runs.fitted = machine
        if self.resume is not None:
            try:
                machine.resume_from(self.resume, strict=self.resume_strict)
            except ResumeError as error:
                raise with_way_out(error, "resume_strict=False") from None
        return machine.run()

    def test(self, model: nn.Module | None = None, test_dataloaders: Any = None) -> dict[str, float]:
        """Run the test set through a model, with this trainer's options.

        Args:
            model: The model to test as it is; None tests the fitted one.
            test_dataloaders: One loader or a list of them. None asks the model's ``test_dataloader``.

        Returns:
            The metrics.

        Raises:
            UsageError: There is no model, or nothing to test it with; the message says which.
        """
        return self._evaluate("test", model, test_dataloaders)

    def validate(self, model: nn.Module | None = None, val_dataloaders: Any = None) -> dict[str, float]:
        """Run the validation set through a model, with this trainer's options, without training.

        Args:
            model: The model as it is; None takes the fitted one.
            val_dataloaders: One loader or a list of them. None asks the model's ``val_dataloader``.

        Returns:
            The metrics.

        Raises:
            UsageError: There is no model, or nothing to validate it with; the message says which.
        """
        return self._evaluate("val", model, val_dataloaders)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model's weights and hyperparameters to a file, and ``meta_tags.csv`` beside it.

        Read it with the model's ``load_from_checkpoint``, or with ``load_from_metrics``. It may be called in a hook while the
        run goes on. The file appears whole or not at all.

        Raises:
            UsageError: Nothing was fitted yet.
            ModelError: The hyperparameters are not plain data.
        """
        machine = self._runs.fitted
        if machine is None:
            raise UsageError("save_checkpoint: there is no model yet. Call fit(model) first.")
        save_weights(path, machine.model, {"epoch": machine.current_epoch, "global_step": machine.global_step})

    def log(self, name: str, value: Any, *, prog_bar: bool = False) -> None:
        """Log a metric of the run that is under way, as ``self.log`` of a `TrainingModule` does."""
        if self._runs.active is not None:
            self._runs.active.log(name, value, prog_bar=prog_bar)

    def stop(self) -> None:
        """Ask the run that is under way to stop, whatever ``min_nb_epochs`` says."""
        if self._runs.active is not None:
            self._runs.active.stop()

    def _evaluate(self, kind: Literal["val", "test"], model: nn.Module | None, loaders: Any) -> dict[str, float]:
        if model is None:
            name = "test" if kind == "test" else "validate"
            if self._runs.fitted is None:
                raise UsageError(f"{name}: there is no model yet. Call fit(model) first, or {name}(model) with a given one.")
            model = self._runs.fitted.model
        given = Loaders(test=loaders) if kind == "test" else Loaders(val=loaders)
        around = self._runs.active  # a fit that is under way, where this is called in one of its hooks
        try:
            return self._machine(model, given, runs=kind).run().metrics
        finally:
            self._runs.active = around or self._runs.active

    def _machine(self, model: nn.Module, loaders: Loaders, *, runs: Literal["fit", "val", "test"]) -> Machine:
        fitted = self._runs.fitted
        machine = Machine(
            self,
            model,
            loaders,
            runs=runs,
            guards=self.guards,
            callbacks=self.callbacks,
            trainer=self,
            record_into=fitted.run_dir if fitted is not None and fitted.model is model and fitted.stop_reason else None,
        )
        self._runs.active = machine
        return machine

    @property
    def machine(self) -> Machine:
        """The machine of the last fit; before any, that of the last test.

        Raises:
            UsageError: Nothing was run yet.
        """
        machine = self._runs.fitted or self._runs.active
        if machine is None:
            raise UsageError("There is no machine yet. Call fit(model) first.")
        return machine

    @property
    def current_epoch(self) -> int:
        """The index of the epoch, from 0; after `fit`, that of the last one trained."""
        return self._runs.fitted.current_epoch if self._runs.fitted is not None else 0

    @property
    def global_step(self) -> int:
        """The rounds so far in which an optimizer stepped."""
        return self._runs.fitted.global_step if self._runs.fitted is not None else 0
