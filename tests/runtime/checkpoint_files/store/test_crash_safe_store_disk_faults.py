"""Whatever fails while a checkpoint is written: the one before stays loadable, and nothing is reported that is not so.

Every operation on files fails once here, in every way: with an error of the disk, on a full disk, with fewer bytes written
than asked for, for good from then on, and by a power cut, after which only what was synced is sure to be there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpointing.save_top_k import keep_newest
from tests.runtime.checkpoint_files.faulty_disk import Fault, FaultyDisk, PowerCut

FOLDER = "/runs/checkpoints"
CHOICES = ("all", "nothing", *range(6))


def state(number: int) -> dict[str, Any]:
    """Two files of tensors and one of JSON, so that every kind of file is written."""
    weight, step = torch.full((3,), float(number)), torch.tensor(number)
    return {"model": {"weight": weight}, "optimizers": [{"step": step}], "number": number}


def disk_with_one() -> FaultyDisk:
    disk = FaultyDisk()
    disk.make_folder("/runs")
    disk.sync_folder("/")
    Store(FOLDER, disk).save(state(1), {"number": 1})
    disk.done.clear()
    return disk


def save_second(disk: FaultyDisk) -> str:
    """What a run does: it saves, and then lets the older one go. Returns what it was told."""
    store = Store(FOLDER, disk)
    try:
        store.save(state(2), {"number": 2})
    except CheckpointError:
        return "failed"
    try:
        store.prune(keep_newest(1))
    except CheckpointError:
        return "saved, not removed"
    return "saved"


def found(disk: FaultyDisk) -> int:
    """The number in the newest checkpoint that can be loaded."""
    loaded = Store(FOLDER, disk).load_newest()
    assert loaded is not None
    number: int = loaded.tree["number"]
    assert loaded.tree["model"]["weight"].tolist() == [float(number)] * 3
    assert loaded.tree["optimizers"][0]["step"].item() == number
    assert loaded.metadata == {"number": number}
    return number


def operations() -> list[str]:
    disk = disk_with_one()
    assert save_second(disk) == "saved"
    return list(disk.done)


OPERATIONS = operations()


def once(at: int, fault: Fault) -> Callable[[int, str], Fault | None]:
    return lambda number, name: fault if number == at else None


def from_then_on(at: int, fault: Fault) -> Callable[[int, str], Fault | None]:
    return lambda number, name: fault if number >= at else None


def after_cuts(disk: FaultyDisk) -> Iterator[FaultyDisk]:
    for choice in CHOICES:
        yield disk.after_cut(random.Random(choice) if isinstance(choice, int) else choice)


def test_all_kinds_of_operations_are_tried() -> None:
    expected = {"make_folder", "lock", "create", "write", "sync", "close", "sync_folder", "rename", "names", "remove"}
    assert expected <= set(OPERATIONS)
    assert len(OPERATIONS) > 30


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "short"])
@pytest.mark.parametrize("when", [once, from_then_on])
def test_a_fault_at_any_operation_loses_nothing(fault: Fault, when: Callable[..., Any]) -> None:
    for at, name in enumerate(OPERATIONS):
        disk = disk_with_one()
        disk.fault = when(at, fault)
        told = save_second(disk)
        disk.fault = lambda number, name: None
        where = f"{fault} at {at} ({name}): {told}"
        assert told == "saved" or fault != "short", where
        for after in [disk, *after_cuts(disk)]:
            assert found(after) == 2 or told == "failed", where


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_after_a_fault_the_next_save_works_and_leaves_no_leftovers(fault: Fault) -> None:
    for at, name in enumerate(OPERATIONS):
        disk = disk_with_one()
        store = Store(FOLDER, disk)
        disk.fault = once(at, fault)
        for number in (2, 3):
            try:
                store.save(state(number), {"number": number})
            except CheckpointError:
                assert number == 2 or at >= len(OPERATIONS) // 2, (at, name)
        disk.fault = lambda number, name: None
        assert store.save(state(4), {"number": 4}).name in disk.names(FOLDER)
        store.remove_leftovers()
        assert all(name.isdigit() for name in disk.names(FOLDER)), (at, name)
        assert found(disk) == 4


def test_a_power_cut_at_any_operation_loses_nothing() -> None:
    for at, name in enumerate(OPERATIONS):
        disk = disk_with_one()
        disk.fault = from_then_on(at, "cut")
        with pytest.raises(PowerCut):
            save_second(disk)
        disk.fault = lambda number, name: None
        saved = at > len(OPERATIONS) - 1 - OPERATIONS[::-1].index("sync_folder")
        for after in after_cuts(disk):
            assert found(after) == 2 or not saved, f"cut at {at} ({name})"
            store = Store(FOLDER, after)
            for number in store.numbers():
                store.load(number)  # none is there by half, neither a new one nor one that was being removed
            store.save(state(3), {"number": 3})
            assert all(name.isdigit() for name in after.names(FOLDER)), f"cut at {at} ({name})"
            assert found(after) == 3


def test_a_power_cut_after_the_first_save_of_all_loses_nothing() -> None:
    """The folder itself is new, and so are those above it."""
    disk = FaultyDisk()
    Store("/a/b/checkpoints", disk).save(state(1), {})
    for after in after_cuts(disk):
        loaded = Store("/a/b/checkpoints", after).load_newest()
        assert loaded is not None
        assert loaded.tree["number"] == 1


def test_a_folder_that_another_process_made_may_not_be_durable_yet() -> None:
    disk = FaultyDisk()
    disk.make_folder("/checkpoints")
    Store("/checkpoints", disk).save(state(1), {})
    assert Store("/checkpoints", disk.after_cut("nothing")).numbers() == [0]


def test_leftovers_that_could_not_be_removed_are_removed_by_the_next_save() -> None:
    disk = disk_with_one()
    store = Store(FOLDER, disk)
    disk.fault = lambda number, name: "EIO" if name in ("sync", "remove") else None
    for _ in range(2):
        with pytest.raises(CheckpointError):
            store.save(state(2), {})
    assert not all(name.isdigit() for name in disk.names(FOLDER))
    disk.fault = lambda number, name: None
    store.save(state(3), {})
    assert sorted(disk.names(FOLDER)) == ["000000", "000001"]


def test_after_a_fault_while_reading_the_checkpoint_before_is_loaded() -> None:
    disk = disk_with_one()
    Store(FOLDER, disk).save(state(2), {"number": 2})
    disk.done.clear()
    assert found(disk) == 2
    reads = list(disk.done)
    for at, name in enumerate(reads[1:], start=1):
        disk.done.clear()
        disk.fault = once(at, "EIO")
        loaded = Store(FOLDER, disk).load_newest()
        assert loaded is not None
        assert loaded.tree["number"] == (2 if name == "close" else 1), name
        assert len(loaded.skipped) == (0 if name == "close" else 1)
        assert all(f"{FOLDER}/000001: " in one and "Input/output error" in one for one in loaded.skipped)
        disk.done.clear()
        disk.fault = once(at, "short")
        assert found(disk) == 2


def test_an_error_names_what_failed_and_says_that_earlier_checkpoints_are_there() -> None:
    disk = disk_with_one()
    disk.fault = from_then_on(0, "ENOSPC")
    with pytest.raises(CheckpointError, match=r"No space left on device. Earlier checkpoints are unchanged"):
        Store(FOLDER, disk).save(state(2), {})
