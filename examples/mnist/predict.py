"""Inference with the weights that ``train.py`` has written: no trainer, no run.

python examples/mnist/predict.py [--weights mnist.pt]
"""

from __future__ import annotations

import argparse

import torch
from mnist_data import part
from mnist_model import Digits
from torch.utils.data import DataLoader

SHADES = " ░▒▓█"


def main(arguments: list[str] | None = None, shown: int = 4) -> float:
    """Print some images with the digit that the model sees in them; return the fraction that it recognizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="mnist.pt")
    args = parser.parse_args(arguments)

    model = Digits.load_from_checkpoint(args.weights, map_location="cpu")  # with its hyperparameters, in eval mode
    images, labels = next(iter(DataLoader(test := part("test"), batch_size=len(test))))
    with torch.no_grad():
        probabilities = model(images).softmax(dim=1)
    certain, digits = probabilities.max(dim=1)
    for image, digit, probability in zip(images[:shown, 0], digits, certain, strict=False):
        for row in image[::2]:
            print("".join(SHADES[round(float(pixel) * 4)] for pixel in row))
        print(f"a {int(digit)}, with probability {probability:.3f}\n")
    return float((digits == labels).float().mean())


if __name__ == "__main__":
    main()
