"""The random states of a process: taken, and put back, as one value."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from fsmtrain.runtime.generators import own_states, plain, put_own_back


@frozen
class RandomStates:
    """The states of Python's generator, NumPy's where it is used, torch's on each device, and of some loaders' own."""

    python: Any
    numpy: Any
    cpu: Tensor
    cuda: list[Tensor]
    own: list[tuple[object, list[Any]]]

    def plain(self) -> dict[str, Any]:
        """The states as a checkpoint holds them."""
        return {
            "python": self.python,
            "numpy": plain(self.numpy),
            "cpu": self.cpu,
            "cuda": self.cuda,
            "own": [states for _, states in self.own],
        }


def take(loaders: Iterable[object] = ()) -> RandomStates:
    """The states as they are now, with what these loaders' generators and samplers remember from one pass to the next."""
    numpy = sys.modules.get("numpy")
    return RandomStates(
        python=random.getstate(),
        numpy=numpy.random.get_state() if numpy else None,
        cpu=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        own=[(loader, own_states(loader)) for loader in loaders],
    )


def from_plain(states: dict[str, Any], loaders: Iterable[object] = ()) -> RandomStates:
    """The states out of a checkpoint, those of loaders for these."""
    own = list(zip(loaders, states["own"], strict=True))
    return RandomStates(states["python"], states["numpy"], states["cpu"].cpu(), [s.cpu() for s in states["cuda"]], own)


def put_back(states: RandomStates) -> None:
    """Make every generator what it was when the states were taken."""
    random.setstate(states.python)
    if states.numpy is not None:
        sys.modules["numpy"].random.set_state(states.numpy)
    torch.set_rng_state(states.cpu)
    if states.cuda:
        torch.cuda.set_rng_state_all(states.cuda)
    for loader, own in states.own:
        put_own_back(loader, own, type(loader).__name__)


def seed_all(seed: int) -> None:
    """Seed Python's generator, NumPy's where it is used, and torch's on every device."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    torch.manual_seed(seed)
