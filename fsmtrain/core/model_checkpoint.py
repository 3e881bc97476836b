"""`ModelCheckpoint`: when to save a checkpoint and which to keep, and its guard of the state `save`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Literal, NoReturn

from attrs import Attribute, field, frozen

from fsmtrain.copies import remember_call
from fsmtrain.core import transition_guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.interval_guards import every_n_batches, every_n_epochs, every_n_steps
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard
from fsmtrain.early_stopping import is_of_validation
from fsmtrain.errors import OptionsError, RenamedError
from fsmtrain.predicates import is_finite, is_integer
from fsmtrain.unknown_arguments import explain_unknown_arguments


def _count(instance: object, attribute: Attribute[int | None], value: object) -> None:
    if value is not None and (not is_integer(value) or value < 1):
        raise OptionsError(f"ModelCheckpoint({attribute.name}={value!r}): must be an int >= 1, or None.")


def _absolute(dirpath: str | os.PathLike[str] | None) -> str | None:
    try:
        return None if dirpath is None else os.path.abspath(os.fsdecode(dirpath))
    except TypeError:
        raise OptionsError(f"ModelCheckpoint(dirpath={dirpath!r}): must be the path of a folder, or None.") from None


FOLDER = "checkpoints"  # of a run with one rule, and of the first of several
MAX_NAME = 60  # characters of what a folder is named after


@explain_unknown_arguments()
@frozen(kw_only=True)
class ModelCheckpoint:
    """When to save a checkpoint, and which checkpoints to keep. Pass it in `callbacks`.

    Checkpoints are saved at the end of a batch, or of an epoch's last batch, and before a validation that is due there. So with
    `monitor` the metric of a validation ranks the checkpoint that has the weights it was computed with. The newest
    checkpoint is always kept, whatever its rank, so that the run can be resumed.

    Where a run ends by itself it is saved, too, if its last checkpoint is of an earlier batch. That one is never ranked, and is
    kept beside those that `save_top_k` counts until there is a newer one.

    Without `monitor` and without any interval, a checkpoint is saved at the end of each epoch.

    A run may have several, each with a folder of its own: the best by one metric, the best by another, every so many steps. A
    checkpoint that two of them ask for at once is written once, and linked. Each keeps the newest checkpoint of its folder.

    Args:
        monitor: Name of the metric that ranks the checkpoints. One of the validation ranks those before it; one of training,
            over an epoch, the last one of that epoch. Saves before each validation, or at the end of each epoch if the run has
            none. None: not ranked.
        mode: ``"min"`` if smaller values are better, ``"max"`` if larger ones are.
        save_top_k: Number of checkpoints to keep: the best ones with `monitor`, else the newest ones. -1: keep all.
        every_n_batches: Save after every n-th batch, counted anew in each epoch.
        every_n_steps: Save after every n-th step of the first optimizer, counted over the whole run.
        every_n_epochs: Save after the last batch of every n-th epoch.
        every_n_seconds: Save once this many seconds have passed since the last save, at the end of the current batch.
        dirpath: Folder of the checkpoints, made absolute at once: the program may change its working directory. None:
            ``checkpoints`` in the run's folder, or in the working directory if the run is not recorded; for all but the first
            of several, ``checkpoints-val_acc`` or ``checkpoints-every-500-steps`` there.

    It holds no state of a run, so two runs may share one.

    Raises:
        OptionsError: A value has the wrong type or is out of its range.
    """

    monitor: str | None = None
    mode: Literal["min", "max"] = "min"
    save_top_k: int = 1
    every_n_batches: int | None = field(default=None, validator=_count)
    every_n_steps: int | None = field(default=None, validator=_count)
    every_n_epochs: int | None = field(default=None, validator=_count)
    every_n_seconds: float | None = None
    dirpath: str | os.PathLike[str] | None = field(default=None, converter=_absolute)

    def __attrs_post_init__(self) -> None:
        if self.monitor is not None and (not isinstance(self.monitor, str) or not self.monitor):
            raise OptionsError(f"ModelCheckpoint(monitor={self.monitor!r}): must be the name of a metric, or None.")
        if self.mode not in ("min", "max"):
            raise OptionsError(f"ModelCheckpoint(mode={self.mode!r}): must be 'min' (smaller is better) or 'max' (larger).")
        if not is_integer(self.save_top_k) or (self.save_top_k < 1 and self.save_top_k != -1):
            raise OptionsError(f"ModelCheckpoint(save_top_k={self.save_top_k!r}): must be an int >= 1, or -1 to keep all.")
        if self.every_n_seconds is not None and (not is_finite(self.every_n_seconds) or self.every_n_seconds <= 0):
            raise OptionsError(
                f"ModelCheckpoint(every_n_seconds={self.every_n_seconds!r}): must be a finite number > 0, or None."
            )

    @property
    def has_interval(self) -> bool:
        """Whether any ``every_n_...`` is set."""
        intervals = (self.every_n_batches, self.every_n_steps, self.every_n_epochs, self.every_n_seconds)
        return any(interval is not None for interval in intervals)

    @property
    def best_model_path(self) -> NoReturn:
        """Raise the error that says where it is here."""
        raise RenamedError(
            "ModelCheckpoint.best_model_path: a ModelCheckpoint holds no state of a run. Its best checkpoint is "
            "trainer.machine.best_checkpoint, with path and score; the newest is trainer.machine.last_checkpoint."
        )

    best_model_score = last_model_path = best_model_path

    @property
    def name(self) -> str:
        """What it saves, as its folder is named if it is not the run's first.

        >>> ModelCheckpoint(monitor="val/acc").name, ModelCheckpoint(every_n_steps=500, every_n_seconds=60).name
        ('val_acc', 'every-500-steps-60-seconds')
        >>> ModelCheckpoint().name
        'every-epoch'
        """
        units = ("batches", "steps", "epochs", "seconds")
        intervals = [f"{n:g}-{unit}" for unit in units if (n := getattr(self, f"every_n_{unit}")) is not None]
        parts = [self.monitor] if self.monitor is not None else []
        parts += ["every", *intervals] if intervals else [] if parts else ["every-epoch"]
        return re.sub(r"[^\w.=+-]", "_", "-".join(parts))[:MAX_NAME]

    @remember_call
    def guard(self, guards: Guards) -> Guard:
        """Return the guard of the state `save`; `guards.validate` says when a validation is due.

        Example:
            >>> from fsmtrain.loop import Loop
            >>> from fsmtrain.core.sizes import Sizes
            >>> from fsmtrain.core.states import State
            >>> from fsmtrain.options import Options
            >>> def saves(checkpoint):
            ...     options = Options(max_nb_epochs=2, val_check_interval=3, accumulate_grad_batches=2)
            ...     loop = Loop(options, Sizes(train=5, val=[1]), guards=Guards(save=checkpoint.guard(Guards())))
            ...     return [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.SAVE]
            >>> saves(ModelCheckpoint())
            [(0, 4), (1, 4)]
            >>> saves(ModelCheckpoint(monitor="val_loss"))
            [(0, 2), (1, 2)]
            >>> saves(ModelCheckpoint(every_n_steps=2, every_n_epochs=2))
            [(0, 3), (1, 1), (1, 4)]
        """
        before_validation = (guards.validate or ask.validation_interval_is_over) if self.monitor is not None else ask.never
        by_batches = every_n_batches(self.every_n_batches) if self.every_n_batches is not None else ask.never
        by_steps = every_n_steps(self.every_n_steps) if self.every_n_steps is not None else ask.never
        epochs = 1 if self.monitor is None and not self.has_interval else self.every_n_epochs
        by_epochs = every_n_epochs(epochs) if epochs is not None else ask.never
        each_epoch = every_n_epochs(1) if self.monitor is not None and not is_of_validation(self.monitor) else ask.never
        by_time = ask.time_to_save if self.every_n_seconds is not None else ask.never

        def checkpoint_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
            """Return whether an interval is over, or a validation is due whose metric will rank the checkpoint."""
            return (
                (limits.validates and before_validation(limits, counters, signals))
                or (not limits.validates and each_epoch(limits, counters, signals))
                or by_batches(limits, counters, signals)
                or by_steps(limits, counters, signals)
                or by_epochs(limits, counters, signals)
                or by_time(limits, counters, signals)
            )

        return checkpoint_is_due


def save_guard(guards: Sequence[Guard]) -> Guard:
    """Return the guard of the state `save` in a run with several rules: one of them holds."""
    first, *others = guards
    return first if not others else either(first, save_guard(others))


@remember_call
def either(first: Guard, second: Guard) -> Guard:
    """Return a guard that holds where one of two does.

    >>> from fsmtrain.loop import Loop
    >>> from fsmtrain.core.sizes import Sizes
    >>> from fsmtrain.core.states import State
    >>> from fsmtrain.options import Options
    >>> save = either(every_n_batches(3), every_n_epochs(1))
    >>> loop = Loop(Options(max_nb_epochs=1), Sizes(train=7), guards=Guards(save=save))
    >>> [visit.batch_nb for visit in loop if visit.state is State.SAVE]
    [2, 5, 6]
    """

    def one_checkpoint_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether one of two rules asks for a checkpoint."""
        return first(limits, counters, signals) or second(limits, counters, signals)

    return one_checkpoint_is_due
