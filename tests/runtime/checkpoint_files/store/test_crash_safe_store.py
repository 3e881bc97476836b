"""The folder of checkpoints: what is found, what is kept, what is swept, and two that save at once."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from safetensors.torch import load_file, load_model, save_file
from torch import nn

from fsmtrain.errors import CheckpointError, CodecError
from fsmtrain.runtime.checkpoint_files.checked_io import FileDigest
from fsmtrain.runtime.checkpoint_files.files import Files
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.manifest import FILE_NAMES
from fsmtrain.runtime.checkpoint_files.tensors.safetensors_file import read_tensors, write_tensors
from fsmtrain.runtime.checkpointing.save_top_k import keep_any, keep_best, keep_newest
from tests.runtime.checkpoint_files.faulty_disk import FaultyDisk
from tests.runtime.checkpoint_files.sample_states import FLOAT_DTYPES, INTEGER_DTYPES, differences, state_trees


def state(number: int) -> dict[str, Any]:
    return {"model": {"weight": torch.full((3,), float(number))}, "number": number}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_an_empty_or_missing_folder_has_no_newest(tmp_path: Path) -> None:
    assert Store(tmp_path).load_newest() is None
    assert Store(tmp_path / "none").load_newest() is None
    assert not (tmp_path / "none").exists()


def test_the_newest_checkpoint_is_loaded_with_its_metadata(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "checkpoints")
    assert store.save(state(1), {"epoch": 0}).name == "000000"
    path = store.save(state(2), {"epoch": 1, "reason": "epoch", "val_loss": float("nan"), "$x": (1, None)})
    loaded = Store(store.folder).load_newest()
    assert loaded is not None
    assert loaded.path == path == store.folder / "000001"
    assert list(differences(state(2), loaded.tree)) == []
    assert list(loaded.metadata) == ["epoch", "reason", "val_loss", "$x"]
    assert loaded.skipped == ()
    assert list(differences(state(1), store.load(0).tree)) == []
    assert list(differences(state(1), Store("elsewhere").load(str(store.folder / "000000")).tree)) == []


@given(state_trees())
@example({"__metadata__": torch.ones(2), "a": {"__metadata__": torch.ones(3)}})
@example(torch.zeros(2, dtype=torch.int16)[::2])
def test_any_state_is_restored_from_the_files(tree: Any) -> None:
    store = Store("/checkpoints", FaultyDisk())
    copy = store.load(store.save({"model": tree, "other": [tree]}, {})).tree
    assert list(differences(tree, copy["model"])) == []
    assert list(differences([tree], copy["other"])) == []


def test_skipped_checkpoints_are_listed_with_the_reason(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(4):
        store.save(state(number), {})
    spoil(tmp_path / "000003" / "model.safetensors")
    (tmp_path / "000002" / "manifest.json").unlink()
    loaded = store.load_newest()
    assert loaded is not None
    assert loaded.tree["number"] == 1
    damaged, incomplete = loaded.skipped
    assert damaged.startswith(f"{tmp_path / '000003'}: model.safetensors: it is damaged: its SHA-256")
    assert incomplete == f"{tmp_path / '000002'}: manifest.json: No such file or directory."


def test_if_no_checkpoint_is_valid_an_error_says_why(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(state(0), {})
    spoil(tmp_path / "000000" / "state.json")
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints can be loaded.*move them away") as caught:
        store.load_newest()
    assert f"{tmp_path / '000000'}: state.json: it is damaged" in str(caught.value)


def test_numbers_continue_after_those_of_the_last_process(tmp_path: Path) -> None:
    Store(tmp_path).save(state(0), {})
    os.rename(tmp_path / "000000", tmp_path / "000041")
    assert Store(tmp_path).save(state(1), {}).name == "000042"
    (tmp_path / "000043").write_text("a file in the way")
    (tmp_path / "notes").mkdir()
    (tmp_path / "0000044").mkdir()
    assert Store(tmp_path).save(state(2), {}).name == "000044"
    (tmp_path / "1000000").mkdir()
    assert Store(tmp_path).save(state(2), {}).name == "1000001"
    assert Store(tmp_path).numbers()[-1] == 1000001


def test_other_files_in_a_checkpoint_are_ignored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(state(0), {})
    (path / "notes.txt").write_text("good one")
    assert store.load(path).tree["number"] == 0


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="it is a file, not a folder"):
        Store(tmp_path / "file").save(state(0), {})


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    store = Store(tmp_path / "near")
    store.save(state(0), {})
    assert names(tmp_path / "far") == ["000000"]
    assert store.load_newest() is not None


@pytest.mark.parametrize("metadata", [{"metric": torch.ones(1)}, {"run": print}])
def test_metadata_must_be_plain_data(tmp_path: Path, metadata: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match=r"^metadata\['run'\]|^metadata\.metric"):
        Store(tmp_path).save(state(0), metadata)
    assert names(tmp_path) == []


def test_a_checkpoint_too_large_to_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"the metadata has .* Save it in the state\. Earlier"):
        Store(tmp_path).save(state(0), {"note": "x" * 2**22})
    monkeypatch.setattr("fsmtrain.runtime.checkpoint_files.store.checkpoint.MAX_STATE_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"without its tensors the state has .* Keep long lists of numbers as tensors"):
        Store(tmp_path).save({"order": list(range(1000))}, {})
    assert names(tmp_path) == []


# ---- what is kept


def filled(folder: Path, losses: list[float]) -> Store:
    store = Store(folder)
    for number, loss in enumerate(losses):
        store.save(state(number), {"val_loss": loss})
    return store


def test_a_policy_decides_which_checkpoints_are_removed(tmp_path: Path) -> None:
    store = filled(tmp_path, [0.3, 0.1, 0.2, 0.5])
    assert store.prune(keep_any(keep_newest(1), keep_best(2, "val_loss"))) == [0]
    assert store.numbers() == [1, 2, 3]
    assert names(tmp_path) == ["000001", "000002", "000003"]
    assert store.prune(keep_best(1, "val_loss", mode="max")) == [1, 2]
    assert store.prune(keep_newest(5)) == []


def test_the_newest_valid_checkpoint_stays_under_every_policy(tmp_path: Path) -> None:
    """Also where newer ones are there that cannot be loaded."""
    filled(tmp_path, [0.1, 0.2, 0.3])
    spoil(tmp_path / "000002" / "state.json")
    store = Store(tmp_path)
    assert store.prune(keep_newest(1)) == [0]
    assert store.prune(keep_newest(0)) == [2]
    assert store.numbers() == [1]


def test_a_checkpoint_whose_manifest_cannot_be_read_is_not_removed(tmp_path: Path) -> None:
    store = filled(tmp_path, [0.1, 0.2, 0.3])
    spoil(tmp_path / "000000" / "manifest.json")
    (tmp_path / "000000" / "manifest.json").write_text("{")
    assert store.prune(keep_newest(1)) == [1]
    assert store.numbers() == [0, 2]


def test_nan_and_missing_metrics_are_never_the_best() -> None:
    abouts = {0: {"m": float("nan")}, 1: {}, 2: {"m": 2.0}, 3: {"m": 1.0}, 4: {"m": 1.0}}
    assert keep_best(2, "m")(abouts) == [3, 4]
    assert keep_best(9, "m", "max")(abouts) == [2, 3, 4]


# ---- several at once, and leftovers


def test_the_folder_of_a_live_writer_is_not_removed(tmp_path: Path) -> None:
    class Slow(Files):
        def create(self, path: str) -> int:
            assert Store(tmp_path).remove_leftovers() == []
            return super().create(path)

    Store(tmp_path, Slow()).save(state(0), {})
    assert names(tmp_path) == ["000000"]


def test_the_leftovers_of_a_dead_writer_are_removed(tmp_path: Path) -> None:
    for name in (".writing-0123", ".removing-4567"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("half of")
    (tmp_path / ".writing-link").symlink_to(tmp_path)
    (tmp_path / ".other").mkdir()
    assert Store(tmp_path).remove_leftovers() == [".removing-4567", ".writing-0123"]
    assert names(tmp_path) == [".other", ".writing-link"]


def test_a_folder_removed_before_it_is_locked_is_created_again(tmp_path: Path) -> None:
    class Unlucky(Files):
        turn = 0

        def lock(self, folder: str) -> int | None:
            self.turn += 1
            if self.turn == 1:
                assert len(Store(tmp_path).remove_leftovers()) == 1
            return super().lock(folder)

    Store(tmp_path, Unlucky()).save(state(0), {})
    assert names(tmp_path) == ["000000"]


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_folder_removed_while_it_is_being_locked_is_not_locked(tmp_path: Path, turn: int, monkeypatch: Any) -> None:
    """It was opened, and then another process swept it: the lock is on something that has no name."""
    import fcntl

    flock, turns = fcntl.flock, 0

    def late(handle: int, operation: int) -> None:
        nonlocal turns
        turns += 1
        if turns == turn:
            with monkeypatch.context() as context:
                context.setattr(fcntl, "flock", flock)
                Store(tmp_path).remove_leftovers()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    for number in range(3):
        Store(tmp_path).save(state(number), {})
    assert names(tmp_path) == ["000000", "000001", "000002"]


def test_without_locks_saving_works_and_no_leftovers_are_removed(tmp_path: Path) -> None:
    class Unlocked(Files):
        def lock(self, folder: str) -> int | None:
            raise OSError(38, "Function not implemented")

    (tmp_path / ".writing-0123").mkdir()
    Store(tmp_path, Unlocked()).save(state(0), {})
    assert names(tmp_path) == [".writing-0123", "000000"]


def test_a_number_that_another_process_takes_first_is_left_to_it(tmp_path: Path) -> None:
    class Late(Files):
        def rename(self, old: str, new: str) -> None:
            if new.endswith("000000"):
                Store(tmp_path).save(state(1), {})
            super().rename(old, new)

    assert Store(tmp_path, Late()).save(state(2), {}).name == "000001"
    assert [Store(tmp_path).load(number).tree["number"] for number in (0, 1)] == [1, 2]


def test_many_processes_can_save_at_once(tmp_path: Path) -> None:
    saved: list[Path] = []

    def save(number: int) -> None:
        store = Store(tmp_path)
        for _ in range(5):
            saved.append(store.save(state(number), {}))
            store.remove_leftovers()

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.name for path in saved}) == len(saved) == 20
    found = Counter(Store(tmp_path).load(path).tree["number"] for path in saved)
    assert found == dict.fromkeys(range(4), 5)
    assert names(tmp_path) == sorted(path.name for path in saved)


# ---- files that others read


def test_the_model_s_tensors_are_a_file_that_safetensors_loads(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Conv2d(2, 2, 3))
    kernel: Any = model[2].weight
    kernel.data = kernel.data.to(memory_format=torch.channels_last)
    path = Store(tmp_path).save({"model": model.state_dict(), "other": torch.ones(2)}, {})
    assert names(path) == sorted(["manifest.json", *FILE_NAMES])
    loaded = load_file(path / "model.safetensors")
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_tied_weights_load_into_a_model_with_safetensors(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model

    model, other = tied(), tied()
    path = Store(tmp_path).save({"model": model.state_dict()}, {})
    load_model(other, path / "model.safetensors")
    assert list(differences(dict(model.state_dict()), dict(other.state_dict()))) == []


def test_a_file_that_safetensors_wrote_is_read(tmp_path: Path) -> None:
    dtypes = [dtype for dtype in FLOAT_DTYPES + INTEGER_DTYPES if dtype != torch.complex128]
    tensors = {str(dtype): torch.ones(2, 3).to(dtype) for dtype in dtypes} | {"none": torch.empty(0, 2), "one": torch.tensor(1)}
    save_file(tensors, tmp_path / "theirs", metadata={"a": "b"})
    size = (tmp_path / "theirs").stat().st_size
    digest = hashlib.sha256((tmp_path / "theirs").read_bytes()).hexdigest()
    read = read_tensors(Files(), str(tmp_path / "theirs"), FileDigest(size, digest))
    assert {name: (t.dtype, t.tolist()) for name, t in read.items()} == {n: (t.dtype, t.tolist()) for n, t in tensors.items()}
    write_tensors(Files(), str(tmp_path / "ours"), tensors)
    assert {n: (t.dtype, t.tolist()) for n, t in load_file(tmp_path / "ours").items()} == {
        n: (t.dtype, t.tolist()) for n, t in tensors.items()
    }


def test_the_checksums_are_those_that_any_tool_computes(tmp_path: Path) -> None:
    path = Store(tmp_path).save(state(0), {"epoch": 3})
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"], manifest["about"]) == ("fsmtrain checkpoint", 1, {"epoch": 3})
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == entry["sha256"]


def test_a_large_tensor_is_written_and_read_in_pieces(tmp_path: Path) -> None:
    tree = {"large": torch.arange(3_000_000, dtype=torch.int32), "small": torch.arange(5), "more": torch.ones(700_000)}
    assert list(differences(tree, Store(tmp_path).load(Store(tmp_path).save(tree, {})).tree)) == []
