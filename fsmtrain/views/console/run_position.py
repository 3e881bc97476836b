"""How far a run is, in words and numbers: what the progress bar, the plain lines and the log file have in common.

People count from 1: the first epoch is "epoch 1/20" here; hooks and counters call it 0.
"""

from __future__ import annotations

import time

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.plurals import plural
from fsmtrain.views.number_format import duration, metric
from fsmtrain.views.run_view import PendingMetrics, RunView

_ACTIVITIES = {"val": "validating", "test": "testing", "predict": "predicting"}
_DONE = {"val": "validated", "test": "tested", "predict": "predicted"}
MAX_WAIT_SECONDS, POLLING_SECONDS = 1.0, 0.005


@frozen(kw_only=True)
class ProgressSnapshot:
    """How far a run is at one moment.

    Attributes:
        epoch: ``"epoch 3/20"``; empty if the run trains nothing.
        label: ``"batch 17/45"``, or ``"batch 17"`` of a stream: the current batch; ``"testing 3/7"`` in a pass of its own.
        activity: The state, or ``"validating 3/12"``.
        done: Finished batches of the epoch, or of the pass over sanity or test batches.
        total: All batches of that; 0 if not known.
        run_done: Finished train batches of all epochs.
        run_total: All train batches of the run, if it is not stopped early; 0 if not known.
    """

    epoch: str
    label: str
    activity: str
    done: int
    total: int
    run_done: int
    run_total: int


def snapshot(run: RunView) -> ProgressSnapshot:
    """Return how far a run is now. The run may move on meanwhile, so what is read last may be one visit newer."""
    state, counters, limits = run.state, run.counters, run.spec.limits
    activity, eval_batches = str(state), 0
    if state.info.eval_pass is not None:
        eval_batches = limits.eval_batches(state.info.eval_pass)
        name = _ACTIVITIES[run.evaluates] if state is State.TEST else state.info.activity
        activity = f"{name} {_of(counters.eval_nb + 1, eval_batches)}"
    train_done = counters.batch_nb + state.info.batch_is_done
    epoch_batches = counters.epoch_batches or limits.train_batches  # of this epoch, once it has begun
    label, done, total = f"batch {_of(counters.batch_nb + 1, epoch_batches)}", train_done, epoch_batches
    if state.info.eval_pass is not None and state.info.place != "after a batch":
        label, done, total = activity, counters.eval_nb, eval_batches
    elif limits.epochs == 0:
        label, done, total = activity, (limits.test_batches if state is State.DONE else 0), limits.test_batches
    epochs = limits.epochs if limits.has_max_epochs else 0
    return ProgressSnapshot(
        epoch=f"epoch {_of(counters.current_epoch + 1, epochs)}" if limits.epochs else "",
        label=label,
        activity=activity,
        done=done,
        total=total,
        run_done=counters.current_epoch * limits.train_batches + train_done,
        run_total=epochs * limits.train_batches,
    )


def _of(number: int, total: int) -> str:
    return f"{number}/{total}" if total else str(number)


def closing_line(run: RunView, seconds: float, error: BaseException | None, *, is_of_all_parts: bool = False) -> str:
    """Return the last sentence about a run: why it ended, or which error ended it and where.

    Args:
        run: The run.
        seconds: How long it took.
        error: The error that ended it, if one did.
        is_of_all_parts: Whether these are also the seconds before it was resumed.
    """
    counters, limits, reason = run.counters, run.spec.limits, run.stop_reason
    took = duration(seconds) + (" since it was resumed" if run.was_resumed and not is_of_all_parts else "")
    if reason is None:
        at = snapshot(run)
        where = f", {at.epoch}, {at.label} (counted from 1)" if at.epoch else ""
        by = f"by {type(error).__name__} " if error is not None else ""
        return f"ended {by}in the state {run.state}{where}, after {took}"
    if reason is StopReason.TESTED:
        return f"{_DONE[run.evaluates]} {plural(run.data_wait.count, 'batch')} in {took}"
    trained = f"{plural(counters.epochs_done, 'epoch')}, {plural(counters.batches_begun, 'batch')}, " if limits.epochs else ""
    best = "".join(f", best {metric(name, value)}" for name, value in run.best_values.items())
    return f"ended after {trained}{took}{best}: {reason}"


def wait_briefly(pending: PendingMetrics) -> None:
    """Wait for metrics at the end of a run, for as long as they usually need and no longer."""
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while not pending.arrived and time.monotonic() < deadline:
        time.sleep(POLLING_SECONDS)
