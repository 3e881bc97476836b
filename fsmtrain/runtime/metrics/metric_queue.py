"""`MetricQueue`: the metrics that a run leaves behind as it goes on, for whoever writes them down. Training only appends.

A number of the CPU is read at once, which takes less than a microsecond. One on another device stays there: it is sent to the
host by whoever takes the notes, many in one copy, and is read when it has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Any

from attrs import frozen
from torch import Tensor

from fsmtrain.core.counters import Counters
from fsmtrain.core.metric_record import Kind, MetricRecord
from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingScalars
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar

MAX_PENDING_RECORDS = 1 << 16  # notes that wait to be taken; beyond these the oldest are lost, and counted
LOSS = "loss"

# Of a note: kind, time, epoch, batch, step, optimizer, learning rate, and the names and values of its metrics.
_Pending = tuple[Kind, float, int, int, int, int | None, Any, Metrics]


@frozen(eq=False)
class PendingRecords:
    """Notes that have been taken, their numbers on the way to the host."""

    pending: list[_Pending]
    numbers: PendingScalars | None  # None where nothing had to be sent

    @property
    def arrived(self) -> bool:
        """Whether all numbers are there. Asking waits for nothing."""
        return self.numbers is None or self.numbers.arrived

    def records(self) -> list[MetricRecord]:
        """The notes, once they have arrived."""
        if self.numbers is None:
            return [MetricRecord(k, s, e, b, n, values, o, lr) for k, s, e, b, n, o, lr, values in self.pending]  # type: ignore[arg-type]
        numbers = iter(self.numbers.numbers())
        notes = []
        for kind, seconds, epoch, batch, step, optimizer, lr, values in self.pending:
            rate = None if lr is None else next(numbers)
            here = dict(zip(values, numbers, strict=False))
            notes.append(MetricRecord(kind, seconds, epoch, batch, step, here, optimizer, rate))
        return notes


class MetricQueue:
    """What the training thread notes and another thread takes. Neither waits for the other.

    Args:
        counters: The run's.
        optimizers: The run's.
    """

    def __init__(self, counters: Counters, optimizers: Iterable[Any]) -> None:
        self._counters = counters
        self._optimizers = list(optimizers)
        several = len(self._optimizers) > 1
        self._losses = [f"{LOSS}/{i}" if several else LOSS for i in range(len(self._optimizers))]
        self._waiting: deque[_Pending] = deque(maxlen=MAX_PENDING_RECORDS)
        self._noted = self._taken = 0
        self._begun = perf_counter()
        self._is_elsewhere = False  # whether any number has been left on a device
        self.windows: list[dict[int, int]] = [{} for _ in self._optimizers]  # of each optimizer: how many of each length closed
        self.host_transfer = HostTransfer()

    def begin(self) -> None:
        """The run begins now, in this thread."""
        self._begun, self.host_transfer = perf_counter(), HostTransfer()

    # ---- by the thread that trains

    def forward(self, index: int, loss: Tensor, metrics: Metrics | None) -> None:
        """Note a train batch's forward, for the optimizer with this index. A metric may have the loss's name: it counts."""
        counters = self._counters
        values: Metrics = {self._losses[index]: loss.item() if loss.is_cpu else self._left_on_device(loss)}
        if metrics:
            for name, value in metrics.items():
                values[name] = self._copied(value) if isinstance(value, Tensor) else value
        lr = self._optimizers[index].param_groups[0]["lr"]
        if isinstance(lr, Tensor):
            lr = self._copied(lr)
        self._noted += 1
        self._waiting.append(
            (
                "train",
                perf_counter() - self._begun,
                counters.current_epoch,
                counters.batch_nb,
                counters.global_step,
                index,
                lr,
                values,
            )
        )

    def window(self, index: int, length: int) -> None:
        """Note that a window of this many backwards is closed."""
        lengths = self.windows[index]
        lengths[max(1, length)] = lengths.get(max(1, length), 0) + 1  # where all are single nobody counts

    def metrics(self, kind: Kind, metrics: Metrics) -> None:
        """Note the metrics of a pass, or of a hook."""
        counters = self._counters
        at = counters.current_epoch, counters.batch_nb, counters.global_step
        values = {name: self._copied(value) if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._noted += 1
        self._waiting.append((kind, perf_counter() - self._begun, *at, None, None, values))

    def _copied(self, value: Tensor) -> Scalar:
        """A metric as it is now, whatever is written into it later."""
        return float(value.item()) if value.is_cpu else self._left_on_device(value.clone())

    def _left_on_device(self, value: Tensor) -> Tensor:
        """A number that stays on its device for now."""
        self._is_elsewhere = True
        return value.detach()

    # ---- by the thread that writes

    def pop(self, max_records: int = 8192) -> PendingRecords:
        """Take the notes that wait, the oldest first, and send their numbers to the host."""
        noted = [self._waiting.popleft() for _ in range(min(max_records, len(self._waiting)))]
        self._taken += len(noted)
        if not self._is_elsewhere:
            return PendingRecords(noted, None)
        numbers: list[Scalar] = []
        for *_, lr, values in noted:
            if lr is not None:
                numbers.append(lr)
            numbers += values.values()
        return PendingRecords(noted, self.host_transfer.copy_batch_async(numbers))

    @property
    def seconds(self) -> float:
        """What the clock of the notes shows now."""
        return perf_counter() - self._begun

    @property
    def pending(self) -> int:
        """The notes that wait."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """The notes that were pushed out before they could be taken. Exact once the run has ended."""
        return max(0, self._noted - self._taken - len(self._waiting))
