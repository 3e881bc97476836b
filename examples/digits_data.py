"""The handwritten digits that come with scikit-learn: 1,797 images of 8 x 8, split for training, validation and test."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import TensorDataset


def digits() -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Return 1,197 training, 300 validation and 300 test images, (n, 64) floats in [0, 1], with labels (n,)."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16.0, dtype=torch.float32)
    y = torch.tensor(labels)
    rest, test = train_test_split(range(len(y)), test_size=300, stratify=labels, random_state=0)
    train, val = train_test_split(rest, test_size=300, stratify=labels[rest], random_state=0)
    return TensorDataset(x[train], y[train]), TensorDataset(x[val], y[val]), TensorDataset(x[test], y[test])
