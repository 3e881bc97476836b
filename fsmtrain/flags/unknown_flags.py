"""Errors for unknown flags: names in other trainers and their names here, or the most similar flag."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import AttrsInstance, fields

from fsmtrain.errors import OptionsError

C = TypeVar("C", bound="type[AttrsInstance]")

# Names of a flag in other trainers, and in earlier or later versions of this one.
_NAMES_ELSEWHERE = {
    "accumulate_grad_batches": ("accumulate_grad", "gradient_accumulation_steps"),
    "check_val_every_n_epoch": ("val_check_every_n_epoch",),
    "device": ("accelerator", "devices", "gpus"),
    "distributed_backend": ("strategy",),
    "early_stop_callback": ("early_stopping",),
    "gradient_clip_val": ("gradient_clip", "max_grad_norm"),
    "logger": ("loggers",),
    "max_nb_epochs": ("epochs", "max_epochs", "max_num_epochs", "num_train_epochs"),
    "min_nb_epochs": ("min_epochs", "min_num_epochs"),
    "nb_sanity_val_steps": ("num_sanity_val_steps",),
    "on_nonfinite": ("nan_policy",),
    "overfit_pct": ("overfit_batches",),
    "precision": ("amp_level", "use_amp"),
    "progress_bar": ("enable_progress_bar", "show_progress_bar"),
    "run_name": ("name",),
    "runs_dir": ("default_root_dir", "log_dir", "output_dir", "run_dir"),
    "test_percent_check": ("limit_test_batches",),
    "train_percent_check": ("limit_train_batches",),
    "truncated_bptt_steps": ("tbptt_steps",),
    "val_percent_check": ("limit_val_batches",),
}
OTHER_NAMES = {other: name for name, others in _NAMES_ELSEWHERE.items() for other in others}


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
