"""MNIST, as one trains it every day: augmentation in two workers, warm-up and cosine, the best checkpoint tested, TensorBoard.

    pip install '.[mnist,tensorboard]'
    python examples/mnist/train.py [--max_nb_epochs 6] [--tensorboard FOLDER]
    python examples/mnist/predict.py

Validations come twice in an epoch. A checkpoint precedes each, and the best by ``val_accuracy`` is kept and tested. If this is
killed, the same command continues where it was. The tested weights go to ``mnist.pt``, which ``predict.py`` loads.
"""

from __future__ import annotations

import argparse

import torch
from mnist_data import Shifted, part
from mnist_model import Digits
from torch.utils.data import DataLoader

from fsmtrain import ModelCheckpoint, Trainer
from fsmtrain.loggers import TensorBoardLogger


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Train, and test the best checkpoint; return the metrics of the test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max_nb_epochs", type=int, default=6)
    parser.add_argument("--tensorboard", metavar="FOLDER", help="the folder for TensorBoard's event files")
    args = parser.parse_args(arguments)

    train = DataLoader(Shifted(part("train")), batch_size=64, shuffle=True, num_workers=2, persistent_workers=True)
    val, test = (DataLoader(part(name), batch_size=250) for name in ("val", "test"))
    trainer = Trainer(
        max_nb_epochs=args.max_nb_epochs,
        val_check_interval=0.5,
        gradient_clip_val=1.0,
        seed=0,
        resume="auto",
        logger=TensorBoardLogger(args.tensorboard) if args.tensorboard else None,
        callbacks=[ModelCheckpoint(monitor="val_accuracy", mode="max")],
    )
    torch.manual_seed(0)  # for the initial weights
    trainer.fit(Digits(), train, val)
    metrics = trainer.test(test_dataloaders=test, ckpt_path="best")
    trainer.save_checkpoint("mnist.pt")  # the model has the weights that were tested
    print(f"{metrics['test_accuracy']:.1%} of {len(part('test'))} new images recognized")
    return metrics


if __name__ == "__main__":
    main()
