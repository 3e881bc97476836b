"""``best_checkpoint`` and ``last_checkpoint`` of recorded runs, and what ``load_from_checkpoint`` answers to a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fsmtrain
from fsmtrain import CheckpointError, ModelCheckpoint, Trainer
from fsmtrain.errors import FsmtrainError, UsageError
from tests.models import batches, same_bits
from tests.test_ckpt_path import Scored, fitted, trainer_of


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def recorded(name: str, rule: ModelCheckpoint) -> Trainer:
    return fitted(rule, runs_dir="runs", run_name=name)[0]


@pytest.mark.parametrize("where", ["runs/class", "runs", "runs/class/checkpoints"])
def test_they_are_what_the_trainer_had(where: str) -> None:
    trainer = recorded("class", ModelCheckpoint(monitor="val_loss", save_top_k=2))
    best, last = trainer.machine.best_checkpoint, trainer.machine.last_checkpoint
    assert best is not None
    assert last is not None
    found = fsmtrain.best_checkpoint(where)
    assert (found.path.absolute(), found.monitor, found.score) == (best.path.absolute(), "val_loss", 1.0)
    assert (found.epoch, found.global_step) == (best.epoch, best.global_step)
    assert fsmtrain.last_checkpoint(where).path.absolute() == last.path.absolute()
    model = Scored.load_from_checkpoint(found)
    trainer.test(None, batches(1), ckpt_path="best")
    assert same_bits(model.state_dict(), trainer.machine.model.state_dict())


def test_of_a_folder_of_runs_it_is_the_newest_that_has_checkpoints() -> None:
    recorded("one", ModelCheckpoint(monitor="val_loss"))
    recorded("two", ModelCheckpoint(monitor="val_loss"))
    trainer_of(runs_dir="runs", run_name="three").fit(Scored(), batches(4), batches(2))
    assert fsmtrain.best_checkpoint("runs").path.parts[1] == "two"
    assert fsmtrain.last_checkpoint(Path("runs")).path.parts[1] == "two"


def test_what_has_none_is_an_error_with_a_way_out() -> None:
    recorded("plain", ModelCheckpoint())
    Path("empty").mkdir()
    for where, says in (
        ("runs/plain", "none of its checkpoints has a rank"),
        ("nowhere", "there is no such folder"),
        ("empty", "neither the folder of a run nor one of runs"),
    ):
        with pytest.raises(UsageError, match=says):
            fsmtrain.best_checkpoint(where)


def test_load_from_checkpoint_answers_a_folder_as_ckpt_path_does() -> None:
    recorded("class", ModelCheckpoint(monitor="val_loss"))
    newest = str(fsmtrain.last_checkpoint("runs/class").path)
    for where, says in (
        ("runs/class", newest),
        ("runs/class/checkpoints", newest),
        ("runs", "best_checkpoint('runs')"),
        ("best", "best_checkpoint("),
        ("nothing.pt", "there is no such checkpoint and no such file"),
        (".", "is a folder, but no checkpoint"),
    ):
        with pytest.raises(FsmtrainError) as caught:
            Scored.load_from_checkpoint(where)
        assert says in str(caught.value)
        assert str(caught.value).startswith(f"Scored.load_from_checkpoint({where!r}): ")
        assert caught.value.__cause__ is caught.value.__context__ is None
    Path(newest, "manifest.json").write_text("{")
    with pytest.raises(CheckpointError):  # it is damaged
        Scored.load_from_checkpoint(newest)
    torch.save({"state_dict": Scored().state_dict()}, "kept.pt")
    Scored.load_from_checkpoint("kept.pt")
