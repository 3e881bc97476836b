"""A checkpoint that is kept in ``tests/data`` and resumed by every later version: ``python -m tests.resuming.kept_checkpoint``.

Its numbers are dyadic fractions with few digits, so that the whole run has the same bits on every machine.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsmtrain import EarlyStopping, Machine, ModelCheckpoint, Options, build

FOLDER = Path(__file__).parents[1] / "data" / "checkpoint_version_2"
SAVED_AFTER = 3  # batches of each epoch: with a window open


class Dyadic(nn.Module):
    """Two weights, trained with momentum, windows of 2, a scheduler, and early stopping."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -0.5], dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64), persistent=False)

    def training_step(self, batch: Tensor, batch_nb: int) -> dict[str, Any]:
        assert isinstance(self.seen, Tensor)
        self.seen += 1
        loss = ((self.weight * batch).sum() - 1) ** 2 / 2
        return {"loss": loss, "log": {"train_error": loss.detach()}}

    def validation_step(self, batch: Tensor, batch_nb: int) -> dict[str, Any]:
        return {"val_loss": ((self.weight * batch).sum() - 1) ** 2 / 2}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.25, momentum=0.5)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def machine(folder: Path) -> Machine:
    """Return the run, which saves after the third batch of each epoch."""
    batches = [torch.tensor(pair, dtype=torch.float64) for pair in ((1, 0.5), (0.5, 1), (-1, 0.5), (0.5, 0.5), (1, -1))]
    options = Options(
        max_nb_epochs=3,
        accumulate_grad_batches=2,
        val_check_interval=1.0,
        early_stop_callback=EarlyStopping(patience=2),
        runs_dir=None,
        quiet=True,
        device="cpu",
    )
    saves = ModelCheckpoint(dirpath=folder, every_n_batches=SAVED_AFTER, save_top_k=-1)
    return build(options, Dyadic(), train_dataloader=batches, val_dataloaders=batches[:2], callbacks=[saves])


def outcome(run: Machine) -> dict[str, Any]:
    """Run to the end, and return what must be the same after resuming."""
    result = run.run()
    assert isinstance(run.model, Dyadic)
    assert isinstance(run.model.seen, Tensor)
    weights, seen = run.model.weight.tolist(), run.model.seen.item()
    return {"weights": weights, "batches": seen, "metrics": result.metrics, "counters": result.counters.values()}


def main() -> None:
    """Write the checkpoint anew. Only for a new version of the format; the old folder then stays, and its test too."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine(folder).run()
        chosen = sorted(path for path in folder.iterdir() if path.is_dir())[1]
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(chosen, FOLDER / chosen.name)


if __name__ == "__main__":
    main()
