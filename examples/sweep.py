"""A sweep: 20 short runs on handwritten digits, told apart by ``fsmtrain runs`` and ``fsmtrain compare``.

    python examples/sweep.py
    fsmtrain runs sweep --sort val_loss
    fsmtrain compare sweep --out sweep.html

Learning rate, batch size and accumulation vary; each run is recorded in a folder named after its values.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
from digits_data import digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from fsmtrain import EarlyStopping, Trainer, TrainingModule

RATES, BATCH_SIZES, ACCUMULATIONS = (0.003, 0.01, 0.03, 0.1, 0.3), (16, 64), (1, 4)  # 20 runs


class Classifier(TrainingModule):
    """One hidden layer on images of 64 pixels. What `save_hyperparameters` keeps, the record of the run has."""

    def __init__(self, lr: float, batch_size: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.train_data, self.val_data, _ = digits()

    def training_step(self, batch: list[Tensor], batch_nb: int) -> Tensor:
        """Return the loss of a batch; its mean over the epoch is recorded, too."""
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def validation_step(self, batch: list[Tensor], batch_nb: int) -> dict[str, Tensor]:
        """Return loss and accuracy."""
        x, y = batch
        scores = self.net(x)
        return {"val_loss": cross_entropy(scores, y), "val_acc": (scores.argmax(1) == y).float().mean()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain SGD with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training images in random order."""
        return DataLoader(self.train_data, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation images."""
        return DataLoader(self.val_data, batch_size=100)


def main(arguments: list[str] | None = None) -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sweep"), help="the folder of the runs (default: sweep)")
    parser.add_argument("--epochs", type=int, default=15, help="epochs of each run (default: 15)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)  # faster than several for batches this small
    for lr, batch_size, accumulation in itertools.product(RATES, BATCH_SIZES, ACCUMULATIONS):
        torch.manual_seed(1)  # the same initial weights in each run
        trainer = Trainer(
            max_nb_epochs=args.epochs,
            accumulate_grad_batches=accumulation,
            early_stop_callback=EarlyStopping(monitor="val_loss", patience=5),
            val_check_interval=1.0,
            on_nonfinite="skip",
            seed=1,
            runs_dir=str(args.out),
            run_name=f"lr{lr:g}-bs{batch_size}-acc{accumulation}",
            quiet=True,
        )
        result = trainer.fit(Classifier(lr, batch_size))
        print(f"{trainer.machine.run_dir}: {result.stop_reason}")


if __name__ == "__main__":
    main()
