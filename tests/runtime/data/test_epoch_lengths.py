"""Train loaders whose length differs from epoch to epoch: each epoch has its own, with its own interval between validations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from fsmtrain import Guards, Loop, ModelCheckpoint, Options, Sizes, State
from fsmtrain.errors import FsmtrainError, SizesError
from tests.models import Samples, Validated, machine_of

Lengths = list[int]


class ByEpoch:
    """A batch sampler with another number of batches in each epoch, which it is told."""

    def __init__(self, lengths: Lengths) -> None:
        self.lengths, self.epoch = lengths, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.lengths[min(self.epoch, len(self.lengths) - 1)]

    def __iter__(self) -> Iterator[list[int]]:
        for i in range(len(self)):
            yield [(7 * self.epoch + i) % 50]


class Counting(ByEpoch):
    """The same, which counts its passes itself."""

    set_epoch: Any = None

    def __iter__(self) -> Iterator[list[int]]:
        yield from super().__iter__()
        self.epoch += 1


def loader_of(lengths: Lengths, kind: type[ByEpoch] = ByEpoch) -> Any:
    return DataLoader(Samples(50), batch_sampler=kind(lengths))


def events(machine: Any) -> list[tuple[str, int, int]]:
    """Run a machine; return its steps and validations with their epoch and batch."""
    met = []
    for t in machine:
        if t.source is State.STEP or (t.source is State.VAL_CHECK and t.to is not State.VAL_CHECK):
            met.append((t.source.value, t.current_epoch, t.batch_nb))
    return met


def expected(lengths: Lengths, k: int, interval: float | int, share: float, every: int) -> list[tuple[str, int, int]]:
    """The same, from nested loops."""
    met = []
    for epoch, length in enumerate(lengths):
        n = math.floor(length * Fraction(str(share)))
        check = interval if isinstance(interval, int) else max(1, math.floor(n * Fraction(str(interval))))
        for batch in range(n):
            if (batch + 1) % k == 0 or batch == n - 1:
                met.append(("step", epoch, batch))
            if (batch + 1) % check == 0 and (epoch + 1) % every == 0:
                met.append(("val_check", epoch, batch))
    return met


def quiet_machine(lengths: Lengths, kind: type[ByEpoch] = ByEpoch, **flags: Any) -> Any:
    model = Validated()
    options = {"max_nb_epochs": len(lengths), "nb_sanity_val_steps": 0, **flags}
    return machine_of(model, loader_of(lengths, kind), DataLoader(Samples(2)), **options)


@settings(max_examples=60)
@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=4),
    st.integers(1, 4),
    st.one_of(st.sampled_from([0.25, 0.5, 0.95, 1.0]), st.integers(1, 2)),
    st.sampled_from([1.0, 0.5]),
    st.integers(1, 2),
    st.sampled_from([ByEpoch, Counting]),
    st.booleans(),
)
def test_each_epoch_has_its_own_length_windows_and_validations(
    lengths: Lengths, k: int, interval: Any, share: float, every: int, kind: type[ByEpoch], second_engine: bool
) -> None:
    if kind is Counting:
        share = 1.0  # it counts only the passes that reach its end
    if isinstance(interval, int) and interval > math.floor(lengths[0] * share):
        interval = 1
    flags = {"accumulate_grad_batches": k, "val_check_interval": interval, "train_percent_check": share}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        machine = quiet_machine(lengths, kind, check_val_every_n_epoch=every, **flags)
        if second_engine:
            machine.as_transitions().model.run()
            found = [(t.source.value, t.current_epoch, t.batch_nb) for t in machine.trace if t.source is State.STEP]
            assert found == [event for event in expected(lengths, k, interval, share, every) if event[0] == "step"]
        else:
            assert events(machine) == expected(lengths, k, interval, share, every)
    assert machine.counters.batches_begun == sum(math.floor(n * Fraction(str(share))) for n in lengths)


def test_the_trace_replays_the_lengths_of_the_epochs() -> None:
    machine = quiet_machine([2, 4, 3], val_check_interval=1.0)
    machine.run()
    assert machine.trace.last()[1].epoch_batches == machine.counters.epoch_batches == 3
    assert len(machine.trace.counted) == 2 * 3  # two numbers an epoch, and none at later batches


def test_a_window_at_the_end_of_a_shorter_epoch_is_a_mean() -> None:
    """Each loss is divided by its window's own length, which the epoch's length decides."""
    machine = quiet_machine([5, 3], accumulate_grad_batches=2, val_check_interval=1.0)
    machine.run()
    model, by_hand = machine.model, Validated()
    torch.manual_seed(0)
    first = Validated()
    other = machine_of(first, loader_of([5, 3]), DataLoader(Samples(2)), max_nb_epochs=2, accumulate_grad_batches=2)
    by_hand.load_state_dict(first.state_dict())
    other.run()
    optimizer = by_hand.configure_optimizers()
    loader = loader_of([5, 3])
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        batches = list(loader)
        for start in range(0, len(batches), 2):
            window = batches[start : start + 2]
            for batch in window:
                (by_hand.loss(batch) / len(window)).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert torch.allclose(by_hand.layer.weight, first.layer.weight, atol=1e-6)  # type: ignore[arg-type]
    assert model is not None


def test_an_int_interval_longer_than_an_epoch_is_reported_once_and_that_epoch_has_no_validation() -> None:
    machine = quiet_machine([5, 3, 2, 6], val_check_interval=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        validated = [epoch for state, epoch, _ in events(machine) if state == "val_check"]
    assert validated == [0, 3]
    assert len([w for w in caught if "val_check_interval=4: this epoch has 3 batches" in str(w.message)]) == 1


def test_an_epoch_without_batches_is_an_error() -> None:
    with pytest.raises(SizesError, match="train_dataloader: it has no batches"):
        quiet_machine([3, 0]).run()
    with pytest.raises(SizesError, match=r"train_percent_check=0.5: of the 1 batch .* smallest percentage that works"):
        quiet_machine([4, 1], train_percent_check=0.5).run()


def test_a_loader_that_loses_its_length_is_an_error() -> None:
    class Losing(ByEpoch):
        def __len__(self) -> int:
            if self.epoch:
                raise TypeError
            return 3

    with pytest.raises(FsmtrainError, match="train_dataloader: its length was 3 when the run was built, and is none now"):
        quiet_machine([3, 3], Losing).run()


def test_a_val_loader_that_changes_its_length_is_an_error() -> None:
    val = loader_of([2, 5])
    machine = machine_of(Validated(), loader_of([2]), val, max_nb_epochs=2, val_check_interval=1.0)
    with pytest.raises(FsmtrainError, match="had 2 batches when the run was built, and has 5 now"):
        machine.run()


def test_the_plan_is_about_the_first_epoch_s_length_and_a_loop_by_hand_gives_the_real_ones() -> None:
    loop = Loop(Options(max_nb_epochs=2, accumulate_grad_batches=2), Sizes(train=3))
    assert loop.plan().optimizer_steps == (4,)
    steps = []
    for visit in loop:
        if visit.state is State.FETCH and visit.batch_nb == 0:
            visit.signals.epoch_length = (3, 5)[visit.current_epoch]
        if visit.state is State.STEP:
            steps.append((visit.current_epoch, visit.batch_nb))
    assert steps == [(0, 1), (0, 2), (1, 1), (1, 3), (1, 4)]


# ---- resuming


@pytest.mark.parametrize("stop_after", range(1, 12))
def test_a_run_resumes_in_an_epoch_of_another_length(stop_after: int, tmp_path: Any) -> None:
    lengths = [3, 5, 4]
    flags: dict[str, Any] = {"accumulate_grad_batches": 2, "val_check_interval": 0.5}

    def machine() -> Any:
        torch.manual_seed(1)
        callbacks = [ModelCheckpoint(dirpath=tmp_path)]
        return machine_of(
            Validated(), loader_of(lengths), DataLoader(Samples(2)), max_nb_epochs=3, callbacks=callbacks, **flags
        )

    whole = machine()
    expected_events = events(whole)
    stopped = machine()
    for transition in stopped:
        if transition.source is State.FETCH and stopped.counters.batches_begun == stop_after:
            stopped.stop()
    assert stopped.state is State.STOPPED
    resumed = machine()
    resumed.resume(tmp_path)
    rest = events(resumed)
    assert rest == expected_events[len(expected_events) - len(rest) :]
    assert resumed.counters == whole.counters
    weights = [list(machine.model.state_dict().values()) for machine in (whole, resumed)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_sampler_that_counts_its_own_epochs_cannot_be_resumed_in_silence(tmp_path: Any) -> None:
    def machine() -> Any:
        callbacks = [ModelCheckpoint(dirpath=tmp_path)]
        return machine_of(Validated(), loader_of([2, 4, 3], Counting), max_nb_epochs=3, callbacks=callbacks)

    stopped = machine()
    for transition in stopped:
        if transition.source is State.FETCH and stopped.counters.batches_begun == 4:
            stopped.stop()
    with pytest.raises(FsmtrainError, match="batches=2, checkpoint has 4"):
        machine().resume(tmp_path)


def test_a_resumed_run_takes_its_own_interval_within_the_epoch(tmp_path: Any) -> None:
    def machine(interval: int) -> Any:
        callbacks = [ModelCheckpoint(dirpath=tmp_path)]
        flags: dict[str, Any] = {"nb_sanity_val_steps": 0, "val_check_interval": interval}
        return machine_of(
            Validated(), loader_of([6]), DataLoader(Samples(2)), max_nb_epochs=1, callbacks=callbacks, guards=Guards(), **flags
        )

    stopped = machine(6)
    for transition in stopped:
        if transition.source is State.FETCH and stopped.counters.batches_begun == 1:
            stopped.stop()
    resumed = machine(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resumed.resume(tmp_path, strict=False)
    assert [batch for state, _, batch in events(resumed) if state == "val_check"] == [2, 5]
