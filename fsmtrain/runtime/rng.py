"""Random number generators of the process: seed them, get and set their states.

Those of one loader: `data.loader_rng`.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor

from fsmtrain.runtime.nested_tensors import map_nested

GlobalStates = dict[str, Any]  # of each of GLOBAL_GENERATORS, by name


@frozen
class GlobalGenerator:
    """A generator that all code in a process shares."""

    get_state: Callable[[], Any]
    set_state: Callable[[Any], object]
    seed: Callable[[int], object]  # takes 64 bits
    states_are_equal: Callable[[Any, Any], bool]


def _numpy_states_are_equal(first: Any, second: Any) -> bool:
    return first[2:] == second[2:] and np.array_equal(first[1], second[1])


def expect_position(state: Any) -> Any:
    """Return the state of a generator of NumPy, whose position lies within its numbers. NumPy itself would read beyond them.

    Raises:
        ValueError: It lies elsewhere.
    """
    inner = state.get("state", {}) if isinstance(state, dict) else {}
    position, size = (state[2], 624) if isinstance(state, (tuple, list)) else (inner.get("pos", 0), 624)
    if isinstance(state, dict) and "buffer_pos" in state:  # Philox
        position, size = state["buffer_pos"], 4
    if not 0 <= position <= size:
        raise ValueError(f"the position {position} of a random generator is not in [0, {size}]")
    return state


# The Mersenne twisters of torch and NumPy use 32 bits of a seed: each gets its own half. Python's uses all 64.
# `torch.manual_seed` would seed the devices too, which takes a hundred times as long.
GLOBAL_GENERATORS = {
    "torch": GlobalGenerator(
        torch.default_generator.get_state,
        lambda state: torch.default_generator.set_state(state.cpu()),
        torch.default_generator.manual_seed,
        torch.equal,
    ),
    "numpy": GlobalGenerator(
        np.random.get_state,
        lambda state: np.random.set_state(expect_position(state)),
        lambda word: np.random.seed(word >> 32),
        _numpy_states_are_equal,
    ),
    "python": GlobalGenerator(random.getstate, random.setstate, random.seed, operator.eq),
}


def get_global_states() -> GlobalStates:
    """Return the states of torch's CPU generator, NumPy's and Python's. `to_plain` makes them plain data."""
    return {name: generator.get_state() for name, generator in GLOBAL_GENERATORS.items()}


def set_global_states(states: GlobalStates) -> None:
    """Set the states of these generators."""
    for name, generator in GLOBAL_GENERATORS.items():
        generator.set_state(states[name])


def global_states_are(states: GlobalStates) -> bool:
    """Return whether the global generators are in these states."""
    return all(g.states_are_equal(states[name], g.get_state()) for name, g in GLOBAL_GENERATORS.items())


@contextmanager
def preserve_global_states() -> Iterator[None]:
    """Leave the global generators as they were before, whatever is drawn inside."""
    states = get_global_states()
    try:
        yield
    finally:
        set_global_states(states)


def to_plain(state: Any) -> Any:
    """Return a generator's state with lists in place of NumPy arrays."""
    return map_nested(
        lambda leaf: leaf if isinstance(leaf, Tensor) else leaf.tolist(), state, lambda leaf: isinstance(leaf, np.ndarray)
    )


@frozen(eq=False)
class RngState:
    """The states of all generators of a process: the global ones, and torch's on each GPU."""

    generators: GlobalStates
    cuda: list[Tensor]  # one per GPU; empty if CUDA is not in use

    def state_dict(self) -> dict[str, Any]:
        """Return the states as plain data for a checkpoint."""
        return {**to_plain(self.generators), "cuda": self.cuda}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> RngState:
        """Return the states that are in a checkpoint."""
        states = cls({name: state[name] for name in GLOBAL_GENERATORS}, [gpu.cpu() for gpu in state["cuda"]])
        with preserve_global_states():
            set_global_states(states.generators)  # an error now, not when the run begins
        return states


def get_rng_state() -> RngState:
    """Return the states of all generators of this process."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return RngState(get_global_states(), cuda)


def set_rng_state(state: RngState) -> None:
    """Set the states of all generators of this process."""
    set_global_states(state.generators)
    if state.cuda:
        torch.cuda.set_rng_state_all(state.cuda)


def seed_all(seed: int) -> None:
    """Seed Python's and NumPy's generators, and torch's on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
