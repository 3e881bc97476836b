"""Random states of one loader: its generators, and its samplers with their epochs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from fsmtrain.errors import PositionError
from fsmtrain.plurals import plural
from fsmtrain.predicates import is_stateful
from fsmtrain.runtime.rng import expect_position, to_plain

_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


def get_loader_rng_state(loader: object) -> list[Any]:
    """Return what a loader keeps from one epoch to the next, as plain data.

    That is the state of each generator that the loader or a sampler of it has as an attribute, the epoch of each sampler with
    ``set_epoch``, and the ``state_dict`` of each sampler that has one.
    """
    return [_state_of(part) for part in _parts(loader)]


def set_loader_rng_state(loader: object, states: list[Any], name: str, *, with_epochs: bool = True) -> None:
    """Set the states of a loader's generators and samplers.

    Args:
        loader: The loader.
        states: What `get_loader_rng_state` returned for a loader like this.
        name: The loader's name in errors.
        with_epochs: Whether to call ``set_epoch`` of samplers, too, if theirs is another epoch.

    Raises:
        PositionError: The loader has not as many generators and samplers.
    """
    parts = list(_parts(loader))
    if len(parts) != len(states):
        raise PositionError(
            f"{name}: cannot resume: the loader has {plural(len(parts), 'generator')} or samplers with a state, checkpoint has "
            f"{len(states)}. Pass a loader like the one that was saved."
        )
    for part, state in zip(parts, states, strict=True):
        if isinstance(part, torch.Generator):
            part.set_state(state.cpu())
        elif isinstance(part, random.Random):
            part.setstate(state)
        elif isinstance(part, np.random.Generator):
            part.bit_generator.state = expect_position(state)
        elif isinstance(part, np.random.RandomState):
            part.set_state(expect_position(state))
        elif "state" in state:
            part.load_state_dict(state["state"])
        elif with_epochs and part.epoch != state["epoch"]:
            part.set_epoch(state["epoch"])


def _state_of(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, random.Random):
        return part.getstate()
    if isinstance(part, np.random.Generator):
        return to_plain(part.bit_generator.state)
    if isinstance(part, np.random.RandomState):
        return to_plain(part.get_state())
    return {"state": part.state_dict()} if is_stateful(part) else {"epoch": part.epoch}


def _parts(loader: object) -> Iterator[Any]:
    """Yield a loader's generators, and its samplers with a state: each once, always in the same order."""
    seen: list[object] = []
    waiting = [getattr(loader, name, None) for name in ("generator", "sampler", "batch_sampler")]
    while waiting:
        part = waiting.pop(0)
        if part is None or any(part is other for other in seen):
            continue
        seen.append(part)
        if isinstance(part, _GENERATORS):
            yield part
        elif hasattr(part, "__dict__"):
            if is_stateful(part) or _has_epoch(part):
                yield part
            attributes = vars(part).items()
            waiting += [value for name, value in attributes if name == "sampler" or isinstance(value, (Sampler, *_GENERATORS))]


def _has_epoch(sampler: object) -> bool:
    return callable(getattr(sampler, "set_epoch", None)) and isinstance(getattr(sampler, "epoch", None), int)
