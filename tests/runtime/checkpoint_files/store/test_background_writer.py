"""Saving in the background: what is saved is the moment of the call, memory is bounded, and errors are told, not raised."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given

from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.codec.codec import encode_unnamed
from fsmtrain.runtime.checkpoint_files.files import Files
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.snapshots import take_snapshot
from fsmtrain.runtime.checkpointing.save_top_k import keep_newest
from tests.models import bits_of
from tests.runtime.checkpoint_files.faulty_disk import FaultyDisk
from tests.runtime.checkpoint_files.sample_states import differences, state_trees, tensors_in


class Gate(Files):
    """A file system in which nothing is created until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = threading.Event()

    def create(self, path: str) -> int:
        self.reached.set()
        assert self.opened.wait(60)
        return super().create(path)


def state(number: int) -> dict[str, Any]:
    return {"weight": torch.full((3,), float(number)), "number": number}


def saved(store: Store) -> list[int]:
    return [store.load(number).tree["number"] for number in store.numbers()]


def test_the_state_at_the_call_is_saved_not_a_later_one(tmp_path: Path) -> None:
    gate = Gate()
    tree: Any = {"weight": torch.zeros(3), "items": [1], "array": torch.zeros(3).numpy()}
    with closing(BackgroundWriter(Store(tmp_path, gate))) as writer:
        writer.submit(tree, {"step": 1})
        tree["weight"] += 1
        tree["items"].append(2)
        tree["array"] += 1
        gate.opened.set()
    loaded = Store(tmp_path).load(0)
    assert loaded.tree["weight"].tolist() == loaded.tree["array"].tolist() == [0, 0, 0]
    assert loaded.tree["items"] == [1]
    assert loaded.metadata == {"step": 1}
    assert writer.last_saved == loaded.path


def test_a_newer_state_replaces_the_one_that_waits(tmp_path: Path) -> None:
    gate = Gate()
    with closing(BackgroundWriter(Store(tmp_path, gate))) as writer:
        writer.submit(state(0), {})
        assert gate.reached.wait(60)
        for number in range(1, 5):
            writer.submit(state(number), {})
        gate.opened.set()
    assert saved(writer.store) == [0, 4]


def test_a_state_that_must_be_kept_is_not_replaced(tmp_path: Path) -> None:
    gate = Gate()
    with closing(BackgroundWriter(Store(tmp_path, gate))) as writer:
        writer.submit(state(0), {})
        assert gate.reached.wait(60)
        writer.submit(state(1), {}, must_keep=True)
        threading.Timer(0.05, gate.opened.set).start()
        writer.submit(state(2), {})  # waits until the one before is being written
        writer.submit(state(3), {})
    assert saved(writer.store)[:2] == [0, 1]
    assert saved(writer.store)[-1] == 3


def test_at_most_two_copies_of_a_state_exist(tmp_path: Path) -> None:
    """Their memory is used again and again."""
    gate = Gate()
    met: list[torch.Tensor] = []  # so that none is freed, and its place taken by a new one
    with closing(BackgroundWriter(Store(tmp_path, gate), keep_newest(1))) as writer:
        for number in range(12):
            writer.submit(state(number), {})
            if (waiting := writer._waiting) is not None:
                met += waiting.named().tensors.values()
            if number == 5:
                gate.opened.set()
                writer.wait()
    assert 1 <= len({tensor.data_ptr() for tensor in met}) <= 2


def test_the_memory_of_a_written_snapshot_is_reused(tmp_path: Path) -> None:
    used = []
    with closing(BackgroundWriter(Store(tmp_path))) as writer:
        for number in range(3):
            writer.submit(state(number), {})
            writer.wait()
            assert writer._spare is not None
            used.append([tensor.data_ptr() for free in writer._spare._free.values() for tensor in free])
    assert used[0] == used[1] == used[2]


def test_memory_of_another_size_is_not_reused() -> None:
    first = take_snapshot(encode_unnamed({"a": torch.zeros(3), "b": torch.zeros(2), "c": torch.zeros(2)}), {})
    fitting = first.named().tensors["c"]
    tree = {"a": torch.ones(4), "b": torch.ones(2, dtype=torch.int32), "c": torch.ones(2)}
    second = take_snapshot(encode_unnamed(tree), {}, spare=first.spare_memory())
    assert list(differences(tree, second.named().tensors)) == []
    assert second.named().tensors["c"] is fitting


def test_a_save_takes_no_more_memory_than_two_copies_also_of_states_that_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is written and one that waits; memory that no longer fits is freed before more is allocated."""
    gate, copies, most = Gate(), weakref.WeakSet[torch.Tensor](), 0

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal most
        copy = torch.empty_like(tensor)
        copies.add(copy)
        most = max(most, len(copies))
        return copy

    monkeypatch.setattr("fsmtrain.runtime.checkpoint_files.store.snapshots._host_memory", counted)
    with closing(BackgroundWriter(Store(tmp_path, gate), keep_newest(1))) as writer:
        for number in range(12):
            writer.submit({"a": torch.zeros(number + 1), "b": torch.zeros(number + 1, 2)}, {})
            if number == 5:
                gate.opened.set()
                writer.wait()
    assert most == 4  # two copies of two tensors


def test_tensors_that_change_places_keep_their_memory() -> None:
    """Gradients are there at one save and not at the next."""
    first = take_snapshot(encode_unnamed([torch.zeros(2), torch.zeros(3), torch.zeros(2)]), {})
    places = {stored.tensor.data_ptr() for stored in first.unnamed.tensors}
    second = take_snapshot(encode_unnamed([torch.ones(3), torch.ones(2)]), {}, spare=first.spare_memory())
    assert {stored.tensor.data_ptr() for stored in second.unnamed.tensors} <= places


def test_a_save_keeps_no_tensor_of_the_state_alive(tmp_path: Path) -> None:
    gate, state = Gate(), {"gradient": torch.zeros(3)}
    gradient = weakref.ref(state["gradient"])
    with closing(BackgroundWriter(Store(tmp_path, gate))) as writer:
        writer.submit(state, {})
        state.clear()
        assert gradient() is None
        gate.opened.set()


def test_a_state_that_cannot_be_saved_does_not_replace_the_one_that_waits(tmp_path: Path) -> None:
    gate = Gate()
    with closing(BackgroundWriter(Store(tmp_path, gate))) as writer:
        writer.submit(state(0), {})
        assert gate.reached.wait(60)
        writer.submit(state(1), {})
        with pytest.raises(CodecError):
            writer.submit({"hook": print}, {})
        gate.opened.set()
    assert saved(writer.store) == [0, 1]


@pytest.mark.parametrize("collects", [True, False])
def test_a_save_leaves_garbage_collection_as_the_user_set_it(tmp_path: Path, *, collects: bool) -> None:
    try:
        (gc.enable if collects else gc.disable)()
        with closing(BackgroundWriter(Store(tmp_path))) as writer:
            writer.submit(state(0), {})
            with pytest.raises(CodecError):
                writer.submit({"hook": print}, {})
            assert gc.isenabled() is collects
    finally:
        gc.enable()


@given(state_trees())
def test_a_snapshot_shares_no_memory_with_its_state(tree: Any) -> None:
    encoded = take_snapshot(encode_unnamed(tree), {}).named()
    before = [bits_of(tensor) for tensor in encoded.tensors.values()]
    with torch.no_grad():
        for tensor in tensors_in(tree):
            tensor.zero_()
    assert [bits_of(tensor) for tensor in encoded.tensors.values()] == before


def test_a_state_that_cannot_be_saved_is_an_error_at_the_call(tmp_path: Path) -> None:
    with closing(BackgroundWriter(Store(tmp_path))) as writer, pytest.raises(CodecError, match=r"^hook: a function"):
        writer.submit({"hook": print}, {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_once_and_training_continues() -> None:
    disk = FaultyDisk()
    told: list[str] = []
    writer = BackgroundWriter(Store("/checkpoints", disk), report=told.append)
    writer.submit(state(0), {})
    writer.wait()
    disk.fault = lambda number, name: "ENOSPC" if name == "write" else None
    for number in range(1, 4):
        writer.submit(state(number), {})
        writer.wait()
    assert len(told) == 1
    assert "the checkpoint was not saved: No space left on device" in told[0]
    assert writer.last_saved == Path("/checkpoints/000000")
    disk.fault = lambda number, name: None
    writer.submit(state(4), {})
    writer.close()
    assert told[1:] == ["/checkpoints: 3 checkpoints were not saved, for the same reason: No space left on device."]
    assert saved(writer.store) == [0, 4]
    assert sorted(disk.names("/checkpoints")) == ["000000", "000001"]


def test_without_a_report_an_error_is_a_warning() -> None:
    disk = FaultyDisk()
    disk.fault = lambda number, name: "EIO"
    writer = BackgroundWriter(Store("/checkpoints", disk))
    writer.submit(state(0), {})
    with pytest.warns(UserWarning, match="Input/output error"):
        writer.close()


def test_errors_are_raised_in_the_thread_that_submits() -> None:
    disk = FaultyDisk()
    disk.fault = lambda number, name: "EIO"
    threads: list[threading.Thread] = []
    writer = BackgroundWriter(Store("/checkpoints", disk), report=lambda message: threads.append(threading.current_thread()))
    writer.submit(state(0), {})
    writer.close()
    assert threads == [threading.current_thread()]


def test_a_policy_is_followed_after_each_save(tmp_path: Path) -> None:
    with closing(BackgroundWriter(Store(tmp_path), keep_newest(2))) as writer:
        for number in range(5):
            writer.submit(state(number), {})
            writer.wait()
    assert saved(writer.store) == [3, 4]


def test_a_policy_that_raises_is_reported_and_the_checkpoint_stays(tmp_path: Path) -> None:
    told: list[str] = []

    def policy(abouts: Any) -> list[int]:
        raise KeyError("val_loss")

    with closing(BackgroundWriter(Store(tmp_path), policy, report=told.append)) as writer:
        writer.submit(state(0), {})
    assert told == [f"{tmp_path}: the checkpoint was not saved: KeyError('val_loss')"]
    assert saved(writer.store) == [0]


def test_the_thread_lives_only_while_there_is_something_to_write(tmp_path: Path) -> None:
    before = threading.active_count()
    writer = BackgroundWriter(Store(tmp_path))
    writer.submit(state(0), {})
    writer.close()
    writer.close()
    for thread in threading.enumerate():
        if thread.name == "fsmtrain saving":
            thread.join()
    assert threading.active_count() == before
    writer.submit(state(1), {})  # goes on after close
    writer.close()
    assert saved(writer.store) == [0, 1]


def test_no_memory_for_a_copy_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    writer = BackgroundWriter(Store(tmp_path), report=told.append)

    def empty(*sizes: Any, **options: Any) -> None:
        raise RuntimeError("not enough memory: you tried to allocate 8 bytes")

    with monkeypatch.context() as context:
        context.setattr("fsmtrain.runtime.checkpoint_files.store.snapshots._host_memory", empty)
        writer.submit(state(0), {})
    assert "could not be copied: not enough memory" in told[0]
    writer.submit(state(1), {})
    writer.close()
    assert saved(writer.store) == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_state_on_a_gpu_is_copied_as_it_was(tmp_path: Path) -> None:
    weight = torch.arange(1_000_000.0, device="cuda")
    turned = torch.randn(2, 3, 4, 5, device="cuda").to(memory_format=torch.channels_last)
    expected = weight.cpu(), turned.cpu()
    with closing(BackgroundWriter(Store(tmp_path))) as writer:
        for _ in range(3):
            writer.submit({"weight": weight, "turned": turned, "tied": weight.view(1000, 1000)}, {})
            weight.add_(1)
    loaded = Store(tmp_path).load(0).tree
    assert torch.equal(loaded["weight"], expected[0])
    assert loaded["weight"].untyped_storage().data_ptr() == loaded["tied"].untyped_storage().data_ptr()
    assert loaded["turned"].stride() == turned.stride()
