"""Errors for unknown flags: names in other trainers and their names here, or the most similar flag."""

from __future__ import annotations

import difflib
import functools
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from attrs import AttrsInstance, fields

from fsmtrain.errors import ArgumentError, OptionsError

C = TypeVar("C", bound="type[AttrsInstance]")

# Names of a flag in other trainers, and in earlier or later versions of this one.
_NAMES_ELSEWHERE = {
    "accumulate_grad_batches": ("accumulate_grad", "gradient_accumulation_steps"),
    "check_val_every_n_epoch": ("val_check_every_n_epoch",),
    "device": ("accelerator", "auto_select_gpus", "devices", "gpus", "num_gpus", "tpu_cores"),
    "distributed_backend": ("strategy",),
    "early_stop_callback": ("early_stopping",),
    "gradient_clip_val": ("gradient_clip", "max_grad_norm"),
    "logger": ("loggers",),
    "max_nb_epochs": ("epochs", "max_epochs", "max_num_epochs", "num_train_epochs"),
    "min_nb_epochs": ("min_epochs", "min_num_epochs"),
    "nb_sanity_val_steps": ("num_sanity_val_steps",),
    "on_nonfinite": ("nan_policy", "print_nan_grads", "terminate_on_nan"),
    "overfit_pct": ("overfit_batches",),
    "precision": ("amp_backend", "amp_level", "use_amp"),
    "progress_bar": ("enable_progress_bar", "progress_bar_refresh_rate", "show_progress_bar"),
    "quiet": ("enable_model_summary", "weights_summary"),
    "resume": ("ckpt_path", "resume_from_checkpoint"),
    "run_name": ("name",),
    "runs_dir": ("default_root_dir", "default_save_path", "log_dir", "output_dir", "run_dir", "weights_save_path"),
    "truncated_bptt_steps": ("tbptt_steps",),
}
OTHER_NAMES = {other: name for name, others in _NAMES_ELSEWHERE.items() for other in others}

_ONE_DEVICE = "A run uses one device: device='cuda'."
_RECORDED = "A run records each batch's metrics, and does not wait for them."
_TORCH_SETTING = "Set it in torch before the run"
_FRESH_LOADERS = (
    "To make the train loader anew for each epoch, pass an object whose __iter__ returns iter(DataLoader(...)); it is iterated "
    "over once an epoch."
)

_FRACTION = "It is a fraction of the batches, as in {0}=0.1."
_ONE_NAME = "It names one device, as in device='cuda:0'."

# What else is different about a flag under its name elsewhere.
_NOTES = {
    "overfit_batches": _FRACTION,
    **dict.fromkeys(("accelerator", "auto_select_gpus", "devices", "gpus", "num_gpus", "tpu_cores"), _ONE_NAME),
    **dict.fromkeys(("print_nan_grads", "terminate_on_nan"), "Pass on_nonfinite='raise'."),
}

# What to do instead of a flag of other trainers that has no counterpart here.
WAYS_OUT = {
    "auto_lr_find": "Runs with several learning rates do it: each is recorded, and fsmtrain report shows their curves.",
    "auto_scale_batch_size": "An out-of-memory error names the batch and its size.",
    "barebones": "Pass runs_dir=None, quiet=True, nb_sanity_val_steps=0.",
    "benchmark": f"{_TORCH_SETTING}: torch.backends.cudnn.benchmark = True.",
    "checkpoint_callback": "Checkpoints are saved only with callbacks=[ModelCheckpoint(...)].",
    "detect_anomaly": "on_nonfinite='raise' names the batch; for the operation use torch.autograd.set_detect_anomaly(True).",
    "deterministic": f"{_TORCH_SETTING}: torch.use_deterministic_algorithms(True).",
    "enable_autolog_hparams": "Hyperparameters are those of save_hyperparameters().",
    "enable_checkpointing": "Checkpoints are saved only with callbacks=[ModelCheckpoint(...)].",
    "flush_logs_every_n_steps": _RECORDED,
    "inference_mode": "Validation and test run under torch.no_grad().",
    "load_best_model_at_end": "callbacks=[ModelCheckpoint(monitor='val_loss')], and after fit test(ckpt_path='best').",
    "log_every_n_steps": _RECORDED,
    "log_gpu_memory": "callbacks=[DeviceStatsMonitor()] logs it (from fsmtrain.callbacks).",
    "log_save_interval": _RECORDED,
    "model_registry": "It belongs to a service; see trainer.save_checkpoint for the weights.",
    "move_metrics_to_cpu": "Metrics are averaged where they are, and copied to the host without waiting.",
    "multiple_trainloader_mode": "A run has one train loader: combine several in an iterable of your own.",
    "nb_gpu_nodes": _ONE_DEVICE,
    "num_nodes": _ONE_DEVICE,
    "num_processes": _ONE_DEVICE,
    "plugins": "There are none. precision and device are flags.",
    "prepare_data_per_node": _ONE_DEVICE,
    "process_position": "There is one progress bar.",
    "profiler": "machine.times has the time in each state; for single operations use torch.profiler around fit.",
    "reload_dataloaders_every_epoch": _FRESH_LOADERS,
    "reload_dataloaders_every_n_epochs": _FRESH_LOADERS,
    "replace_sampler_ddp": _ONE_DEVICE,
    "row_log_interval": _RECORDED,
    "stochastic_weight_avg": "callbacks=[EMAWeightAveraging()] averages weights (from fsmtrain.callbacks).",
    "sync_batchnorm": _ONE_DEVICE,
    "track_grad_norm": "callbacks=[GradientNormMonitor()] logs it (from fsmtrain.callbacks).",
    "use_distributed_sampler": _ONE_DEVICE,
}


def explain_unknown_flags(cls: C) -> C:
    """Decorate an attrs class: for an unknown keyword raise an `OptionsError` with the likely name."""
    plain: Callable[..., None] = vars(cls)["__init__"]
    known = {f.alias for f in fields(cls) if f.init}

    @functools.wraps(plain)
    def __init__(self: object, *args: Any, **flags: Any) -> None:
        if args:
            listed = ", ".join(map(reprlib.repr, args))
            raise ArgumentError(
                f"{cls.__name__}({listed}): a flag must be passed by its name, as in {cls.__name__}(max_nb_epochs=20)."
            )
        for name in flags:
            if name not in known:
                raise OptionsError(no_such_flag(name, flags[name], known))
        plain(self, **flags)

    setattr(cls, "__init__", __init__)  # noqa: B010 - a type checker refuses an assignment by name
    return cls


def no_such_flag(name: str, value: object, known: set[str]) -> str:
    """Return the message for a name that is no flag: its name here, or the similar one."""
    if name == "resume_anyway" and "resume_strict" in known:
        return f"{name}={value!r}: there is no such flag. Its name here is resume_strict; pass resume_strict={not value}."
    if name in WAYS_OUT:
        return f"{name}={value!r}: there is no such flag. {WAYS_OUT[name]}"
    here = OTHER_NAMES.get(name)
    if here is not None:
        note = "It is an argument of Trainer." if here not in known else _NOTES.get(name, "").format(here)
        return f"{name}={value!r}: there is no such flag. Its name here is {here}. {note}".rstrip()
    similar = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.65)
    if similar:
        return f"{name}={value!r}: there is no such flag. Did you mean {similar[0]}?"
    return f"{name}={value!r}: there is no such flag. The flags are {', '.join(sorted(known))}."


def flag_hints(flags: Iterable[str]) -> dict[str, str]:
    """Return what to answer where a flag, or its name in another trainer, is passed to a call that takes none."""
    names = {**{flag: flag for flag in flags}, **OTHER_NAMES}
    return {**WAYS_OUT, **{name: f"It is a flag of Options and Trainer: {flag}=..." for name, flag in names.items()}}
