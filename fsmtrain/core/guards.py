"""The predicates that decide which transition is taken: one for each rule, and `Guards`, those that a user may replace.

A guard is a plain function ``(limits, counters, signals) -> bool``: a docstring, then one ``return`` of comparisons,
arithmetic, ``and/or/not`` and other guards. True always means "take this edge". None reads a tensor, a clock or a file,
and none changes anything. The examples show when a guard fires, batches counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import field, frozen

from fsmtrain.core.counters import Counters, Signals, signal_values
from fsmtrain.core.limits import Limits
from fsmtrain.errors import GuardError
from fsmtrain.predicates import is_integer


class Guard(Protocol):
    """What every guard is, built in or a user's: a question about one moment of a run."""

    def __call__(self, limits: Limits, counters: Counters, signals: Signals, /) -> bool:
        """Whether the edge is to be taken."""
        ...


# ---- the whole run


def stop_is_requested(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether somebody asked the run to stop, whatever ``min_nb_epochs`` says."""
    return signals.stop_requested


def no_epoch_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run trains no epoch at all: ``max_nb_epochs=0``, or a run that only tests."""
    return limits.epochs == 0


def test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run was built with something to test."""
    return limits.tests


def no_epoch_but_test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run goes on to the test without any training."""
    return no_epoch_follows(limits, counters, signals) and test_follows(limits, counters, signals)


# ---- validation and test passes


def sanity_pass_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether validation is tried out before the first epoch.

    Source: semantics, "Sanity pass".
    """
    return limits.has_sanity


def sanity_pass_goes_on(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the sanity pass has another batch."""
    return counters.eval_nb + 1 != limits.sanity_batches and not signals.pass_ended


def validation_goes_on(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the check has another batch."""
    return counters.eval_nb + 1 != limits.val_batches and not signals.pass_ended


def validation_is_interrupted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run is asked to stop in the middle of a check."""
    return signals.stop_requested and validation_goes_on(limits, counters, signals)


def test_goes_on(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the test has another batch."""
    return counters.eval_nb + 1 != limits.test_batches and not signals.pass_ended


def validation_interval_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether a check is due at the end of this batch. The default of ``Guards(validate=...)``.

    The same as ``(batch_nb + 1) % val_check_batches == 0 and (current_epoch + 1) % val_check_epochs == 0``.
    The count of batches starts again with each epoch.

    Example:
        >>> from fsmtrain.loop import Loop
        >>> from fsmtrain.core.sizes import Sizes
        >>> from fsmtrain.core.states import State
        >>> from fsmtrain.options import Options
        >>> def checks(train, **flags):
        ...     loop = Loop(Options(nb_sanity_val_steps=0, **flags), Sizes(train=train, val=[1]))
        ...     return [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.VAL_CHECK]
        >>> checks(train=7, val_check_interval=0.5, max_nb_epochs=1)
        [(0, 2), (0, 5)]
        >>> checks(train=10, val_check_interval=1.0, check_val_every_n_epoch=2, max_nb_epochs=4)
        [(1, 9), (3, 9)]

    Source: semantics, "A check is due".
    """
    return (
        counters.batches_since_validation == limits.val_check_batches
        and counters.epochs_since_validation == limits.val_check_epochs
    )


# ---- one batch


def another_optimizer_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether this round has another optimizer's turn."""
    return counters.optimizer_i + 1 < limits.optimizers


def another_split_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether this batch has another split, under truncated BPTT."""
    return counters.split_nb + 1 < signals.splits


def epoch_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the batch in hand is the last of its epoch."""
    return counters.batch_nb + 1 == limits.train_batches or signals.stream_ended


def epoch_has_no_backward_left(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the optimizer has had its last backward of the epoch, so that its window closes whatever its length."""
    return epoch_is_over(limits, counters, signals) and not another_split_follows(limits, counters, signals)


def window_is_full(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the optimizer's window holds K backwards. The default of ``Guards(step=...)``.

    The epoch's last window may be shorter: it closes with the epoch, and nothing is carried over.

    Example:
        >>> from fsmtrain.loop import Loop
        >>> from fsmtrain.core.sizes import Sizes
        >>> from fsmtrain.core.states import State
        >>> from fsmtrain.options import Options
        >>> loop = Loop(Options(accumulate_grad_batches=4, max_nb_epochs=1), Sizes(train=9))
        >>> [visit.batch_nb for visit in loop if visit.state is State.STEP]
        [3, 7, 8]

    Source: semantics, "accumulate_grad_batches".
    """
    return counters.gathered == counters.window_length


def step_was_skipped(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the optimizer did not step in the state `step`: its gradients, or a loss of its window, were not finite.

    Or there was nothing to step: each batch of the window had been taken out of the run by a rollback.
    """
    return signals.step_skipped


def window_is_spoiled(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run must go back to a checkpoint: ``on_nonfinite="rollback"``, and a number of the window is not finite."""
    return limits.rolls_back and signals.nonfinite


def time_to_save(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether time enough has gone by since the last save."""
    return signals.save_wanted


# ---- ending


def epoch_is_finished(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run stands between two epochs: the current one has been counted as done."""
    return counters.epochs_done == counters.current_epoch + 1


def epoch_ended_early(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the epoch ends before its last batch."""
    return counters.epoch_ended_early


def epoch_ended_early_and_stop_is_requested(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether the run was asked to stop at the end of an epoch that is cut short."""
    return epoch_ended_early(limits, counters, signals) and stop_is_requested(limits, counters, signals)


def epoch_ended_early_and_test_follows(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether a stop in mid-epoch goes on to the test."""
    return epoch_ended_early(limits, counters, signals) and test_follows(limits, counters, signals)


def epochs_are_exhausted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether ``max_nb_epochs`` epochs are done."""
    return counters.epochs_done == limits.epochs


def enough_epochs_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether ``min_nb_epochs`` epochs are done, so that the run may stop early."""
    return counters.epochs_done >= limits.min_epochs


def patience_is_exhausted(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Whether early stopping has waited long enough."""
    return signals.patience_exhausted


def never(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """The default of the guards that add a reason: none."""
    return False


def every_n_batches(n: int, first: int | None = None) -> Guard:
    """A guard that fires at every n-th batch of an epoch, under truncated BPTT at that batch's last split.

    Args:
        n: Batches from one firing to the next, >= 1.
        first: Index, from 0, of the first batch at which it fires; by default n - 1, so that n batches have gone by.

    Raises:
        GuardError: `n` or `first` is not a whole number in its range.

    Example:
        >>> from fsmtrain.loop import Loop
        >>> from fsmtrain.core.sizes import Sizes
        >>> from fsmtrain.core.states import State
        >>> from fsmtrain.options import Options
        >>> def steps(guard):
        ...     loop = Loop(Options(max_nb_epochs=1), Sizes(train=10), guards=Guards(step={0: guard}))
        ...     return [visit.batch_nb for visit in loop if visit.state is State.STEP]
        >>> steps(every_n_batches(4)), steps(every_n_batches(4, first=0))
        ([3, 7, 9], [0, 4, 8, 9])

    Source: semantics, "Custom intervals".
    """
    if not is_integer(n) or n < 1:
        raise GuardError(f"every_n_batches({n!r}): a number of batches is needed, an int >= 1.")
    if first is not None and (not is_integer(first) or first < 0):
        raise GuardError(f"every_n_batches({n}, first={first!r}): the index of a batch is needed, an int >= 0.")
    start = n - 1 if first is None else first

    def nth_batch_is_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return (
            counters.batch_nb >= start
            and (counters.batch_nb - start) % n == 0
            and not another_split_follows(limits, counters, signals)
        )

    return nth_batch_is_done


def every_n_steps_of(i: int, n: int) -> Guard:
    """A step guard that fires once for every n steps of another optimizer, in the round of the n-th or right after it.

    A step by an optimizer that takes its turn earlier in the round counts in the same round, that of a later one in the
    next round. So a GAN's generator (1) follows five steps of its critic (0) with ``Guards(step={1: every_n_steps_of(0, 5)})``.

    Args:
        i: The other optimizer's index, from 0.
        n: Its steps from one firing to the next, >= 1.

    Raises:
        GuardError: `i` or `n` is not a whole number in its range.

    Example:
        >>> from fsmtrain.loop import Loop
        >>> from fsmtrain.core.sizes import Sizes
        >>> from fsmtrain.core.states import State
        >>> from fsmtrain.options import Options
        >>> guards = Guards(step={0: every_n_batches(2), 1: every_n_steps_of(0, 2)})
        >>> loop = Loop(Options(max_nb_epochs=1), Sizes(train=9, optimizers=2), guards=guards)
        >>> [(visit.optimizer_i, visit.batch_nb) for visit in loop if visit.state is State.STEP]
        [(0, 1), (0, 3), (1, 3), (0, 5), (0, 7), (1, 7), (0, 8), (1, 8)]
    """
    if not is_integer(i) or i < 0:
        raise GuardError(f"every_n_steps_of({i!r}, {n!r}): the index of an optimizer is needed, an int >= 0.")
    if not is_integer(n) or n < 1:
        raise GuardError(f"every_n_steps_of({i}, {n!r}): a number of steps is needed, an int >= 1.")

    def nth_step_is_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.optimizer_steps[i] % n == 0 and (
            (i < counters.optimizer_i and counters.stepped_in[i] == counters.round_nb)
            or (i > counters.optimizer_i and counters.stepped_in[i] + 1 == counters.round_nb)
        )

    return nth_step_is_done


def after_batches(n: int) -> Guard:
    """A guard that holds from the run's n-th batch on: to stop there, or, with another guard, to begin there.

    Args:
        n: Train batches in the whole run, >= 0, the one under way included.

    Raises:
        GuardError: `n` is not a whole number in its range.

    Example:
        >>> from fsmtrain.loop import Loop
        >>> from fsmtrain.core.sizes import Sizes
        >>> from fsmtrain.core.states import State
        >>> from fsmtrain.options import Options
        >>> loop = Loop(Options(min_nb_epochs=0), Sizes(train=4), guards=Guards(stop=after_batches(6)))
        >>> [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.STEP]
        [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    """
    if not is_integer(n) or n < 0:
        raise GuardError(f"after_batches({n!r}): a number of batches is needed, an int >= 0.")

    def n_batches_are_begun(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun >= n

    return n_batches_are_begun


def after_steps(n: int) -> Guard:
    """A guard that holds once ``global_step`` has come to n, for ``Guards(stop=after_steps(10_000))``.

    With the default ``min_nb_epochs=1`` a stop waits for the first epoch's end; pass ``min_nb_epochs=0`` to stop within it.

    Args:
        n: Rounds with a step in the whole run, >= 0.

    Raises:
        GuardError: `n` is not a whole number in its range.
    """
    if not is_integer(n) or n < 0:
        raise GuardError(f"after_steps({n!r}): a number of steps is needed, an int >= 0.")

    def n_steps_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step >= n

    return n_steps_are_done


@frozen
class Checked:
    """A user's guard, held to what a guard must be. `name` says where it was given.

    Args:
        guard: The user's function.
        name: Its place, for errors: ``step={1: my_guard}``.
        watched: Whether to see to it that the guard changes nothing, at the cost of a copy each time it is asked. A guard
            whose source is a plain expression cannot.
    """

    guard: Guard
    name: str
    watched: bool

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        before = (counters.values(), signal_values(signals)) if self.watched else None
        try:
            answer = self.guard(limits, counters, signals)
        except Exception as error:
            raise GuardError(f"Guards({self.name}): the guard raised {type(error).__name__}: {error}") from error
        if before is not None and before != (counters.values(), signal_values(signals)):
            raise GuardError(
                f"Guards({self.name}): the guard changed the counters or signals that it was given. A guard only answers; "
                f"keep your own memory outside of them."
            )
        if type(answer) is not bool:
            raise GuardError(
                f"Guards({self.name}): the guard returned {answer!r}, a {type(answer).__name__}; it must return True or False. "
                f"Wrap the answer in bool(...)."
            )
        return answer


def _by_optimizer(value: Mapping[int, Guard]) -> Mapping[int, Guard]:
    if not isinstance(value, Mapping):
        raise GuardError(
            f"Guards(step={value!r}): a dict from an optimizer's index to its guard is needed, as in step={{0: guard}}."
        )
    return dict(value)


@frozen(kw_only=True)
class Guards:
    """The decisions that a user may replace. The loops' bounds are not among them.

    Args:
        step: For an optimizer's index, from 0: whether its window closes now, asked after each of its backwards. The
            default is "the window holds K". The epoch's last batch closes every open window all the same.
        check: Whether a check is due, asked at the end of each batch; replaces both validation flags.
        save: Whether to write a checkpoint, asked at the end of each batch, before a check. A machine writes all that it
            remembers into the folder ``checkpoints``, to be resumed, or for the model's ``load_from_checkpoint``.
        stop: A second reason to stop beside early stopping's patience, asked at the end of each batch and wherever
            ``early_stop`` is visited; it acts under the same conditions (``min_nb_epochs``, no open window).

    A guard is any function ``(limits, counters, signals) -> bool`` that changes nothing.
    """

    step: Mapping[int, Guard] = field(factory=dict, converter=_by_optimizer)
    validate: Guard | None = None
    save: Guard | None = None
    stop: Guard | None = None

    def __attrs_post_init__(self) -> None:
        named: list[tuple[str, object]] = [(f"step={{{index}: ...}}", guard) for index, guard in self.step.items()]
        named += [("validate", self.validate), ("save", self.save), ("stop", self.stop)]
        for name, guard in named:
            if guard is not None and not callable(guard):
                raise GuardError(f"Guards({name}): {guard!r} is not a function (limits, counters, signals) -> bool.")
        for index in self.step:
            if not is_integer(index) or index < 0:
                raise GuardError(f"Guards(step={{{index!r}: ...}}): the key is an optimizer's index, an int >= 0.")
