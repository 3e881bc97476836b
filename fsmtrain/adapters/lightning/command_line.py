"""A Lightning module on the command line: its machine, with fsmtrain's own flags, record and progress bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from fsmtrain.adapters.lightning.lightning_trainer import trainer_class
from fsmtrain.adapters.lightning.packages import package_of
from fsmtrain.core.custom_guards import Guards
from fsmtrain.errors import OptionsError, UsageError
from fsmtrain.machine import Machine
from fsmtrain.options import Options
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.runtime.model_inspection.lightning_objects import lightning_class

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
# Flags of ours that the machine gets as they are. The others are Lightning's under another name, or the same.
_OURS = ("early_stop_callback", "on_nonfinite", "seed", "progress_bar", "quiet", "runs_dir", "run_name", "logger", "max_time")
_SAME = (
    "max_steps",
    "min_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "check_val_every_n_epoch",
    "val_check_interval",
)


def is_lightning_module(model: nn.Module) -> bool:
    """Return whether a module is one of Lightning's. The package is not imported."""
    return lightning_class(model, "LightningModule") is not None


def machine_of(
    options: Options, module: Any, loaders: Loaders, *, guards: Guards | None = None, callbacks: Sequence[object] = ()
) -> Machine:
    """Return the machine of a fit of a Lightning module, with the flags of `Options`.

    Args:
        options: The flags.
        module: The module.
        loaders: Its loaders, or the data module that has them.
        guards: Refused, as windows and validations are those of Lightning.
        callbacks: Callbacks of fsmtrain.

    Raises:
        OptionsError: A flag or guard that a Lightning module cannot have.
        UsageError: It is to be tested after the fit.
    """
    name = type(module).__name__
    if guards is not None and guards != Guards():
        raise OptionsError(f"--guards: {name} is a Lightning module, whose steps and validations are as in Lightning.")
    if options.truncated_bptt_steps is not None:
        raise OptionsError(f"--truncated_bptt_steps: {name} is a Lightning module. Use manual optimization in training_step.")
    if isinstance(options.accumulate_grad_batches, Mapping):
        raise OptionsError(f"--accumulate_grad_batches: {name} is a Lightning module, for which it is one number.")
    if options.on_nonfinite is not None:
        raise OptionsError(f"--on_nonfinite: {name} is a Lightning module, whose backwards and steps are not checked.")
    if loaders.test is None or loaders.test:
        if not _is_stand_in(loaders.test):
            raise UsageError(
                f"--test: {name} is a Lightning module. Test it with fsmtrain.adapters.lightning.Trainer().test()."
            )
        loaders = Loaders(train=loaders.train, val=loaders.val, data_module=loaders.data_module)
    package = package_of([module])
    assert package is not None
    trainer = trainer_class(package)(**_lightning_flags(options))
    ours = {flag: getattr(options, flag) for flag in _OURS}
    machine: Machine = trainer.build(module, loaders.train, loaders.val, loaders.data_module, callbacks=callbacks, **ours)
    return machine


def _is_stand_in(loaders: Any) -> bool:
    return loaders is not None and not loaders


def _lightning_flags(options: Options) -> dict[str, Any]:
    flags: dict[str, Any] = {name: getattr(options, name) for name in _SAME}
    flags["max_steps"] = -1 if options.max_steps is None else options.max_steps
    flags["gradient_clip_val"] = options.gradient_clip_val or None
    accelerator, _, index = options.device.partition(":")
    return {
        **flags,
        "max_epochs": -1 if options.max_nb_epochs is None else options.max_nb_epochs,
        "min_epochs": options.min_nb_epochs,
        "num_sanity_val_steps": max(0, options.nb_sanity_val_steps),
        "limit_train_batches": _limit(options.limit_train_batches, options.train_percent_check),
        "limit_val_batches": _limit(options.limit_val_batches, options.val_percent_check),
        "overfit_batches": options.overfit_pct,
        "gradient_clip_algorithm": options.gradient_clip_algorithm,
        "precision": _PRECISIONS[options.precision],
        "accelerator": accelerator,
        "devices": [int(index)] if index else 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def _limit(count: int | None, fraction: float) -> int | float | None:
    if count is not None:
        return count
    return None if fraction == 1 else float(fraction)
