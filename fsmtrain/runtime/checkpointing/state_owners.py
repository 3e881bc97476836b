"""`Owner`: one part of a run's state, with its ``state_dict`` and ``load_state_dict``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from attrs import fields, frozen

from fsmtrain.errors import DAMAGED_STATE, FsmtrainError, ResumeError
from fsmtrain.runtime.checkpoint_files.tree_path import short_repr
from fsmtrain.runtime.nested_tensors import iter_tensors, map_nested


class Stateful(Protocol):
    """An object with torch's pair of methods."""

    def state_dict(self) -> Any:
        """Return the state, as plain data and tensors."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Take a state over."""
        ...


REQUIRED: Any = object()  # the value of `Owner.if_missing` if a checkpoint must have the key


@frozen
class Owner:
    """A part of a run's state.

    Args:
        state_dict: Returns the state, as plain data and tensors.
        load_state_dict: Takes a state over.
        if_missing: The state to load from a checkpoint that was saved before this owner existed. Only give one that keeps
            the same bits; without it such a checkpoint is refused.
    """

    state_dict: Callable[[], Any]
    load_state_dict: Callable[[Any], object]
    if_missing: Any = REQUIRED


def owner_of(stateful: Stateful) -> Owner:
    """Return the owner for an object that has both methods."""
    return Owner(stateful.state_dict, stateful.load_state_dict)


def fields_of(
    target: Any, names: Iterable[str] | None = None, *, if_missing: Mapping[str, Any] | None = None, keeps_types: bool = False
) -> Owner:
    """Return the owner of attributes of an object: those of its attrs class, or the ones named.

    Args:
        target: The object.
        names: The attributes; None is all fields of its attrs class.
        if_missing: As `Owner.if_missing`, for each attribute that older checkpoints lack.
        keeps_types: Whether each value must have the type that is there, and a list its length.
    """
    listed = list(names) if names is not None else [f.name for f in fields(type(target)) if f.init]

    def load(state: Mapping[str, Any]) -> None:
        values = merged(state, dict.fromkeys(listed, REQUIRED) | dict(if_missing or {}), type(target).__name__)
        for name, value in values.items():
            if keeps_types and not _is_like(value, getattr(target, name)):
                raise ResumeError(
                    f"{type(target).__name__}.{name} is {short_repr(value)}, and this run has {getattr(target, name)!r}: it is "
                    f"the state of another run."
                )
            setattr(target, name, value)

    return Owner(lambda: {name: getattr(target, name) for name in listed}, load)


def listed(owners: Iterable[Owner], what: str = "parts") -> Owner:
    """Return the owner of a list of parts; `what` names them in errors."""
    parts = list(owners)

    def load(states: list[Any]) -> None:
        if len(states) != len(parts):
            raise ResumeError(f"{what}: {len(parts)}, checkpoint has {len(states)}. Return as many as the saved run had.")
        for owner, state in zip(parts, states, strict=True):
            owner.load_state_dict(state)

    return Owner(lambda: [owner.state_dict() for owner in parts], load)


def on_device(owner: Owner, device: torch.device) -> Owner:
    """Return the owner with a note beside its state of which tensors were on the run's device, to move them there on load."""

    def state_dict() -> dict[str, Any]:
        state = owner.state_dict()
        flags = [tensor.device == device for tensor in iter_tensors(state)] if device.type != "cpu" else []
        return {"state": state, "is_on_device": flags}

    def load(saved: Mapping[str, Any]) -> None:
        """Move those tensors that were on their run's device; all of them if that was the CPU."""
        flags, state = iter(saved["is_on_device"]), saved["state"]
        if device.type != "cpu":
            state = map_nested(lambda tensor: tensor.to(device) if next(flags, True) else tensor, state)
        owner.load_state_dict(state)

    return Owner(state_dict, load)


def _is_like(value: Any, present: Any) -> bool:
    if type(value) is not type(present):
        return False
    return type(value) is not list or (len(value) == len(present) and all(map(_is_like, value, present)))


@contextmanager
def damaged_state_is_an_error(of: str = "") -> Iterator[None]:
    """Turn what Python and torch raise for a state that nothing has saved into a `ResumeError`.

    Args:
        of: Whose state it is, for the message.
    """
    try:
        yield
    except FsmtrainError:
        raise
    except DAMAGED_STATE as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        prefix = f"{of}: " if of else ""
        raise ResumeError(
            f"{prefix}the saved state cannot be taken over: {type(error).__name__}: {reason}. Either it belongs to another "
            f"class, or fsmtrain did not save it."
        ) from error


def merged(states: Mapping[str, Any], defaults: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the saved state of each key of `defaults`, in that order, or its default.

    Raises:
        ResumeError: A key is missing that has no default, or one is unknown.
    """
    prefix = f"{where}." if where else ""
    for name in states:
        if name not in defaults:
            raise ResumeError(f"it has the unknown key {prefix + name!r}: a newer fsmtrain saved it. Resume it with that one.")
    for name, default in defaults.items():
        if default is REQUIRED and name not in states:
            raise ResumeError(f"it lacks the key {prefix + name!r}: an older fsmtrain saved it. Resume it with that one.")
    return {name: states.get(name, default) for name, default in defaults.items()}
