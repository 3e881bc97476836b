"""Lightning's `Trainer` with our machine in place of its loops, for each of its two packages."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from fsmtrain.adapters.lightning.loaders import fit_loaders, predict_loaders, val_loaders
from fsmtrain.adapters.lightning.packages import package_of, part_of
from fsmtrain.adapters.lightning.program import LightningProgram
from fsmtrain.adapters.lightning.refused_flags import refuse_callbacks, refuse_flags, refuse_strategy
from fsmtrain.adapters.lightning.train_work import warn_of_remainder
from fsmtrain.adapters.lightning.translate_flags import guards_of, translate_flags
from fsmtrain.errors import ModelError, OptionsError, UsageError
from fsmtrain.machine import Machine
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.unknown_arguments import no_such_argument

Remainder = Literal["mean", "lightning"]


class Runs:
    """What Lightning's trainer gets of ours: runs by the machine, in place of its loops.

    Args:
        remainder: How the short last window of an epoch is scaled: ``"mean"`` divides its loss by its own length,
            ``"lightning"`` by ``accumulate_grad_batches``, as Lightning does.
        flags: Those of Lightning's trainer.

    Attributes:
        machine: That of the current run, or of the last one.

    Raises:
        OptionsError: A flag cannot be had here, or there is no such flag.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # those of Lightning's trainer

    package: str
    machine: Machine | None = None
    evaluation_results: Any = None

    def __new__(cls, **flags: Any) -> Any:
        """Return a trainer of the package whose objects are among the flags."""
        package = package_of(objects_in(flags))
        if package is not None and package != cls.package:
            return trainer_class(package)(**flags)
        return super().__new__(cls)

    def __init__(self, *, remainder: Remainder = "mean", **flags: Any) -> None:
        if remainder not in ("mean", "lightning"):
            raise OptionsError(f"remainder={remainder!r}: it must be 'mean' or 'lightning'.")
        self._flags = {"remainder": remainder, **flags}
        _validate_names(self.package, flags)
        refuse_flags(flags)
        callbacks = flags.get("callbacks") or []
        callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        refuse_callbacks(callbacks)
        self._own_callbacks = [callback for callback in callbacks if package_of([callback]) is None]
        if self._own_callbacks:
            flags["callbacks"] = [callback for callback in callbacks if package_of([callback]) is not None]
        self.remainder = remainder
        super().__init__(**flags)
        refuse_strategy(self, part_of(self.package, "strategies"))

    # ---- what users call

    def fit(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train a module by the machine."""
        machine = self.build(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path=ckpt_path)
        machine.run()

    def build(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: Any = None,
        *,
        ckpt_path: Any = None,
        callbacks: Any = (),
        **options: Any,
    ) -> Machine:
        """Return the machine of a fit: planned, checked, drawn, stepped or run.

        Args:
            model: The module.
            train_dataloaders: As of ``fit``.
            val_dataloaders: As of ``fit``.
            datamodule: As of ``fit``.
            ckpt_path: A checkpoint of fsmtrain, or a folder of them or of a run, from which the fit continues.
            callbacks: Callbacks of fsmtrain.
            options: Flags of `Options` that Lightning has no flag for, such as ``runs_dir``.
        """
        if ckpt_path is not None and not Path(ckpt_path).is_dir():
            raise UsageError(
                f"fit(ckpt_path={ckpt_path!r}): a fit continues from a checkpoint of fsmtrain, which is a folder: with "
                f"callbacks=[fsmtrain.ModelCheckpoint()] it is saved where it stops. A file of Lightning's cannot be used."
            )
        self._adopt(model, "fit")
        if self.fit_loop.epoch_progress.current.ready > 0:
            raise UsageError(
                "fit: this trainer has fitted a module already, and a trainer fits once here. Make another Trainer; to train "
                "longer, with callbacks=[fsmtrain.ModelCheckpoint(dirpath=...)] in both and fit(..., ckpt_path=...)."
            )
        self.should_stop = False
        self.training = True
        callbacks = [*self._own_callbacks, *callbacks]
        machine = self._prepared("fit", model, train_dataloaders, val_dataloaders, datamodule, callbacks=callbacks, **options)
        if ckpt_path is not None:
            machine.resume(ckpt_path)
        return machine

    def validate(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Validate by the machine; return the metrics of each loader."""
        self.validate_loop.verbose = verbose
        return self._evaluated("validate", "validating", model, dataloaders, ckpt_path, datamodule)

    def test(
        self,
        model: Any = None,
        dataloaders: Any = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Test by the machine; return the metrics of each loader."""
        self.test_loop.verbose = verbose
        return self._evaluated("test", "testing", model, dataloaders, ckpt_path, datamodule)

    def predict(
        self,
        model: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        return_predictions: bool | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Predict by the machine; return what ``predict_step`` returned."""
        self.predict_loop.return_predictions = return_predictions
        return self._evaluated("predict", "predicting", model, dataloaders, ckpt_path, datamodule)

    def _evaluated(self, fn: str, stage: str, model: Any, dataloaders: Any, ckpt_path: Any, datamodule: Any) -> Any:
        is_passed = model is not None
        if model is None:
            model = self.lightning_module
            if model is None:
                raise UsageError(f"{fn}: there is no module yet. Call fit(module) first, or pass one: {fn}(module).")
        self._adopt(model, fn)
        setattr(self, stage, True)
        self.state.fn = part_of(self.package, "trainer.states").TrainerFn(fn)
        path = self._checkpoint_connector._select_ckpt_path(
            self.state.fn, ckpt_path, model_provided=is_passed, model_connected=True
        )
        machine = self._prepared(fn, model, dataloaders, None, datamodule, ckpt_path=path)
        self.evaluation_results = None
        machine.run()
        return self.evaluation_results

    # ---- the run

    def _adopt(self, model: Any, call: str) -> None:
        """Become a trainer of the module's package, if nothing has been run yet; and check that it can run this module."""
        if self.machine is not None and self.machine.is_running:
            raise UsageError(f"{call}: this trainer is running. Make another Trainer for a run within a hook.")
        if isinstance(model, nn.Module) and hasattr(model, "_orig_mod"):
            raise ModelError("fit: a compiled module. Pass the module itself, and compile parts of it in configure_model.")
        package = package_of([model])
        if package is None or not isinstance(model, part_of(package).LightningModule):
            raise ModelError(f"{type(model).__name__} is no LightningModule. For other modules there is fsmtrain.Trainer.")
        is_in_signature = part_of(package, "utilities.signature_utils").is_param_in_hook_signature
        for step in ("training_step", "validation_step", "test_step", "predict_step"):
            if is_in_signature(getattr(model, step), "dataloader_iter", explicit=True):
                raise ModelError(
                    f"{type(model).__name__}.{step}(dataloader_iter): the machine fetches each batch. Take the batch: "
                    f"{step}(self, batch, batch_idx)."
                )
        if package != self.package:
            objects = list(objects_in(self._flags))
            if objects and package_of(objects) != package:
                raise ModelError(
                    f"{type(model).__name__} is of {package}, and the trainer's {type(objects[0]).__name__} of {self.package}: "
                    f"these are two sets of classes. Import both from one package."
                )
            flags = self._flags
            vars(self).clear()
            self.__class__ = trainer_class(package)
            self.__init__(**flags)  # type: ignore[misc]

    def _prepared(
        self,
        fn: str,
        model: Any,
        loaders: Any,
        val: Any,
        datamodule: Any,
        *,
        ckpt_path: Any = None,
        callbacks: Any = (),
        **options: Any,
    ) -> Machine:
        """Do what comes before the loops in Lightning, in its order, and build the machine."""
        states = part_of(self.package, "trainer.states")
        self.state.fn, self.state.status = states.TrainerFn(fn), states.TrainerStatus.RUNNING
        call = part_of(self.package, "trainer.call")
        self.strategy._lightning_module = model
        try:
            data = part_of(self.package).LightningDataModule
            if isinstance(loaders, data):
                loaders, datamodule = None, loaders
            if datamodule is not None and (loaders is not None or val is not None):
                raise UsageError(f"{fn}: loaders and datamodule were both passed. Leave one of them out.")
            passed = {"fit": "train", "validate": "val"}.get(fn, fn)
            attached = {f"{passed}_dataloaders": loaders} | ({"val_dataloaders": val} if fn == "fit" else {})
            self._data_connector.attach_data(model, **attached, datamodule=datamodule)
            return self._connected(fn, model, ckpt_path, callbacks, options)
        except BaseException as error:
            call._interrupt(self, error)
            self.state.stage = None
            raise

    def _connected(self, fn: str, model: Any, ckpt_path: Any, callbacks: Any, options: dict[str, Any]) -> Machine:
        call = part_of(self.package, "trainer.call")
        trainer = part_of(self.package, "trainer.trainer")
        if fn == "fit":
            limits = trainer._parse_loop_limits(self.min_steps, self.max_steps, self.min_epochs, self.max_epochs, self)
            self.fit_loop.min_epochs, self.fit_loop.max_epochs = limits
        if hasattr(model, "hparams"):
            part_of(self.package, "utilities.parsing").clean_namespace(model.hparams)
        self.strategy.connect(model)
        self._callback_connector._attach_model_callbacks()
        refuse_callbacks(self.callbacks)
        self._callback_connector._attach_model_logging_functions()
        trainer._verify_loop_configurations(self)
        self.strategy.setup_environment()
        self._data_connector.prepare_data()
        call._call_setup_hook(self)
        call._call_configure_model(self)
        self._checkpoint_connector._restore_modules_and_callbacks(ckpt_path, None)
        self._logger_connector.reset_results()
        self._logger_connector.reset_metrics()
        program = LightningProgram(model, self)
        if fn == "fit":
            return self._machine_of_fit(program, callbacks, options)
        return self._machine_of_pass(fn, program)

    @property
    def automatic_optimization(self) -> bool:
        """Whether the module leaves backwards and steps to the trainer."""
        return bool(self.lightning_module.automatic_optimization)

    def _machine_of_fit(self, program: LightningProgram, callbacks: Any, options: dict[str, Any]) -> Machine:
        train, val, lengths = fit_loaders(self)
        if self.fit_loop.max_epochs == 0:
            self.strategy.setup(self)  # which the machine asks for where it trains
        flags = translate_flags(self, lengths, **options)
        if self.automatic_optimization and self.remainder == "mean":
            count = self.fit_loop.max_batches
            warn_of_remainder(count if isinstance(count, int) else None, flags.accumulate_grad_batches)
        guards = guards_of(self, program.module, self.callbacks)
        self.machine = Machine(
            flags, program, Loaders(train=train, val=val, test=()), runs="fit", guards=guards, callbacks=callbacks
        )
        return self.machine

    def _machine_of_pass(self, fn: str, program: LightningProgram) -> Machine:
        self.strategy.setup(self)
        self.log_hyperparameters()
        program.module.zero_grad()
        if fn == "predict":
            found, lengths = predict_loaders(self)
        else:
            found, lengths = val_loaders(self, self._evaluation_loop, fn)
        kind = "val" if fn == "validate" else fn
        flags = translate_flags(self, {kind: lengths})
        given: dict[str, Any] = {kind: found}
        runs: Any = kind
        self.machine = Machine(flags, program, Loaders(**given), runs=runs)
        return self.machine

    def log_hyperparameters(self) -> None:
        """Pass the hyperparameters of module and data module to the loggers."""
        if self.enable_autolog_hparams:
            part_of(self.package, "trainer.trainer")._log_hyperparams(self)

    def note_stop(self) -> None:
        """Check that the machine can act on ``should_stop``.

        Raises:
            UsageError: It was set by code in which the name is not found, so the machine has no guard for it.
        """
        if self.should_stop and self.machine is not None and self.machine.spec.guards.stop is None:
            raise UsageError(
                "trainer.should_stop was set by code that is not in the module's class or a callback's, so the run was built "
                "without a guard for it. Set it in a method of the module or of a callback."
            )

    def end_run(self) -> None:
        """Note that a run has ended."""
        states = part_of(self.package, "trainer.states")
        self.state.status, self.state.stage = states.TrainerStatus.FINISHED, None


def objects_in(flags: Mapping[str, Any]) -> Iterator[object]:
    """Yield the objects of Lightning's classes among a trainer's flags."""
    for name in ("callbacks", "logger"):
        value = flags.get(name)
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if package_of([item]) is not None:
                yield item


def _validate_names(package: str, flags: dict[str, Any]) -> None:
    known = list(inspect.signature(part_of(package).Trainer.__init__).parameters)[1:]
    for name in flags:
        if name not in known:
            raise no_such_argument("Trainer", name, known)


@functools.cache
def trainer_class(package: str) -> Any:
    """Return the class of a package's trainer that runs by the machine. Its signature shows Lightning's flags."""
    base = part_of(package).Trainer

    def __init__(self: Any, **flags: Any) -> None:
        Runs.__init__(self, **flags)

    theirs = inspect.signature(base.__init__)
    remainder = inspect.Parameter("remainder", inspect.Parameter.KEYWORD_ONLY, default="mean", annotation=Remainder)
    signature = theirs.replace(parameters=[*theirs.parameters.values(), remainder])
    flags = signature.replace(parameters=list(signature.parameters.values())[1:])
    setattr(__init__, "__signature__", signature)  # noqa: B010 - a type checker refuses an assignment by name
    __init__.__annotations__ = {**base.__init__.__annotations__, "remainder": Remainder}
    attributes = {"package": package, "__init__": __init__, "__signature__": flags, "__doc__": Runs.__doc__}
    return type("Trainer", (Runs, base), {"__module__": __name__, **attributes})
