"""`Sizes`: the batches of each loader, the optimizers, splits and learning-rate schedules of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from attrs import field, frozen

from fsmtrain.errors import SizesError
from fsmtrain.predicates import is_integer
from fsmtrain.unknown_arguments import explain_unknown_arguments


def _loaders(value: int | Iterable[int | None] | None) -> object:
    """Make a tuple of one loader's size or of several."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(value)
    return (value,)


@frozen(kw_only=True)
class Schedule:
    """When a learning-rate scheduler acts.

    Args:
        optimizer_i: The index of its optimizer, from 0.
        interval: ``"epoch"``: after each finished epoch; ``"step"``: after each step of its optimizer.
        frequency: How many of these from one step of the scheduler to the next.
        needs_validation: Whether it acts only if the epoch had a validation (a plateau scheduler).
        length: Its steps up to its end (a warm-up's); None if it has no end.
        raises_after_end: Whether one more step raises an error.
    """

    optimizer_i: int = 0
    interval: Literal["epoch", "step", "validation"] = "epoch"
    frequency: int = 1
    needs_validation: bool = False
    length: int | None = None
    raises_after_end: bool = False

    def is_due(self, done: int) -> bool:
        """Return whether it acts once this many epochs, or steps of its optimizer, are done.

        >>> [done for done in range(1, 8) if Schedule(frequency=3).is_due(done)]
        [3, 6]
        """
        return done % self.frequency == 0

    def steps(
        self, optimizer_steps: Sequence[int], epochs_done: int, epochs_with_validations: Iterable[range], validations: int
    ) -> int:
        """Return how often it acts in a run.

        Args:
            optimizer_steps: The steps of each optimizer.
            epochs_done: The complete epochs.
            epochs_with_validations: The indices of those that had a validation.
            validations: The validations.
        """
        if self.interval == "validation":
            return validations // self.frequency
        if self.needs_validation:
            return sum(map(self._nb_due, epochs_with_validations))
        return (optimizer_steps[self.optimizer_i] if self.interval == "step" else epochs_done) // self.frequency

    def _nb_due(self, epochs: range) -> int:
        """Return at how many of these epochs it is due. That repeats itself, so only the first ones are looked at."""
        period = self.frequency // math.gcd(self.frequency, epochs.step)
        first = next((i for i, epoch in enumerate(epochs[:period]) if self.is_due(epoch + 1)), None)
        return 0 if first is None else len(epochs[first::period])


def _schedules(value: Iterable[Schedule]) -> tuple[Schedule, ...]:
    return tuple(value)


@explain_unknown_arguments()
@frozen(kw_only=True)
class Sizes:
    """The batches of each loader, the optimizers, the splits of a batch.

    Args:
        train: Batches of the train loader; None for a stream, whose length is unknown until it ends.
        val: Batches of each val loader, None for a stream. A bare number is one loader. Empty: nothing to validate.
        test: The same for the test loaders. Empty: the run ends without a test.
        optimizers: Optimizers that take turns at each batch.
        splits: Splits of each batch under ``truncated_bptt_steps``, for plans. A machine counts those of each batch instead.
        manual_optimization: Whether ``training_step`` runs backwards and steps by itself.
        may_return_none: Whether ``training_step`` may return None, so that a forward has no backward.
        schedulers: When each learning-rate scheduler acts; only plan and check use it.
        fits: Whether the run trains. A run that only tests has no train loader.

    Raises:
        SizesError: A size is not an int in its range, or there are schedules that manual optimization does not have.
    """

    train: int | None = 0
    val: tuple[int | None, ...] = field(default=(), converter=_loaders)
    test: tuple[int | None, ...] = field(default=(), converter=_loaders)
    optimizers: int = 1
    splits: int = 1
    manual_optimization: bool = False
    may_return_none: bool = False
    schedulers: tuple[Schedule, ...] = field(default=(), converter=_schedules)
    fits: bool = True

    def __attrs_post_init__(self) -> None:
        for name, sizes in (("train", (self.train,)), ("val", self.val), ("test", self.test)):
            for size in sizes:
                if size is not None and (not is_integer(size) or size < 0):
                    raise SizesError(f"Sizes({name}={size!r}): must be a number of batches, an int >= 0, or None for a stream.")
        for name, count in (("optimizers", self.optimizers), ("splits", self.splits)):
            if not is_integer(count) or count < 1:
                raise SizesError(f"Sizes({name}={count!r}): must be an int >= 1.")
        if self.manual_optimization and self.schedulers:
            raise SizesError(
                "Sizes(schedulers=..., manual_optimization=True): training_step steps the schedulers itself, so there is no "
                "schedule to plan. Leave them out."
            )
