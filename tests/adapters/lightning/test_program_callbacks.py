"""Callbacks and loggers of Lightning's own, as they are, with the same effects."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

import torch  # noqa: E402
from torch import nn  # noqa: E402

from fsmtrain.adapters import lightning as pl  # noqa: E402
from tests.adapters.lightning import programs as p  # noqa: E402
from tests.adapters.lightning.compare import compare, first_difference  # noqa: E402


class Unfreezes(L.callbacks.BaseFinetuning):
    """Train the first layer from epoch 1 on, as a parameter group of its own."""

    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.net[0])

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.net[0], optimizer, lr=0.01)


class OfTrainable(p.Plain):
    """A module of which only what requires grad is trained."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam([q for q in self.parameters() if q.requires_grad], lr=0.01)


class Configured(p.Plain):
    """`configure_callbacks` and `configure_model`, and hooks of saving."""

    def configure_model(self) -> None:
        if not hasattr(self, "extra"):
            self.extra = nn.Linear(1, 1)

    def forward(self, x: Any) -> Any:
        return self.extra(self.net(x))

    def configure_callbacks(self) -> Any:
        return [L.callbacks.EarlyStopping("train_loss_epoch", patience=0), L.callbacks.LearningRateMonitor()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = self.global_step


def _monitors() -> Any:
    return [
        L.callbacks.ModelCheckpoint(every_n_train_steps=3, save_top_k=-1, filename="{epoch}-{step}-{train_loss_step:.3f}"),
        L.callbacks.ModelCheckpoint(monitor="val_loss", mode="max", filename="max", save_weights_only=True),
        L.callbacks.LearningRateMonitor("epoch", log_momentum=True, log_weight_decay=True),
        L.callbacks.Timer(duration=datetime.timedelta(hours=1)),
        L.callbacks.LambdaCallback(on_train_epoch_end=lambda trainer, module: module.log("lambda", 1.0)),
    ]


class StopsByStep(L.Callback):
    """A callback that sets ``should_stop`` at a step."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 9:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("module", "callbacks", "flags"),
    [
        (OfTrainable, lambda: [Unfreezes()], {"max_epochs": 3}),
        (Configured, list, {"max_epochs": 4, "enable_checkpointing": True}),
        (p.Plain, _monitors, {"enable_checkpointing": True}),
        (p.Plain, _monitors, {"enable_checkpointing": True, "val_check_interval": 0.5, "accumulate_grad_batches": 2}),
        (
            p.Plain,
            lambda: [L.callbacks.EarlyStopping("val_loss", patience=1, check_on_train_epoch_end=False)],
            {"max_epochs": 9},
        ),
        (p.Plain, lambda: [L.callbacks.EarlyStopping("train_loss_step", patience=2)], {"max_epochs": 9, "min_epochs": 4}),
        (p.Plain, lambda: [L.callbacks.EarlyStopping("val_loss", stopping_threshold=100.0)], {"max_epochs": 9, "min_steps": 9}),
        (
            p.Plain,
            lambda: [L.callbacks.EarlyStopping("val_loss", patience=1, mode="max")],
            {"max_epochs": 9, "val_check_interval": 0.25},
        ),
        (p.Plain, lambda: [StopsByStep()], {"max_epochs": 5}),
        (p.Plain, lambda: [L.callbacks.GradientAccumulationScheduler({0: 2, 1: 4, 3: 1})], {"max_epochs": 4}),
        (p.Hooks, lambda: [L.callbacks.GradientAccumulationScheduler({1: 2})], {"max_epochs": 3}),
        (p.Plain, lambda: [L.callbacks.WeightAveraging()], {}),
    ],
)
def test_callbacks_of_lightning_have_the_same_effects(module: Any, callbacks: Any, flags: dict[str, Any]) -> None:
    compare(lambda: (module(), p.plain()[1]), callbacks=callbacks, **flags)


def test_defaults_of_the_trainer_write_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Any] = []
    for name, trainer_class in (("theirs", L.Trainer), ("mine", pl.Trainer)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        L.seed_everything(3, verbose=False)
        module, arguments = p.plain()
        trainer = trainer_class(max_epochs=2, accelerator="cpu", logger=L.loggers.CSVLogger("logs"), log_every_n_steps=2)
        trainer.fit(module, **arguments)
        trainer.validate(module, arguments["val_dataloaders"], ckpt_path="best", verbose=False)
        files = sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file())
        saved = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=False)
        metrics = next((tmp_path / name).rglob("metrics.csv")).read_text(encoding="utf-8")
        hparams = next((tmp_path / name).rglob("hparams.yaml")).read_text(encoding="utf-8")
        saved["callbacks"] = [
            {k: v for k, v in state.items() if "path" not in k and k != "best_k_models"}
            for state in saved["callbacks"].values()
        ]
        left.append([files, metrics, hparams, {k: v for k, v in saved.items() if k != "callbacks"}])
        assert type(module).load_from_checkpoint(trainer.checkpoint_callback.best_model_path).hparams == module.hparams
    assert first_difference(*left) is None
