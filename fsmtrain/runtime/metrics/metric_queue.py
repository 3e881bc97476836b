"""Queue of metric records: the training thread appends, the recorder thread pops.

Neither waits for the other, unless the queue is full: then the training thread waits, and nothing is dropped.

A number on the CPU is read at once, which takes less than a microsecond. One on another device stays there until the record is
popped; then many are copied to the host at once, and read when they have arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from attrs import frozen
from torch import Tensor

from fsmtrain.core.counters import Counters
from fsmtrain.core.metric_record import Kind, MetricRecord
from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingScalars
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar

MAX_PENDING_RECORDS = 1 << 16  # beyond these the training thread waits
LOSS = "loss"

# A queued record: kind, seconds, epoch, batch, step, optimizer, learning rate, metrics by name.
_Pending = tuple[Kind, float, int, int, int, int | None, Any, Metrics]


def loss_names(optimizers: int) -> list[str]:
    """Return the name under which the loss of each optimizer is recorded.

    >>> loss_names(1), loss_names(2)
    (['loss'], ['loss/0', 'loss/1'])
    """
    return [LOSS] if optimizers == 1 else [f"{LOSS}/{index}" for index in range(optimizers)]


@frozen(eq=False)
class PendingRecords:
    """Popped records, whose numbers may still be on their way to the host."""

    pending: list[_Pending]
    numbers: PendingScalars | None  # None if nothing has to be copied

    def __len__(self) -> int:
        return len(self.pending)

    @property
    def arrived(self) -> bool:
        """Whether all numbers have arrived. Never blocks."""
        return self.numbers is None or self.numbers.arrived

    def records(self) -> list[MetricRecord]:
        """Return the records. Call it once they have arrived."""
        if self.numbers is None:
            return [MetricRecord(k, s, e, b, n, values, o, lr) for k, s, e, b, n, o, lr, values in self.pending]  # type: ignore[arg-type]
        numbers = iter(self.numbers.numbers())
        records = []
        for kind, seconds, epoch, batch, step, optimizer, lr, values in self.pending:
            rate = None if lr is None else next(numbers)
            metrics = dict(zip(values, numbers, strict=False))
            records.append(MetricRecord(kind, seconds, epoch, batch, step, metrics, optimizer, rate))
        return records


class MetricQueue:
    """The metric records of a run that wait to be recorded.

    Args:
        counters: The counters of the run that trains the weights, which say where a record belongs.
        optimizers: Those of its optimizers that have turns.
        others: Its other optimizers, which ``training_step`` steps itself.
        make_room: Called in the training thread if the queue is full; waits until records have been popped.
    """

    def __init__(
        self, counters: Counters, optimizers: Iterable[Any], make_room: Callable[[], object], others: Iterable[Any] = ()
    ) -> None:
        self._counters, self._make_room = counters, make_room
        self._optimizers, self._others = list(optimizers), list(others)
        self._losses = loss_names(len(self._optimizers))
        self._waiting: deque[_Pending] = deque()
        self.appended = self.popped = 0  # how many records have been so far
        self._began_at = perf_counter()
        self._needs_copy = False  # whether any number is on a device
        self.windows: list[dict[int, int]] = [{} for _ in self._optimizers]  # of each: window length -> windows closed
        self.host_transfer = HostTransfer()

    def begin(self) -> None:
        """Start the clock of the records. Call it in the training thread."""
        self._began_at, self.host_transfer = perf_counter(), HostTransfer()

    # ---- in the training thread

    def forward(self, index: int, loss: Tensor | None, metrics: Metrics | None) -> None:
        """Append the loss, if there is one, and the metrics of a forward. A metric with the loss's name replaces it."""
        c, seconds = self._counters, perf_counter() - self._began_at
        values: Metrics = {}
        if loss is not None:
            values[self._losses[index]] = loss.item() if loss.is_cpu else self._left_on_device(loss)
        if metrics:
            for name, value in metrics.items():
                values[name] = self._copied(value) if isinstance(value, Tensor) else value
        lr = self._optimizers[index].param_groups[0]["lr"]
        if isinstance(lr, Tensor):
            lr = self._copied(lr)
        if len(self._waiting) >= MAX_PENDING_RECORDS:
            self._make_room()
        self.appended += 1
        self._waiting.append(("train", seconds, c.current_epoch, c.batch_nb, c.global_step, index, lr, values))

    def rates_of_others(self) -> None:
        """Append the learning rates of the optimizers that have no turns, for the forward that was appended last."""
        c, seconds = self._counters, perf_counter() - self._began_at
        for index, optimizer in enumerate(self._others, len(self._optimizers)):
            lr = optimizer.param_groups[0]["lr"]
            if isinstance(lr, Tensor):
                lr = self._copied(lr)
            if len(self._waiting) >= MAX_PENDING_RECORDS:
                self._make_room()
            self.appended += 1
            self._waiting.append(("train", seconds, c.current_epoch, c.batch_nb, c.global_step, index, lr, {}))

    def window(self, index: int, length: int) -> None:
        """Count a closed window of this many backwards."""
        lengths = self.windows[index]
        lengths[max(1, length)] = lengths.get(max(1, length), 0) + 1  # if all windows are single, their length is not counted

    def metrics(self, kind: Kind, metrics: Metrics) -> None:
        """Append the metrics of a pass, or of a hook."""
        counters = self._counters
        at = counters.current_epoch, counters.batch_nb, counters.global_step
        values = {name: self._copied(value) if isinstance(value, Tensor) else value for name, value in metrics.items()}
        if len(self._waiting) >= MAX_PENDING_RECORDS:
            self._make_room()
        self.appended += 1
        self._waiting.append((kind, perf_counter() - self._began_at, *at, None, None, values))

    def _copied(self, value: Tensor) -> Scalar:
        """Return the present value of a metric, whatever is written into its tensor later."""
        return float(value.item()) if value.is_cpu else self._left_on_device(value.clone())

    def _left_on_device(self, value: Tensor) -> Tensor:
        """Return a number that stays on its device for now."""
        self._needs_copy = True
        return value.detach()

    # ---- in the recorder thread

    def pop(self, max_records: int = 8192) -> PendingRecords:
        """Remove and return the oldest records, and start copying their numbers to the host."""
        records = [self._waiting.popleft() for _ in range(min(max_records, len(self._waiting)))]
        self.popped += len(records)
        if not self._needs_copy:
            return PendingRecords(records, None)
        numbers: list[Scalar] = []
        for *_, lr, values in records:
            if lr is not None:
                numbers.append(lr)
            numbers += values.values()
        return PendingRecords(records, self.host_transfer.copy_batch_async(numbers))

    @property
    def seconds(self) -> float:
        """Seconds since the run began, on the clock of the records."""
        return perf_counter() - self._began_at

    @property
    def pending(self) -> int:
        """How many records wait."""
        return len(self._waiting)
