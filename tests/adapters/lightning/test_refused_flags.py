"""What cannot be had is an error with its name, before anything is trained."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

import torch  # noqa: E402

import fsmtrain  # noqa: E402
from fsmtrain.adapters import lightning as pl  # noqa: E402
from fsmtrain.errors import FsmtrainError, ModelError, OptionsError, UsageError  # noqa: E402
from tests.adapters.lightning import programs as p  # noqa: E402

QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False,
    "enable_model_summary": False, "max_epochs": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "flags",
    [
        {"barebones": True},
        {"plugins": []},
        {"profiler": "simple"},
        {"sync_batchnorm": True},
        {"model_registry": "a/b"},
        {"reload_dataloaders_every_n_epochs": 1},
        {"num_nodes": 2},
        {"val_check_interval": datetime.timedelta(minutes=1)},
        {"max_steps": 0},
        {"limit_train_batches": 0},
        {"strategy": "ddp", "accelerator": "cpu", "devices": 2},
        {"remainder": "both"},
        {"callbacks": [L.callbacks.StochasticWeightAveraging(swa_lrs=0.1)]},
        {"callbacks": L.callbacks.BatchSizeFinder()},
    ],
    ids=lambda flags: next(iter(flags)),
)
def test_flag_that_cannot_be_had_is_refused_with_its_name(flags: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(flags))):
        pl.Trainer(**flags)


def test_unknown_flag_is_refused() -> None:
    with pytest.raises(FsmtrainError, match="accumulate_grad_batch"):
        pl.Trainer(accumulate_grad_batch=2)


def test_a_module_of_fsmtrain_is_refused() -> None:
    with pytest.raises(ModelError, match="LightningModule"):
        pl.Trainer(**QUIET).fit(fsmtrain.TrainingModule())


def test_ckpt_path_of_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="ckpt_path"):
        pl.Trainer(**QUIET).fit(p.Plain(), p.data(), ckpt_path="a.ckpt")


def test_skipping_an_epoch_is_refused() -> None:
    class Skips(p.Plain):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int:
            return -1

    with pytest.raises(ModelError, match="on_train_batch_start"):
        pl.Trainer(**QUIET).fit(Skips(), p.data())


def test_test_without_a_module_is_refused() -> None:
    with pytest.raises(UsageError, match="no module yet"):
        pl.Trainer(**QUIET).test()


def test_own_step_over_a_stream_with_windows_is_refused() -> None:
    class OwnStep(p.Plain):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step(optimizer_closure)

    stream = torch.utils.data.DataLoader(p.Stream(10), batch_size=4)
    with pytest.raises(ModelError, match="remainder"):
        pl.Trainer(accumulate_grad_batches=2, **QUIET).fit(OwnStep(), stream)


def test_a_step_that_fetches_by_itself_is_refused() -> None:
    class Fetches(p.Plain):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return next(dataloader_iter)

    with pytest.raises(ModelError, match="dataloader_iter"):
        pl.Trainer(**QUIET).fit(Fetches(), p.data())


def test_a_run_within_a_run_of_the_same_trainer_is_refused() -> None:
    class Nested(p.Plain):
        def on_train_start(self) -> None:
            self.trainer.validate(self, p.data(8, 4))

    with pytest.raises(UsageError, match="running"):
        pl.Trainer(**QUIET).fit(Nested(), p.data())


def test_a_second_fit_is_refused() -> None:
    trainer = pl.Trainer(**QUIET)
    trainer.fit(p.Plain(), p.data())
    with pytest.raises(UsageError, match="fits once"):
        trainer.fit(p.Plain(), p.data())
