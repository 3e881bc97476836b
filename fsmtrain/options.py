"""`Options`: each documented flag, its default, and the rule on its value.

What a flag means for a run of a given size is resolved in `core.limits`; nothing here knows of data.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, TypeVar

from attrs import Attribute, AttrsInstance, field, fields, frozen

from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import OptionsError
from fsmtrain.predicates import is_integer, is_real

C = TypeVar("C", bound="type[AttrsInstance]")

# Names that other trainers, or later ones, use for a flag that has another name here.
OTHER_NAMES: dict[str, str] = {
    "accelerator": "device",
    "accumulate_grad": "accumulate_grad_batches",
    "devices": "device",
    "default_root_dir": "runs_dir",
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
    "amp_level": "precision",
    "tbptt_steps": "truncated_bptt_steps",
    "use_amp": "precision",
    "val_check_every_n_epoch": "check_val_every_n_epoch",
}

LONGEST_NAME = 200  # bytes of a run's name: most file systems take 255, and a number may be put behind it


def _percentage(least: str) -> Callable[[object, Attribute[Any], object], None]:
    """The rule of a percentage; `least` is the opening bracket of its interval."""

    def check(_: object, flag: Attribute[Any], value: object) -> None:
        if not is_real(value) or not 0.0 <= value <= 1.0 or (least == "(" and value == 0):
            raise OptionsError(
                f"{flag.name}={value!r}: a fraction of the batches, so it must lie in {least}0.0, 1.0]. "
                f"For a tenth of them pass {flag.name}=0.1."
            )

    return check


def _integer(least: int | None, example: int, unit: str) -> Callable[[object, Attribute[Any], object], None]:
    """The rule of a whole number of something."""

    def check(_: object, flag: Attribute[Any], value: object) -> None:
        if not is_integer(value) or (least is not None and value < least):
            bound = "" if least is None else f" >= {least}"
            raise OptionsError(
                f"{flag.name}={value!r}: a number of {unit}, so it must be an int{bound}, as in {flag.name}={example}."
            )

    return check


def _check_accumulation(_: object, flag: Attribute[Any], value: object) -> None:
    if isinstance(value, Mapping):
        for epoch, length in value.items():
            if not is_integer(epoch) or epoch < 0:
                raise OptionsError(
                    f"{flag.name}={value!r}: the key {epoch!r} is not the index of an epoch. "
                    f"Epochs count from 0: {flag.name}={{0: 1, 4: 2}} takes windows of 2 from the fifth epoch on."
                )
            if not is_integer(length) or length < 1:
                raise OptionsError(
                    f"{flag.name}={value!r}: the value {length!r} of epoch {epoch} is not a number of batches, an int >= 1."
                )
    elif not is_integer(value) or value < 1:
        raise OptionsError(
            f"{flag.name}={value!r}: the number of batches in a window, so it must be an int >= 1 (1: no accumulation), "
            f"or a dict from the first epoch's index to that number, as in {{0: 1, 4: 2}}."
        )


def _check_interval(_: object, flag: Attribute[Any], value: object) -> None:
    if is_integer(value):
        if value < 1:
            raise OptionsError(
                f"{flag.name}={value!r}: an int is a number of train batches, so it must be >= 1. "
                f"To switch validation off pass val_percent_check=0."
            )
    elif not is_real(value):
        raise OptionsError(
            f"{flag.name}={value!r}: a float is a fraction of an epoch in (0.0, 1.0], an int a number of train batches."
        )
    elif not 0.0 < value <= 1.0:
        way_out = (
            f"For a number of batches pass an int: {flag.name}={math.ceil(value)}."
            if 1 < value < math.inf
            else ("To switch validation off pass val_percent_check=0.")
        )
        raise OptionsError(f"{flag.name}={value!r}: a float is a fraction of an epoch, so it must lie in (0.0, 1.0]. {way_out}")


def _check_early_stopping(_: object, flag: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, (bool, EarlyStopping)):
        raise OptionsError(
            f"{flag.name}={value!r}: None or False (off), True, or EarlyStopping(monitor=..., patience=...) is needed."
        )


def _check_clipping(_: object, flag: Attribute[Any], value: object) -> None:
    if value is not None and (not is_real(value) or not value >= 0):
        raise OptionsError(
            f"{flag.name}={value!r}: the largest norm of the gradients, so it must be a number >= 0. 0 or None clips nothing."
        )


def _check_bptt(_: object, flag: Attribute[Any], value: object) -> None:
    if value is not None and (not is_integer(value) or value < 1):
        raise OptionsError(
            f"{flag.name}={value!r}: a number of time steps, so it must be an int >= 1. None trains on whole sequences."
        )


def _check_seed(_: object, flag: Attribute[Any], value: object) -> None:
    if value is not None and (not is_integer(value) or not 0 <= value < 2**32):
        raise OptionsError(f"{flag.name}={value!r}: an int in [0, 2**32) seeds the run. None leaves the random states alone.")


def _check_switch(_: object, flag: Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise OptionsError(f"{flag.name}={value!r}: True or False is needed.")


def _path(value: object) -> Any:
    """A path as it is written."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_folder(_: object, flag: Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value.strip() or not value.isprintable()):
        raise OptionsError(
            f"{flag.name}={value!r}: the folder in which runs are recorded, as in {flag.name}='runs'. None records nothing."
        )


def _check_name(_: object, flag: Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise OptionsError(f"{flag.name}={value!r}: a run's name, as in {flag.name}='baseline'. None gives it a number.")
    if value in (".", "..") or any(character in value for character in '/\\:*?"<>|') or value != value.strip(" ."):
        raise OptionsError(
            f'{flag.name}={value!r}: the name of one folder inside of runs_dir, so it must have none of / \\ : * ? " < > | in '
            f"it, and neither begin nor end with a dot or a space. Another place is named with runs_dir=..."
        )
    if len(value.encode()) > LONGEST_NAME:
        raise OptionsError(f"{flag.name}={value!r}: a run's name has {LONGEST_NAME} bytes at most.")


def _check_logger(_: object, flag: Attribute[Any], value: object) -> None:
    for logger in value if isinstance(value, tuple) else () if value is None else (value,):
        if isinstance(logger, type):
            raise OptionsError(f"{flag.name}={value!r}: a class. Pass an object of it: {logger.__name__}(...).")
        if not callable(getattr(logger, "log_metrics", None)):
            raise OptionsError(
                f"{flag.name}={value!r}: a logger is an object with a method log_metrics(metrics, step). None logs nowhere but "
                f"in the run's folder, which runs_dir=None switches off."
            )


def _loggers(value: object) -> Any:
    """A list of loggers as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _precision(value: object) -> Any:
    """16 and 32 as they are written."""
    return str(value) if is_integer(value) else value


def _check_precision(_: object, flag: Attribute[Any], value: object) -> None:
    if value not in ("32", "bf16", "16"):
        raise OptionsError(f"{flag.name}={value!r}: '32', 'bf16' and '16' are the precisions.")


def _check_nonfinite(_: object, flag: Attribute[Any], value: object) -> None:
    if value not in (None, "raise", "skip", "rollback"):
        raise OptionsError(
            f"{flag.name}={value!r}: what is done about losses and gradients that are not finite is 'raise', 'skip' or "
            f"'rollback'. None looks at none of them."
        )


def _check_backend(_: object, flag: Attribute[Any], value: object) -> None:
    if value not in (None, "dp"):
        raise OptionsError(
            f"{flag.name}={value!r}: a run uses one device for now. Leave {flag.name} at None; 'dp' is accepted and means the "
            f"same on one device."
        )


def _check_device(_: object, flag: Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise OptionsError(f"{flag.name}={value!r}: the name of a device is needed: 'auto', 'cpu', 'cuda', 'cuda:1', ...")


class FrozenDict(dict[Any, Any]):
    """A dict that stays as it is, so that options can be shared and hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("options are frozen: make new ones with the changed value")

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse


def _frozen_copy(value: object) -> Any:
    """A mapping of the caller's, copied, so that changing it later changes no options."""
    if not isinstance(value, Mapping):
        return value
    in_order = sorted(value.items(), key=lambda item: (not is_integer(item[0]), item[0] if is_integer(item[0]) else 0))
    return FrozenDict(in_order)


def refuses_unknown_flags(cls: C) -> C:
    """Make an attrs class's ``__init__`` answer a flag that it does not have with the name that it may have meant."""
    plain: Callable[..., None] = vars(cls)["__init__"]
    known = {f.alias for f in fields(cls) if f.init}

    @functools.wraps(plain)
    def __init__(self: object, *args: Any, **flags: Any) -> None:
        for name in flags:
            if name not in known:
                raise OptionsError(_no_such_flag(name, flags[name], known))
        plain(self, *args, **flags)

    setattr(cls, "__init__", __init__)  # noqa: B010 - assigning to it by name is what a type checker refuses
    return cls


def _no_such_flag(name: str, value: object, known: set[str]) -> str:
    if name == "max_steps":
        return (
            f"{name}={value!r}: there is no such flag. To stop after {value} steps pass a guard and allow a stop in "
            f"the first epoch: Guards(stop=after_steps({value})), min_nb_epochs=0."
        )
    if name in OTHER_NAMES:
        return f"{name}={value!r}: there is no such flag. Its name here is {OTHER_NAMES[name]}."
    alike = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.65)
    if alike:
        return f"{name}={value!r}: there is no such flag. Was {alike[0]} meant?"
    return f"{name}={value!r}: there is no such flag. The flags are {', '.join(sorted(known))}."


@refuses_unknown_flags
@frozen(kw_only=True)
class Options:
    """The documented flags of a training loop, each checked by itself, and against the others where no data is needed.

    Args:
        accumulate_grad_batches: Backwards in a window, K >= 1: one step for K batches. A dict ``{epoch: K}`` gives K
            from that epoch on, epochs counted from 0; K is 1 before its first key.
        truncated_bptt_steps: Time steps (dim 1) in a split of the batch, each with a backward of its own. None: no splits.
        min_nb_epochs: Epochs that are trained even where early stopping would end the run.
        max_nb_epochs: Epochs after which the run ends. 0 runs the sanity pass alone.
        early_stop_callback: None or False (off), True (``EarlyStopping()``), or an `EarlyStopping`.
        gradient_clip_val: Largest 2-norm of one optimizer's gradients at its step. 0 or None: off.
        train_percent_check: Fraction of the train batches that an epoch uses, in (0.0, 1.0].
        val_percent_check: Fraction of each val loader's batches that a check uses, in [0.0, 1.0]. 0 switches validation off.
        test_percent_check: The same for each test loader.
        overfit_pct: Where > 0, replaces the three percentages.
        check_val_every_n_epoch: Epochs from one epoch with checks to the next: epochs n-1, 2n-1, ... have them.
        val_check_interval: Train batches from one check to the next within an epoch: an int counts batches, a float in
            (0.0, 1.0] is the fraction of an epoch.
        nb_sanity_val_steps: Batches of each val loader that run before the first epoch. 0 or less: none.
        device: Where the run happens: ``"auto"`` (the first GPU where there is one, else the CPU) or a device's name.
        precision: ``"32"``, ``"bf16"`` or ``"16"``: the two latter run the model's steps under autocast, the last one with a
            gradient scaler, which may skip a step. 16 and 32 may be ints.
        on_nonfinite: What is done about a loss or a gradient that is inf or NaN: ``"raise"`` an error that names the batch;
            ``"skip"`` drops the window, which is counted in ``steps_skipped``; ``"rollback"`` goes back to the last checkpoint
            and leaves the batch out. None looks at none of them.
        max_nb_rollbacks: How often ``on_nonfinite="rollback"`` goes back before it gives up.
        distributed_backend: None, or ``"dp"``, which on one device is the same.
        seed: Seeds Python's, NumPy's and torch's generators when the run begins. None leaves them alone.
        progress_bar: Whether the run shows its progress: a bar on a terminal, a few plain lines elsewhere.
        quiet: Whether the run says nothing but warnings: no progress, no summary when it begins, no table when it has ended.
        runs_dir: The folder in which each run that trains is recorded, in a folder of its own. None records nothing.
        run_name: The name of the run's folder; one that is taken gets a number behind it. None numbers the runs: 0, 1, ...
        logger: An object with a method ``log_metrics(metrics, step)``, or several. It is called by a thread of its own.

    Raises:
        OptionsError: A value out of its range, two flags that exclude each other, or a flag that does not exist.

    Source: the documented training loop; semantics, "Defaults".
    """

    accumulate_grad_batches: int | Mapping[int, int] = field(default=1, converter=_frozen_copy, validator=_check_accumulation)
    truncated_bptt_steps: int | None = field(default=None, validator=_check_bptt)
    min_nb_epochs: int = field(default=1, validator=_integer(0, 1, "epochs"))
    max_nb_epochs: int = field(default=1000, validator=_integer(0, 20, "epochs"))
    early_stop_callback: EarlyStopping | bool | None = field(default=None, validator=_check_early_stopping)
    gradient_clip_val: float | None = field(default=0, validator=_check_clipping)
    train_percent_check: float = field(default=1.0, validator=_percentage("("))
    val_percent_check: float = field(default=1.0, validator=_percentage("["))
    test_percent_check: float = field(default=1.0, validator=_percentage("["))
    overfit_pct: float = field(default=0.0, validator=_percentage("["))
    check_val_every_n_epoch: int = field(default=1, validator=_integer(1, 2, "epochs"))
    val_check_interval: float = field(default=0.95, validator=_check_interval)
    nb_sanity_val_steps: int = field(default=5, validator=_integer(None, 5, "batches"))
    device: str = field(default="auto", validator=_check_device)
    precision: Literal["32", "bf16", "16"] = field(default="32", converter=_precision, validator=_check_precision)
    on_nonfinite: Literal["raise", "skip", "rollback"] | None = field(default=None, validator=_check_nonfinite)
    max_nb_rollbacks: int = field(default=3, validator=_integer(1, 3, "rollbacks"))
    distributed_backend: str | None = field(default=None, validator=_check_backend)
    seed: int | None = field(default=None, validator=_check_seed)
    progress_bar: bool = field(default=True, validator=_check_switch)
    quiet: bool = field(default=False, validator=_check_switch)
    runs_dir: str | os.PathLike[str] | None = field(default="runs", converter=_path, validator=_check_folder)
    run_name: str | None = field(default=None, validator=_check_name)
    logger: Any = field(default=None, converter=_loggers, validator=_check_logger)

    def __attrs_post_init__(self) -> None:
        if self.min_nb_epochs > self.max_nb_epochs > 0:
            raise OptionsError(
                f"min_nb_epochs={self.min_nb_epochs}, max_nb_epochs={self.max_nb_epochs}: the least number of epochs is "
                f"larger than the greatest. Lower min_nb_epochs or raise max_nb_epochs."
            )

    def plain(self) -> Options:
        """These flags as `Options`, without what a subclass adds."""
        return Options(**{f.name: getattr(self, f.name) for f in fields(Options)})

    @property
    def loggers(self) -> tuple[Any, ...]:
        """The loggers, however many there are."""
        if self.logger is None:
            return ()
        return self.logger if isinstance(self.logger, tuple) else (self.logger,)

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """The early stopping that is asked for, with ``True`` and ``False`` resolved; None where it is off."""
        if isinstance(self.early_stop_callback, EarlyStopping):
            return self.early_stop_callback
        return EarlyStopping() if self.early_stop_callback else None
