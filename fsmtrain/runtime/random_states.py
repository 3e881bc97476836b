"""The random states of a process: taken, and put back, as one value."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from attrs import frozen
from torch import Generator, Tensor


@frozen
class RandomStates:
    """The states of Python's generator, NumPy's where it is used, torch's on each device, and of some loaders' own."""

    python: Any
    numpy: Any
    cpu: Tensor
    cuda: list[Tensor]
    own: list[tuple[Generator, Tensor]]


def take(loaders: Iterable[object] = ()) -> RandomStates:
    """The states as they are now, with those of the generators that these loaders and their samplers have for themselves."""
    numpy = sys.modules.get("numpy")
    return RandomStates(
        python=random.getstate(),
        numpy=numpy.random.get_state() if numpy else None,
        cpu=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        own=[(generator, generator.get_state()) for loader in loaders for generator in _generators(loader)],
    )


def put_back(states: RandomStates) -> None:
    """Make every generator what it was when the states were taken."""
    random.setstate(states.python)
    if states.numpy is not None:
        sys.modules["numpy"].random.set_state(states.numpy)
    torch.set_rng_state(states.cpu)
    if states.cuda:
        torch.cuda.set_rng_state_all(states.cuda)
    for generator, state in states.own:
        generator.set_state(state)


def seed_all(seed: int) -> None:
    """Seed Python's generator, NumPy's where it is used, and torch's on every device."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    torch.manual_seed(seed)


def _generators(loader: object) -> Iterator[Generator]:
    """A loader's own generators, each once."""
    met: list[Generator] = []
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    for part in (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None)):
        generator = getattr(part, "generator", None)
        if isinstance(generator, Generator) and all(generator is not other for other in met):
            met.append(generator)
    yield from met
