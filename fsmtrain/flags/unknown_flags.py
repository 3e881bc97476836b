"""Errors for unknown flags: names in other trainers and their names here, or the most similar flag."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import AttrsInstance, fields

from fsmtrain.errors import OptionsError

C = TypeVar("C", bound="type[AttrsInstance]")

# Names in other trainers, and in earlier or later versions of this one, and the flag's name here.
OTHER_NAMES: dict[str, str] = {
    "accelerator": "device",
    "accumulate_grad": "accumulate_grad_batches",
    "amp_level": "precision",
    "default_root_dir": "runs_dir",
    "devices": "device",
    "early_stopping": "early_stop_callback",
    "enable_progress_bar": "progress_bar",
    "epochs": "max_nb_epochs",
    "gpus": "device",
    "gradient_accumulation_steps": "accumulate_grad_batches",
    "gradient_clip": "gradient_clip_val",
    "limit_test_batches": "test_percent_check",
    "limit_train_batches": "train_percent_check",
    "limit_val_batches": "val_percent_check",
    "log_dir": "runs_dir",
    "loggers": "logger",
    "max_epochs": "max_nb_epochs",
    "max_grad_norm": "gradient_clip_val",
    "max_num_epochs": "max_nb_epochs",
    "min_epochs": "min_nb_epochs",
    "min_num_epochs": "min_nb_epochs",
    "name": "run_name",
    "nan_policy": "on_nonfinite",
    "num_sanity_val_steps": "nb_sanity_val_steps",
    "num_train_epochs": "max_nb_epochs",
    "output_dir": "runs_dir",
    "overfit_batches": "overfit_pct",
    "run_dir": "runs_dir",
    "show_progress_bar": "progress_bar",
    "strategy": "distributed_backend",
    "tbptt_steps": "truncated_bptt_steps",
    "use_amp": "precision",
    "val_check_every_n_epoch": "check_val_every_n_epoch",
}


def explain_unknown_flags(cls: C) -> C:
    """Decorate an attrs class: for an unknown keyword raise an `OptionsError` with the likely name."""
    plain: Callable[..., None] = vars(cls)["__init__"]
    known = {f.alias for f in fields(cls) if f.init}

    @functools.wraps(plain)
    def __init__(self: object, *args: Any, **flags: Any) -> None:
        for name in flags:
            if name not in known:
                raise OptionsError(_no_such_flag(name, flags[name], known))
        plain(self, *args, **flags)

    setattr(cls, "__init__", __init__)  # noqa: B010 - a type checker refuses an assignment by name
    return cls


def _no_such_flag(name: str, value: object, known: set[str]) -> str:
    if name == "max_steps":
        return (
            f"{name}={value!r}: there is no such flag. To stop after {value} steps pass a guard and allow a stop in "
            f"the first epoch: Guards(stop=after_steps({value})), min_nb_epochs=0."
        )
    if name == "resume_anyway" and "resume_strict" in known:
        return f"{name}={value!r}: there is no such flag. Its name here is resume_strict; pass resume_strict={not value}."
    if name in OTHER_NAMES:
        return f"{name}={value!r}: there is no such flag. Its name here is {OTHER_NAMES[name]}."
    similar = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.65)
    if similar:
        return f"{name}={value!r}: there is no such flag. Did you mean {similar[0]}?"
    return f"{name}={value!r}: there is no such flag. The flags are {', '.join(sorted(known))}."
