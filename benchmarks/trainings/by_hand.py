"""Training loops as a person would write them, one for each scenario: the baseline of all comparisons."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, optim
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_

from benchmarks.trainings.models import LEARNING_RATE, SPLIT_LENGTH, Recurrent, Regression, TwoLayers

WINDOW = 4  # batches, with gradient accumulation
VALIDATION_INTERVAL = 10  # batches
MAX_GRAD_NORM = 1.0  # with gradient clipping


def plain(loader: Any) -> nn.Module:
    """Step at each batch."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for x, y in loader:
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return model


def without_zero_grad(loader: Any) -> nn.Module:
    """Step at each batch, and drop the gradients without ``optimizer.zero_grad()``, as few people would write it."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    parameters = list(model.parameters())
    model.train()
    for x, y in loader:
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None
    return model


def clipped(loader: Any) -> nn.Module:
    """Clip the gradients and step at each batch."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for x, y in loader:
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
    return model


def accumulated(loader: Any) -> nn.Module:
    """Step once per accumulation window; the last window of an epoch may be shorter."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    count = len(loader)
    whole = count - count % WINDOW
    for number, (x, y) in enumerate(loader):
        loss = mse_loss(model.layer(x), y)
        scaled = loss / (WINDOW if number < whole else count - whole)
        scaled.backward()  # type: ignore[no-untyped-call]
        if (number + 1) % WINDOW == 0 or number + 1 == count:
            optimizer.step()
            optimizer.zero_grad()
    return model


def two_optimizers(loader: Any) -> nn.Module:
    """Step two optimizers at each batch, in turns; meanwhile only the parameters of the current one require grad."""
    model = TwoLayers()
    first, second = list(model.first.parameters()), list(model.second.parameters())
    optimizers = [optim.SGD(first, lr=LEARNING_RATE), optim.SGD(second, lr=LEARNING_RATE)]
    model.train()
    for x, y in loader:
        for optimizer, others in zip(optimizers, (second, first), strict=True):
            for parameter in others:
                parameter.requires_grad_(False)
            loss = mse_loss(model.second(model.first(x)), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            for parameter in others:
                parameter.requires_grad_(True)
    return model


def truncated(loader: Any) -> nn.Module:
    """Step at each split of a sequence, and pass the detached hiddens from one split to the next."""
    model = Recurrent()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for x, y in loader:
        hiddens = None
        for start in range(0, x.shape[1], SPLIT_LENGTH):
            prediction, hiddens = model(x[:, start : start + SPLIT_LENGTH], hiddens)
            loss = mse_loss(prediction, y[:, start : start + SPLIT_LENGTH])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            hiddens = hiddens.detach()
    return model


def validated(loader: Any, val_loader: Any) -> nn.Module:
    """Step at each batch, and compute the mean loss of the val batches at an interval."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for number, (x, y) in enumerate(loader):
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if (number + 1) % VALIDATION_INTERVAL == 0:
            model.eval()
            with torch.no_grad():
                losses = [mse_loss(model.layer(x), y) for x, y in val_loader]
                torch.stack(losses).mean()
            model.train()
    return model
