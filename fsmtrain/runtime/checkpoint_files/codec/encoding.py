"""Encode a state tree as a JSON skeleton, and collect its tensors. For the tags see `codec`."""

from __future__ import annotations

import base64
import math
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fsmtrain import strict_json
from fsmtrain.errors import CodecError
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.checkpoint_files.codec.codec_common import FACTORIES, MAX_DEPTH, describe_type, float_to_text
from fsmtrain.runtime.checkpoint_files.tensors import numpy_arrays
from fsmtrain.runtime.checkpoint_files.tensors.dtypes import DTYPE_OF_NAME, dtype_name
from fsmtrain.runtime.checkpoint_files.tensors.tensor_collector import TensorCollector
from fsmtrain.runtime.checkpoint_files.tree_path import TreePath

MAX_JSON_INT = 2**53  # ints from here on are written as text: many JSON readers convert them to floats
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_UNCHANGED_TYPES = {bool, type(None)}


class Encoder:
    """Encodes one state tree; `collector` has its tensors."""

    def __init__(self) -> None:
        self.collector = TensorCollector()
        self._inside: set[int] = set()  # the containers that are being encoded
        self._in_key = False

    def encode(self, value: Any, path: TreePath, depth: int) -> Any:
        """Encode any value. `depth` is how many containers it is in."""
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else {"$str": value.encode("utf-8", "surrogatepass").hex()}
        if kind is int:
            return value if -MAX_JSON_INT < value < MAX_JSON_INT else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": float_to_text(value)}
        if kind in _UNCHANGED_TYPES:
            return value
        if kind in _CONTAINERS:
            return self._encode_container(value, path, depth)
        if kind is Tensor or kind is nn.Parameter or isinstance(value, (Tensor, np.ndarray)):
            return self._encode_tensor(value, path)
        if kind in _SCALARS:
            tag, write = _SCALARS[kind]
            return {tag: self._call(write, value, path)}
        if isinstance(value, np.generic):
            return {"$scalar": self._call(numpy_arrays.scalar_to_json, value, path)}
        raise CodecError(f"{path}: {describe_type(value)} cannot be saved. {_advice(value)}")

    def _encode_tensor(self, value: Any, path: TreePath) -> Any:
        if self._in_key:
            raise CodecError(f"{path}: {describe_type(value)} as a key of a dict, or in a set, cannot be saved.")
        if isinstance(value, Tensor):
            return {"$tensor": self.collector.add(value, path)}
        content, fields = self._call(numpy_arrays.array_to_tensor, value, path)
        reference = self.collector.add_unshared(content, path)
        reference.update(fields)
        return {"$array": reference}

    def _call(self, write: Callable[[Any], Any], value: Any, path: TreePath) -> Any:
        try:
            return write(value)
        except ValueError as error:
            raise CodecError(f"{path}: {error}.") from None

    def _encode_container(self, value: Any, path: TreePath, depth: int) -> Any:
        if id(value) in self._inside:
            raise CodecError(f"{path}: {a_type_of(value)} that contains itself cannot be saved.")
        if depth == MAX_DEPTH:
            raise CodecError(f"{path}: values nested in more than {MAX_DEPTH} containers cannot be saved.")
        self._inside.add(id(value))
        try:
            return _CONTAINERS[type(value)](self, value, path, depth + 1)
        finally:
            self._inside.discard(id(value))

    def encode_items(self, values: Iterable[Any], path: TreePath, depth: int) -> list[Any]:
        """Encode the items of a sequence."""
        values = list(values)
        if set(map(type, values)) == {int} and -MAX_JSON_INT < min(values) <= max(values) < MAX_JSON_INT:
            return values  # a shortcut: orders of data sets are long
        return [self.encode(value, path.key(position), depth) for position, value in enumerate(values)]

    def encode_set(self, values: Iterable[Any], path: TreePath, depth: int) -> list[Any]:
        """Encode the items of a set, in an order that does not depend on their hashes."""
        return sorted((self.encode_key(value, path, depth) for value in values), key=strict_json.dump)

    def encode_dict(self, values: dict[Any, Any], path: TreePath, depth: int) -> Any:
        """Encode a dict, as a JSON object if its keys allow that."""
        if all(type(key) is str and not key.startswith("$") and _is_text(key) for key in values):
            return {key: self.encode(value, path.key(key), depth) for key, value in values.items()}
        return {"$dict": self.encode_pairs(values, path, depth)}

    def encode_pairs(self, values: dict[Any, Any], path: TreePath, depth: int) -> list[Any]:
        """Encode the keys and values of a mapping, in order."""
        return [[self.encode_key(key, path, depth), self.encode(value, path.key(key), depth)] for key, value in values.items()]

    def encode_key(self, key: Any, path: TreePath, depth: int) -> Any:
        """Encode a dict's key or a set's item. It cannot be a tensor, which is hashed by identity."""
        if type(key) is str and _is_text(key):
            return key
        before, self._in_key = self._in_key, True
        try:
            return self.encode(key, path.key(key), depth)
        finally:
            self._in_key = before

    def encode_ordered_dict(self, values: OrderedDict[Any, Any], path: TreePath, depth: int) -> Any:
        """Encode an OrderedDict.

        A module's ``state_dict`` has the versions of its submodules in the attribute `_metadata`.
        """
        attributes = vars(values)
        if attributes.keys() - {"_metadata"}:
            raise CodecError(f"{path}: an OrderedDict with the attributes {sorted(attributes)} cannot be saved.")
        pairs = self.encode_pairs(values, path, depth)
        if not attributes:
            return {"$ordered": pairs}
        return {"$state_dict": [pairs, self.encode(attributes["_metadata"], path.key("_metadata"), depth)]}

    def encode_default_dict(self, values: defaultdict[Any, Any], path: TreePath, depth: int) -> Any:
        """Encode a defaultdict, its factory by a name in a fixed table."""
        name = next((name for name, factory in FACTORIES.items() if values.default_factory is factory), None)
        if name is None:
            raise CodecError(
                f"{path}: a defaultdict whose default_factory is {describe_type(values.default_factory)} cannot be saved. "
                f"Save dict(value)."
            )
        return {"$default": [name, self.encode_pairs(values, path, depth)]}


_CONTAINERS: dict[type, Callable[[Encoder, Any, TreePath, int], Any]] = {
    list: Encoder.encode_items,
    dict: Encoder.encode_dict,
    tuple: lambda encoder, value, path, depth: {"$tuple": encoder.encode_items(value, path, depth)},
    set: lambda encoder, value, path, depth: {"$set": encoder.encode_set(value, path, depth)},
    frozenset: lambda encoder, value, path, depth: {"$frozenset": encoder.encode_set(value, path, depth)},
    OrderedDict: Encoder.encode_ordered_dict,
    defaultdict: Encoder.encode_default_dict,
    Counter: lambda encoder, value, path, depth: {"$counter": encoder.encode_pairs(value, path, depth)},
    deque: lambda encoder, value, path, depth: {"$deque": [value.maxlen, encoder.encode_items(value, path, depth)]},
}

_SCALARS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytearray", lambda value: base64.b64encode(value).decode()),
    complex: ("$complex", lambda value: [float_to_text(value.real), float_to_text(value.imag)]),
    range: ("$range", lambda value: [hex(value.start), hex(value.stop), hex(value.step)]),
    torch.Size: ("$size", list),
    torch.device: ("$device", str),
    torch.dtype: ("$dtype", lambda value: _supported_dtype_name(dtype_name(value))),
}


def _supported_dtype_name(name: str) -> str:
    if name not in DTYPE_OF_NAME:
        raise ValueError(f"the dtype {name} cannot be saved")
    return name


def _is_text(value: str) -> bool:
    """Return whether a text can be encoded as UTF-8: it has no lone surrogates."""
    return value.isascii() or not _LONE_SURROGATE.search(value)


def _advice(value: Any) -> str:
    if isinstance(value, torch.Generator):
        return "Save generator.get_state()."
    if isinstance(value, (dict, list, tuple, str, int, float, set)):
        return f"Its class is derived from {type(value).__mro__[1].__name__}: convert it to a builtin type."
    if callable(getattr(value, "state_dict", None)):
        return "Save its state_dict()."
    return "Save its content: numbers, text, tensors, arrays, and containers of these."
