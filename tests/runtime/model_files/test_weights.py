"""Checkpoints of weights and hyperparameters: written whole, read without running anything."""

from __future__ import annotations

import argparse
import csv
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from fsmtrain import FsmtrainError, Guards, LightningModule, Trainer, every_n_batches
from fsmtrain.errors import UsageError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.model_files.hparams import HParams, read_tags_csv
from tests.bounded import bounded
from tests.models import batches, same_bits, weights
from tests.strange_files import SAYS, STRANGE_FILES, make_strange_file


class Sized(LightningModule):
    """A model whose shape is a hyperparameter."""

    def __init__(self, hparams: Any = None) -> None:
        super().__init__()
        self.hparams = hparams
        width = 1 if hparams is None else hparams.width
        self.layer = torch.nn.Linear(3, width)

    def training_step(self, batch: Any, batch_nb: int) -> Tensor:
        out: Tensor = self.layer(batch[0])
        return out.pow(2).mean()

    def validation_step(self, batch: Any, batch_nb: int) -> dict[str, Tensor]:
        return {"val_loss": self.training_step(batch, batch_nb)}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@attrs.frozen
class Frozen:
    width: int = 4
    rate: float = 0.5


@dataclass
class Plain:
    width: int = 4
    rate: float = 0.5


def fitted(model: LightningModule) -> Trainer:
    trainer = Trainer(max_nb_epochs=1, progress_bar=False, device="cpu")
    trainer.fit(model, batches(4))
    return trainer


@pytest.mark.parametrize("hparams", [argparse.Namespace(width=4, rate=0.5), Frozen(), Plain()])
def test_a_saved_model_is_loaded_with_its_hyperparameters(tmp_path: Path, hparams: Any) -> None:
    model = Sized(hparams)
    fitted(model).save_checkpoint(tmp_path / "deep" / "model.ckpt")
    loaded = Sized.load_from_checkpoint(tmp_path / "deep" / "model.ckpt")
    assert same_bits(weights(loaded), weights(model))
    assert (loaded.hparams.width, loaded.hparams["rate"]) == (4, 0.5)
    assert not loaded.training
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["meta_tags.csv", "model.ckpt"]


def test_the_page_s_second_case_tests_a_loaded_model(tmp_path: Path) -> None:
    model = Sized(argparse.Namespace(width=4, rate=0.5, name='a, "b"', deep=True))
    fitted(model).save_checkpoint(tmp_path / "model.ckpt")
    loaded = Sized.load_from_metrics(weights_path=tmp_path / "model.ckpt", tags_csv=tmp_path / "meta_tags.csv")
    assert vars(loaded.hparams) == {"width": 4, "rate": 0.5, "name": 'a, "b"', "deep": True}
    assert same_bits(weights(loaded), weights(model))
    metrics = Trainer(progress_bar=False).validate(loaded, batches(4))
    assert set(metrics) == {"val_loss"}


def test_tags_are_read_as_bool_int_float_and_text(tmp_path: Path) -> None:
    rows = [("key", "value"), ("a", "True"), ("b", "-3"), ("c", "1e-3"), ("d", "adam"), ("e", "False"), ("f", "")]
    with (tmp_path / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert vars(read_tags_csv(tmp_path / "tags.csv")) == {"a": True, "b": -3, "c": 0.001, "d": "adam", "e": False, "f": ""}


def test_a_file_with_another_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("name,value\n")
    with pytest.raises(FsmtrainError, match="key,value"):
        read_tags_csv(tmp_path / "tags.csv")


def test_save_hyperparameters_keeps_plain_data(tmp_path: Path) -> None:
    model = Sized()
    model.save_hyperparameters({"width": 1}, rate=0.5)
    assert (model.hparams.width, model.hparams["rate"], dict(**model.hparams)) == (1, 0.5, {"width": 1, "rate": 0.5})
    with pytest.raises(FsmtrainError, match=r"hparams: layer=.*cannot be saved"):
        model.save_hyperparameters(layer=torch.nn.Linear(1, 1))


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("content", ["pickle", "torch", "text"])
def test_nothing_in_a_file_is_run(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.ckpt"
    if content == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    elif content == "torch":
        torch.save({"state_dict": Evil()}, path)
    else:
        path.write_text("hello")
    with pytest.raises(FsmtrainError, match="cannot be read as weights"):
        Sized.load_from_checkpoint(path)
    assert not (tmp_path / "evil").exists()


def test_the_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    fitted(Sized(argparse.Namespace(width=4))).save_checkpoint(tmp_path / "model.ckpt")

    class Other(Sized):
        def __init__(self, hparams: Any = None) -> None:
            super().__init__()

    with pytest.raises(FsmtrainError, match="do not fit this Other"):
        Other.load_from_checkpoint(tmp_path / "model.ckpt")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ckpt"
    trainer = fitted(Sized())
    trainer.save_checkpoint(path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save_checkpoint(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["meta_tags.csv", "model.ckpt"]


def test_nothing_can_be_saved_before_a_fit(tmp_path: Path) -> None:
    with pytest.raises(FsmtrainError, match="save_checkpoint: there is no model yet"):
        Trainer().save_checkpoint(tmp_path / "model.ckpt")


def test_a_missing_gpu_is_an_error_that_names_it(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    fitted(Sized(argparse.Namespace(width=4))).save_checkpoint(tmp_path / "model.ckpt")
    with pytest.warns(UserWarning, match="there is no GPU"):
        model = Sized.load_from_metrics(tmp_path / "model.ckpt", tmp_path / "meta_tags.csv", on_gpu=True)
    assert next(model.parameters()).device.type == "cpu"


def test_a_save_guard_writes_a_checkpoint_at_each_batch_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = Sized(argparse.Namespace(width=4))
    trainer = Trainer(max_nb_epochs=2, progress_bar=False, device="cpu", guards=Guards(save=every_n_batches(2)))
    trainer.fit(model, batches(8, 2))
    assert trainer.machine.checkpoints == tmp_path / "runs" / "0" / "checkpoints"
    store = Store(trainer.machine.checkpoints)
    abouts = store.metadata().values()
    assert [(about["current_epoch"], about["batch_nb"]) for about in abouts] == [(0, 1), (0, 3), (1, 1), (1, 3)]
    assert same_bits(weights(Sized.load_from_checkpoint(store.folder / f"{store.numbers()[-1]:06}")), weights(model))


# ---- files that others wrote


@pytest.mark.parametrize("name", ["self", "__class__", "__dict__", "__init__", ""])
def test_a_name_that_no_hyperparameter_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "tags.csv").write_text(f"key,value\nlr,0.1\n{name},3\n")
    with pytest.raises(UsageError, match=rf"tags.csv': '{name}' cannot be the name of a hyperparameter"):
        read_tags_csv(tmp_path / "tags.csv")


HOSTILE_TAGS = {
    "no text": b"key,value\nlr,\xff\xfe\n",
    "UTF-16": "key,value\nlr,1\n".encode("utf-16"),
    "a cell of 1 MB": b"key,value\nlr," + b"x" * 2**20 + b"\n",
    "a quote that never ends": b'key,value\nlr,"' + b"x\n" * 2**19,
    "a binary file": bytes(range(256)) * 100,
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE_TAGS)
def test_tags_that_cannot_be_read_are_an_error_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / "tags.csv").write_bytes(HOSTILE_TAGS[name])
    with bounded(len(HOSTILE_TAGS[name])), pytest.raises(UsageError, match="tags_csv="):
        read_tags_csv(tmp_path / "tags.csv")


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_is_no_file_of_tags_is_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    make_strange_file(tmp_path / "tags.csv", kind)
    with bounded(0), pytest.raises(UsageError, match=SAYS):
        read_tags_csv(tmp_path / "tags.csv")


def test_hyperparameters_may_have_the_names_of_a_dicts_methods(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("key,value\nitems,3\nkeys,4\nget,5\n")
    assert vars(read_tags_csv(tmp_path / "tags.csv")) == {"items": 3, "keys": 4, "get": 5}
    assert vars(HParams(self=1)) == {"self": 1}
