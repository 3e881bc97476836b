"""Find out what unpickling a file of ``torch.save`` would build, without building it.

`torch.load` with ``weights_only`` calls only harmless functions, but with any arguments: 353 bytes are enough for
``bytearray(1_500_000_000)``. So the same operations are gone through here first, on sizes in place of tensors. What
`torch.load` refuses anyway, such as a class it does not know, is left to it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from typing import Any, BinaryIO

from attrs import define, field, frozen

from fsmtrain.runtime.checkpoint_files.codec.codec_common import MAX_DEPTH, expect_spread
from fsmtrain.runtime.checkpoint_files.tensors.strides import expect_sizes, span

BYTES_PER_BYTE = 8  # that functions may copy, for each byte of the file
SLACK_BYTES = 2**20  # that they may copy beyond that
_SET_BYTES = 32  # what counts for an empty set, which takes one byte of the file and 216 of memory

# Functions of torch that make a tensor of a storage, an offset, sizes and strides, in this order.
_VIEWS = {
    f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
}
_ENCODINGS = ("latin1", "latin-1")

_ITEM_BYTES = {"Double": 8, "Long": 8, "ComplexFloat": 8, "ComplexDouble": 16, "Float": 4, "Int": 4, "QInt32": 4, "Half": 2,
               "BFloat16": 2, "Short": 2}  # fmt: skip


class ScanError(ValueError):
    """A file is no pickle that `torch.save` writes, or unpickling it would take too much memory or time."""


@frozen
class _Global:
    """A function or class, by its full name."""

    name: str


@frozen(eq=False)
class _Tuple:
    """A tuple: its hash is that of the values."""

    items: tuple[Any, ...]
    depth: int
    _hash: int

    @classmethod
    def of(cls, items: tuple[Any, ...]) -> _Tuple:
        depth = 1 + max((item.depth for item in items if type(item) is _Tuple), default=0)
        if depth > MAX_DEPTH:
            raise ScanError(f"tuples are nested more than {MAX_DEPTH} deep")
        return cls(items, depth, hash(tuple(map(hash, items))))

    def __hash__(self) -> int:
        return self._hash


@define(eq=False)
class _Container:
    """A list, or a dict by its keys."""

    items: list[Any] = field(factory=list)


@frozen(eq=False)
class _Storage:
    """The memory of a tensor."""

    nbytes: int
    item_bytes: int


@frozen(eq=False)
class _Sized:
    """Any other object, with the bytes that copying it would take."""

    nbytes: int = 0


class PickleScanner:
    """Scans the pickles of one file, one after the other.

    Args:
        file: The file, at the beginning of a pickle.
        size: How many bytes it has.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size
        self._budget = BYTES_PER_BYTE * size + SLACK_BYTES
        self._storages: dict[Any, _Storage] = {}  # by their keys
        self._dicts: list[_Container] = []
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    @property
    def storage_bytes(self) -> int:
        """The bytes of all storages together."""
        return sum(storage.nbytes for storage in self._storages.values())

    def scan(self) -> Any:
        """Scan the next pickle. Returns its value, if that is a number or text.

        Raises:
            ScanError: It is cut off, has an operation that `torch.save` does not write, or would take too much.
        """
        self._stack, self._outer_stacks, self._memo, self._dicts = [], [], {}, []
        try:
            while (operation := self._read(1)[0]) != ord("."):
                step = _OPERATIONS.get(operation)
                if step is None:
                    raise ScanError(f"its pickle has the operation {operation:#x}, which torch.save does not write")
                step(self)
            for keys in self._dicts:
                self._expect_spread(keys.items)
            return self._stack.pop()
        except (IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise ScanError("its pickle is damaged") from error
        except UnicodeError as error:
            raise ScanError("its pickle has text that is none") from error

    # ---- reading

    def _read(self, count: int) -> bytes:
        if count > self._left:  # before memory is allocated for it
            raise ScanError("its pickle is cut off")
        self._left -= count
        data = self._file.read(count)
        if len(data) < count:
            raise ScanError("its pickle is cut off")
        return data

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._read(struct.calcsize(code)))[0]

    def _line(self) -> str:
        line = self._file.readline()
        self._left -= len(line)
        return line[:-1].decode()

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    # ---- what takes memory

    def _charge(self, nbytes: int) -> None:
        self._budget -= nbytes
        if self._budget < 0:
            raise ScanError("its content would take many times as much memory")

    def push_set(self) -> None:
        """``EMPTY_SET``."""
        self._charge(_SET_BYTES)
        self._stack.append(_Sized())

    def push_tuple(self, count: int | None) -> None:
        """``TUPLE``, ``TUPLE1``, ``TUPLE2``, ``TUPLE3``."""
        items = self._pop_mark() if count is None else [self._stack.pop() for _ in range(count)][::-1]
        self._stack.append(_Tuple.of(tuple(items)))

    def push_dict(self) -> _Container:
        """``EMPTY_DICT``, or a subclass. Its keys are checked at the end, all at once."""
        self._dicts.append(_Container())
        return self._dicts[-1]

    def append(self, items: list[Any]) -> None:
        """``APPEND``, ``APPENDS``."""
        self._stack[-1].items.extend(items)

    def set_items(self, pairs: list[Any]) -> None:
        """``SETITEM``, ``SETITEMS``."""
        self._stack[-1].items.extend(pairs[::2])

    def persistent(self) -> None:
        """``BINPERSID``: a storage."""
        kind, key, _, count = self._stack.pop().items[1:5]
        name = kind.name.rpartition(".")[2].removesuffix("Storage")
        item_bytes = _ITEM_BYTES.get(name, 1)
        if type(count) is not int or count < 0:
            raise ScanError("a tensor has no size")
        self._stack.append(self._storages.setdefault(key, _Storage(count * item_bytes, item_bytes)))

    def reduce(self) -> None:
        """``REDUCE``, ``NEWOBJ``: call a function or class."""
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(arguments) is not _Tuple:
            raise ScanError("a function is called with arguments that are no tuple")
        self._stack.append(self._call(function, arguments))

    def build(self) -> None:
        """``BUILD``: set attributes, or the memory of a tensor."""
        state = self._stack.pop()
        self._charge(_size(state))
        if type(state) in (_Tuple, _Container):
            self._check_view(state.items, None)

    # ---- calls

    def _call(self, function: Any, arguments: _Tuple) -> Any:
        name = function.name if type(function) is _Global else ""
        items = arguments.items
        self._charge(sum(map(_size, items)))
        if name == "torch._tensor._rebuild_from_type_v2":  # calls its first argument with the third
            return self._call(items[0], items[2])
        if name in _VIEWS:
            return self._check_view(items, _item_bytes_of_v3(items) if name.endswith("v3") else None, name.endswith("qtensor"))
        if name == "_codecs.encode":
            if len(items) != 2 or type(items[0]) is not str or items[1] not in _ENCODINGS:
                raise ScanError("it calls codecs.encode with another encoding than latin1")
            return items[0].encode("latin1")
        if name == "builtins.bytearray" and items and type(items[0]) not in (str, bytes):
            raise ScanError("it calls bytearray with a size, which may be any")
        if name.startswith("torch.") and name.endswith(("Storage", "Tensor")) and items:
            raise ScanError(f"it calls {name} with arguments, which may make memory of any size")
        if name in ("builtins.set", "collections.OrderedDict", "collections.Counter"):
            for item in items:
                if type(item) in (_Tuple, _Container):
                    self._expect_spread([*item.items, *map(_first, item.items)])
        if name in ("collections.OrderedDict", "collections.Counter"):
            return self.push_dict()
        if name == "torch.Size" and len(items) == 1 and type(items[0]) is _Tuple:
            return items[0]
        if name.startswith("torch._utils._rebuild_") and items and type(items[0]) is _Sized:
            return items[0]
        return _Sized(sum(map(_size, items)))

    def _check_view(self, items: Collection[Any], item_bytes: int | None, is_copied: bool = False) -> _Sized:
        """Check that a tensor lies within its storage: torch would enlarge the storage. Returns the tensor."""
        storage, *where = [*items][:4]
        if type(storage) is not _Storage:
            return _Sized()
        offset, size, stride = (list(part.items) if isinstance(part, (_Tuple, _Container)) else part for part in where)
        try:
            [offset], size, stride = expect_sizes([offset]), expect_sizes(size), expect_sizes(stride)
            if len(size) != len(stride):
                raise ValueError
        except ValueError:
            raise ScanError("a tensor has sizes that are none") from None
        item_bytes = item_bytes or storage.item_bytes
        elements = 1
        for number in size:
            elements *= number
        if (offset + span(size, stride)) * item_bytes > storage.nbytes or (is_copied and elements > storage.nbytes):
            raise ScanError("a tensor is larger than its memory")
        return _Sized(elements * item_bytes)

    def _expect_spread(self, keys: Collection[Any]) -> None:
        try:
            expect_spread(keys)
        except ValueError as error:
            raise ScanError(f"of a dict or set {error}") from None


def _size(value: Any) -> int:
    """Return the bytes that a copy of a value would take, about."""
    if type(value) in (_Sized, _Storage):
        return int(value.nbytes) if type(value) is _Sized else 0
    if type(value) in (str, bytes):
        return len(value)
    return 8 * len(value.items) if type(value) in (_Tuple, _Container) else 8


def _first(value: Any) -> Any:
    """Return the key if the value is a pair of key and value."""
    return value.items[0] if type(value) in (_Tuple, _Container) and value.items else None


def _item_bytes_of_v3(items: tuple[Any, ...]) -> int:
    """Return the bytes of an element by the dtype, which is the last argument."""
    name = items[6].name if len(items) > 6 and type(items[6]) is _Global else ""
    bits = "".join(filter(str.isdigit, name.rpartition(".")[2].partition("_")[0]))
    return max(1, int(bits or 8) // 8)


def _push(make: Callable[[PickleScanner], Any]) -> Callable[[PickleScanner], None]:
    return lambda scanner: scanner._stack.append(make(scanner))


def _mark(scanner: PickleScanner) -> None:
    scanner._outer_stacks.append(scanner._stack)
    scanner._stack = []


def _put(index: Callable[[PickleScanner], int]) -> Callable[[PickleScanner], None]:
    def put(scanner: PickleScanner) -> None:
        scanner._memo[index(scanner)] = scanner._stack[-1]

    return put


def _pair(scanner: PickleScanner) -> list[Any]:
    value, key = scanner._stack.pop(), scanner._stack.pop()
    return [key, value]


# What torch's own reader knows, by the byte.
_OPERATIONS: dict[int, Callable[[PickleScanner], Any]] = {
    ord(code): step
    for code, step in {
        "\x80": lambda s: s._read(1),  # PROTO
        "c": _push(lambda s: _Global(f"{s._line()}.{s._line()}")),
        "(": _mark,
        "N": _push(lambda s: None),
        "\x88": _push(lambda s: True),
        "\x89": _push(lambda s: False),
        "J": _push(lambda s: s._number("<i")),
        "K": _push(lambda s: s._number("<B")),
        "M": _push(lambda s: s._number("<H")),
        "\x8a": _push(lambda s: int.from_bytes(s._read(s._number("<B")), "little", signed=True)),  # LONG1
        "G": _push(lambda s: s._number(">d")),
        "X": _push(lambda s: s._read(s._number("<I")).decode("utf-8", "surrogatepass")),
        "U": _push(lambda s: s._read(s._number("<B"))),
        "]": _push(lambda s: _Container()),
        "}": _push(PickleScanner.push_dict),
        ")": _push(lambda s: _Tuple.of(())),
        "\x8f": PickleScanner.push_set,
        "t": lambda s: s.push_tuple(None),
        "\x85": lambda s: s.push_tuple(1),
        "\x86": lambda s: s.push_tuple(2),
        "\x87": lambda s: s.push_tuple(3),
        "a": lambda s: s.append([s._stack.pop()]),
        "e": lambda s: s.append(s._pop_mark()),
        "s": lambda s: s.set_items(_pair(s)),
        "u": lambda s: s.set_items(s._pop_mark()),
        "Q": PickleScanner.persistent,
        "R": PickleScanner.reduce,
        "\x81": PickleScanner.reduce,  # NEWOBJ
        "b": PickleScanner.build,
        "h": _push(lambda s: s._memo[s._number("<B")]),
        "j": _push(lambda s: s._memo[s._number("<I")]),
        "q": _put(lambda s: s._number("<B")),
        "r": _put(lambda s: s._number("<I")),
    }.items()
}  # fmt: skip
