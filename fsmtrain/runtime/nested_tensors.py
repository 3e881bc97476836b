"""Walks over nests of tuples, lists, mappings, dataclasses and attrs objects, such as batches: their tensors, or a copy."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from typing import Any

import attrs
from torch import Tensor


def is_record(value: Any) -> bool:
    """Return whether a value is an instance of a dataclass or of an attrs class."""
    kind = type(value)
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def record_items(record: Any) -> dict[str, Any]:
    """Return what a dataclass or attrs object holds: its fields that are set, and its other attributes."""
    kind = type(record)
    fields: Any = dataclasses.fields(kind) if hasattr(kind, "__dataclass_fields__") else attrs.fields(kind)
    names = (*(field.name for field in fields), *getattr(record, "__dict__", ()))
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


def children(value: Any) -> Collection[Any]:
    """Return the items of a tuple or list, the values of a mapping, the fields of a record; nothing for any other value."""
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, Mapping):
        return value.values()
    return record_items(value).values() if is_record(value) else ()


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
        named = value
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            named = value._asdict()
        elif is_record(value) and not isinstance(value, (tuple, list, Mapping)):
            named = record_items(value)
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
    if is_record(value):
        return rebuild_record(value, {name: map_nested(change, item, is_leaf) for name, item in record_items(value).items()})
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
        for key, item in items.items():  # some classes do not have the `update` of a dict
            filled[key] = item
        return filled
    return type(mapping)(items)  # type: ignore[call-arg]


def rebuild_record(record: Any, items: dict[str, Any]) -> Any:
    """Make a copy of a dataclass or attrs object with other values in its fields, also if it is frozen.

    It is copied and not constructed: whatever its ``__init__`` or ``__post_init__`` computed is kept.
    """
    if all(getattr(record, name) is item for name, item in items.items()):
        return record
    copied = copy.copy(record)
    for name, item in items.items():
        object.__setattr__(copied, name, item)
    return copied


def detach(value: Any) -> Any:
    """Return hiddens without the graph that computed them: tensors, or a nest of them."""
    return map_nested(Tensor.detach, value)
