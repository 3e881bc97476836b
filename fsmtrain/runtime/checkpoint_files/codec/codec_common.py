"""Shared by encoding and decoding: bounds, the factories of a defaultdict, floats as text."""

from __future__ import annotations

import inspect
import math
import struct
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

MAX_DEPTH = 64  # nested containers in a state tree
MAX_EQUAL_HASHES = 100  # of the keys of one dict

FACTORIES: dict[str, Callable[[], Any] | None] = {
    "none": None, "int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict, "set": set, "tuple": tuple,
}  # fmt: skip


def float_to_text(value: float) -> str:
    """Return a float as text that restores its every bit.

    >>> float_to_text(float("-inf")), float_to_text(-0.0), float_to_text(-float("nan"))
    ('-inf', '-0.0', 'fff8000000000000')
    """
    bits = struct.pack(">d", value)
    return bits.hex() if math.isnan(value) and bits != struct.pack(">d", math.nan) else repr(value)


def text_to_float(text: Any) -> float:
    """Parse the text of a float."""
    if len(expect_text(text)) == 16 and text[:3] in ("7ff", "fff"):
        value: float = struct.unpack(">d", bytes.fromhex(text))[0]
        return value
    return float(text)


def expect_text(value: Any) -> str:
    """Return a value that must be text.

    Raises:
        TypeError: It is not.
    """
    if type(value) is not str:
        raise TypeError("it must be text")
    return value


def expect_spread(keys: Collection[Any]) -> Collection[Any]:
    """Return keys that a dict or set can hold without comparing each with most of the others.

    Equal hashes are chance in a few keys. Thousands of them are made, for example as multiples of 2**61 - 1.

    Raises:
        TypeError: One cannot be hashed.
        ValueError: Many have the same hash.
    """
    if len(keys) > MAX_EQUAL_HASHES:
        [(_, count)] = Counter(map(hash, keys)).most_common(1)
        if count > MAX_EQUAL_HASHES:
            raise ValueError(f"{count} of its {len(keys)} keys have the same hash")
    return keys


def describe_type(value: Any) -> str:
    """Return the type of a value with its article, for an error."""
    kind = type(value)
    if inspect.isroutine(value):
        return "a function"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}"
