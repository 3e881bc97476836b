"""`RunView`: what the views read of a running machine. They import nothing of the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.core.trace import Trace


class PendingMetrics(Protocol):
    """The metrics of one moment, which a device may still have to copy to the host."""

    @property
    def arrived(self) -> bool:
        """Whether all of them are on the host. Never blocks."""

    def values(self) -> dict[str, float]:
        """Return those that have arrived."""


class PendingRecords(Protocol):
    """Metric records whose values a device may still have to copy to the host."""

    def __len__(self) -> int:
        """How many records they are."""

    @property
    def arrived(self) -> bool:
        """Whether all values are on the host. Never blocks."""

    def records(self) -> list[MetricRecord]:
        """Return the records. Call it only once they have arrived."""


class MetricQueue(Protocol):
    """The queue from the training thread to the recorder thread."""

    windows: list[dict[int, int]]  # for each optimizer: window length -> windows closed

    @property
    def seconds(self) -> float:
        """Seconds since the run began, on the clock of the records."""

    @property
    def pending(self) -> int:
        """How many records wait in the queue."""

    @property
    def appended(self) -> int:
        """How many records have been appended so far."""

    @property
    def popped(self) -> int:
        """How many records have been popped so far."""

    def pop(self, max_records: int = ...) -> PendingRecords:
        """Remove and return the oldest records."""


class RunView(Protocol):
    """One run as its views read it: `Machine`, or a stand-in for one in a test."""

    @property
    def spec(self) -> LoopSpec:
        """Options, sizes, guards, limits and table."""

    @property
    def evaluates(self) -> Literal["val", "test", "predict"]:
        """What the state `test` runs: the test, a validation by itself, or predictions."""

    @property
    def model(self) -> Any:
        """The model."""

    @property
    def hparams(self) -> dict[str, Any]:
        """The model's hyperparameters, as far as they are plain data."""

    @property
    def loaders(self) -> Sequence[Any]:
        """The loaders that the run takes batches from."""

    @property
    def optimizers(self) -> list[Any]:
        """The optimizers, in the order in which they take their turns."""

    @property
    def device(self) -> Any:
        """The device that the model is on."""

    @property
    def run_dir(self) -> Path | None:
        """The run folder; None if there is none, or not yet."""

    def checkpoint_folders(self, run_dir: Path) -> Sequence[Path]:
        """Return the folders of the checkpoints of this run, if it is recorded in `run_dir`."""

    @property
    def best_checkpoint(self) -> SavedCheckpoint | None:
        """The checkpoint with the best value of a monitored metric; None if there is none."""

    @property
    def last_checkpoint(self) -> SavedCheckpoint | None:
        """The newest checkpoint; None if there is none."""

    @property
    def tested(self) -> SavedCheckpoint | None:
        """The checkpoint or file whose weights were tested; None: those that the model had, or none were."""

    @property
    def state(self) -> State:
        """The state of the next visit, or of the current one; the final state after the run."""

    @property
    def counters(self) -> Counters:
        """The counters, which change during the run."""

    @property
    def trace(self) -> Trace:
        """The transitions so far."""

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the run ended; None before its end, and if an error ended it."""

    @property
    def rollbacks(self) -> Sequence[object]:
        """The batches that rollbacks excluded."""

    @property
    def times(self) -> dict[State, Timing]:
        """Visits and wall time of each state so far."""

    @property
    def device_times(self) -> dict[State, Timing]:
        """Visits and GPU time of each state so far; empty on a CPU."""

    @property
    def data_wait(self) -> Timing:
        """Batches fetched from loaders, and the time spent waiting for them."""

    @property
    def wall_seconds(self) -> float:
        """Wall time since the run began, up to its end."""

    @property
    def metric_queue(self) -> MetricQueue | None:
        """The queue of metric records; None if the run is not recorded."""

    @property
    def is_running(self) -> bool:
        """Whether the run has begun and has not ended."""

    @property
    def was_resumed(self) -> bool:
        """Whether the run has continued from a checkpoint."""

    @property
    def best_values(self) -> Mapping[str, float]:
        """The best value so far of each monitored metric that has a direction."""

    def keep_losses(self) -> None:
        """Keep the newest loss for `line_metrics_async`."""

    def line_metrics_async(self) -> PendingMetrics:
        """Start copying the metrics of a line about the run to the host, the most important first. Never blocks."""

    def progress_bar_metrics_async(self, *, with_loss: bool = False) -> PendingMetrics:
        """Start copying the progress-bar metrics to the host, with a recent loss if asked for. Never blocks."""
