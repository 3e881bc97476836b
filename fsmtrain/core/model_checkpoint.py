"""When to save a checkpoint and which to keep: the setting, and the guard of the state `save` that follows from it."""

from __future__ import annotations

import os
from typing import Literal

from attrs import Attribute, field, frozen

from fsmtrain.core import guards as ask
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.guards import Guard
from fsmtrain.core.interval_guards import every_n_batches, every_n_epochs, every_n_steps
from fsmtrain.core.limits import Limits
from fsmtrain.errors import OptionsError
from fsmtrain.predicates import is_integer, is_real


def _count(instance: object, attribute: Attribute[int | None], value: object) -> None:
    if value is not None and (not is_integer(value) or value < 1):
        raise OptionsError(f"ModelCheckpoint({attribute.name}={value!r}): a whole number >= 1 is needed, or None.")


@frozen(kw_only=True)
class ModelCheckpoint:
    """Save checkpoints now and then, and keep some. Pass it among the callbacks.

    A save is made at the end of a batch, before a check that is due then: what the check finds is of the weights in that
    checkpoint. So with `monitor` there is a save before each check, and the check's metric ranks it. The newest checkpoint
    always stays, whatever its rank, so that a run can be resumed.

    Args:
        monitor: A metric that checks return. Saves before each check, and keeps those with the best values.
        mode: ``"min"`` where smaller is better, ``"max"`` where larger is.
        save_top_k: How many are kept: the best with `monitor`, else the newest. -1 keeps all.
        every_n_batches: Batches of an epoch from one save to the next; the count begins anew in each epoch.
        every_n_steps: Steps of the first optimizer from one save to the next.
        every_n_epochs: Epochs from one save to the next. It is made after the last batch.
        every_n_seconds: Wall time from one save to the next; it is made at the end of the batch that is under way then.
        dirpath: The folder. None is ``checkpoints`` in the run's own folder; where the run is not recorded, in the working
            directory.

    Without `monitor` and any interval it saves at the end of each epoch.

    A value without memory: two runs may share it.

    Raises:
        OptionsError: A field is of the wrong kind.
    """

    monitor: str | None = None
    mode: Literal["min", "max"] = "min"
    save_top_k: int = 1
    every_n_batches: int | None = field(default=None, validator=_count)
    every_n_steps: int | None = field(default=None, validator=_count)
    every_n_epochs: int | None = field(default=None, validator=_count)
    every_n_seconds: float | None = None
    dirpath: str | os.PathLike[str] | None = None

    def __attrs_post_init__(self) -> None:
        if self.monitor is not None and (not isinstance(self.monitor, str) or not self.monitor):
            raise OptionsError(f"ModelCheckpoint(monitor={self.monitor!r}): a metric's name is needed, or None.")
        if self.mode not in ("min", "max"):
            raise OptionsError(f"ModelCheckpoint(mode={self.mode!r}): 'min' and 'max' are the modes.")
        if not is_integer(self.save_top_k) or (self.save_top_k < 1 and self.save_top_k != -1):
            raise OptionsError(f"ModelCheckpoint(save_top_k={self.save_top_k!r}): an int >= 1 is needed, or -1 for all.")
        if self.every_n_seconds is not None and (not is_real(self.every_n_seconds) or not self.every_n_seconds > 0):
            raise OptionsError(f"ModelCheckpoint(every_n_seconds={self.every_n_seconds!r}): a number > 0 is needed, or None.")

    @property
    def has_interval(self) -> bool:
        """Whether anything says how often to save."""
        intervals = (self.every_n_batches, self.every_n_steps, self.every_n_epochs, self.every_n_seconds)
        return any(interval is not None for interval in intervals)

    def guard(self, guards: Guards) -> Guard:
        """Whether to save now, as a guard; `guards` has the one that says when a check is due.

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
        before_check = (guards.validate or ask.validation_interval_is_over) if self.monitor is not None else ask.never
        by_batches = every_n_batches(self.every_n_batches) if self.every_n_batches is not None else ask.never
        by_steps = every_n_steps(self.every_n_steps) if self.every_n_steps is not None else ask.never
        epochs = 1 if self.monitor is None and not self.has_interval else self.every_n_epochs
        by_epochs = every_n_epochs(epochs) if epochs is not None else ask.never
        by_time = ask.time_to_save if self.every_n_seconds is not None else ask.never

        def checkpoint_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
            """Whether one of the intervals is over, or a check comes whose metric ranks the checkpoint."""
            return (
                (limits.validates and before_check(limits, counters, signals))
                or by_batches(limits, counters, signals)
                or by_steps(limits, counters, signals)
                or by_epochs(limits, counters, signals)
                or by_time(limits, counters, signals)
            )

        return checkpoint_is_due
