"""Build a run: turn options, a model and loaders into its components, and check everything that can be checked early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from attrs import evolve
from torch import nn

from fsmtrain.core.checking.parse_optimizer_step import parse_optimizer_step
from fsmtrain.core.counters import Counters
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.fractions_to_batches import is_switched_off
from fsmtrain.core.guard_ast.never_none import never_returns_none
from fsmtrain.core.limits import longest_k
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.planned_steps import PlannedSteps
from fsmtrain.core.sizes import Schedule, Sizes
from fsmtrain.early_stopping import Patience
from fsmtrain.errors import DataError, ModelError, OptionsError, UsageError
from fsmtrain.options import Options
from fsmtrain.predicates import is_stateful
from fsmtrain.runtime.data.data_modules import LoaderKind, Loaders, is_stateful_data_module, prepare_data
from fsmtrain.runtime.data.device_transfer import batch_mover, own_transfer_hook
from fsmtrain.runtime.data.loaders import is_iterator, make_all_resumable, make_resumable
from fsmtrain.runtime.data.passed_loaders import Loader, passed_loaders, passed_train_loader
from fsmtrain.runtime.data.restore_loader_position import length_of
from fsmtrain.runtime.hooks.bind_hooks import Hooks
from fsmtrain.runtime.hooks.callback import HOOKS
from fsmtrain.runtime.hooks.hook_pair import Stages
from fsmtrain.runtime.metrics.epoch_metrics import EpochMetrics
from fsmtrain.runtime.metrics.metric_objects import MetricObjects
from fsmtrain.runtime.metrics.monitor import EpochWatcher, Monitor
from fsmtrain.runtime.model_inspection.compiled_modules import compiled_call, plain_module
from fsmtrain.runtime.model_inspection.predict_step import predict_step_of
from fsmtrain.runtime.model_inspection.steps_without_loaders import warn_of_unused_loaders
from fsmtrain.runtime.model_inspection.uncalled_hooks import warn_of_uncalled_hooks
from fsmtrain.runtime.optimization.detect_inf_nan import NonFiniteState
from fsmtrain.runtime.optimization.grad_toggle import validate_parameter_owners
from fsmtrain.runtime.optimization.optimizer_settings import OptimizerSettings
from fsmtrain.runtime.optimization.optimizer_step import own_optimizer_step, validate_optimizer_step
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, SchedulerConfig, parse_configure_optimizers
from fsmtrain.runtime.optimization.window_weights import Window
from fsmtrain.runtime.run_state import Evaluated, LoaderPositions, RunComponents, RunKind, RunState
from fsmtrain.runtime.training.manual_optimization import is_manual
from fsmtrain.runtime.training.on_nonfinite_policies import validate_nonfinite_policy


def build_components(
    options: Options,
    model: nn.Module,
    loaders: Loaders,
    *,
    runs: RunKind,
    guards: Guards,
    callbacks: Sequence[object],
    hooks: Hooks,
    stages: Stages,
    planned_steps: PlannedSteps,
    epoch_watchers: Sequence[EpochWatcher] = (),
    keeps_predictions: bool = True,
) -> RunComponents:
    """Build the components of a run, and check every rule that can be checked before it begins.

    Args:
        options: The flags.
        model: The module; it is moved to the options' device.
        loaders: The loaders, and the data module.
        runs: What is run.
        guards: The decisions that the user replaces.
        callbacks: The user's callbacks.
        hooks: The hooks of the model and the callbacks.
        stages: The stages of the run, which begin here.
        planned_steps: Gets to know the run's sizes, for ``configure_optimizers``.
        epoch_watchers: Those of the callbacks that monitor a metric.
        keeps_predictions: Whether a run that predicts keeps the outputs.

    Raises:
        ModelError: A method is missing or cannot be called as documented, ``configure_optimizers`` returned an unknown form.
        SizesError: The options do not fit the data.
        OptionsError: A combination of flags and model that has no meaning.
        DataError: A loader that can be used once would be used twice.
        UsageError: A run that only tests has nothing to test.
    """
    compiled, model = compiled_call(model), plain_module(model)
    device = device_of(options)
    fits = runs == "fit"
    evaluates: Evaluated = "test" if runs == "fit" else runs
    prepare_data(loaders.data_module)
    stages.set_up("fit" if fits else _CALLS[evaluates])
    trains = fits and options.max_nb_epochs != 0
    train = _train_loader(model, loaders) if trains else ()
    beside = train if trains else loaders.train
    val = _eval_loaders(model, "val", loaders, beside) if fits else ()
    if fits and loaders.may_have(model, "test"):
        stages.set_up("test")
    options = _with_limits_of_test(options, evaluates)
    test = _eval_loaders(model, evaluates, loaders, beside)
    _warn_of_what_is_never_called(options, model, loaders, runs, callbacks, val, test)
    model.to(device)
    setup: OptimizerSetup | None = None
    manual = trains and is_manual(model)
    sizes = Sizes(
        train=length_of(train),
        val=tuple(map(length_of, val)) if callable(getattr(model, "validation_step", None)) else (),
        test=tuple(map(length_of, test)) if _step_of(model, evaluates) is not None else (),
        manual_optimization=manual,
        may_return_none=trains and not manual and not never_returns_none(getattr(model, "training_step", None)),
        fits=fits,
    )
    if trains:
        _require_method(
            model,
            "training_step",
            "it is called with each train batch and returns the loss. A model without a class of your own: "
            "Supervised(model, loss=..., optimizer=...).",
        )
        _require_method(model, "configure_optimizers", "it returns the optimizer, or several.")
        if not manual:
            validate_optimizer_step(model)
        planned_steps.prepare(options, sizes, guards)
        setup = parse_configure_optimizers(model.configure_optimizers(), is_manual=manual)  # type: ignore[operator]
        schedulers = () if manual else [_schedule(s, validates=bool(val)) for s in setup.scheduler_configs]
        sizes = evolve(sizes, optimizers=len(setup.slots), schedulers=schedulers)
    hook = own_optimizer_step(model) if trains and not manual else None
    spec = LoopSpec(options, sizes, guards=guards, hook=None if hook is None else parse_optimizer_step(hook))
    if setup is not None:
        if not manual:
            _validate_combinations(spec, setup)
        planned_steps.verify(spec)
        named = {"train_dataloader": train, **{f"val_dataloaders[{i}]": loader for i, loader in enumerate(val)}}
        validate_nonfinite_policy(spec.options, spec.limits, guards, setup, named)
    if spec.limits.has_sanity and spec.limits.validates and any(map(is_iterator, val)):
        raise DataError(
            "val_dataloaders: one of them is an iterator, which can be used only once, and the sanity pass would use it up "
            "before the first validation. Pass an iterable, or nb_sanity_val_steps=0."
        )
    if not fits and not spec.limits.tests:
        raise UsageError(_explain_nothing_to_run(evaluates, options, model, test))
    return RunComponents(
        spec=spec,
        model=model,
        compiled_call=compiled,
        device=device,
        move_batch=batch_mover(device, hook=own_transfer_hook(loaders.data_module) or own_transfer_hook(model)),
        optimizer_setup=setup,
        train_loader=train,
        val_loaders=val,
        test_loaders=test,
        hooks=hooks,
        stages=stages,
        stateful_callbacks=[callback for callback in callbacks if is_stateful(callback)],
        evaluates=evaluates,
        keeps_predictions=keeps_predictions,
        data_module=loaders.data_module if is_stateful_data_module(loaders.data_module) else None,
        monitors=(*_monitors(options, setup), *(watcher.monitor for watcher in epoch_watchers)),
        epoch_watchers=epoch_watchers,
    )


def _with_limits_of_test(options: Options, evaluates: Evaluated) -> Options:
    """Return the options with the limits of a validation or of predictions in the place of those of a test."""
    if evaluates == "val":
        return evolve(options, test_percent_check=options.val_percent_check, limit_test_batches=options.limit_val_batches)
    if evaluates == "predict":
        return evolve(options, test_percent_check=1.0, overfit_pct=0.0, limit_test_batches=options.limit_predict_batches)
    return options


_STEPS = {"val": "validation_step", "test": "test_step", "predict": "predict_step"}
_CALLS = {"val": "validate", "test": "test", "predict": "predict"}


def _step_of(model: nn.Module, evaluates: Evaluated) -> Any:
    """Return what is called with each batch of the state `test`; None if there is nothing."""
    if evaluates == "predict":
        return predict_step_of(model)
    step = getattr(model, _STEPS[evaluates], None)
    return step if callable(step) else None


def _monitors(options: Options, setup: OptimizerSetup | None) -> list[Monitor]:
    """Return early stopping and the plateau schedulers, as monitors of their metrics."""
    rule = options.early_stopping
    stopping = [Monitor("early_stop_callback", rule.monitor)] if rule is not None else []
    schedulers = [config.metric_monitor for config in setup.scheduler_configs] if setup is not None else []
    return [*stopping, *(monitor for monitor in schedulers if monitor is not None)]


def _schedule(config: SchedulerConfig, *, validates: bool) -> Schedule:
    """Return when a scheduler acts: one that monitors a metric of training each epoch, if no validation can have it."""
    monitor = config.metric_monitor
    is_of_training = monitor is not None and not validates and not monitor.needs_validation
    return evolve(config.schedule, needs_validation=False) if is_of_training else config.schedule


def initial_run_state(components: RunComponents) -> RunState:
    """Return the state of a run before its first visit."""
    limits, rule = components.spec.limits, components.spec.options.early_stopping
    metric_objects = MetricObjects(components.model)
    return RunState(
        counters=Counters.begin(limits.optimizers),
        signals=limits.begin_signals(),
        loaders=LoaderPositions(
            train=make_resumable(components.train_loader, "train_dataloader"),
            val=make_all_resumable(components.val_loaders, "val_dataloader"),
            test=make_all_resumable(components.test_loaders, f"{components.evaluates}_dataloader"),
        ),
        early_stopping=Patience(rule) if rule is not None and limits.stops_early else None,
        windows=[Window() for _ in range(limits.optimizers)],
        hiddens=[None] * limits.optimizers,
        outputs=[None] * limits.optimizers,
        nonfinite=NonFiniteState([None] * limits.optimizers),
        epoch_metrics=EpochMetrics({monitor.metric for monitor in components.monitors}, metric_objects),
        metric_objects=metric_objects,
        settings=OptimizerSettings.of(components.optimizer_setup) if components.optimizer_setup is not None else None,
    )


def device_of(options: Options) -> torch.device:
    """Return the device that the options name.

    Raises:
        OptionsError: There is no such device here.
    """
    if options.device == "auto":
        return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(options.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionsError(
            f"device={options.device!r}: there is no such device here ({reason}). "
            f"device='auto' uses a GPU if there is one, else the CPU."
        ) from error
    return device


def _eval_loaders(model: nn.Module, kind: LoaderKind, loaders: Loaders, train_loader: Any) -> tuple[Loader, ...]:
    return passed_loaders(loaders.of(model, kind), f"{kind}_dataloaders", beside=train_loader)


def _train_loader(model: nn.Module, loaders: Loaders) -> Loader:
    loader = passed_train_loader(loaders.of(model, "train"))
    if loader is None:
        raise ModelError(
            f"train_dataloader: nothing to train on. Give {type(model).__name__} a method train_dataloader, or pass one: "
            f"fit(model, train_dataloader=...)."
        )
    return loader


def _warn_of_what_is_never_called(
    options: Options,
    model: nn.Module,
    passed: Loaders,
    runs: RunKind,
    callbacks: Sequence[object],
    val: Sequence[Loader],
    test: Sequence[Loader],
) -> None:
    """Warn of loaders without a step, of steps without a loader, and of methods that look like hooks."""
    if runs == "fit":
        if not is_switched_off(options, "val_percent_check"):
            warn_of_unused_loaders(model, "val", passed.val, val)
        if not is_switched_off(options, "test_percent_check"):
            warn_of_unused_loaders(model, "test", passed.test, test)
    has = {"train_dataloader": True, "val_dataloader": bool(val), "test_dataloader": bool(test) or passed.test is not None}
    has["predict_dataloader"] = runs == "predict"
    loaders = [name for name, is_there in has.items() if is_there]
    about, data_module = "" if runs == "fit" else runs, passed.data_module
    warn_of_uncalled_hooks(model, callbacks, HOOKS, has_loaders=loaders, about=about, data_module=data_module)


def _require_method(model: nn.Module, method: str, why: str) -> None:
    if not callable(getattr(model, method, None)):
        raise ModelError(f"{type(model).__name__} has no method {method}: {why}")


def _validate_combinations(spec: LoopSpec, setup: OptimizerSetup) -> None:
    """Check the rules between flags and what ``configure_optimizers`` returned.

    Raises:
        OptionsError: An optimizer cannot work with these windows.
    """
    guards, longest = spec.guards, longest_k(spec.options)
    validate_parameter_owners(setup.slots, longest == 1 and not guards.step)
    for slot in setup.slots:
        if slot.needs_closure and spec.options.mixed_precision.uses_scaler:
            raise OptionsError(
                f"precision='16': {type(slot.optimizer).__name__} evaluates its loss several times a step, which a gradient "
                f"scaler cannot follow. Use precision='bf16' or '32'."
            )
        if slot.needs_closure and (longest > 1 or slot.index in guards.step):
            accumulation = f"accumulate_grad_batches={spec.options.accumulate_grad_batches}"
            what = accumulation if longest > 1 else f"Guards(step={{{slot.index}: ...}})"
            raise OptionsError(
                f"{what}: {type(slot.optimizer).__name__} evaluates its loss several times a step, on one batch. Use "
                f"accumulate_grad_batches=1 and no step guard with it."
            )


def _explain_nothing_to_run(evaluates: Evaluated, options: Options, model: nn.Module, loaders: tuple[Loader, ...]) -> str:
    """Say what a run lacks that does not train."""
    name, call, step = type(model).__name__, _CALLS[evaluates], _STEPS[evaluates]
    if _step_of(model, evaluates) is None:
        return f"{call}: {name} has no method {step}{', and no forward' if evaluates == 'predict' else ''}."
    if not loaders:
        return f"{call}: there is no loader. Give {name} a method {evaluates}_dataloader, or pass {evaluates}_dataloaders=..."
    if options.test_percent_check == 0 and options.overfit_pct == 0:
        return f"{call}: {evaluates}_percent_check=0 switches it off."
    return f"{call}: the {evaluates} loaders have no batches."
