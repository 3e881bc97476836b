"""Ready-made guards for intervals: every n batches, steps or epochs, and from the n-th batch or step on."""

from __future__ import annotations

from fsmtrain.copies import remember_call
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard, another_split_follows, epoch_is_over
from fsmtrain.errors import GuardError
from fsmtrain.predicates import is_integer


@remember_call
def every_n_batches(n: int, first: int | None = None) -> Guard:
    """Return a guard that fires at every n-th batch of an epoch; under truncated BPTT at that batch's last split.

    Args:
        n: Batches from one firing to the next, >= 1.
        first: Index, from 0, of the first batch at which it fires; by default n - 1, the n-th batch.

    Raises:
        GuardError: `n` or `first` is not an int in its range.

    Example:
        The epoch's last batch closes every open window:

        >>> from fsmtrain import Guards, Loop, Options, Sizes, State
        >>> def steps(guard):
        ...     loop = Loop(Options(max_nb_epochs=1), Sizes(train=10), guards=Guards(step={0: guard}))
        ...     return [visit.batch_nb for visit in loop if visit.state is State.STEP]
        >>> steps(every_n_batches(4)), steps(every_n_batches(4, first=0))
        ([3, 7, 9], [0, 4, 8, 9])

    Source: semantics, "Custom intervals".
    """
    _require_int(n, 1, f"every_n_batches({n!r})", "n counts batches")
    if first is not None:
        _require_int(first, 0, f"every_n_batches({n}, first={first!r})", "first is the index of a batch")
    start = n - 1 if first is None else first

    def nth_batch_is_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return (
            counters.batch_nb >= start
            and (counters.batch_nb - start) % n == 0
            and not another_split_follows(limits, counters, signals)
        )

    return nth_batch_is_done


@remember_call
def every_n_steps(n: int) -> Guard:
    """Return a guard that fires at the end of each round in which the first optimizer has made another n steps.

    Args:
        n: Steps from one firing to the next, >= 1.

    Raises:
        GuardError: `n` is not an int >= 1.

    Example:
        >>> from fsmtrain import Guards, Loop, Options, Sizes, State
        >>> options = Options(max_nb_epochs=1, accumulate_grad_batches=2)
        >>> loop = Loop(options, Sizes(train=9), guards=Guards(save=every_n_steps(2)))
        >>> [visit.batch_nb for visit in loop if visit.state is State.SAVE]
        [3, 7]
    """
    _require_int(n, 1, f"every_n_steps({n!r})", "n counts steps")

    def nth_step_is_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.optimizer_steps[0] % n == 0 and counters.stepped_in[0] == counters.round_nb

    return nth_step_is_done


@remember_call
def every_n_steps_of(i: int, n: int) -> Guard:
    """Return a step guard that fires once for every n steps of optimizer `i`, in the round of the n-th step or the next.

    A step of an optimizer whose turn comes earlier in the round counts in the same round, a step of a later one in the next
    round. So a GAN's generator (1) follows five steps of its critic (0) with ``Guards(step={1: every_n_steps_of(0, 5)})``.

    Args:
        i: Index of the other optimizer, from 0.
        n: Its steps from one firing to the next, >= 1.

    Raises:
        GuardError: `i` or `n` is not an int in its range.

    Example:
        >>> from fsmtrain import Guards, Loop, Options, Sizes, State
        >>> guards = Guards(step={0: every_n_batches(2), 1: every_n_steps_of(0, 2)})
        >>> loop = Loop(Options(max_nb_epochs=1), Sizes(train=9, optimizers=2), guards=guards)
        >>> [(visit.optimizer_i, visit.batch_nb) for visit in loop if visit.state is State.STEP]
        [(0, 1), (0, 3), (1, 3), (0, 5), (0, 7), (1, 7), (0, 8), (1, 8)]
    """
    _require_int(i, 0, f"every_n_steps_of({i!r}, {n!r})", "i is the index of an optimizer")
    _require_int(n, 1, f"every_n_steps_of({i}, {n!r})", "n counts steps")

    def nth_step_is_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.optimizer_steps[i] % n == 0 and (
            (i < counters.optimizer_i and counters.stepped_in[i] == counters.round_nb)
            or (i > counters.optimizer_i and counters.stepped_in[i] + 1 == counters.round_nb)
        )

    return nth_step_is_done


@remember_call
def every_n_epochs(n: int) -> Guard:
    """Return a guard that fires after the last batch of every n-th epoch.

    Args:
        n: Epochs from one firing to the next, >= 1.

    Raises:
        GuardError: `n` is not an int >= 1.

    Example:
        >>> from fsmtrain import Guards, Loop, Options, Sizes, State
        >>> loop = Loop(Options(max_nb_epochs=5), Sizes(train=4), guards=Guards(save=every_n_epochs(2)))
        >>> [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.SAVE]
        [(1, 3), (3, 3)]
    """
    _require_int(n, 1, f"every_n_epochs({n!r})", "n counts epochs")

    def nth_epoch_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return epoch_is_over(limits, counters, signals) and (counters.current_epoch + 1) % n == 0

    return nth_epoch_is_over


@remember_call
def after_batches(n: int) -> Guard:
    """Return a guard that holds from the n-th batch of the run on.

    Args:
        n: Train batches of the whole run, the current one included, >= 0.

    Raises:
        GuardError: `n` is not an int >= 0.

    Example:
        >>> from fsmtrain import Guards, Loop, Options, Sizes, State
        >>> loop = Loop(Options(min_nb_epochs=0), Sizes(train=4), guards=Guards(stop=after_batches(6)))
        >>> [(visit.current_epoch, visit.batch_nb) for visit in loop if visit.state is State.STEP]
        [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    """
    _require_int(n, 0, f"after_batches({n!r})", "n counts batches")

    def n_batches_are_begun(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun >= n

    return n_batches_are_begun


@remember_call
def after_steps(n: int) -> Guard:
    """Return a guard that holds once ``global_step`` has reached n, as in ``Guards(stop=after_steps(10_000))``.

    With the default ``min_nb_epochs=1`` a stop waits for the end of the first epoch; ``min_nb_epochs=0`` allows it earlier.

    Args:
        n: Rounds with a step in the whole run, >= 0.

    Raises:
        GuardError: `n` is not an int >= 0.

    Example:
        >>> from fsmtrain import Guards, Loop, Options, Sizes, State
        >>> options = Options(min_nb_epochs=0, accumulate_grad_batches=2)
        >>> loop = Loop(options, Sizes(train=9), guards=Guards(stop=after_steps(3)))
        >>> [visit.batch_nb for visit in loop if visit.state is State.STEP]
        [1, 3, 5]
    """
    _require_int(n, 0, f"after_steps({n!r})", "n counts steps")

    def n_steps_are_done(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step >= n

    return n_steps_are_done


def _require_int(value: object, minimum: int, call: str, meaning: str) -> None:
    """Raise a `GuardError` unless the value is an int that is large enough."""
    if not is_integer(value) or value < minimum:
        raise GuardError(f"{call}: {meaning}, so it must be an int >= {minimum}.")
