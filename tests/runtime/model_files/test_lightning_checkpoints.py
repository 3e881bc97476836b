"""Checkpoints of other trainers: what is kept of them, and that nothing in a file is run, whatever it is."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fsmtrain import CheckpointError, ResumeError, TrainingModule, import_checkpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.model_files import safe_torch_load
from tests.models import batches, machine_of, same_bits


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Small(TrainingModule):
    """A model that is made with its hyperparameters by name, as those of Lightning are."""

    def __init__(self, width: int = 3, lr: float = 0.1, name: str = "") -> None:
        super().__init__()
        self.save_hyperparameters(width=width, lr=lr, name=name)
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
        self.head = nn.Linear(width, 1)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.head(self.body(batch[0])).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def trained(width: int = 5) -> tuple[Small, Any, Any]:
    """A model with its optimizer and scheduler after a step."""
    torch.manual_seed(0)
    model = Small(width, 0.5, "first")
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    model.training_step([torch.randn(8, 3)], 0).backward()
    optimizer.step()
    scheduler.step()
    return model, optimizer, scheduler


def of_lightning(**more: Any) -> dict[str, Any]:
    """What Lightning puts into a checkpoint."""
    model, optimizer, scheduler = trained()
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"EarlyStopping{'monitor': 'loss'}": {"wait_count": 1, "best_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 5, "lr": 0.5, "name": "first"},
        **more,
    }


def saved(content: Any, name: str = "last.ckpt", **how: Any) -> Path:
    torch.save(content, name, **how)
    return Path(name)


# ---- what is kept


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_lightning_becomes_one_of_ours(zipped: bool) -> None:
    content = of_lightning()
    made = import_checkpoint(saved(content, _use_new_zipfile_serialization=zipped))
    assert made.path == Path("last/000000")
    assert made.imported == (
        "weights: 9 tensors with 47 numbers",
        "hyperparameters: width, lr, name",
        "1 optimizer state",
        "1 scheduler state",
        "epoch 3, global_step 120",
    )
    assert made.ignored == ("pytorch-lightning_version", "loops", "callbacks", "hparams_name")
    loaded = Store("last").load(made.path)
    for ours, theirs in (("model", "state_dict"), ("optimizers", "optimizer_states"), ("schedulers", "lr_schedulers")):
        assert same_bits(loaded.tree[ours], content[theirs])
    assert loaded.metadata == {"imported": "last.ckpt", "current_epoch": 3, "global_step": 120}
    model = Small.load_from_checkpoint(made.path)
    assert vars(model.hparams) == content["hyper_parameters"]
    assert same_bits(dict(model.state_dict()), dict(content["state_dict"]))


def test_the_next_one_in_a_folder_gets_the_next_number() -> None:
    path = saved(of_lightning())
    assert [import_checkpoint(path, "all").path.name for _ in range(2)] == ["000000", "000001"]


@pytest.mark.parametrize("name", ["model.pth", "model"])
def test_weights_alone_are_enough(name: str) -> None:
    model, *_ = trained()
    made = import_checkpoint(saved(model.state_dict(), name))
    assert made.imported == ("weights: 9 tensors with 47 numbers", "epoch and global_step: unknown")
    assert made.ignored == ()
    loaded = Store(made.path.parent).load(made.path).tree
    assert same_bits(loaded["model"], model.state_dict())
    assert loaded["model"]._metadata == model.state_dict()._metadata  # type: ignore[attr-defined]
    assert Path(name).read_bytes()  # the file is as it was


def test_the_names_of_loops_of_ones_own_are_known() -> None:
    model, optimizer, scheduler = trained()
    content = {
        "epoch": 2,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "loss": torch.tensor(0.5),
    }
    made = import_checkpoint(saved(content))
    assert made.imported[1:] == ("1 optimizer state", "1 scheduler state", "epoch 2", "global_step: unknown")
    assert made.ignored == ("loss",)


def test_tied_weights_are_stored_once_and_stay_tied() -> None:
    shared = nn.Parameter(torch.randn(100, 10))
    weights = OrderedDict({"encoder.weight": shared, "decoder.weight": shared})
    made = import_checkpoint(saved({"state_dict": weights}))
    found = Store("last").load(made.path).tree["model"]
    assert found["encoder.weight"].data_ptr() == found["decoder.weight"].data_ptr()
    assert (made.path / "model.safetensors").stat().st_size < 5_000


def test_what_a_module_adds_to_its_weights_is_kept() -> None:
    weights = {"layer.weight": torch.ones(2), "layer._extra_state": {"seen": 3}}
    made = import_checkpoint(saved(weights))
    assert Store("last").load(made.path).tree["model"]["layer._extra_state"] == {"seen": 3}


def test_a_model_can_be_loaded_from_another_trainer_s_file() -> None:
    content = of_lightning()
    model = Small.load_from_checkpoint(saved(content))
    assert vars(model.hparams) == content["hyper_parameters"]
    assert same_bits(dict(model.state_dict()), dict(content["state_dict"]))


def test_hyperparameters_that_are_not_plain_data_are_listed_as_ignored() -> None:
    made = import_checkpoint(saved(of_lightning(hyper_parameters={"width": 5, "mean": torch.ones(3)})))
    assert "hyperparameters: width" in made.imported
    assert "hyperparameter mean" in made.ignored


def test_an_imported_checkpoint_cannot_be_resumed_but_its_weights_can_be_used() -> None:
    made = import_checkpoint(saved(of_lightning()))
    model = Small.load_from_checkpoint(made.path)
    machine = machine_of(model, batches(8), max_nb_epochs=1)
    with pytest.raises(ResumeError, match=r"imported from 'last.ckpt'.*no run can continue from it.*load_from_checkpoint"):
        machine.resume(made.path)
    assert machine_of(model, batches(8), max_nb_epochs=1).run().counters.epochs_done == 1


# ---- what is refused


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


class Setting:
    """A class of a user's own."""


def refused(path: Path) -> str:
    """What is said of a file that is refused; and nothing was run, and nothing made."""
    with pytest.raises(CheckpointError) as error:
        import_checkpoint(path, "made")
    assert not Path("evil").exists()
    assert not Path("made").exists()
    said = str(error.value)
    assert "weights_only" not in said  # nobody is told to switch safety off
    assert "\n" not in said
    return said


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks"])
def test_nothing_in_a_file_is_run(place: str, zipped: bool) -> None:
    said = refused(saved(of_lightning(**{place: Evil()}), _use_new_zipfile_serialization=zipped))
    assert f"it refers to {os.mkdir.__module__}.mkdir, and unpickling it would run code" in said


def test_a_pickle_of_pythons_own_is_not_run_either() -> None:
    Path("own.pt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    refused(Path("own.pt"))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Setting(), "tests.runtime.model_files.test_lightning_checkpoints.Setting"),
        (Path("x"), "pathlib."),
        (argparse.Namespace(a=1), "argparse.Namespace"),
    ],
)
def test_a_class_is_refused_with_its_name_and_the_way_out(value: Any, name: str) -> None:
    said = refused(saved(of_lightning(hyper_parameters={"it": value})))
    assert f"it refers to {name}" in said
    assert "leave the object out, or save it as numbers and text: torch.save({'state_dict': model.state_dict()" in said


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_reported_as_truncated(part: float, zipped: bool) -> None:
    path = saved(of_lightning(), _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "cut off" in refused(path) or "empty" in refused(path)


def test_a_folder_and_a_missing_file_are_reported_as_such() -> None:
    Path("folder").mkdir()
    assert "folder is a folder, not a file of torch.save. If it is a sharded checkpoint" in refused(Path("folder"))
    made = import_checkpoint(saved(of_lightning())).path
    assert "It is a checkpoint of fsmtrain already" in refused(made)
    assert "nowhere.ckpt: cannot be read: No such file" in refused(Path("nowhere.ckpt"))


@pytest.mark.parametrize("content", [b"hello, world", b"{}", b"\x89PNG\r\n\x1a\n0000", b"\x01" * 1000])
def test_a_file_of_another_kind_is_reported_as_no_checkpoint(content: bytes) -> None:
    Path("some.pt").write_bytes(content)
    assert "not a file of torch.save" in refused(Path("some.pt"))


def test_a_safetensors_file_is_known() -> None:
    made = import_checkpoint(saved(of_lightning())).path
    assert "safetensors.torch.load_model(model, path)" in refused(made / "model.safetensors")


@pytest.mark.parametrize(
    ("content", "says"), [([1, 2], "contains a list"), ({"a": 1, "b": 2}, "its keys are 'a', 'b'."), ({}, "its keys are none.")]
)
def test_the_error_for_a_file_without_weights_lists_its_keys(content: Any, says: str) -> None:
    assert says in refused(saved(content))


def rezipped(path: Path, how: int, **changed: bytes) -> None:
    """The same archive, packed in another way, with other content of some files."""
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in content.items():
            archive.writestr(name, changed.get(name.rpartition("/")[2], data))


def test_a_file_that_unpacks_to_more_than_it_has_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved({"state_dict": {"weight": torch.zeros(1_000_000)}})
    rezipped(path, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(torch, "load", None)
    assert "it is compressed, and may have any size when unpacked" in refused(path)


def test_a_pickle_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(of_lightning())
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(safe_torch_load, "MAX_PICKLE_BYTES", 1000)
    assert "without its tensors it has" in refused(path)


def test_a_tensor_that_repeats_one_number_without_end_is_refused() -> None:
    many = torch.ones(1).expand(2**40)
    assert "would take many times as much" in refused(saved({"state_dict": {"weight": many}}))


def test_a_list_of_lists_of_lists_is_refused() -> None:
    nest: Any = [0] * 10
    for _ in range(9):
        nest = [nest] * 10
    content = {**of_lightning(), "hyper_parameters": {"nest": nest}}
    assert "would take many times as much" in refused(saved(content))


def test_a_tensor_that_claims_more_than_the_file_has_is_refused() -> None:
    """A pickle of the old kind says how large a tensor's memory is to be: here with a number that was changed."""
    whole = io.BytesIO()
    torch.save({"weight": torch.zeros(77777)}, whole, _use_new_zipfile_serialization=False)
    small = pickle.dumps(77777, 2)[2:-1]
    assert whole.getvalue().count(small) == 2  # of the memory, and of the tensor
    Path("large.pt").write_bytes(whole.getvalue().replace(small, pickle.dumps(2**31 - 1, 2)[2:-1]))
    refused(Path("large.pt"))
