"""Validators and converters of single flags. A rule between two flags is in `Options` itself."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from attrs import Attribute

from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import OptionsError
from fsmtrain.flags.frozen_dict import FrozenDict
from fsmtrain.flags.precision_values import PRECISIONS
from fsmtrain.predicates import is_finite, is_integer, is_real

Validator = Callable[[object, "Attribute[Any]", object], None]

MAX_NAME_BYTES = 200  # of a run's name: most file systems allow 255, and a number may be appended


def percentage(opening_bracket: str) -> Validator:
    """Return the validator of a fraction of the batches, in ``(0.0, 1.0]`` or ``[0.0, 1.0]``."""

    def validate(_: object, flag: Attribute[Any], value: object) -> None:
        if not is_real(value) or not 0.0 <= value <= 1.0 or (opening_bracket == "(" and value == 0):
            raise OptionsError(
                f"{flag.name}={value!r}: a fraction of the batches, so it must lie in {opening_bracket}0.0, 1.0]. "
                f"For a tenth of them pass {flag.name}=0.1."
            )

    return validate


def integer(minimum: int | None, example: int, unit: str, *, or_none: bool = False) -> Validator:
    """Return the validator of a number of something, an int of at least `minimum`; with `or_none` None is legal, too."""

    def validate(_: object, flag: Attribute[Any], value: object) -> None:
        if or_none and value is None:
            return
        if not is_integer(value) or (minimum is not None and value < minimum):
            bound = "" if minimum is None else f" >= {minimum}"
            raise OptionsError(
                f"{flag.name}={value!r}: a number of {unit}, so it must be an int{bound}, as in {flag.name}={example}."
                f"{' None: no limit.' if or_none else ''}"
            )

    return validate


def accumulation(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a number of batches for each step, or a dict from first epochs to such numbers."""
    if isinstance(value, Mapping):
        if not value:
            raise OptionsError(
                f"{flag.name}={{}}: the dict names no epoch. Pass {{first epoch: batches}}, as in {{0: 1, 4: 2}}, or 1 for no "
                f"accumulation."
            )
        for epoch, length in value.items():
            if not is_integer(epoch) or epoch < 0:
                raise OptionsError(
                    f"{flag.name}={value!r}: the key {epoch!r} is not the index of an epoch, an int >= 0. "
                    f"Epochs count from 0: {flag.name}={{0: 1, 4: 2}} takes windows of 2 from the fifth epoch on."
                )
            if not is_integer(length) or length < 1:
                raise OptionsError(
                    f"{flag.name}={value!r}: the value {length!r} of epoch {epoch} is not a number of batches, an int >= 1."
                )
    elif not is_integer(value) or value < 1:
        raise OptionsError(
            f"{flag.name}={value!r}: the batches for each optimizer step, so it must be an int >= 1 (1: no accumulation), "
            f"or a dict {{first epoch: batches}}, as in {{0: 1, 4: 2}}."
        )


def validation_interval(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a number of train batches (int) or a fraction of an epoch (float)."""
    if is_integer(value):
        if value < 1:
            raise OptionsError(
                f"{flag.name}={value!r}: an int is a number of train batches, so it must be >= 1. "
                f"To switch validation off pass val_percent_check=0."
            )
    elif not is_real(value):
        raise OptionsError(
            f"{flag.name}={value!r}: pass a float, a fraction of an epoch in (0.0, 1.0], or an int, a number of train batches."
        )
    elif not 0.0 < value <= 1.0:
        way_out = (
            f"For a number of batches pass an int: {flag.name}={math.ceil(value)}."
            if 1 < value < math.inf
            else "To switch validation off pass val_percent_check=0."
        )
        raise OptionsError(f"{flag.name}={value!r}: a float is a fraction of an epoch, so it must lie in (0.0, 1.0]. {way_out}")


def early_stopping(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a switch or an `EarlyStopping`."""
    if value is not None and not isinstance(value, (bool, EarlyStopping)):
        raise OptionsError(
            f"{flag.name}={value!r}: pass None or False (off), True (EarlyStopping with its defaults), or "
            f"EarlyStopping(monitor=..., patience=...)."
        )


def clipping(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a limit of gradients."""
    if value is not None and value != math.inf and (not is_finite(value) or value < 0):
        raise OptionsError(
            f"{flag.name}={value!r}: the largest norm of the gradients, so it must be a number >= 0. 0 or None: no clipping."
        )


def clip_algorithm(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate what is limited of the gradients."""
    if value not in ("norm", "value"):
        raise OptionsError(
            f"{flag.name}={value!r}: must be 'norm' (gradient_clip_val limits the 2-norm of all gradients together) or 'value' "
            f"(the absolute value of each element)."
        )


def time_steps(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a number of time steps, or None."""
    if value is not None and (not is_integer(value) or value < 1):
        raise OptionsError(
            f"{flag.name}={value!r}: a number of time steps, so it must be an int >= 1. None trains on whole sequences."
        )


def seed(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a random seed that Python, NumPy and torch all accept."""
    if value is not None and (not is_integer(value) or not 0 <= value < 2**32):
        raise OptionsError(
            f"{flag.name}={value!r}: a random seed must be an int in [0, 2**32), as in {flag.name}=42. None: do not seed."
        )


def switch(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a bool."""
    if not isinstance(value, bool):
        raise OptionsError(f"{flag.name}={value!r}: a switch, so it must be True or False.")


def folder(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a folder's path, or None."""
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise OptionsError(
            f"{flag.name}={value!r}: must be the path of a folder for runs, as in {flag.name}='runs'. None: record nothing."
        )


def run_name(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a name that every file system allows for a folder, or None."""
    if value is None:
        return
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise OptionsError(
            f"{flag.name}={value!r}: a run's name must be printable text, as in {flag.name}='baseline'. None: the next free "
            f"number."
        )
    if value in (".", "..") or any(character in value for character in '/\\:*?"<>|') or value != value.strip(" ."):
        raise OptionsError(
            f'{flag.name}={value!r}: the name of a folder in runs_dir, so it must not contain / \\ : * ? " < > | '
            f"and must not begin or end with a dot or a space. For another place pass runs_dir=..."
        )
    if len(value.encode()) > MAX_NAME_BYTES:
        raise OptionsError(f"{flag.name}={value!r}: a run's name must not be longer than {MAX_NAME_BYTES} bytes.")


def logger(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a logger or a tuple of them."""
    for one in value if isinstance(value, tuple) else () if value is None else (value,):
        if isinstance(one, type):
            raise OptionsError(f"{flag.name}={value!r}: a class. Pass an instance: {one.__name__}(...).")
        if not callable(getattr(one, "log_metrics", None)):
            raise OptionsError(
                f"{flag.name}={value!r}: a logger must have a method log_metrics(metrics, step). None: metrics are only "
                f"written to the run's folder."
            )


def precision(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate the name of a precision."""
    if not isinstance(value, str) or value not in PRECISIONS:
        raise OptionsError(f"{flag.name}={value!r}: must be one of {', '.join(map(repr, PRECISIONS))}.")


def on_nonfinite(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate the name of a policy, or None."""
    if value not in (None, "raise", "skip", "rollback"):
        raise OptionsError(
            f"{flag.name}={value!r}: what to do about an inf or NaN loss or gradient, so it must be 'raise', 'skip' or "
            f"'rollback'. None: ignore it."
        )


def backend(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate None or ``"dp"``."""
    if value not in (None, "dp"):
        raise OptionsError(
            f"{flag.name}={value!r}: a run uses one device. Pass None, or 'dp', which means the same on one device."
        )


def device(_: object, flag: Attribute[Any], value: object) -> None:
    """Validate a device's name; whether there is such a device shows when the run is built."""
    if not isinstance(value, str) or not value:
        raise OptionsError(f"{flag.name}={value!r}: must be a device's name: 'auto', 'cpu', 'cuda', 'cuda:1', ...")


def batch_limit(percentage: str, minimum: int) -> Validator:
    """Return the validator of a largest number of batches of each loader, beside the flag for a percentage of them."""

    def validate(options: object, flag: Attribute[Any], value: object) -> None:
        if value is None:
            return
        if not is_integer(value) or value < minimum:
            raise OptionsError(
                f"{flag.name}={value!r}: at most this many batches of a loader, so it must be an int >= {minimum}, as in "
                f"{flag.name}=100. For a fraction of them pass {percentage}=0.1. None: all."
            )
        for name, plain in ((percentage, 1.0), ("overfit_pct", 0.0)):
            if (own := getattr(options, name)) != plain:
                raise OptionsError(
                    f"{flag.name}={value}, {name}={own}: both say how many batches of a loader to use. Leave one of them out."
                )

    return validate


# ---- converters


def switch_as_integer(value: object) -> Any:
    """Return True as 1 and False as 0."""
    return int(value) if isinstance(value, bool) else value


def path_as_text(value: object) -> Any:
    """Return a path as a str."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def loggers(value: object) -> Any:
    """Return a list of loggers as a tuple, and False, which other trainers have for none, as None."""
    return tuple(value) if isinstance(value, list) else None if value is False else value


def integer_as_text(value: object) -> Any:
    """Return an int, such as the precision 16, as a str."""
    return str(value) if is_integer(value) else value


def frozen_copy(value: object) -> Any:
    """Return a mapping as a `FrozenDict` with sorted keys: changing the caller's changes no options."""
    if not isinstance(value, Mapping):
        return value
    in_order = sorted(value.items(), key=lambda item: (not is_integer(item[0]), item[0] if is_integer(item[0]) else 0))
    return FrozenDict(in_order)
