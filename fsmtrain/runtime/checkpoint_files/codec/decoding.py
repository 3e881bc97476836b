"""Decode a JSON skeleton and stored tensors to a state tree.

Only the tags in the table below are known.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import torch

from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.codec.codec_common import (
    FACTORIES,
    MAX_DEPTH,
    describe_type,
    expect_spread,
    expect_text,
    text_to_float,
)
from fsmtrain.runtime.checkpoint_files.tensors import numpy_arrays
from fsmtrain.runtime.checkpoint_files.tensors.dtypes import DTYPE_OF_NAME
from fsmtrain.runtime.checkpoint_files.tensors.tensor_resolver import TensorResolver
from fsmtrain.runtime.checkpoint_files.tree_path import TreePath, short_repr


class Decoder:
    """Decodes one state tree. Anything invalid raises a `CodecError` with its path."""

    def __init__(self, resolver: TensorResolver) -> None:
        self.resolver = resolver

    def decode(self, value: Any, path: TreePath, depth: int) -> Any:
        """Decode a JSON value. `depth` is how many containers it is in."""
        kind = type(value)
        if kind in (str, int, bool, type(None)):
            return value
        if kind is float:
            if math.isfinite(value):
                return value
            raise CodecError(f"{path}: a number is too large for a float.")
        if depth > MAX_DEPTH:
            raise CodecError(f"{path}: nested in more than {MAX_DEPTH} containers.")
        if kind is list:
            return self.decode_items(value, path, depth + 1)
        if kind is not dict:
            raise CodecError(f"{path}: JSON cannot contain {describe_type(value)}.")
        tag = next((key for key in value if type(key) is not str or key.startswith("$")), None)
        if tag is None:
            return {key: self.decode(item, path.key(key), depth + 1) for key, item in value.items()}
        if len(value) != 1 or tag not in TAGS:
            raise CodecError(f"{path}: the tag {short_repr(tag)} is unknown.")
        try:
            return TAGS[tag](self, value[tag], path, depth + 1)
        except CodecError:
            raise
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CodecError(f"{path}: invalid {tag.removeprefix('$')}: {reason}.") from None

    def decode_items(self, values: Any, path: TreePath, depth: int) -> list[Any]:
        """Decode the items of a sequence."""
        if type(values) is not list:
            raise TypeError("its items must be a list")
        if set(map(type, values)) == {int}:
            return list(values)
        return [self.decode(value, path.key(position), depth) for position, value in enumerate(values)]

    def decode_pairs(self, pairs: Any, path: TreePath, depth: int) -> list[tuple[Any, Any]]:
        """Decode the keys and values of a mapping."""
        result = []
        for pair in _expect_list(pairs, path):
            key, value = _expect_list(pair, path, 2)
            key = self.decode(key, path, depth)
            result.append((key, self.decode(value, path.key(key), depth)))
        expect_spread([key for key, _ in result])
        return result

    def decode_state_dict(self, parts: Any, path: TreePath, depth: int) -> Any:
        """Decode a module's ``state_dict``, with the versions of its submodules in an attribute."""
        pairs, metadata = _expect_list(parts, path, 2)
        result = OrderedDict(self.decode_pairs(pairs, path, depth))
        result._metadata = self.decode(metadata, path.key("_metadata"), depth)  # type: ignore[attr-defined]
        return result

    def decode_default_dict(self, parts: Any, path: TreePath, depth: int) -> Any:
        """Decode a defaultdict; its factory is in a fixed table."""
        name, pairs = _expect_list(parts, path, 2)
        return defaultdict(FACTORIES[name], self.decode_pairs(pairs, path, depth))

    def decode_counter(self, pairs: Any, path: TreePath, depth: int) -> Any:
        """Decode a Counter. The counts are set directly: ``Counter(pairs)`` would count the pairs."""
        result: Counter[Any] = Counter()
        dict.update(result, self.decode_pairs(pairs, path, depth))
        return result

    def decode_deque(self, parts: Any, path: TreePath, depth: int) -> Any:
        """Decode a deque with its maximum length."""
        length, items = _expect_list(parts, path, 2)
        return deque(self.decode_items(items, path, depth), length)

    def decode_array(self, reference: Any, path: TreePath, depth: int) -> Any:
        """Decode an array from the tensor with its content."""
        if type(reference) is not dict:
            raise TypeError("it must be a reference to a tensor")
        return numpy_arrays.tensor_to_array(self.resolver.take_array(reference.get("name")), reference)


TAGS: dict[str, Callable[[Decoder, Any, TreePath, int], Any]] = {
    "$tuple": lambda decoder, value, path, depth: tuple(decoder.decode_items(value, path, depth)),
    "$set": lambda decoder, value, path, depth: set(expect_spread(decoder.decode_items(value, path, depth))),
    "$frozenset": lambda decoder, value, path, depth: frozenset(expect_spread(decoder.decode_items(value, path, depth))),
    "$dict": lambda decoder, value, path, depth: dict(decoder.decode_pairs(value, path, depth)),
    "$ordered": lambda decoder, value, path, depth: OrderedDict(decoder.decode_pairs(value, path, depth)),
    "$state_dict": Decoder.decode_state_dict,
    "$default": Decoder.decode_default_dict,
    "$counter": Decoder.decode_counter,
    "$deque": Decoder.decode_deque,
    "$tensor": lambda decoder, value, path, depth: decoder.resolver.resolve(value),
    "$array": Decoder.decode_array,
    "$scalar": lambda decoder, value, path, depth: numpy_arrays.json_to_scalar(value),
    "$str": lambda decoder, value, path, depth: bytes.fromhex(value).decode("utf-8", "surrogatepass"),
    "$int": lambda decoder, value, path, depth: int(value, 16),
    "$float": lambda decoder, value, path, depth: text_to_float(value),
    "$bytes": lambda decoder, value, path, depth: base64.b64decode(value, validate=True),
    "$bytearray": lambda decoder, value, path, depth: bytearray(base64.b64decode(value, validate=True)),
    "$complex": lambda decoder, value, path, depth: complex(*map(text_to_float, _expect_list(value, path, 2))),
    "$range": lambda decoder, value, path, depth: range(*(int(part, 16) for part in _expect_list(value, path, 3))),
    "$size": lambda decoder, value, path, depth: torch.Size(_expect_list(value, path)),
    "$device": lambda decoder, value, path, depth: torch.device(expect_text(value)),
    "$dtype": lambda decoder, value, path, depth: DTYPE_OF_NAME[value],
}


def _expect_list(value: Any, path: TreePath, length: int | None = None) -> list[Any]:
    if type(value) is not list or length not in (None, len(value)):
        raise CodecError(f"{path}: it must be a list{'' if length is None else f' of {length}'}.")
    return value
