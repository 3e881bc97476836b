"""Where a run stands, in words for people: what the bar and the plain lines have in common.

People count from 1: the first epoch is "epoch 1/20" here, where hooks and counters call it 0.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

from attrs import frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.wording import plural


class Arriving(Protocol):
    """The metrics of one moment, which may still be on their way from a device."""

    @property
    def arrived(self) -> bool:
        """Whether all of them are there."""
        ...

    def values(self) -> dict[str, float]:
        """Those that are there."""
        ...


class Run(Protocol):
    """What these views read of a machine. They write nothing."""

    @property
    def state(self) -> State:
        """The state that is visited next, or under way."""
        ...

    @property
    def counters(self) -> Counters:
        """Where the run stands, in numbers."""
        ...

    @property
    def spec(self) -> LoopSpec:
        """The loop that is run."""
        ...

    @property
    def times(self) -> dict[State, Timing]:
        """What each state has taken so far."""
        ...

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the run ended; None while it has not."""
        ...

    def progress_bar_metrics_async(self) -> Arriving:
        """The metrics that are to be shown, as they are now, on their way to the host. Waits for nothing."""
        ...


GRACE = 1.0  # seconds


def wait_briefly(arriving: Arriving) -> None:
    """Give metrics the time that they usually need to come, and no more. For when the run is over."""
    for _ in range(200):
        if arriving.arrived:
            return
        time.sleep(GRACE / 200)


# ---- where


EVALUATIONS = {State.SANITY_VAL: "trying validation", State.VAL_CHECK: "validating", State.TEST: "testing"}
AFTER_A_BATCH = frozenset({State.SAVE, State.VAL_CHECK, State.EPOCH_END, State.EARLY_STOP, State.DONE})


@frozen(kw_only=True)
class ProgressSnapshot:
    """A moment of a run.

    `done` of `total` is what a bar shows: batches of the epoch, or of the pass over test or sanity batches. A total of 0 is
    unknown: a stream's.
    """

    epoch: str  # "epoch 3/20"; empty in a run that trains nothing
    batch: str  # "17/45", or "17" of a stream; the one under way
    what: str  # the state, or "validating 3/12"
    done: int
    total: int


def snapshot(run: Run) -> ProgressSnapshot:
    """Where a run stands now. It may go on meanwhile: what is read last may be a visit ahead of what is read first."""
    state, counters, limits = run.state, run.counters, run.spec.limits
    evaluated = _evaluated(limits, state)
    what = str(state)
    if evaluated is not None:
        doing = EVALUATIONS[state] if limits.fits else "evaluating"  # the test set, or the validation set
        what = f"{doing} {_of(counters.eval_nb + 1, evaluated)}"
    if state in (State.SANITY_VAL, State.TEST):
        done, total = counters.eval_nb, evaluated or 0
    elif limits.epochs == 0 and limits.tests:
        done, total = (limits.test_batches if state is State.DONE else 0), limits.test_batches
    else:
        done, total = counters.batch_nb + (state in AFTER_A_BATCH), limits.train_batches
    return ProgressSnapshot(
        epoch=f"epoch {counters.current_epoch + 1}/{limits.epochs}" if limits.epochs else "",
        batch=_of(counters.batch_nb + 1, limits.train_batches) if limits.epochs else "",
        what=what,
        done=done,
        total=total,
    )


def _evaluated(limits: Limits, state: State) -> int | None:
    """The batches of the pass that this state goes over, 0 where a stream is among them; None in all other states."""
    sizes = {State.SANITY_VAL: limits.sanity_batches, State.VAL_CHECK: limits.val_batches, State.TEST: limits.test_batches}
    return sizes.get(state)


def _of(number: int, total: int) -> str:
    return f"{number}/{total}" if total else str(number)


def closing_line(run: Run, seconds: float, error: BaseException | None) -> str:
    """The last sentence on a run: why it ended, or what ended it and where. `seconds` is how long it took."""
    counters, limits, reason = run.counters, run.spec.limits, run.stop_reason
    if reason is None:
        at = snapshot(run)
        where = f", {at.epoch}, batch {at.batch} (counted from 1)" if at.epoch else ""
        by = f"by {type(error).__name__} " if error is not None else ""
        return f"ended {by}in the state {run.state}{where}, after {duration(seconds)}"
    trained = f"{plural(counters.epochs_done, 'epoch')}, {plural(counters.batches_begun, 'batch')}, " if limits.epochs else ""
    return f"ended after {trained}{duration(seconds)}: {reason}"


# ---- how fast


TRAINING = (State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP, State.ROUND_END)
MARKS = 50


class Rates:
    """How fast batches go by lately: train batches, and those of each evaluation by themselves.

    The time that other states take is left out, so that a check does not slow the training down that it interrupts.
    """

    def __init__(self) -> None:
        kinds = (State.FETCH, *EVALUATIONS)
        self._marks = {kind: deque([(0, 0.0)], maxlen=MARKS) for kind in kinds}  # (batches, seconds), where batches changed

    def note(self, times: Mapping[State, Timing]) -> None:
        """Take in what each state has taken so far."""
        for kind, marks in self._marks.items():
            mark = _batches_and_seconds(times, kind)
            if mark[0] != marks[-1][0]:
                marks.append(mark)

    def of(self, state: State) -> float:
        """Batches a second, in the last `MARKS` notes that had new ones; of the kind that a state is about. 0: not known."""
        marks = self._marks[state if state in EVALUATIONS else State.FETCH]
        (before, since), (batches, seconds) = marks[0], marks[-1]
        return (batches - before) / (seconds - since) if seconds > since else 0.0

    def begin_again(self) -> None:
        """Forget all but the last note."""
        for marks in self._marks.values():
            last = marks[-1]
            marks.clear()
            marks.append(last)


def _batches_and_seconds(times: Mapping[State, Timing], kind: State) -> tuple[int, float]:
    if kind not in times:
        return 0, 0.0
    states = TRAINING if kind is State.FETCH else (kind,)
    return times[kind].count, sum(times[state].seconds for state in states if state in times)


# ---- numbers


def rate(batches: float, *, short: bool = False) -> str:
    """A rate for a person, empty where it is not known.

    >>> rate(21234.5), rate(212.6), rate(2.125), rate(0.25), rate(212.6, short=True), rate(0)
    ('21,234 batches/s', '213 batches/s', '2.12 batches/s', '4 s/batch', '213/s', '')
    """
    if batches <= 0:
        return ""
    if batches < 1:
        return f"{1 / batches:.3g} s" if short else f"{1 / batches:.3g} s/batch"
    number = f"{batches:,.0f}" if batches >= 100 else f"{batches:.3g}"
    return f"{number}/s" if short else f"{number} batches/s"


def metric(name: str, value: float) -> str:
    """A metric for a person, on one line whatever its name is.

    >>> metric("val_loss", 0.123456), metric("a\\nb", 2.0)
    ('val_loss=0.1235', 'a?b=2')
    """
    return f"{''.join(c if c.isprintable() else '?' for c in name)}={value:.4g}"


def duration(seconds: float) -> str:
    """A time span for a person.

    >>> duration(4.06), duration(125.2)
    ('4.1 s', '0:02:05')
    """
    return f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))
