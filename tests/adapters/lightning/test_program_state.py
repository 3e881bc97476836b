"""A Lightning program that is stopped anywhere, and resumed in another object, ends in the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

import torch  # noqa: E402

from fsmtrain import ModelCheckpoint  # noqa: E402
from fsmtrain.adapters import lightning as pl  # noqa: E402
from fsmtrain.core.states import State  # noqa: E402
from tests.adapters.lightning import programs as p  # noqa: E402
from tests.adapters.lightning.compare import RecordingLogger, first_difference  # noqa: E402

FLAGS: dict[str, Any] = {
    "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 2, "log_every_n_steps": 1,
    "remainder": "lightning",
}  # fmt: skip


class Counts(L.Callback):
    """A callback with a state."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches += 1
        pl_module.log("batches", float(self.batches))

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]


class Remembers(p.Hidden):
    """A module with a state of its own in checkpoints, and a plateau scheduler."""

    memory = 0.0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.memory += float(outputs["loss"])
        self.log("memory", self.memory)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["memory"] = self.memory

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.memory = checkpoint["memory"]

    def configure_optimizers(self) -> Any:
        adam = torch.optim.Adam(self.parameters(), lr=0.05)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, patience=0)
        every = torch.optim.lr_scheduler.ExponentialLR(adam, 0.95)
        return [adam], [{"scheduler": plateau, "monitor": "bar_epoch"}, {"scheduler": every, "interval": "step"}]


class Run:
    """One process of a run."""

    def __init__(self, module: Any, monitor: str, folder: Path, flags: dict[str, Any]) -> None:
        L.seed_everything(11, verbose=False)
        self.logger, self.module = RecordingLogger(), module()
        train, val = p.data(14, 4, shuffle=True), [p.data(8, 4, seed=5)]
        checkpoint = L.callbacks.ModelCheckpoint(dirpath=folder / "theirs", monitor=monitor, save_top_k=1)
        stopping = L.callbacks.EarlyStopping(monitor, patience=5)
        self.trainer = pl.Trainer(
            callbacks=[Counts(), stopping, checkpoint, ModelCheckpoint(dirpath=folder / "ours")],
            **({"logger": self.logger} | FLAGS | flags),
        )
        self.machine = self.trainer.build(self.module, train, val)

    def left(self) -> dict[str, Any]:
        """Return what the run has left."""
        return {
            "weights": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.trainer.optimizers],
            "schedulers": [config.scheduler.state_dict() for config in self.trainer.lr_scheduler_configs],
            "global_step": self.trainer.global_step,
            "epoch": self.trainer.current_epoch,
            "metrics": dict(self.trainer.callback_metrics),
            "callbacks": [callback.state_dict() for callback in self.trainer.callbacks if not hasattr(callback, "dirpath")],
            "best": [callback.best_model_score for callback in self.trainer.checkpoint_callbacks],
            "random": torch.get_rng_state(),
        }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "monitor", "flags"),
    [
        (Remembers, "val_loss", {"val_check_interval": 2}),
        (p.Classifier, "val/loss", {"accumulate_grad_batches": 2}),
        (p.GAN, "score", {}),
    ],
)
def test_stopped_anywhere_and_resumed_a_program_ends_in_the_same_bits(
    module: Any, monitor: str, flags: dict[str, Any], tmp_path: Path
) -> None:
    flags = {**flags, "num_sanity_val_steps": 1}
    whole = Run(module, monitor, tmp_path / "whole", flags)
    whole.machine.run()
    transitions = sum(whole.machine.trace.taken)
    for n in range(1, transitions, 7):
        folder = tmp_path / str(n)
        first = Run(module, monitor, folder, flags)
        for _ in range(n):
            first.machine.advance()
        first.machine.stop()
        first.machine.run()
        assert first.machine.state is State.STOPPED
        second = Run(module, monitor, folder, flags)
        second.machine.resume(folder / "ours")
        torch.randn(3)
        second.machine.run()
        difference = first_difference(whole.left(), second.left())
        assert difference is None, f"stopped after {n} transitions, in {first.machine.last_state}: {difference}"
        if first.machine.last_state not in (State.VAL_CHECK, State.SANITY_VAL):  # such a pass begins again
            assert first_difference(whole.logger.rows, [*first.logger.rows, *second.logger.rows]) is None


def test_fit_continues_from_a_checkpoint_of_ours(tmp_path: Path) -> None:
    def run(max_epochs: int, folder: str, ckpt_path: Path | None = None) -> Any:
        L.seed_everything(11, verbose=False)
        module = p.Plain()
        trainer = pl.Trainer(
            callbacks=[ModelCheckpoint(dirpath=tmp_path / folder)],
            **{**FLAGS, "max_epochs": max_epochs, "logger": False, "enable_checkpointing": False},
        )
        trainer.fit(module, p.data(shuffle=True), p.data(9, 4), ckpt_path=ckpt_path)
        return [module.state_dict(), trainer.global_step, trainer.current_epoch, dict(trainer.callback_metrics)]

    whole = run(4, "whole")
    run(2, "half")
    assert first_difference(whole, run(4, "half", tmp_path / "half")) is None
