"""The loops that a person would write, one for each scenario. They are what everything else is measured against."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, optim
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_

from benchmarks.models import RATE, SPLIT, Pair, Recurrent, Regression

WINDOW = 4  # batches of a window, where gradients are accumulated
EVERY = 10  # batches from one check to the next, where there are checks
CLIP = 1.0  # the largest norm of the gradients, where they are clipped


def plain(loader: Any) -> nn.Module:
    """A step for each batch."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    model.train()
    for x, y in loader:
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return model


def without_zero_grad(loader: Any) -> nn.Module:
    """A step for each batch, and the gradients dropped without ``optimizer.zero_grad()``, which few would write."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
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
    """A step for each batch, with the gradients clipped before it."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    model.train()
    for x, y in loader:
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return model


def accumulated(loader: Any) -> nn.Module:
    """A step for each window of batches; the last window of the epoch may be shorter."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
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
    """Two optimizers take turns at each batch; while one does, only its parameters require grad."""
    model = Pair()
    first, second = list(model.first.parameters()), list(model.second.parameters())
    optimizers = [optim.SGD(first, lr=RATE), optim.SGD(second, lr=RATE)]
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
    """A step for each split of a sequence; the hiddens go from one to the next, without their graph."""
    model = Recurrent()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    model.train()
    for x, y in loader:
        hiddens = None
        for at in range(0, x.shape[1], SPLIT):
            found, hiddens = model(x[:, at : at + SPLIT], hiddens)
            loss = mse_loss(found, y[:, at : at + SPLIT])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            hiddens = hiddens.detach()
    return model


def validated(loader: Any, val_loader: Any) -> nn.Module:
    """A step for each batch, and the mean loss of the val batches after every few of them."""
    model = Regression()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    model.train()
    for number, (x, y) in enumerate(loader):
        loss = mse_loss(model.layer(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if (number + 1) % EVERY == 0:
            model.eval()
            with torch.no_grad():
                losses = [mse_loss(model.layer(x), y) for x, y in val_loader]
                torch.stack(losses).mean()
            model.train()
    return model
