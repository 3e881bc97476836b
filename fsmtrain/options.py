"""`Options`: every documented flag, its default, its validator, and its metadata.

`core.limits` derives from them what they mean for a run of a given size; nothing here knows the data.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self, TypeVar

from attrs import AttrsInstance, field, fields, frozen

from fsmtrain.copies import require_picklable
from fsmtrain.dummy_logger import DummyLogger
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import OptionsError
from fsmtrain.flags import validate_flag_values as valid
from fsmtrain.flags.durations import duration_as_text, seconds_of, validate_max_time
from fsmtrain.flags.metadata import EVALUATIONS, HelpGroup, OnResume, flag
from fsmtrain.flags.precision_values import PRECISIONS, Precision
from fsmtrain.flags.unknown_flags import explain_unknown_flags, flag_hints

_TRAINING = flag(HelpGroup.TRAINING, OnResume.REFUSE)
_VALIDATION = flag(HelpGroup.VALIDATION, OnResume.REFUSE)
_STOPPING = flag(HelpGroup.STOPPING, OnResume.WARN)
_DATA = flag(HelpGroup.DATA, OnResume.REFUSE)
_NONFINITE = flag(HelpGroup.TRAINING, OnResume.WARN)
_DEVICE = flag(HelpGroup.RUNNING, OnResume.WARN, acts_in=EVALUATIONS)
_NUMERICS = flag(HelpGroup.RUNNING, OnResume.REFUSE, acts_in=EVALUATIONS)
_DISPLAY = flag(HelpGroup.RUNNING, OnResume.DISPLAY_ONLY, acts_in=EVALUATIONS)
_RECORDING = flag(HelpGroup.RUNNING, OnResume.IGNORE)


_BATCH_LIMITS = ("limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches")
# What `fast_dev_run` puts in the place of other flags.
_TRIAL = {
    "min_nb_epochs": 1, "max_nb_epochs": 1, "min_steps": None, "max_steps": None, "max_time": None,
    "train_percent_check": 1.0, "val_percent_check": 1.0, "test_percent_check": 1.0, "overfit_pct": 0.0,
    "check_val_every_n_epoch": 1, "val_check_interval": 1.0, "nb_sanity_val_steps": 0, "early_stop_callback": None,
    "runs_dir": None,
}  # fmt: skip


C = TypeVar("C", bound="type[AttrsInstance]")


def without_epoch_limit_beside_max_steps(cls: C) -> C:
    """Decorate a class of flags: where ``max_steps`` is passed and ``max_nb_epochs`` is not, it is None."""
    plain: Callable[..., None] = vars(cls)["__init__"]

    @functools.wraps(plain)
    def __init__(self: object, **flags: Any) -> None:
        if flags.get("max_steps") is not None:
            flags.setdefault("max_nb_epochs", None)
        plain(self, **flags)

    setattr(cls, "__init__", __init__)  # noqa: B010 - a type checker refuses an assignment by name
    return cls


@explain_unknown_flags
@without_epoch_limit_beside_max_steps
@frozen(kw_only=True)
class Options:
    """The documented flags of a training loop.

    Args:
        accumulate_grad_batches: Batches for each optimizer step, K >= 1. A dict ``{first_epoch: K}`` changes K from that epoch
            (counted from 0) on; K is 1 before the first key.
        truncated_bptt_steps: Split each batch along dim 1 into parts of this many time steps, and run forward and backward on
            each (truncated backpropagation through time). None: no splits.
        min_nb_epochs: Epochs to train before early stopping or a stop guard may end the run.
        max_nb_epochs: Epochs after which the run ends. 0: run only the sanity pass. None: another limit ends it. The default is
            1000, or None if ``max_steps`` is given.
        min_steps: Steps (``global_step``) before early stopping or a stop guard may end the run. None: no minimum.
        max_steps: End the run at the first end of a batch at which ``global_step`` has reached this number and no window is
            open, whatever the minima. None: no limit.
        max_time: End the run at the end of the batch in which this time has passed, as with ``max_steps``; the time of a
            resumed run counts from its first part on. ``"8:00:00"`` is eight hours, ``"2:00:00:00"`` two days; or a
            ``datetime.timedelta``, or its arguments as in ``{"hours": 8}``. None: no limit.
        fast_dev_run: Try out all parts of a run: this many batches of each loader, one epoch, no logger, no record and no
            checkpoints. True is 1. False or 0: off.
        early_stop_callback: Stop if a validation metric no longer improves. None or False: off. True: ``EarlyStopping()``.
        gradient_clip_val: Clip the gradients of each optimizer to this 2-norm before its step. 0 or None: no clipping.
        gradient_clip_algorithm: What ``gradient_clip_val`` limits. ``"norm"``: the 2-norm of all gradients of the optimizer
            together. ``"value"``: the absolute value of each element.
        limit_train_batches: Use at most this many batches of the train loader in each epoch, >= 1. None: all. A number that is
            given excludes ``train_percent_check``; likewise for the next two.
        limit_val_batches: Use at most this many batches of each val loader. 0: no validation. None: all.
        limit_test_batches: Use at most this many batches of each test loader. 0: no test. None: all.
        limit_predict_batches: Use at most this many batches of each loader to predict on, >= 1. None: all.
        train_percent_check: Fraction of the train batches to use in each epoch, in (0.0, 1.0].
        val_percent_check: Fraction of the batches of each val loader to use, in [0.0, 1.0]. 0: no validation.
        test_percent_check: Fraction of the batches of each test loader to use, in [0.0, 1.0]. 0: no test.
        overfit_pct: Fraction in [0.0, 1.0] that replaces ``train_percent_check``, ``val_percent_check`` and
            ``test_percent_check``, to overfit on a small part of the data. 0: off.
        check_val_every_n_epoch: Validate only in every n-th epoch: with n = 2 in the second, the fourth, ...
        val_check_interval: Train batches between two validations of an epoch: an int is a number of batches, a float in
            (0.0, 1.0] a fraction of the epoch.
        nb_sanity_val_steps: Batches of each val loader to run before the first epoch, to find mistakes early. 0 or less: none.
        device: Where to run: ``"auto"`` (the first GPU if there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        precision: ``"32"``: full precision. ``"bf16"``: autocast to bfloat16. ``"16"``: autocast to float16 with a gradient
            scaler, which may skip steps.
        on_nonfinite: What to do if a loss or gradient is inf or NaN. ``"raise"``: raise an error that names the batch.
            ``"skip"``: discard the accumulation window (counted in ``steps_skipped``). ``"rollback"``: reload the last
            checkpoint and exclude the batch. None: ignore it.
        max_nb_rollbacks: Most rollbacks of a run with ``on_nonfinite="rollback"``; after them, the next inf or NaN is an error.
        distributed_backend: None or ``"dp"``. Accepted for compatibility: both train on one device.
        seed: Seed of the random generators of Python, NumPy and torch, set when the run begins. None: do not seed.
            In Python the model exists by then: seed torch before you build the model, ``torch.manual_seed(7)``.
        progress_bar: Show progress: a bar on a terminal, elsewhere a line for each epoch and validation.
        quiet: If true, print only warnings: no progress bar, no start summary, no final table.
        runs_dir: Folder of all recorded runs; each run that trains gets a folder of its own in it. None: record nothing.
        run_name: Name of this run's folder; if it exists already, a number is appended. None: the next free number, from 0.
        logger: An object with a method ``log_metrics(metrics, step)``, or a list of them; called from its own thread.

    Raises:
        OptionsError: A value is out of its range, two flags exclude each other, or there is no such flag.

    Source: the documented training loop; semantics, "Defaults".
    """

    accumulate_grad_batches: int | Mapping[int, int] = field(
        default=1, converter=valid.frozen_copy, validator=valid.accumulation, metadata=_TRAINING
    )
    truncated_bptt_steps: int | None = field(default=None, validator=valid.time_steps, metadata=_TRAINING)
    min_nb_epochs: int = field(default=1, validator=valid.integer(0, 1, "epochs"), metadata=_STOPPING)
    max_nb_epochs: int | None = field(default=1000, validator=valid.integer(0, 20, "epochs", or_none=True), metadata=_STOPPING)
    min_steps: int | None = field(default=None, validator=valid.integer(1, 1000, "steps", or_none=True), metadata=_STOPPING)
    max_steps: int | None = field(default=None, validator=valid.integer(1, 10_000, "steps", or_none=True), metadata=_STOPPING)
    max_time: str | None = field(default=None, converter=duration_as_text, validator=validate_max_time, metadata=_STOPPING)
    early_stop_callback: EarlyStopping | bool | None = field(default=None, validator=valid.early_stopping, metadata=_STOPPING)
    gradient_clip_val: float | None = field(default=0, validator=valid.clipping, metadata=_TRAINING)
    gradient_clip_algorithm: Literal["norm", "value"] = field(
        default="norm", validator=valid.clip_algorithm, metadata=_TRAINING
    )
    train_percent_check: float = field(default=1.0, validator=valid.percentage("("), metadata=_DATA)
    val_percent_check: float = field(default=1.0, validator=valid.percentage("["), metadata=_DATA)
    test_percent_check: float = field(
        default=1.0, validator=valid.percentage("["), metadata=flag(HelpGroup.DATA, OnResume.WARN, acts_in=("test",))
    )
    overfit_pct: float = field(
        default=0.0, validator=valid.percentage("["), metadata=flag(HelpGroup.DATA, OnResume.REFUSE, acts_in=("test",))
    )
    limit_train_batches: int | None = field(default=None, validator=valid.batch_limit("train_percent_check", 1), metadata=_DATA)
    limit_val_batches: int | None = field(default=None, validator=valid.batch_limit("val_percent_check", 0), metadata=_DATA)
    limit_test_batches: int | None = field(
        default=None,
        validator=valid.batch_limit("test_percent_check", 0),
        metadata=flag(HelpGroup.DATA, OnResume.WARN, acts_in=("test",)),
    )
    limit_predict_batches: int | None = field(
        default=None,
        validator=valid.integer(1, 10, "batches", or_none=True),
        metadata=flag(HelpGroup.DATA, OnResume.IGNORE, acts_in=("predict",)),
    )
    fast_dev_run: int = field(
        default=0, converter=valid.switch_as_integer, validator=valid.integer(0, 1, "batches"), metadata=_RECORDING
    )
    check_val_every_n_epoch: int = field(default=1, validator=valid.integer(1, 2, "epochs"), metadata=_VALIDATION)
    val_check_interval: float = field(default=0.95, validator=valid.validation_interval, metadata=_VALIDATION)
    nb_sanity_val_steps: int = field(
        default=5, validator=valid.integer(None, 5, "batches"), metadata=flag(HelpGroup.VALIDATION, OnResume.WARN)
    )
    device: str = field(default="auto", validator=valid.device, metadata=_DEVICE)
    precision: Literal["32", "bf16", "16"] = field(
        default="32", converter=valid.integer_as_text, validator=valid.precision, metadata=_NUMERICS
    )
    on_nonfinite: Literal["raise", "skip", "rollback"] | None = field(
        default=None, validator=valid.on_nonfinite, metadata=_NONFINITE
    )
    max_nb_rollbacks: int = field(default=3, validator=valid.integer(1, 3, "rollbacks"), metadata=_NONFINITE)
    distributed_backend: str | None = field(default=None, validator=valid.backend, metadata=_DEVICE)
    seed: int | None = field(default=None, validator=valid.seed, metadata=_NUMERICS)
    progress_bar: bool = field(default=True, validator=valid.switch, metadata=_DISPLAY)
    quiet: bool = field(default=False, validator=valid.switch, metadata=_DISPLAY)
    runs_dir: str | os.PathLike[str] | None = field(
        default="runs",
        converter=valid.path_as_text,
        validator=valid.folder,
        metadata=flag(HelpGroup.RUNNING, OnResume.IGNORE, acts_in=EVALUATIONS),  # --weights best looks there
    )
    run_name: str | None = field(default=None, validator=valid.run_name, metadata=_RECORDING)
    logger: Any = field(default=None, converter=valid.loggers, validator=valid.logger, metadata=_RECORDING)

    def __attrs_post_init__(self) -> None:
        if self.min_steps is not None and self.max_steps is not None and self.min_steps > self.max_steps:
            raise OptionsError(
                f"min_steps={self.min_steps}, max_steps={self.max_steps}: the minimum is greater than the maximum. Lower "
                f"min_steps or raise max_steps."
            )
        if self.fast_dev_run:
            for name, value in {**_TRIAL, **dict.fromkeys(_BATCH_LIMITS, self.fast_dev_run)}.items():
                object.__setattr__(self, name, value)
            if self.logger is not None:
                object.__setattr__(self, "logger", DummyLogger())
        if self.max_nb_epochs is not None and self.min_nb_epochs > self.max_nb_epochs > 0:
            raise OptionsError(
                f"min_nb_epochs={self.min_nb_epochs}, max_nb_epochs={self.max_nb_epochs}: the minimum is greater than the "
                f"maximum. Lower min_nb_epochs or raise max_nb_epochs."
            )

    @property
    def max_seconds(self) -> float | None:
        """``max_time`` in seconds."""
        return None if self.max_time is None else seconds_of(self.max_time)

    def __copy__(self) -> Self:
        return self._with_state(self._flags())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy everything but the loggers: like a file, both objects write to the same one."""
        memo |= {id(logger): logger for logger in self.loggers}
        return self._with_state(copy.deepcopy(self._flags(), memo))

    def __getstate__(self) -> dict[str, Any]:
        for logger in self.loggers:
            require_picklable(logger, "logger", "Leave logger out, and pass it where the copy is used.")
        return self._flags()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def _flags(self) -> dict[str, Any]:
        """Return all fields that a caller passes, and the attributes that a subclass may have added."""
        return {f.name: getattr(self, f.name) for f in fields(type(self)) if f.init} | getattr(self, "__dict__", {})

    def _with_state(self, state: dict[str, Any]) -> Self:
        other = object.__new__(type(self))
        other.__setstate__(state)
        return other

    def plain(self) -> Options:
        """Return these flags as `Options`, without the fields of a subclass."""
        return Options(**{f.name: getattr(self, f.name) for f in fields(Options)})

    @property
    def loggers(self) -> tuple[Any, ...]:
        """The loggers as a tuple: `logger` may be one, several or None."""
        if self.logger is None:
            return ()
        return self.logger if isinstance(self.logger, tuple) else (self.logger,)

    @property
    def early_stopping(self) -> EarlyStopping | None:
        """The early stopping of this run, with True and False resolved; None if it is off."""
        if isinstance(self.early_stop_callback, EarlyStopping):
            return self.early_stop_callback
        return EarlyStopping() if self.early_stop_callback else None

    @property
    def mixed_precision(self) -> Precision:
        """What `precision` stands for: dtype of autocast, gradient scaler."""
        return PRECISIONS[self.precision]


FLAG_HINTS = flag_hints(f.name for f in fields(Options))
"""What to answer where a flag is passed to a call that takes none."""
