"""When to give up waiting for a better metric: the setting and its memory. No torch: metrics come in as floats."""

from __future__ import annotations

import math
from typing import Literal

from attrs import define, field, frozen

from fsmtrain.errors import OptionsError
from fsmtrain.predicates import is_integer, is_real


@frozen(kw_only=True)
class EarlyStopping:
    """Stop the run when a metric has not improved for a number of checks.

    Args:
        monitor: The metric's name, looked up among what the check returned (``"log"`` and ``"progress_bar"`` included).
        min_delta: How much better than the best value counts as better, in the metric's unit.
        patience: Checks without an improvement, in a row, that exhaust it. Every check counts, from the first one. 0 acts as 1.
        verbose: Whether to say so when the patience is exhausted.
        mode: ``"min"`` where smaller is better, ``"max"`` where larger is.

    A value without memory: two runs may share it. NaN is never an improvement.

    Raises:
        OptionsError: A field is of the wrong kind.

    Source: semantics, "Stopping".
    """

    monitor: str = "val_loss"
    min_delta: float = 0.0
    patience: int = 3
    verbose: bool = False
    mode: Literal["min", "max"] = "min"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise OptionsError(f"EarlyStopping(monitor={self.monitor!r}): a metric's name is needed, as in monitor='val_loss'.")
        if not is_real(self.min_delta) or not math.isfinite(self.min_delta):
            raise OptionsError(f"EarlyStopping(min_delta={self.min_delta!r}): a finite number is needed, as in min_delta=0.01.")
        if not is_integer(self.patience) or self.patience < 0:
            raise OptionsError(
                f"EarlyStopping(patience={self.patience!r}): a number of checks is needed, an int >= 0, as in patience=3."
            )
        if self.mode not in ("min", "max"):
            raise OptionsError(
                f"EarlyStopping(mode={self.mode!r}): 'min' (smaller is better) and 'max' (larger is better) are the modes."
            )

    def improved(self, current: float, best: float) -> bool:
        """Whether `current` is better than `best` by more than `min_delta`.

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
    """The memory of one run's early stopping: the best value so far and the checks since then."""

    rule: EarlyStopping
    best: float = field()
    wait: int = 0

    @best.default
    def _worst(self) -> float:
        return math.inf if self.rule.mode == "min" else -math.inf

    @property
    def exhausted(self) -> bool:
        """Whether the run has waited long enough. An improvement takes it back."""
        return self.wait >= max(1, self.rule.patience)

    def feed(self, current: float) -> bool:
        """Take one check's value; returns `exhausted`.

        >>> patience = Patience(EarlyStopping(patience=2))
        >>> [patience.feed(value) for value in (3.0, 2.0, 2.5, 2.0, 1.0)]
        [False, False, False, True, False]
        """
        if self.rule.improved(current, self.best):
            self.best, self.wait = current, 0
        else:
            self.wait += 1
        return self.exhausted
