"""`Sizes`: all that the loop must know of the data and the model."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from fsmtrain.errors import SizesError
from fsmtrain.flags import is_integer


def _loaders(value: int | Iterable[int | None] | None) -> object:
    """One loader's size as well as a list of them; `()` where there is none."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(value)
    return (value,)


@frozen(kw_only=True)
class Sizes:
    """The batches of each loader, the optimizers, the splits of a batch.

    Args:
        train: Batches of the train loader; None for a stream, whose length is unknown until it ends.
        val: Batches of each val loader, None for a stream. A bare number is one loader. Empty: nothing to validate.
        test: The same for the test loaders. Empty: the run ends without a test.
        optimizers: Optimizers that take turns at each batch.
        splits: Splits of each batch under ``truncated_bptt_steps``. A machine counts each batch's own splits instead.
        fits: Whether the run trains. A run that only tests has no train loader.

    Raises:
        SizesError: A size that is not a whole number in its range.
    """

    train: int | None = 0
    val: tuple[int | None, ...] = field(default=(), converter=_loaders)
    test: tuple[int | None, ...] = field(default=(), converter=_loaders)
    optimizers: int = 1
    splits: int = 1
    fits: bool = True

    def __attrs_post_init__(self) -> None:
        for name, sizes in (("train", (self.train,)), ("val", self.val), ("test", self.test)):
            for size in sizes:
                if size is not None and (not is_integer(size) or size < 0):
                    raise SizesError(
                        f"Sizes({name}={size!r}): a loader's number of batches, an int >= 0, is needed, or None for a stream."
                    )
        for name, count in (("optimizers", self.optimizers), ("splits", self.splits)):
            if not is_integer(count) or count < 1:
                raise SizesError(f"Sizes({name}={count!r}): an int >= 1 is needed.")
