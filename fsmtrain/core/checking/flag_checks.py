"""Findings from flags and sizes alone: an interval or a window that means something else than it seems to."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from attrs import fields

from fsmtrain.core.checking.findings import Finding, warning
from fsmtrain.core.limits import longest_k
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.options import Options
from fsmtrain.plurals import plural
from fsmtrain.predicates import is_integer

_DEFAULT_INTERVAL = fields(Options).val_check_interval.default


def flag_findings(loop: LoopSpec) -> Iterator[Finding]:
    """Yield the findings about ``val_check_interval`` and ``accumulate_grad_batches``."""
    if loop.limits.epochs > 0:
        yield from _interval_findings(loop)
        yield from _window_findings(loop)


def _interval_findings(loop: LoopSpec) -> Iterator[Finding]:
    interval, limits = loop.options.val_check_interval, loop.limits
    if loop.guards.validate is not None or not limits.validates:
        return
    about, train = f"val_check_interval={interval!r}", limits.train_batches
    if is_integer(interval):
        if interval == 1 and train != 1:
            times = f", {train:,} times an epoch" if train else ""
            yield warning(about, f"an int is a number of batches: there is a validation after every batch{times}. "
                                 f"For one at the end of each epoch pass a float: val_check_interval=1.0.")  # fmt: skip
    elif interval != _DEFAULT_INTERVAL:
        asked, planned = int(1 / Fraction(str(interval))), train // limits.val_check_batches
        if asked != planned:
            yield warning(
                about,
                f"of {plural(train, 'batch')} this is {limits.val_check_batches:,}, rounded down, so there "
                f"{'is' if planned == 1 else 'are'} {plural(planned, 'validation')} an epoch, not {asked:,}. For other "
                f"numbers pass an int, the batches from one validation to the next.",
            )


def _window_findings(loop: LoopSpec) -> Iterator[Finding]:
    limits, about = loop.limits, f"accumulate_grad_batches={loop.options.accumulate_grad_batches}"
    if all(i in loop.guards.step for i in range(limits.optimizers)):
        return
    late = [(first, length) for first, length in limits.windows if first >= limits.epochs]
    for first, length in late[:1]:
        yield warning(
            about,
            f"windows of {length:,} never begin: their first epoch is {first:,}, and the run has "
            f"{plural(limits.epochs, 'epoch')}, counted from 0. Lower the key, or train longer.",
        )
    longest = longest_k(loop.options)
    if 0 < limits.train_batches < longest and not limits.splits_batches:
        yield warning(
            about,
            f"an epoch has only {plural(limits.train_batches, 'batch')}, so a window of {longest:,} is never full: the epoch's "
            f"last batch closes it. Lower the flag to {limits.train_batches:,} or less.",
        )
