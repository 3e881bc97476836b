"""The schedule of a run as nested loops: the oracle that the laws compare the state machine with.

Written from the rules alone, as plainly as possible: one ``for`` for each loop of a training run, all decisions by ``%`` and by
looking ahead. It shares no code with the core: options and sizes are plain values, and it does its own arithmetic, in
fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsmtrain.core.sizes import Sizes
    from fsmtrain.options import Options


@dataclass(frozen=True, kw_only=True)
class Every:
    """A guard as plain data: it fires at every n-th batch of an epoch, from `first` on, at the batch's last split."""

    n: int
    first: int | None = None

    def fires(self, batch: int) -> bool:
        """Return whether it fires at this batch, counted from 0."""
        first = self.n - 1 if self.first is None else self.first
        return batch in range(first, batch + 1, self.n)


@dataclass(frozen=True, kw_only=True)
class Following:
    """A guard as plain data: it fires at its optimizer's next turn after every n-th step of another one."""

    other: int
    n: int


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """The decisions that guards of the user replace, as plain data. `stop` is a number of steps after which the run ends."""

    step: Mapping[int, Every | Following] = field(default_factory=dict)
    validate: Every | None = None
    save: Every | None = None
    stop: int | None = None
    save_at_end: bool = False


NOTHING = Replaced()


@dataclass(frozen=True, kw_only=True)
class Script:
    """What comes from outside the loop. Tuples start over when they are used up.

    `improved` answers each check, `train` is the length of a train stream in each epoch, `val` and `test` the true lengths of
    the loaders without one, `splits` the splits of each batch of the run. From visit `stop_at` on, counted from 0, the run is
    asked to stop. `skipped` says of each visit to `step` whether the optimizer did not step. `none` says of each forward
    whether it has no loss, in runs in which that may be; `made` how many steps it makes, with manual optimization.
    """

    improved: tuple[bool, ...] = (True,)
    stop_at: int | None = None
    train: tuple[int, ...] = (1,)
    val: tuple[int, ...] = (1, 1, 1)
    test: tuple[int, ...] = (1, 1, 1)
    splits: tuple[int, ...] = (1,)
    skipped: tuple[bool, ...] = (False,)
    none: tuple[bool, ...] = (False,)
    made: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Event:
    """One visit, with None for positions that have no meaning in its state.

    `scale` is what the loss is multiplied by in `backward`, and the gradients in `step`.
    """

    state: str
    epoch: int | None
    batch: int | None
    split: int | None
    optimizer: int | None
    global_step: int
    scale: Fraction = Fraction(1)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All visits of a run in order, and how it ended."""

    events: list[Event]
    epochs_done: int
    stopped: bool  # by a request


# ---- sizes


def share_of(batches: int, fraction: float) -> int:
    """Return the whole batches in a fraction, taken as the decimal number that is written."""
    return math.floor(batches * Fraction(str(fraction)))


def at_most(limit: int | None, batches: int) -> int:
    """Return the batches under a limit, if there is one."""
    return batches if limit is None else min(limit, batches)


def percentage(options: Options, own: float) -> float:
    """Return a loop's own percentage, or `overfit_pct` if it is set."""
    return options.overfit_pct if options.overfit_pct > 0 else own


def batches_used(
    options: Options, own: float, most: int | None, loaders: tuple[int | None, ...], true: tuple[int, ...]
) -> list[int]:
    """Return the batches of each loader in one pass."""
    share = percentage(options, own)
    if share == 0:
        return [0 for _ in loaders]
    used = [true[i] if loaders[i] is None else share_of(loaders[i] or 0, share) for i in range(len(loaders))]
    return [min(n, most) for n in used] if most is not None else used


def sanity_batches(options: Options, sizes: Sizes, true: tuple[int, ...]) -> int:
    """Return the batches of the sanity pass, all loaders together."""
    if percentage(options, options.val_percent_check) == 0 or not sizes.fits:
        return 0
    steps = max(0, options.nb_sanity_val_steps)
    if options.limit_val_batches is not None:
        steps = min(steps, options.limit_val_batches)
    whole = [true[i] if n is None else n for i, n in enumerate(sizes.val)]
    return sum(min(n, steps) for n in whole)


def has_validation(options: Options, sizes: Sizes, replaced: Replaced) -> bool:
    """Return whether an epoch may have a validation, by the flags or by a guard in their place."""
    first = options.check_val_every_n_epoch if replaced.validate is None else 1
    return sizes.fits and first <= max_epochs(options)


def is_refused(options: Options, sizes: Sizes, replaced: Replaced = NOTHING) -> bool:
    """Return whether options and sizes, each legal alone, do not fit each other."""

    def does_not_fit(own: float, loaders: tuple[int | None, ...]) -> bool:
        share = percentage(options, own)
        for n in loaders:
            if n is None and share != 0 and (share != 1 or options.overfit_pct > 0):
                return True
            if n is not None and n > 0 and share > 0 and share_of(n, share) == 0:
                return True
        return False

    something_to_validate = (
        any(n != 0 for n in sizes.val) and percentage(options, options.val_percent_check) > 0 and options.limit_val_batches != 0
    )
    if sizes.fits and max_epochs(options) > 0:
        if sizes.train == 0 or does_not_fit(options.train_percent_check, (sizes.train,)):
            return True
        if something_to_validate and has_validation(options, sizes, replaced) and replaced.validate is None:
            if isinstance(options.val_check_interval, float):
                if sizes.train is None:
                    return True
            elif sizes.train is not None:
                share = percentage(options, options.train_percent_check)
                if options.val_check_interval > at_most(options.limit_train_batches, share_of(sizes.train, share)):
                    return True
    sanity = sizes.fits and options.nb_sanity_val_steps > 0
    if (has_validation(options, sizes, replaced) or sanity) and does_not_fit(options.val_percent_check, sizes.val):
        return True
    return does_not_fit(options.test_percent_check, sizes.test)


# ---- the loops


def schedule(options: Options, sizes: Sizes, script: Script, replaced: Replaced) -> Schedule:
    """Return every visit of a run, in order."""
    events: list[Event] = []
    global_step = 0
    epochs_done = 0
    checks = 0
    batches = 0
    waited = 0
    tried = 0
    forwards = 0
    steps = [0] * sizes.optimizers
    to_follow: set[int] = set()  # optimizers whose turn to step comes with their next turn
    stop_waits = 0  # batches begun since a stop is due that waits for open windows

    def visit(
        state: str,
        epoch: int | None = None,
        batch: int | None = None,
        split: int | None = None,
        optimizer: int | None = None,
        scale: Fraction = Fraction(1),
    ) -> None:
        events.append(Event(state, epoch, batch, split, optimizer, global_step, scale))

    def asked_to_stop() -> bool:
        return script.stop_at is not None and len(events) > script.stop_at

    def end(stopped: bool) -> Schedule:
        return Schedule(events=events, epochs_done=epochs_done, stopped=stopped)

    def test_and_end() -> Schedule:
        most = options.limit_test_batches
        for _ in range(sum(batches_used(options, options.test_percent_check, most, sizes.test, script.test))):
            visit("test")
            if asked_to_stop():
                return end(stopped=True)
        return end(stopped=False)

    visit("start")
    if asked_to_stop():
        return end(stopped=True)
    for _ in range(sanity_batches(options, sizes, script.val)):
        visit("sanity_val")
        if asked_to_stop():
            return end(stopped=True)

    epochs = max_epochs(options) if sizes.fits else 0
    validated = sum(batches_used(options, options.val_percent_check, options.limit_val_batches, sizes.val, script.val))
    for epoch in range(epochs):
        length = windows_of(options, epoch)
        if sizes.train is None:
            train_batches = script.train[epoch % len(script.train)]
        else:
            train_batches = share_of(sizes.train, percentage(options, options.train_percent_check))
            train_batches = at_most(options.limit_train_batches, train_batches)
        if isinstance(options.val_check_interval, float):
            val_check_batches = max(1, share_of(train_batches, options.val_check_interval))
        else:
            val_check_batches = options.val_check_interval
        gathered = [0] * sizes.optimizers
        foreseen = [1] * sizes.optimizers  # the length of the open window of each, as it was expected when it opened
        longest = longest_window(options, replaced, train_batches if sizes.train is not None else 0)

        for batch in range(train_batches):
            is_last_batch = batch == train_batches - 1
            splits = script.splits[batches % len(script.splits)] if options.truncated_bptt_steps else 1
            visit("fetch", epoch, batch)
            batches += 1
            if sizes.manual_optimization:
                visit("train_batch", epoch, batch, 0, 0)
                global_step += script.made[forwards % len(script.made)]
                forwards += 1
                visit("round_end", epoch, batch, 0, 0)
                if asked_to_stop():
                    return end(stopped=True)
            for split in range(splits):
                has_stepped = False
                for optimizer in range(0 if sizes.manual_optimization else sizes.optimizers):
                    own = replaced.step.get(optimizer)
                    visit("train_batch", epoch, batch, split, optimizer)
                    has_loss = not (sizes.may_return_none and script.none[forwards % len(script.none)])
                    forwards += 1
                    if has_loss:
                        if gathered[optimizer] == 0:
                            foreseen[optimizer] = foreseen_window(options, sizes, length, train_batches - batch, own)
                        gathered[optimizer] += 1
                        visit("backward", epoch, batch, split, optimizer, Fraction(1, foreseen[optimizer]))
                    is_last_split = split == splits - 1
                    if own is None:
                        is_due = gathered[optimizer] == length
                    elif isinstance(own, Every):
                        is_due = own.fires(batch) and is_last_split
                    else:
                        is_due = optimizer in to_follow
                    to_follow.discard(optimizer)
                    if gathered[optimizer] > 0 and (is_due or (is_last_split and (is_last_batch or stop_waits > longest))):
                        visit("step", epoch, batch, split, optimizer, Fraction(foreseen[optimizer], gathered[optimizer]))
                        gathered[optimizer] = 0
                        has_stepped = True
                        is_skipped = script.skipped[tried % len(script.skipped)]
                        tried += 1
                        if not is_skipped:
                            steps[optimizer] += 1
                            to_follow |= followers(replaced, optimizer, steps[optimizer])
                    elif has_loss:
                        visit("accumulate", epoch, batch, split, optimizer)
                    if optimizer == sizes.optimizers - 1 and has_stepped:
                        global_step += 1
                    visit("round_end", epoch, batch, split, optimizer)
                    if asked_to_stop():
                        return end(stopped=True)

            is_saved = replaced.save is not None and replaced.save.fires(batch)
            if is_saved:
                visit("save", epoch, batch)
                visit("round_end", epoch, batch, splits - 1, 0 if sizes.manual_optimization else sizes.optimizers - 1)
                if asked_to_stop():
                    return end(stopped=True)

            if replaced.validate is not None:
                validation_is_due = replaced.validate.fires(batch)
            else:
                validation_is_due = (batch + 1) % val_check_batches == 0 and (epoch + 1) % options.check_val_every_n_epoch == 0
            validation_is_due = validation_is_due and validated > 0
            if validation_is_due:
                waited = 0 if script.improved[checks % len(script.improved)] else waited + 1
                checks += 1
                for _ in range(validated):
                    visit("val_check", epoch, batch)
                    if asked_to_stop():
                        return end(stopped=True)

            stop_is_wanted = (
                stop_waits > 0
                or is_over(options, global_step)
                or (
                    epochs_done >= options.min_nb_epochs
                    and global_step >= (options.min_steps or 0)
                    and (patience_is_over(options, waited) or (replaced.stop is not None and global_step >= replaced.stop))
                )
            )
            stop_is_due = stop_is_wanted and not any(gathered)
            if not is_last_batch and (validation_is_due or stop_is_due):
                visit("early_stop", epoch, batch)
                if asked_to_stop():
                    return end(stopped=True)
                if stop_is_due:
                    if replaced.save_at_end and not is_saved:
                        visit("save", epoch, batch)
                    visit("epoch_end", epoch, batch)
                    return end(stopped=True) if asked_to_stop() else test_and_end()
            if stop_is_wanted and not is_last_batch:
                stop_waits += 1

        assert not any(gathered)
        visit("epoch_end", epoch, batch)
        epochs_done += 1
        visit("early_stop", epoch, batch)
        if asked_to_stop():
            return end(stopped=True)
        stop_is_wanted = patience_is_over(options, waited) or (replaced.stop is not None and global_step >= replaced.stop)
        stop_is_allowed = epochs_done >= options.min_nb_epochs and global_step >= (options.min_steps or 0)
        limit_is_reached = epochs_done == epochs or is_over(options, global_step)
        if limit_is_reached or stop_waits > 0 or (stop_is_allowed and stop_is_wanted):
            if replaced.save_at_end and not is_saved:
                visit("save", epoch, batch)
            break
    return test_and_end()


def max_epochs(options: Options) -> int:
    """Return the limit of epochs; more than any run here has if there is none."""
    return 10**9 if options.max_nb_epochs is None else options.max_nb_epochs


def is_over(options: Options, global_step: int) -> bool:
    """Return whether `max_steps` steps are done."""
    return options.max_steps is not None and global_step >= options.max_steps


def windows_of(options: Options, epoch: int) -> int:
    """Return K in this epoch, counted from 0."""
    lengths = options.accumulate_grad_batches
    if isinstance(lengths, int):
        return lengths
    begun = [first for first in lengths if first <= epoch]
    return lengths[max(begun)] if begun else 1


def longest_window(options: Options, replaced: Replaced, train_batches: int) -> int:
    """Return for how many batches a stop waits at most before a batch closes all windows."""
    lengths_of = options.accumulate_grad_batches
    last = 0 if isinstance(lengths_of, int) else max(lengths_of)
    k = max(windows_of(options, epoch) for epoch in range(min(max(1, max_epochs(options)), last + 1)))

    def window(optimizer: int, followed: tuple[int, ...] = ()) -> int | None:
        own = replaced.step.get(optimizer)
        if own is None:
            return k
        if isinstance(own, Every):
            return own.n
        if optimizer in followed:
            return None
        other = window(own.other, (*followed, optimizer))
        return None if other is None else own.n * other

    lengths = [window(optimizer) for optimizer in replaced.step]
    return max(k, *(train_batches if n is None else n for n in lengths), 1)


def followers(replaced: Replaced, optimizer: int, steps: int) -> set[int]:
    """Return the optimizers that step next because this one has done so many steps."""
    return {
        i
        for i, own in replaced.step.items()
        if isinstance(own, Following) and own.other == optimizer != i and steps % own.n == 0
    }


def foreseen_window(options: Options, sizes: Sizes, length: int, batches_left: int, own: Every | Following | None) -> int:
    """Return the expected length of a window that opens with so many batches left in the epoch, its own included."""
    if own is not None:
        return 1  # it may close at any time, so the whole factor is left to the step
    if sizes.train is None or options.truncated_bptt_steps is not None:
        return length  # the last window may turn out shorter
    return min(length, batches_left)


def patience_is_over(options: Options, waited: int) -> bool:
    """Return whether early stopping is on and its patience is exhausted."""
    rule = options.early_stop_callback
    if rule is None or rule is False:
        return False
    return waited >= max(1, 3 if rule is True else rule.patience)
