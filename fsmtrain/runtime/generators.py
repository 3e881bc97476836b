"""The states of generators as plain data: numbers, lists and tensors that any checkpoint can hold."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch.utils.data import Sampler

from fsmtrain.errors import PositionError

_OWN = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


@frozen
class ProcessWide:
    """One of the generators that everything in a process shares."""

    take: Callable[[], Any]
    put_back: Callable[[Any], object]
    seed: Callable[[int], object]  # with 64 bits
    are_same: Callable[[Any, Any], bool]  # of two states


def _are_same_in_numpy(first: Any, second: Any) -> bool:
    return first[2:] == second[2:] and np.array_equal(first[1], second[1])


# torch's and NumPy's Mersenne twisters look at 32 bits of a seed: each is given its own half. Python's takes all.
# `torch.manual_seed` would seed the devices too, which takes it a hundred times as long.
PROCESS_WIDE = {
    "torch": ProcessWide(
        torch.default_generator.get_state,
        torch.default_generator.set_state,
        torch.default_generator.manual_seed,
        torch.equal,
    ),
    "numpy": ProcessWide(
        np.random.get_state,
        np.random.set_state,
        lambda word: np.random.seed(word >> 32),
        _are_same_in_numpy,
    ),
    "python": ProcessWide(random.getstate, random.setstate, random.seed, operator.eq),
}


def process_wide() -> dict[str, Any]:
    """The states of torch's CPU generator, NumPy's and Python's, as plain data."""
    return {name: plain(generator.take()) for name, generator in PROCESS_WIDE.items()}


def put_process_wide_back(states: dict[str, Any]) -> None:
    """Make these generators what they were."""
    for name, generator in PROCESS_WIDE.items():
        generator.put_back(states[name])


def own_states(loader: object) -> list[Any]:
    """What a loader's samplers remember from one pass to the next, as plain data.

    That is the state of each generator that the loader or a sampler of its has as an attribute, the epoch of each sampler with
    a ``set_epoch``, and what a sampler with a ``state_dict`` says.
    """
    return [_state_of(part) for part in _parts(loader)]


def put_own_back(loader: object, states: list[Any], name: str) -> None:
    """Make generators and samplers of a loader what they were.

    Raises:
        PositionError: The loader has others than the one whose states they are.
    """
    parts = list(_parts(loader))
    if len(parts) != len(states):
        raise PositionError(
            f"{name}: the saved position is of a loader with {len(states)} generators and samplers that remember something, "
            f"and this one has {len(parts)}. Pass a loader like the one that was saved."
        )
    for part, state in zip(parts, states, strict=True):
        if isinstance(part, torch.Generator):
            part.set_state(state)
        elif isinstance(part, random.Random):
            part.setstate(state)
        elif isinstance(part, np.random.Generator):
            part.bit_generator.state = state
        elif isinstance(part, np.random.RandomState):
            part.set_state(state)
        elif "state" in state:
            part.load_state_dict(state["state"])
        else:
            part.set_epoch(state["epoch"])


def _state_of(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, random.Random):
        return part.getstate()
    if isinstance(part, np.random.Generator):
        return plain(part.bit_generator.state)
    if isinstance(part, np.random.RandomState):
        return plain(part.get_state())
    return {"state": part.state_dict()} if is_stateful(part) else {"epoch": part.epoch}


def _parts(loader: object) -> Iterator[Any]:
    """A loader's own generators and the samplers that remember something, each once, always in the same order."""
    met: list[object] = []
    waiting = [getattr(loader, name, None) for name in ("generator", "sampler", "batch_sampler")]
    while waiting:
        part = waiting.pop(0)
        if part is None or any(part is other for other in met):
            continue
        met.append(part)
        if isinstance(part, _OWN):
            yield part
        elif hasattr(part, "__dict__"):
            if is_stateful(part) or _has_epoch(part):
                yield part
            waiting += [value for name, value in vars(part).items() if name == "sampler" or isinstance(value, (Sampler, *_OWN))]


def _has_epoch(part: object) -> bool:
    return callable(getattr(part, "set_epoch", None)) and isinstance(getattr(part, "epoch", None), int)


def is_stateful(part: object) -> bool:
    """Whether a loader or a sampler can say where it stands, and be brought there."""
    return callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None))


def plain(state: Any) -> Any:
    """States with lists in place of arrays."""
    if isinstance(state, np.ndarray):
        return state.tolist()
    if isinstance(state, (tuple, list)):
        return type(state)(map(plain, state))
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return state
