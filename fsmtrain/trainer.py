"""`Trainer`: fit, test and validate models, and predict, with the documented flags, on a machine for each call."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from attrs import define, field, frozen
from torch import nn

from fsmtrain.ckpt_path import CkptPath, load_ckpt_path
from fsmtrain.copies import require_picklable
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.planning.planned_steps import PlannedSteps
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.core.states import State
from fsmtrain.errors import CopyError, RenamedError, ResumeError, UsageError
from fsmtrain.flags.documented_flags import document_flags_of
from fsmtrain.flags.unknown_flags import explain_unknown_flags
from fsmtrain.machine import Machine
from fsmtrain.options import FLAG_HINTS, Options, without_epoch_limit_beside_max_steps
from fsmtrain.runtime.checkpointing.compatibility import with_way_out
from fsmtrain.runtime.data.data_modules import Loaders, given_loaders
from fsmtrain.runtime.metrics.logged_metrics import LogOptions
from fsmtrain.runtime.model_files.weights import save_weights
from fsmtrain.runtime.model_inspection.compiled_modules import plain_module
from fsmtrain.runtime.result import Result
from fsmtrain.runtime.rng import get_rng_state, set_rng_state
from fsmtrain.runtime.run_state import Evaluated, RunKind
from fsmtrain.runtime.training.manual_optimization import ManualOptimization
from fsmtrain.unknown_arguments import explain_unknown_arguments
from fsmtrain.user_warnings import warn

if TYPE_CHECKING:
    from fsmtrain.views.recording.history import History


_NAMES_ELSEWHERE = {  # attributes of other trainers, which are not in help() and dir()
    "checkpoint_callback": (
        "the best checkpoint is trainer.machine.best_checkpoint, with path and score; the newest is "
        "trainer.machine.last_checkpoint."
    ),
    "estimated_stepping_batches": "its name here is trainer.total_steps.",
}


def _tuple(callbacks: Iterable[object]) -> tuple[object, ...]:
    return tuple(callbacks)


@define
class _Runs:
    """The runs of a trainer, which is frozen itself."""

    fitted: Machine | None = None  # the last fit
    active: Machine | None = None  # the current run, or the last one
    datamodule: Any = None  # of that run, also while it is being built
    planned_steps: PlannedSteps = field(factory=PlannedSteps)  # of the fit


@document_flags_of(Options)
@explain_unknown_flags
@without_epoch_limit_beside_max_steps
@frozen(kw_only=True, eq=False, getstate_setstate=False)
class Trainer(Options):
    """Fit, test and validate models, and predict with them, with the documented flags, which are those of `Options`.

    A copy or a pickle of a trainer is a trainer with the same flags, guards and callbacks that has not run anything yet.
    ``copy.deepcopy`` copies the callbacks, too; loggers are shared.

    Args:
        guards: Your own decisions, in place of built-in ones.
        callbacks: Objects with any of the hooks of `Callback`.
        resume: What `fit` continues. ``"auto"``: the newest run that this same command began, or a new run if there is none;
            so a job that was killed continues when it is started again. A run's folder: that run, which is recorded there on.
            A checkpoint, or a folder of checkpoints, whose newest valid one is loaded: a new run begins there. None: nothing.
        resume_strict: If false, resume even if options, guards or sizes differ from the checkpoint's, with a warning.
        resume_new_settings: If true, a resumed run takes the settings of optimizers and schedulers (lr, weight_decay, gamma,
            ...) from this model's ``configure_optimizers``. If false, the checkpoint's, with a warning if they differ.

    Example:
        >>> trainer = Trainer(max_nb_epochs=20, accumulate_grad_batches=4, val_check_interval=0.25)
        >>> trainer.max_nb_epochs
        20
    """

    guards: Guards = field(factory=Guards)
    callbacks: Iterable[object] = field(default=(), converter=_tuple)
    resume: str | os.PathLike[str] | None = None
    resume_strict: bool = True
    resume_new_settings: bool = False
    _runs: _Runs = field(factory=_Runs, init=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        for callback in self.callbacks:
            try:
                copy.deepcopy(callback, memo)  # the memo keeps the copy for the trainer's
            except Exception as error:  # any: the callback's own methods are called
                raise CopyError(
                    f"callbacks: {callback!r} cannot be copied: {error}. Give it a method __deepcopy__, or use "
                    f"copy.copy(trainer), which shares the callbacks."
                ) from error
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[str, Any]:
        for callback in self.callbacks:
            require_picklable(callback, "callbacks", "Leave it out, and pass it where the copy is used.")
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_runs": _Runs()})

    @explain_unknown_arguments(hints=FLAG_HINTS)
    def fit(
        self, model: nn.Module, train_dataloader: Any = None, val_dataloaders: Any = None, datamodule: Any = None
    ) -> Result:
        """Train a model. It is not tested; call `test` for that.

        Args:
            model: An ``nn.Module`` with ``training_step`` and ``configure_optimizers``.
            train_dataloader: An iterable of batches, iterated once in each epoch. None: call the model's ``train_dataloader``.
            val_dataloaders: One loader or a list of them. None: call the model's ``val_dataloader``.
            datamodule: A `DataModule`, or another object with such methods, whose loaders are used in place of the model's.
                A later ``test()``, ``validate()`` or ``predict()`` without a model uses it, too.

        Returns:
            How the run ended. A trainer fits once: a second call only warns and returns the first result.

        Raises:
            UsageError: The trainer has finished with another model.
            FsmtrainError: The flags, the model and the data do not fit together.
            KeyboardInterrupt: Ctrl-C stopped the run; SIGTERM and SIGUSR1 raise SystemExit. See `Machine.run`.
        """
        done = self._runs.fitted
        if done is not None and done.stop_reason is not None:
            if plain_module(model) is not done.model:
                raise UsageError(
                    "fit: this trainer has fitted another model already, and this one was not trained. A trainer fits once: "
                    "make a new Trainer for each model."
                )
            if done.state is State.STOPPED:
                warn(f"fit: this trainer's run was stopped, so nothing was done. {done.resume_hint}")
                return done.result
            warn("fit: this trainer has finished its run already, so nothing was done. Create a new Trainer to train again.")
            return done.result
        given = given_loaders("fit", train=train_dataloader, val=val_dataloaders, test=(), datamodule=datamodule)
        machine = self._machine(model, given, runs="fit")
        self._runs.fitted = machine
        if self.resume is not None:
            try:
                machine.resume_from(self.resume, strict=self.resume_strict, new_settings=self.resume_new_settings)
            except ResumeError as error:
                raise with_way_out(error, "resume_strict=False") from None
        return machine.run()

    @property
    def total_steps(self) -> int:
        """The steps of optimizer 0 if the fit is not stopped early; in ``configure_optimizers``, to size schedules.

        Raises:
            SizesError: They cannot be known before the run. See `Machine.planned_steps`.
            UsageError: No fit has begun yet.
        """
        return self.planned_steps(0)

    def planned_steps(self, optimizer_i: int) -> int:
        """Return the steps of an optimizer, by its own guard, if the fit is not stopped early. See `Machine.planned_steps`."""
        return self._runs.planned_steps.of(optimizer_i)

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            if name in _NAMES_ELSEWHERE:
                raise RenamedError(f"trainer.{name}: {_NAMES_ELSEWHERE[name]}")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @explain_unknown_arguments(hints=FLAG_HINTS)
    def test(
        self, model: nn.Module | None = None, test_dataloaders: Any = None, ckpt_path: CkptPath = None, datamodule: Any = None
    ) -> dict[str, float]:
        """Run the test loaders through a model, with this trainer's options.

        Args:
            model: The model to test. None: the fitted one.
            test_dataloaders: One loader or a list of them. None: call the model's ``test_dataloader``.
            ckpt_path: The weights: ``"best"``, the checkpoint of the last `fit` with the best value of the `monitor` of its
                `ModelCheckpoint`; ``"last"``, its newest checkpoint; or the path of a checkpoint or of a file of weights. They
                are loaded into the model, which keeps them. None: those that it has.
            datamodule: As for `fit`. None: that of the fit, if neither a model nor loaders are passed.

        Returns:
            The metrics.

        Raises:
            UsageError: There is no model, no test loader, or no such checkpoint.
            CheckpointError: The checkpoint cannot be read.
        """
        given = given_loaders("test", test=test_dataloaders, datamodule=datamodule)
        return self._evaluate("test", model, given, ckpt_path).result.metrics

    @explain_unknown_arguments(hints=FLAG_HINTS)
    def validate(
        self, model: nn.Module | None = None, val_dataloaders: Any = None, ckpt_path: CkptPath = None, datamodule: Any = None
    ) -> dict[str, float]:
        """Run the val loaders through a model, with this trainer's options, without training.

        Args:
            model: The model to validate. None: the fitted one.
            val_dataloaders: One loader or a list of them. None: call the model's ``val_dataloader``.
            ckpt_path: The weights: ``"best"``, the checkpoint of the last `fit` with the best value of the `monitor` of its
                `ModelCheckpoint`; ``"last"``, its newest checkpoint; or the path of a checkpoint or of a file of weights. They
                are loaded into the model, which keeps them. None: those that it has.
            datamodule: As for `test`.

        Returns:
            The metrics.

        Raises:
            UsageError: There is no model, no val loader, or no such checkpoint.
            CheckpointError: The checkpoint cannot be read.
        """
        given = given_loaders("validate", val=val_dataloaders, datamodule=datamodule)
        return self._evaluate("val", model, given, ckpt_path).result.metrics

    @explain_unknown_arguments(hints=FLAG_HINTS)
    def predict(
        self,
        model: nn.Module | None = None,
        predict_dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool = True,
        ckpt_path: CkptPath = None,
    ) -> list[Any] | None:
        """Run loaders through a model's ``predict_step``, and return its outputs.

        Without a ``predict_step`` the model is called on each batch. It is in eval mode, without gradients, with this trainer's
        device and precision. The host does not wait for a GPU between two batches.

        Args:
            model: The model. None: the fitted one.
            predict_dataloaders: One loader or a list of them. None: call the model's ``predict_dataloader``.
            datamodule: As for `test`.
            return_predictions: Whether the outputs are kept. False if a callback does something with them, as
                `fsmtrain.callbacks.PredictionWriter`, which writes them to disk.
            ckpt_path: As for `test`.

        Returns:
            A list of one output for each batch, with its tensors on the host; with several loaders a list of such lists. None
            if they are not kept. If the run was stopped: those of the batches before that.

        Raises:
            UsageError: There is no model, no loader, or no such checkpoint.
            ModelError: An output cannot be copied to the host.
        """
        given = given_loaders("predict", predict=predict_dataloaders, datamodule=datamodule)
        machine = self._evaluate("predict", model, given, ckpt_path, keeps_predictions=return_predictions)
        return machine.predictions if return_predictions else None

    @explain_unknown_arguments(hints=FLAG_HINTS)
    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model's weights and hyperparameters to a file, and ``meta_tags.csv`` beside it.

        Load it with the model's ``load_from_checkpoint`` or ``load_from_metrics``. May be called in a hook, during the run. The
        file is written completely or not at all.

        Raises:
            UsageError: `fit` has not been called yet.
            ModelError: The hyperparameters are not plain data.
        """
        machine = self._runs.fitted
        if machine is None:
            raise UsageError("save_checkpoint: there is no model yet. Call fit(model) first.")
        save_weights(path, machine.model, {"epoch": machine.current_epoch, "global_step": machine.global_step})

    def log(self, name: str, value: Any, **options: Unpack[LogOptions]) -> None:
        """Log a metric of the current run, as ``self.log`` of a `TrainingModule` does."""
        if self._runs.active is not None:
            self._runs.active.log(name, value, **options)

    def log_dict(self, metrics: Any, **options: Unpack[LogOptions]) -> None:
        """Log several metrics of the current run, as ``self.log_dict`` of a `TrainingModule` does."""
        if self._runs.active is not None:
            self._runs.active.log_dict(metrics, **options)

    def stop(self) -> None:
        """Request that the current run stops at the next transition, even before ``min_nb_epochs``."""
        if self._runs.active is not None:
            self._runs.active.stop()

    def _evaluate(
        self, kind: Evaluated, model: nn.Module | None, loaders: Loaders, ckpt_path: CkptPath, *, keeps_predictions: bool = True
    ) -> Machine:
        """Return the machine that has taken a model through loaders."""
        name = "validate" if kind == "val" else kind
        if model is None:
            if self._runs.fitted is None:
                raise UsageError(f"{name}: there is no model yet. Call fit(model) first, or pass one: {name}(model).")
            model = self._runs.fitted.passed_model
            if not loaders.are_passed:
                loaders = Loaders(data_module=self._runs.fitted.datamodule)
        tested = load_ckpt_path(ckpt_path, model, self._runs.fitted, name)
        outer, outer_data = self._runs.active, self._runs.datamodule  # of a fit, if this is called in one of its hooks
        random = get_rng_state() if outer is not None and outer.is_running else None
        try:
            machine = self._machine(model, loaders, runs=kind, tested=tested, keeps_predictions=keeps_predictions)
            machine.run()
            return machine
        finally:
            if outer is not None:
                self._runs.active, self._runs.datamodule = outer, outer_data
            if random is not None:  # the fit goes on as if nothing had been drawn or seeded
                set_rng_state(random)

    def _machine(
        self,
        model: nn.Module,
        loaders: Loaders,
        *,
        runs: RunKind,
        tested: SavedCheckpoint | None = None,
        keeps_predictions: bool = True,
    ) -> Machine:
        fitted, self._runs.datamodule = self._runs.fitted, loaders.data_module
        machine = Machine(
            self,
            model,
            loaders,
            runs=runs,
            guards=self.guards,
            callbacks=self.callbacks,
            trainer=self,
            planned_steps=self._runs.planned_steps if runs == "fit" else None,
            trained_by=fitted if fitted is not None and fitted.model is plain_module(model) and runs != "fit" else None,
            tested=tested,
            keeps_predictions=keeps_predictions,
        )
        self._runs.active = machine
        return machine

    @property
    def datamodule(self) -> Any:
        """The data module of the current run, or of the last one; None if it has none."""
        return self._runs.datamodule

    @property
    def machine(self) -> Machine:
        """The machine of the last fit; before any fit, that of the last test or validation.

        Raises:
            UsageError: Nothing has run yet.
        """
        machine = self._runs.fitted or self._runs.active
        if machine is None:
            raise UsageError("There is no machine yet. Call fit(model) first.")
        return machine

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers of the current run, or of the last one; see `Machine.optimizers`."""
        return self._running.optimizers

    @property
    def lr_schedulers(self) -> list[Any]:
        """The learning-rate schedulers of the current run, or of the last one."""
        return self._running.lr_schedulers

    def manual_optimization(self, caller: str) -> ManualOptimization:
        """Return what ``training_step`` calls with manual optimization; see `Machine.manual_optimization`."""
        return self._running.manual_optimization(caller)

    @property
    def _running(self) -> Machine:
        return self._runs.active or self.machine

    @property
    def history(self) -> History:
        """The record of the last fit as rows; see `Machine.history`.

        Raises:
            UsageError: Nothing has run yet, or it was not recorded.
        """
        return self.machine.history

    @property
    def current_epoch(self) -> int:
        """Index of the epoch, from 0; after `fit`, that of the last epoch that was trained."""
        return self._runs.fitted.current_epoch if self._runs.fitted is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps so far; those of several optimizers in one round count once."""
        return self._runs.fitted.global_step if self._runs.fitted is not None else 0
