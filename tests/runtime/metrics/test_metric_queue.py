"""The metrics that a run leaves behind: that nobody waits for a device, and that memory is bounded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fsmtrain.core.counters import Counters
from fsmtrain.runtime.metrics import metric_queue as module
from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingCopy
from fsmtrain.runtime.metrics.metric_queue import MetricQueue


class Parcel:
    """Numbers on their way from a device."""

    def __init__(self, numbers: list[float]) -> None:
        self.numbers, self.here = numbers, False

    def arrived(self) -> bool:
        return self.here

    def values(self) -> list[float]:
        assert self.here, "the numbers were read before they came"
        return self.numbers


class Device:
    """A device that numbers what is asked of it: 0, 1, 2, ..."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.asked = 0

    def __call__(self, tensors: Sequence[Tensor]) -> PendingCopy:
        assert len({tensor.dtype for tensor in tensors}) == 1
        self.parcels.append(Parcel([float(self.asked + i) for i in range(len(tensors))]))
        self.asked += len(tensors)
        return self.parcels[-1]


def notes_of(lr: float | Tensor = 0.1) -> MetricQueue:
    """The notes of a run with one optimizer."""
    return MetricQueue(Counters.begin(1), [torch.optim.SGD([torch.zeros(1)], lr=lr)], lambda: None)


def test_numbers_of_a_device_come_together_in_one_copy_for_each_dtype_and_are_read_when_they_have_come() -> None:
    notes, device = notes_of(), Device()
    notes.host_transfer = HostTransfer({"meta": device})
    loss, count = torch.empty((), device="meta"), torch.empty((), device="meta", dtype=torch.int64)
    for batch in range(3):
        notes._counters.batch_nb = batch
        notes.forward(0, loss, {"here": 7.0, "count": count})
    taken = notes.pop()
    assert len(device.parcels) == 2
    assert not taken.arrived
    for parcel in device.parcels:
        parcel.here = True
    assert taken.arrived
    told = [(note.batch, note.lr, note.values) for note in taken.records()]
    assert told == [(b, 0.1, {"loss": float(b), "here": 7.0, "count": 3.0 + b}) for b in range(3)]


def test_the_learning_rate_is_that_of_the_batch_also_where_it_is_a_tensor_or_the_groups_are_replaced() -> None:
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=rate)
    notes = MetricQueue(Counters.begin(1), [optimizer], lambda: None)
    notes.forward(0, torch.tensor(1.0), None)
    optimizer.param_groups[0]["lr"].fill_(0.25)
    notes.forward(0, torch.tensor(1.0), None)
    optimizer.load_state_dict({"state": {}, "param_groups": [{**optimizer.state_dict()["param_groups"][0], "lr": 0.125}]})
    notes.forward(0, torch.tensor(1.0), None)
    assert [note.lr for note in notes.pop().records()] == [0.5, 0.25, 0.125]


def test_a_full_queue_makes_the_training_thread_wait_and_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_RECORDS", 100)
    taken: list[int] = []
    notes = MetricQueue(
        Counters.begin(1),
        [torch.optim.SGD([torch.zeros(1)], lr=0.1)],
        lambda: taken.extend(note.batch for note in notes.pop(60).records()),
    )
    for batch in range(250):
        notes._counters.batch_nb = batch
        notes.forward(0, torch.tensor(1.0), None)
        assert notes.pending <= 100
    assert (notes.appended, notes.popped) == (250, len(taken))
    assert [*taken, *(note.batch for note in notes.pop().records())] == list(range(250))


def test_windows_are_counted_by_their_lengths() -> None:
    notes = notes_of()
    for length in (4, 4, 1, 0):  # 0: nobody counts where each window is a single backward
        notes.window(0, length)
    assert notes.windows == [{4: 2, 1: 2}]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_numbers_of_a_gpu_are_noted_without_waiting_and_as_they_were() -> None:
    loss, metric = torch.zeros((), device="cuda"), torch.zeros((), device="cuda")
    notes = notes_of()
    notes.begin()
    torch.cuda.synchronize()
    torch.cuda._sleep(1_000_000_000)  # type: ignore[no-untyped-call]
    for step in range(3):
        metric.fill_(step)
        notes.forward(0, loss + step, {"metric": metric})
    taken = notes.pop()
    assert not taken.arrived
    torch.cuda.synchronize()
    assert [note.values for note in taken.records()] == [{"loss": float(s), "metric": float(s)} for s in range(3)]
