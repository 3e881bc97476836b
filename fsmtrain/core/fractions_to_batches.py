"""Turn percentages of the data, and a fractional ``val_check_interval``, into whole numbers of batches.

They are computed from the decimal number as written: ``0.29`` of 100 batches is 29, though binary floating point gives 28.
"""

from __future__ import annotations

import math
from fractions import Fraction

from fsmtrain.core.sizes import Sizes
from fsmtrain.errors import SizesError
from fsmtrain.options import Options
from fsmtrain.plurals import plural
from fsmtrain.predicates import is_integer


def fraction_of(batches: int, fraction: float) -> int:
    """Return the whole batches in a fraction of `batches`, computed from the decimal number as written.

    >>> fraction_of(100, 0.29), fraction_of(45, 0.1), fraction_of(10, 0.95)
    (29, 4, 9)
    """
    return math.floor(batches * Fraction(str(fraction)))


def _percentage(options: Options, flag: str) -> tuple[str, float]:
    """Return the flag that applies, and its value: ``overfit_pct`` replaces the three percentages."""
    if options.overfit_pct > 0:
        return "overfit_pct", options.overfit_pct
    return flag, getattr(options, flag)


def train_batches_of(options: Options, sizes: Sizes) -> int | None:
    """Return the train batches of an epoch; None for a stream."""
    flag, fraction = _percentage(options, "train_percent_check")
    return _at_most(options.limit_train_batches, _part(flag, fraction, "train", _not_empty(sizes.train)))


def _at_most(limit: int | None, batches: int | None) -> int | None:
    """Return the batches to use under ``limit_train_batches`` and the like; None for a stream."""
    return batches if limit is None or batches is None else min(limit, batches)


def _not_empty(train: int | None) -> int | None:
    if train == 0:
        raise SizesError("train_dataloader: it has no batches. Look at its dataset and at drop_last.")
    return train


def epoch_batches(options: Options, length: int, *, validates: bool) -> tuple[int, int]:
    """Return the train batches of an epoch of a loader of this length, and the batches from one validation to the next.

    An int ``val_check_interval`` that is larger than the epoch stays: the epoch has no validation.

    Raises:
        SizesError: The epoch has no batch, or the percentage of it rounds to none.
    """
    part = _part(*_percentage(options, "train_percent_check"), "train", _not_empty(length))
    train = _at_most(options.limit_train_batches, part)
    assert train is not None
    interval = options.val_check_interval
    if not validates:
        return train, 0
    return train, interval if is_integer(interval) else max(1, fraction_of(train, interval))


def is_switched_off(options: Options, own_flag: str) -> bool:
    """Return whether a flag of 0 leaves out all batches of the val or test loaders.

    >>> [is_switched_off(Options(limit_val_batches=n), "val_percent_check") for n in (None, 1, 0)]
    [False, False, True]
    """
    return _percentage(options, own_flag)[1] == 0 or _limit_of(options, own_flag) == 0


def _limit_of(options: Options, own_flag: str) -> int | None:
    """Return the ``limit_..._batches`` beside a percentage."""
    limit: int | None = getattr(options, f"limit_{own_flag.split('_')[0]}_batches")
    return limit


def eval_loader_batches(options: Options, own_flag: str, loaders: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return the batches to take from each val or test loader, of a stream at most so many; None for the whole of it."""
    if is_switched_off(options, own_flag):
        return (0,) * len(loaders)
    flag, fraction = _percentage(options, own_flag)
    limit = _limit_of(options, own_flag)
    parts = (_part(flag, fraction, own_flag.split("_")[0], n) for n in loaders)
    return tuple(limit if n is None else _at_most(limit, n) for n in parts)


def _part(flag: str, fraction: float, loop: str, batches: int | None) -> int | None:
    """Return the batches of one loader under a percentage > 0; an empty loader stays empty."""
    if batches is None:
        if flag == "overfit_pct" or fraction != 1:
            raise SizesError(
                f"{flag}={fraction}: the {loop} loader has no length, so a fraction of it is not known. "
                f"Leave {flag} at its default, or give the loader a length."
            )
        return None
    part = fraction_of(batches, fraction)
    if part == 0 < batches:
        raise SizesError(
            f"{flag}={fraction!r}: of the {plural(batches, 'batch')} of a {loop} loader this is less than one. "
            f"The smallest percentage that works is {flag}={_smallest_fraction(batches)}."
        )
    return part


def _smallest_fraction(batches: int) -> float:
    """Return a fraction with few decimals that gives one batch.

    >>> [_smallest_fraction(n) for n in (1, 2, 3, 7, 10, 45)]
    [1.0, 0.5, 0.34, 0.15, 0.1, 0.023]
    """
    scale: int = 10 ** (len(str(batches)) + 1)
    return math.ceil(scale / batches) / scale


def sanity_loader_batches(options: Options, sizes: Sizes) -> tuple[int | None, ...]:
    """Return the batches of each val loader before the first epoch, as far as it has them."""
    steps = max(0, options.nb_sanity_val_steps)
    if options.limit_val_batches is not None:
        steps = min(steps, options.limit_val_batches)
    return tuple(steps if n is None else min(n, steps) for n in sizes.val)


def batches_between_validations(options: Options, train: int | None) -> int:
    """Return the train batches from one validation to the next. `train` is None for a stream."""
    interval = options.val_check_interval
    if is_integer(interval):
        if train is not None and interval > train:
            raise SizesError(
                f"val_check_interval={interval}: an epoch has {plural(train, 'batch')}, so validation would never be due. "
                f"Pass an int <= {train}, or a fraction of the epoch such as val_check_interval=1.0. To count batches over the "
                f"epochs pass Guards(validate=guard), whose guard returns counters.batches_begun % {interval} == 0."
            )
        return interval
    if train is None:
        raise SizesError(
            f"val_check_interval={interval!r}: the train loader has no length, so there is no fraction of an epoch. "
            f"Pass a number of batches, as in val_check_interval=100. To switch validation off pass val_percent_check=0."
        )
    return max(1, fraction_of(train, interval))
