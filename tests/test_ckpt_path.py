"""``trainer.test(ckpt_path=)`` and ``validate``: which weights are loaded, and what is said of it."""

from __future__ import annotations

import copy
import pydoc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fsmtrain import Callback, FsmtrainError, ModelCheckpoint, Options, Trainer, build
from fsmtrain.errors import FsmtrainWarning, ModelError, RenamedError, UsageError
from tests.models import Linear, batches, same_bits, weights

VALUES = (3.0, 1.0, 2.0)


class Scored(Linear):
    """Validations return the values of the list in turn; the test returns the sum of the weights."""

    def __init__(self, values: tuple[float, ...] = VALUES) -> None:
        super().__init__()
        self.values, self.seen = list(values), list[Any]()
        self.loaded: Any = None

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {}

    def validation_end(self, outputs: Any) -> Any:
        self.seen.append(weights(self))
        return {"val_loss": torch.tensor(self.values[len(self.seen) - 1])} if self.values else {"sum": self.sum}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        return {"sum": self.sum}

    @property
    def sum(self) -> Tensor:
        return sum((p.detach().double().sum() for p in self.parameters()), torch.tensor(0.0, dtype=torch.float64))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["checks"] = len(self.seen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.loaded = checkpoint["checks"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trainer_of(*callbacks: object, **flags: Any) -> Trainer:
    given: dict[str, Any] = {"max_nb_epochs": len(VALUES), "nb_sanity_val_steps": 0, "val_check_interval": 1.0, "quiet": True}
    return Trainer(**{**given, **flags}, callbacks=callbacks)


def fitted(rule: object | None = None, model: Any = None, **flags: Any) -> tuple[Trainer, Any]:
    torch.manual_seed(0)
    model = model or Scored()
    trainer = trainer_of(rule or ModelCheckpoint(monitor="val_loss"), **flags)
    trainer.fit(model, batches(4), batches(2))
    return trainer, model


def test_the_best_weights_are_tested_and_stay_in_the_model() -> None:
    trainer, model = fitted()
    last = weights(model)
    result = trainer.test(None, batches(1), ckpt_path="best")
    assert same_bits(weights(model), model.seen[1])
    assert not same_bits(weights(model), last)
    assert result["sum"] == float(model.sum)
    assert model.loaded == 1  # on_load_checkpoint, with what on_save_checkpoint had written
    best = trainer.machine.best_checkpoint
    assert best is not None
    assert (best.monitor, best.score, best.path.name) == ("val_loss", 1.0, "000001")
    trainer.test(None, batches(1), ckpt_path="last")
    assert same_bits(weights(model), last)
    trainer.test(None, batches(1), ckpt_path=best)
    assert same_bits(weights(model), model.seen[1])
    trainer.test(None, batches(1))
    assert same_bits(weights(model), model.seen[1])  # as they are


def test_a_damaged_checkpoint_that_may_be_the_best_is_named_when_another_is_taken_for_it() -> None:
    trainer, _ = fitted(ModelCheckpoint(monitor="val_loss", save_top_k=-1))
    best = trainer.machine.best_checkpoint
    assert best is not None
    (best.path / "manifest.json").write_text("{")
    with pytest.warns(FsmtrainWarning, match=f"is the best one is unknown, because it is damaged: .*{best.path.name}"):
        assert trainer.machine.best_checkpoint not in (None, best)


def test_validate_takes_the_same_weights() -> None:
    trainer, model = fitted()
    best = copy.deepcopy(model.seen[1])
    model.values = []
    assert trainer.validate(None, batches(2), ckpt_path="best")["sum"] == float(model.sum)
    assert same_bits(weights(model), best)


def test_a_path_is_tested_by_a_trainer_that_has_fitted_nothing() -> None:
    trainer, model = fitted()
    trainer.save_checkpoint("weights.pt")
    best = trainer.machine.best_checkpoint
    assert best is not None
    for path, seen in ((str(best.path), model.seen[1]), (best.path, model.seen[1]), ("weights.pt", weights(model))):
        other = Scored()
        trainer_of().test(other, batches(1), ckpt_path=path)
        assert same_bits(weights(other), seen)


def test_a_compiled_model_takes_the_best_weights() -> None:
    trainer, model = fitted()
    other = Scored()
    compiled: Any = torch.compile(other, backend="eager")
    trainer.test(compiled, batches(1), ckpt_path="best")
    assert same_bits(weights(other), model.seen[1])


def test_the_metrics_are_recorded_at_the_step_of_the_weights() -> None:
    trainer, _ = fitted()
    best = trainer.machine.best_checkpoint
    assert best is not None
    assert (best.epoch, best.global_step) == (1, 4)
    for which, step in (("best", 4), ("last", 6), (None, 6)):
        trainer.test(None, batches(1), ckpt_path=which)
        [*_, row] = trainer.history
        assert (row["kind"], row["step"]) == ("test", step)


def test_the_console_says_which_weights_were_tested(capfd: pytest.CaptureFixture[str]) -> None:
    trainer, _ = fitted(quiet=False, progress_bar=False)
    capfd.readouterr()
    trainer.test(None, batches(1), ckpt_path="best")
    best = trainer.machine.best_checkpoint
    assert best is not None
    assert f"test with the weights of {best.path} (the best by val_loss: 1)" in capfd.readouterr().err


def test_a_machine_with_test_loaders_says_that_it_did_not_test_the_best(capfd: pytest.CaptureFixture[str]) -> None:
    options = Options(max_nb_epochs=3, nb_sanity_val_steps=0, val_check_interval=1.0, progress_bar=False)
    loaders: Any = {"train_dataloader": batches(4), "val_dataloaders": batches(2), "test_dataloaders": batches(2)}
    build(options, Scored(), **loaders, callbacks=[ModelCheckpoint(monitor="val_loss")]).run()
    said = " ".join(capfd.readouterr().err.split())
    assert "Tested: the weights with which training ended, not those of " in said
    assert "checkpoints/000001 (the best by val_loss: 1)." in said


def test_the_names_of_lightning_say_where_it_is_here() -> None:
    trainer, _ = fitted()
    assert {"checkpoint_callback", "estimated_stepping_batches"}.isdisjoint(dir(trainer))
    assert "its name here" not in pydoc.render_doc(Trainer).lower()
    for owner, name in ((trainer, "checkpoint_callback"), (ModelCheckpoint(), "best_model_path")):
        with pytest.raises(RenamedError, match=r"trainer\.machine\.best_checkpoint, with path and score"):
            getattr(owner, name)


def test_the_best_of_a_resumed_run_may_be_of_before(recwarn: pytest.WarningsRecorder) -> None:
    fitted(max_nb_epochs=2)
    trainer = trainer_of(ModelCheckpoint(monitor="val_loss"), resume="runs/0")
    model = Scored()
    model.seen = [None]
    trainer.fit(model, batches(4), batches(2))
    best = trainer.machine.best_checkpoint
    assert best is not None
    assert (best.score, best.path) == (1.0, Path("runs/0/checkpoints/000001").absolute())


def test_a_checkpoint_of_another_run_in_the_same_folder_is_never_the_best() -> None:
    rule = ModelCheckpoint(monitor="val_loss", dirpath="same", save_top_k=-1)
    fitted(rule)
    trainer, _ = fitted(rule)
    best = trainer.machine.best_checkpoint
    assert best is not None
    assert best.path == Path("same/000004").absolute()


class TestsWithin(Callback):
    """Tests the best weights while the model is being trained."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_epoch_end(self, machine: Any) -> None:
        self.trainer.test(None, batches(1), ckpt_path="last")


def test_what_cannot_be_loaded_is_an_error_with_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"ckpt_path=\'best\'\): this trainer has not fitted a model.*Call fit"):
        trainer_of().test(Scored(), batches(1), ckpt_path="best")
    with pytest.raises(UsageError, match=r"must be \"best\", \"last\", or the path"):
        trainer_of().test(Scored(), batches(1), ckpt_path=3)  # type: ignore[arg-type]
    with pytest.raises(FsmtrainError, match="there is no such checkpoint and no such file"):
        trainer_of().test(Scored(), batches(1), ckpt_path="nowhere")
    Path("empty").mkdir()
    with pytest.raises(FsmtrainError, match=r"is a folder, but no checkpoint: there is no manifest\.json in it"):
        trainer_of().test(Scored(), batches(1), ckpt_path="empty")
    trainer, _ = fitted(Callback())
    for which in ("best", "last"):
        with pytest.raises(UsageError, match=r"the run (saves no ranked|has saved no) checkpoint.*callbacks=\[ModelCheckpoint"):
            trainer.test(None, batches(1), ckpt_path=which)
    trainer, _ = fitted(ModelCheckpoint())
    with pytest.raises(UsageError, match=r"validate\(ckpt_path='best'\): its ModelCheckpoint has no monitor"):
        trainer.validate(None, batches(1), ckpt_path="best")
    for folder in ("runs/1", "runs/1/checkpoints"):
        with pytest.raises(UsageError, match="Pass one of them: the newest is 'runs/1/checkpoints/0"):
            trainer.test(None, batches(1), ckpt_path=folder)
    trainer, _ = fitted(model=Scored((float("nan"),) * 3))
    with pytest.raises(UsageError, match="no checkpoint has a value of 'val_loss'"):
        trainer.test(None, batches(1), ckpt_path="best")


@pytest.mark.parametrize("change", ["shape", "missing", "unexpected"])
def test_a_model_keeps_its_weights_if_those_of_a_file_do_not_fit_it(change: str) -> None:
    """torch loads what fits before it raises the error."""
    model = Scored()
    before = weights(model)
    names = [*model.state_dict()]
    saved = {name: torch.full_like(value, 7.0) for name, value in model.state_dict().items()}
    if change == "shape":
        saved[names[-1]] = torch.zeros(9, 9)
    elif change == "missing":
        del saved[names[-1]]
    else:
        saved["more"] = torch.zeros(1)
    torch.save(saved, "w.pt")
    with pytest.raises(ModelError, match="do not fit this Scored"):
        trainer_of().test(model, batches(1), ckpt_path="w.pt")
    assert same_bits(weights(model), before)


def test_the_model_in_training_keeps_its_weights() -> None:
    tests = TestsWithin()
    tests.trainer = trainer = trainer_of(ModelCheckpoint(), tests)
    with pytest.raises(UsageError, match=r"test\(ckpt_path='last'\): the model is being trained"):
        trainer.fit(Scored(), batches(4), batches(2))
