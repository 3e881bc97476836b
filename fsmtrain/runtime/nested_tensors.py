"""Walks over nested tuples, lists and mappings, such as batches: their tensors, or a changed copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor


def children(value: Any) -> Collection[Any]:
    """Return the items of a tuple or list, or the values of a mapping; nothing for any other value."""
    if isinstance(value, (tuple, list)):
        return value
    return value.values() if isinstance(value, Mapping) else ()


def iter_tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a nest, in order."""
    if isinstance(value, Tensor):
        yield value
    else:
        for item in children(value):
            yield from iter_tensors(item)


def named_tensors(value: Any, name: str = "", max_depth: int = 9) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a nest with their places, such as ``x[0].y``, down to `max_depth` containers.

    >>> import torch
    >>> [name for name, _ in named_tensors({"x": [torch.ones(1), {"y": torch.ones(1)}], "id": 3})]
    ['x[0]', 'x[1].y']
    """
    if isinstance(value, Tensor):
        yield name, value
    elif max_depth > 0:
        named = value._asdict() if isinstance(value, tuple) and hasattr(value, "_asdict") else value
        is_mapping = isinstance(named, Mapping)
        for key, item in named.items() if is_mapping else enumerate(children(named)):
            place = f"[{key}]" if not is_mapping else f".{key}" if name else str(key)
            yield from named_tensors(item, f"{name}{place}", max_depth - 1)


def map_nested(change: Callable[[Any], Any], value: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """Copy a nest with each of its leaves changed.

    What is neither a leaf nor a container stays the same object.

    Args:
        change: Is called with each leaf, in order.
        value: The nest.
        is_leaf: Whether a value is a leaf. Tensors always are; containers may be.
    """
    if isinstance(value, Tensor) or (is_leaf is not None and is_leaf(value)):
        return change(value)
    kind = type(value)
    if kind is tuple or kind is list:
        return kind([map_nested(change, item, is_leaf) for item in value])
    if kind is dict:
        return {key: map_nested(change, item, is_leaf) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return rebuild_sequence(value, [map_nested(change, item, is_leaf) for item in value])
    if isinstance(value, Mapping):
        return rebuild_mapping(value, {key: map_nested(change, item, is_leaf) for key, item in value.items()})
    return value


def rebuild_sequence(sequence: Any, items: list[Any]) -> Any:
    """Make a tuple, named tuple or list of the same type, with other items."""
    kind = type(sequence)
    return kind(*items) if hasattr(sequence, "_fields") else kind(items)


def rebuild_mapping(mapping: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """Make a mapping of the same type, with other items under its keys."""
    if type(mapping) is dict:
        return items
    if isinstance(mapping, MutableMapping):
        filled = copy.copy(mapping)
        filled.update(items)
        return filled
    return type(mapping)(items)  # type: ignore[call-arg]


def detach(value: Any) -> Any:
    """Return hiddens without the graph that computed them: tensors, or a nest of them."""
    return map_nested(Tensor.detach, value)
