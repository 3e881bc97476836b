"""The codec: any state as a skeleton of JSON and named tensors, and back, types included.

JSON holds None, bools, text, lists, floats that are finite, whole numbers below 2**53 and dicts of text as they are.
All else is an object with one key, a tag that begins with ``$``; so a dict that has such a key itself is written
under the tag ``$dict``. Decoding knows the tags below and nothing else: it never looks up a class by a name.

The tags are part of the format: docs/checkpoint-format.md lists them.
"""

from __future__ import annotations

import base64
import inspect
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from fsmtrain.errors import CodecError
from fsmtrain.runtime.saving import arrays, strict_json
from fsmtrain.runtime.saving.dtypes import DTYPES, dtype_name
from fsmtrain.runtime.saving.paths import Path
from fsmtrain.runtime.saving.references import Restoring
from fsmtrain.runtime.saving.sharing import Gathering

DEEPEST = 64  # levels of containers in a tree
SAFE = 2**53  # whole numbers from here on are written as text, since many readers of JSON make floats of them

_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "none": None, "int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict, "set": set, "tuple": tuple,
}  # fmt: skip
_AS_THEY_ARE = {bool, type(None)}


@frozen(eq=False)
class Encoded:
    """A state in two parts: what JSON can hold, and the tensors that it refers to by name."""

    skeleton: Any
    tensors: dict[str, Tensor]


def encode(tree: Any) -> Encoded:
    """A state as JSON and tensors. The tensors are the state's own, not copies.

    Raises:
        CodecError: Something in it cannot be saved. The message begins with its path.
    """
    encoder = _Encoder()
    skeleton = encoder.value(tree, Path(), 0)
    return Encoded(skeleton, encoder.gathering.stored())


def decode(encoded: Encoded) -> Any:
    """The state that was encoded. Its tensors lie where the encoded ones do; those that were one object are one again.

    Raises:
        CodecError: No encoder wrote this. The message begins with the path of what is wrong.
    """
    return _Decoder(Restoring(encoded.tensors)).value(encoded.skeleton, Path(), 0)


class _Encoder:
    def __init__(self) -> None:
        self.gathering = Gathering()
        self._inside: set[int] = set()  # the containers that are being encoded
        self._in_key = False

    def value(self, value: Any, path: Path, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return value if _is_text(value) else {"$str": value.encode("utf-8", "surrogatepass").hex()}
        if kind is int:
            return value if -SAFE < value < SAFE else {"$int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"$float": _float_text(value)}
        if kind in _AS_THEY_ARE:
            return value
        if kind in _CONTAINERS:
            return self._container(value, path, depth)
        if kind is Tensor or kind is nn.Parameter or isinstance(value, (Tensor, np.ndarray)):
            return self._tensor(value, path)
        if kind in _SIMPLE:
            tag, write = _SIMPLE[kind]
            return {tag: self._guarded(write, value, path)}
        if isinstance(value, np.generic):
            return {"$scalar": self._guarded(arrays.scalar_to_json, value, path)}
        raise CodecError(f"{path}: {_named(value)} cannot be saved. {_way_out(value)}")

    def _tensor(self, value: Any, path: Path) -> Any:
        if self._in_key:
            raise CodecError(f"{path}: {_named(value)} as a key of a dict, or in a set, cannot be saved.")
        if isinstance(value, Tensor):
            return {"$tensor": self.gathering.add(value, path)}
        content, fields = self._guarded(arrays.array_to_tensor, value, path)
        reference = self.gathering.add_loose(content, path)
        reference.update(fields)
        return {"$array": reference}

    def _guarded(self, write: Callable[[Any], Any], value: Any, path: Path) -> Any:
        try:
            return write(value)
        except ValueError as error:
            raise CodecError(f"{path}: {error}.") from None

    def _container(self, value: Any, path: Path, depth: int) -> Any:
        if id(value) in self._inside:
            raise CodecError(f"{path}: a {type(value).__name__} that contains itself cannot be saved.")
        if depth == DEEPEST:
            raise CodecError(f"{path}: what is more than {DEEPEST} containers deep cannot be saved.")
        self._inside.add(id(value))
        try:
            return _CONTAINERS[type(value)](self, value, path, depth + 1)
        finally:
            self._inside.discard(id(value))

    def items(self, values: Iterable[Any], path: Path, depth: int) -> list[Any]:
        values = list(values)
        if set(map(type, values)) == {int} and min(values) > -SAFE and max(values) < SAFE:  # orders of a data set are long
            return values
        return [self.value(value, path.at(position), depth) for position, value in enumerate(values)]

    def members(self, values: Iterable[Any], path: Path, depth: int) -> list[Any]:
        """Those of a set, in an order that does not depend on their hashes."""
        return sorted((self.key(value, path, depth) for value in values), key=strict_json.dump)

    def mapping(self, values: dict[Any, Any], path: Path, depth: int) -> Any:
        if all(type(key) is str and not key.startswith("$") and _is_text(key) for key in values):
            return {key: self.value(value, path.key(key), depth) for key, value in values.items()}
        return {"$dict": self.pairs(values, path, depth)}

    def pairs(self, values: dict[Any, Any], path: Path, depth: int) -> list[Any]:
        return [[self.key(key, path, depth), self.value(value, path.key(key), depth)] for key, value in values.items()]

    def key(self, key: Any, path: Path, depth: int) -> Any:
        before, self._in_key = self._in_key, True
        try:
            return self.value(key, path.key(key), depth)
        finally:
            self._in_key = before

    def ordered(self, values: OrderedDict[Any, Any], path: Path, depth: int) -> Any:
        """A module's state_dict has the versions of its parts in an attribute, `_metadata`."""
        attributes = vars(values)
        if attributes.keys() - {"_metadata"}:
            raise CodecError(f"{path}: an OrderedDict with attributes of its own, {sorted(attributes)}, cannot be saved.")
        pairs = self.pairs(values, path, depth)
        if not attributes:
            return {"$ordered": pairs}
        return {"$state_dict": [pairs, self.value(attributes["_metadata"], path.key("_metadata"), depth)]}

    def default(self, values: defaultdict[Any, Any], path: Path, depth: int) -> Any:
        name = next((name for name, factory in _FACTORIES.items() if values.default_factory is factory), None)
        if name is None:
            raise CodecError(
                f"{path}: a defaultdict whose default_factory is {_named(values.default_factory)} cannot be saved. "
                f"Save dict(…) of it."
            )
        return {"$default": [name, self.pairs(values, path, depth)]}


_CONTAINERS: dict[type, Callable[[_Encoder, Any, Path, int], Any]] = {
    list: _Encoder.items,
    dict: _Encoder.mapping,
    tuple: lambda encoder, value, path, depth: {"$tuple": encoder.items(value, path, depth)},
    set: lambda encoder, value, path, depth: {"$set": encoder.members(value, path, depth)},
    frozenset: lambda encoder, value, path, depth: {"$frozenset": encoder.members(value, path, depth)},
    OrderedDict: _Encoder.ordered,
    defaultdict: _Encoder.default,
    Counter: lambda encoder, value, path, depth: {"$counter": encoder.pairs(value, path, depth)},
    deque: lambda encoder, value, path, depth: {"$deque": [value.maxlen, encoder.items(value, path, depth)]},
}

_SIMPLE: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytearray", lambda value: base64.b64encode(value).decode()),
    complex: ("$complex", lambda value: [_float_text(value.real), _float_text(value.imag)]),
    range: ("$range", lambda value: [hex(value.start), hex(value.stop), hex(value.step)]),
    torch.Size: ("$size", list),
    torch.device: ("$device", str),
    torch.dtype: ("$dtype", lambda value: _known(dtype_name(value))),
}


class _Decoder:
    def __init__(self, restoring: Restoring) -> None:
        self.restoring = restoring

    def value(self, value: Any, path: Path, depth: int) -> Any:
        kind = type(value)
        if kind in (str, int, bool, type(None)):
            return value
        if kind is float:
            if math.isfinite(value):
                return value
            raise CodecError(f"{path}: a number that is too large for a float.")
        if depth > DEEPEST:
            raise CodecError(f"{path}: more than {DEEPEST} containers deep.")
        if kind is list:
            return self.items(value, path, depth + 1)
        if kind is not dict:
            raise CodecError(f"{path}: JSON does not make {_named(value)}.")
        tag = next((key for key in value if type(key) is not str or key.startswith("$")), None)
        if tag is None:
            return {key: self.value(item, path.key(key), depth + 1) for key, item in value.items()}
        if len(value) != 1 or tag not in _TAGS:
            raise CodecError(f"{path}: {tag!r} is no tag of this format.")
        try:
            return _TAGS[tag](self, value[tag], path, depth + 1)
        except CodecError:
            raise
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CodecError(f"{path}: this is no {tag.removeprefix('$')}: {reason}.") from None

    def items(self, values: Any, path: Path, depth: int) -> list[Any]:
        if type(values) is not list:
            raise TypeError("its items are no list")
        if set(map(type, values)) == {int}:
            return list(values)
        return [self.value(value, path.at(position), depth) for position, value in enumerate(values)]

    def pairs(self, pairs: Any, path: Path, depth: int) -> list[tuple[Any, Any]]:
        result = []
        for pair in _list(pairs, path):
            key, value = _list(pair, path, 2)
            key = self.value(key, path, depth)
            result.append((key, self.value(value, path.key(key), depth)))
        return result

    def state_dict(self, parts: Any, path: Path, depth: int) -> Any:
        pairs, metadata = _list(parts, path, 2)
        result = OrderedDict(self.pairs(pairs, path, depth))
        result._metadata = self.value(metadata, path.key("_metadata"), depth)  # type: ignore[attr-defined]
        return result

    def default(self, parts: Any, path: Path, depth: int) -> Any:
        name, pairs = _list(parts, path, 2)
        return defaultdict(_FACTORIES[name], self.pairs(pairs, path, depth))

    def counter(self, pairs: Any, path: Path, depth: int) -> Any:
        result: Counter[Any] = Counter()
        dict.update(result, self.pairs(pairs, path, depth))
        return result

    def deque(self, parts: Any, path: Path, depth: int) -> Any:
        length, items = _list(parts, path, 2)
        return deque(self.items(items, path, depth), length)

    def array(self, reference: Any, path: Path, depth: int) -> Any:
        if type(reference) is not dict:
            raise TypeError("this is no reference")
        return arrays.tensor_to_array(self.restoring.stored(reference.get("name")), reference)


_TAGS: dict[str, Callable[[_Decoder, Any, Path, int], Any]] = {
    "$tuple": lambda decoder, value, path, depth: tuple(decoder.items(value, path, depth)),
    "$set": lambda decoder, value, path, depth: set(decoder.items(value, path, depth)),
    "$frozenset": lambda decoder, value, path, depth: frozenset(decoder.items(value, path, depth)),
    "$dict": lambda decoder, value, path, depth: dict(decoder.pairs(value, path, depth)),
    "$ordered": lambda decoder, value, path, depth: OrderedDict(decoder.pairs(value, path, depth)),
    "$state_dict": _Decoder.state_dict,
    "$default": _Decoder.default,
    "$counter": _Decoder.counter,
    "$deque": _Decoder.deque,
    "$tensor": lambda decoder, value, path, depth: decoder.restoring.tensor(value),
    "$array": _Decoder.array,
    "$scalar": lambda decoder, value, path, depth: arrays.json_to_scalar(value),
    "$str": lambda decoder, value, path, depth: bytes.fromhex(value).decode("utf-8", "surrogatepass"),
    "$int": lambda decoder, value, path, depth: int(value, 16),
    "$float": lambda decoder, value, path, depth: _text_float(value),
    "$bytes": lambda decoder, value, path, depth: base64.b64decode(value, validate=True),
    "$bytearray": lambda decoder, value, path, depth: bytearray(base64.b64decode(value, validate=True)),
    "$complex": lambda decoder, value, path, depth: complex(*map(_text_float, _list(value, path, 2))),
    "$range": lambda decoder, value, path, depth: range(*(int(part, 16) for part in _list(value, path, 3))),
    "$size": lambda decoder, value, path, depth: torch.Size(_list(value, path)),
    "$device": lambda decoder, value, path, depth: torch.device(_text(value)),
    "$dtype": lambda decoder, value, path, depth: DTYPES[value],
}


def _list(value: Any, path: Path, length: int | None = None) -> list[Any]:
    if type(value) is not list or length not in (None, len(value)):
        raise CodecError(f"{path}: a list{'' if length is None else f' of {length}'} belongs here.")
    return value


def _known(name: str) -> str:
    if name not in DTYPES:
        raise ValueError(f"the dtype {name} cannot be saved")
    return name


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("this is no text")
    return value


def _is_text(value: str) -> bool:
    """Whether a text can be written as UTF-8: without lone surrogates."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _float_text(value: float) -> str:
    """A float as text that gives back its every bit.

    >>> _float_text(float("-inf")), _float_text(-0.0), _float_text(-float("nan"))
    ('-inf', '-0.0', 'fff8000000000000')
    """
    bits = struct.pack(">d", value)
    return bits.hex() if math.isnan(value) and bits != struct.pack(">d", math.nan) else repr(value)


def _text_float(text: Any) -> float:
    if type(text) is not str:
        raise TypeError("this is no text")
    if len(text) == 16 and text[:3] in ("7ff", "fff"):
        value: float = struct.unpack(">d", bytes.fromhex(text))[0]
        return value
    return float(text)


def _named(value: Any) -> str:
    """What a value is, for an error."""
    kind = type(value)
    if inspect.isroutine(value):
        return "a function"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}"


def _way_out(value: Any) -> str:
    if isinstance(value, torch.Generator):
        return "Save generator.get_state()."
    if isinstance(value, (dict, list, tuple, str, int, float, set)):
        return f"It is a {type(value).__mro__[1].__name__} of a class of its own: save it as one of Python's own types."
    if callable(getattr(value, "state_dict", None)):
        return "Save its state_dict()."
    return "Save what it is made of: numbers, text, tensors, arrays, and containers of these."
