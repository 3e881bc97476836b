"""Early stopping: the rule `EarlyStopping`, and the `Patience` of one run. Metrics are floats here."""

from __future__ import annotations

import math
from typing import Literal

from attrs import Factory, define, field, frozen

from fsmtrain.errors import OptionsError
from fsmtrain.predicates import is_finite, is_integer
from fsmtrain.unknown_arguments import explain_unknown_arguments

_OF_VALIDATION = "val_loss"  # the name of a bare number that validation_step returns, and the default of all monitors


def is_of_validation(metric: str) -> bool:
    """Return whether a metric is one of the validation by its name. Others may be of training.

    >>> [is_of_validation(metric) for metric in ("val_loss", "val_loss/1", "accuracy")]
    [True, True, False]
    """
    return metric.partition("/")[0] == _OF_VALIDATION


@explain_unknown_arguments()
@frozen
class EarlyStopping:
    """Stop the run if a metric has not improved for a number of validations, or of epochs.

    Args:
        monitor: Name of the metric, which the validation returned (also under ``"log"`` or ``"progress_bar"``) or logged: each
            validation counts. Or of one that training returned or logged, its ``"loss"``, say: each epoch counts, by the mean.
        min_delta: A value is an improvement if it is better than the best so far by more than this, in the metric's unit.
        patience: Number of validations (or epochs) in a row without an improvement after which to stop, counted from the first
            one. 0 means the same as 1.
        verbose: Print a line when the patience is exhausted.
        mode: ``"min"`` if smaller values are better, ``"max"`` if larger ones are.

    It holds no state of a run, so two runs may share one. NaN is never an improvement.

    Raises:
        OptionsError: A value has the wrong type or is out of its range.

    Source: semantics, "Stopping".
    """

    monitor: str = "val_loss"
    min_delta: float = field(default=0.0, kw_only=True)
    patience: int = field(default=3, kw_only=True)
    verbose: bool = field(default=False, kw_only=True)
    mode: Literal["min", "max"] = field(default="min", kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise OptionsError(f"EarlyStopping(monitor={self.monitor!r}): must be a metric's name, as in monitor='val_loss'.")
        if not is_finite(self.min_delta):
            raise OptionsError(f"EarlyStopping(min_delta={self.min_delta!r}): must be a finite number, as in min_delta=0.01.")
        if not is_integer(self.patience) or self.patience < 0:
            raise OptionsError(
                f"EarlyStopping(patience={self.patience!r}): a number of validations, so it must be an int >= 0."
            )
        if self.mode not in ("min", "max"):
            raise OptionsError(
                f"EarlyStopping(mode={self.mode!r}): must be 'min' (smaller is better) or 'max' (larger is better)."
            )

    def improved(self, current: float, best: float) -> bool:
        """Return whether `current` is better than `best` by more than `min_delta`.

        >>> EarlyStopping(min_delta=0.1).improved(0.95, best=1.0)
        False
        >>> EarlyStopping(mode="max").improved(0.95, best=0.9)
        True
        """
        if self.mode == "min":
            return current + self.min_delta < best
        return current - self.min_delta > best


@define
class Patience:
    """The state of a run's early stopping: the best value so far, and the number of values since."""

    rule: EarlyStopping
    best: float = Factory(lambda self: math.inf if self.rule.mode == "min" else -math.inf, takes_self=True)
    wait: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether there have been `patience` values since the best one. An improvement resets it."""
        return self.wait >= max(1, self.rule.patience)

    def feed(self, current: float) -> bool:
        """Add the value of a validation or an epoch; returns `exhausted`.

        >>> patience = Patience(EarlyStopping(patience=2))
        >>> [patience.feed(value) for value in (3.0, 2.0, 2.5, 2.0, 1.0)]
        [False, False, False, True, False]
        """
        if self.rule.improved(current, self.best):
            self.best, self.wait = current, 0
        else:
            self.wait += 1
        return self.exhausted
