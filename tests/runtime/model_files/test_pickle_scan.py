"""Pickles that would fill the memory, or take for ever, are refused before torch reads them; what torch.save writes is not."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.model_files.lightning_checkpoints import import_checkpoint
from fsmtrain.runtime.model_files.pickle_scan import PickleScanner, ScanError
from fsmtrain.runtime.model_files.safe_torch_load import read_torch_file
from tests.bounded import bounded
from tests.runtime.checkpoint_files.sample_states import differences
from tests.strange_files import STRANGE_FILES, make_strange_file

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MULTIPLE = 256  # bytes of memory for each byte of a file, as docs/importing.md says
WEIGHTS = {"state_dict": {"w": torch.zeros(1)}}


def parameter_with_attribute() -> nn.Parameter:
    parameter = nn.Parameter(torch.ones(2))
    parameter.tag = "kept"  # type: ignore[attr-defined]
    return parameter


DTYPES = (torch.int8, torch.bfloat16, torch.bool, torch.complex64, torch.float64)
NEW_DTYPES = (torch.uint16, torch.uint64, torch.float8_e4m3fn)  # archives alone have these
CONTAINERS = [(1, (2, (3,))), {"a": {}}, {1: 2, (3, 4): 5}, {1, 2}, OrderedDict(a=1), Counter("aab"), bytearray(b"abc")]
SAVED: dict[str, Callable[[], Any]] = {
    "numbers": lambda: [0, -1, 255, 65536, 2**40, -(2**100), 0.5, True, None, "ä\ud800", b"\x00\xff", 1 + 2j],
    "containers": lambda: CONTAINERS,
    "many ints as keys": lambda: dict.fromkeys(range(100_000)),
    "a shared list": lambda: [[1, 2, 3]] * 50,
    "dtypes": lambda: [torch.ones(3).to(dtype) for dtype in DTYPES],
    "new dtypes": lambda: [torch.ones(3).to(dtype) for dtype in NEW_DTYPES],
    "views": lambda: [torch.arange(12.0).reshape(3, 4).t(), torch.arange(12.0)[5:7], torch.ones(1).expand(1000)],
    "no elements": lambda: torch.empty(0, 7),
    "parameters": lambda: [nn.Parameter(torch.ones(2)), parameter_with_attribute()],
    "types": lambda: [torch.float32, torch.device("cpu"), torch.Size([1, 2]), torch.strided],
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8),
    "an optimizer": lambda: torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(),
    "a model": lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict(),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", SAVED)
def test_what_torch_saves_is_read(tmp_path: Path, name: str, zipped: bool) -> None:
    if name == "new dtypes":
        zipped = True
    value = SAVED[name]()
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch_file(tmp_path / "a.pt")
    assert str(found) == str(value)
    assert str(torch.load(tmp_path / "a.pt", weights_only=True)) == str(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@given(plain)
def test_any_plain_data_is_scanned_to_its_end(value: Any) -> None:
    data = pickle.dumps([value], 2)
    scanner = PickleScanner(io.BytesIO(data), len(data))
    scanner.scan()
    assert scanner._left == 0


# ---- what would take memory or time


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Return the operations that call a function."""
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n(" + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    data = value.to_bytes(10, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def storage(count: int, key: str = "0") -> bytes:
    kind = b"ctorch\nFloatStorage\n"
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + b"tQ"


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def list_of(*items: bytes) -> bytes:
    return b"](" + b"".join(items) + b"e"


def view(storage: bytes, *size: int, offset: int = 0) -> bytes:
    sizes, strides = tuple_of(*map(number, size)), tuple_of(*[number(1)] * len(size))
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", storage, number(offset), sizes, strides, b"\x89", hooks)


GIGABYTES = number(3_000_000_000)
BYTEARRAY, LATIN = b"cbuiltins\nbytearray\n", text("latin1")
COLLIDING = [number(sys.hash_info.modulus * n) for n in range(60_000)]
STATE = (storage(1), number(0), tuple_of(GIGABYTES), tuple_of(number(1)))  # of a tensor that is larger than its storage
HOSTILE = {
    "bytearray": call("builtins", "bytearray", GIGABYTES),
    "bytearray of a tensor": call("builtins", "bytearray", view(storage(1))),
    "bytearray, hidden": call(
        "torch._tensor", "_rebuild_from_type_v2", BYTEARRAY, b"ctorch\nTensor\n", tuple_of(GIGABYTES), b"}"
    ),
    "bytearray by NEWOBJ": BYTEARRAY + tuple_of(GIGABYTES) + b"\x81",
    "bytearray with a list": BYTEARRAY + list_of(GIGABYTES) + b"R",
    "bytearrays of bytes": call("_codecs", "encode", text("x" * 10**6), LATIN)
    + b"q\x000"
    + tuple_of(*[BYTEARRAY + b"h\x00\x85R"] * 2000),
    "a storage": call("torch.storage", "UntypedStorage", GIGABYTES),
    "a storage of numbers": call("torch", "FloatStorage", GIGABYTES),
    "a tensor": call("torch", "FloatTensor", GIGABYTES),
    "a tensor of a size": call("torch", "Tensor", call("torch", "Size", tuple_of(GIGABYTES))),
    "a tensor beyond its storage": view(storage(1), 1_000_000_000),
    "a tensor behind its storage": view(storage(1), 1, offset=1_000_000_000),
    "a storage beyond the file": view(storage(1_000_000_000, "1"), 1),
    "sizes that are none": view(storage(1), -1),
    "a million dimensions": view(storage(1), *[1] * 100_000),
    "a quantized tensor": call(
        "torch._utils", "_rebuild_qtensor", storage(1), number(0), tuple_of(GIGABYTES), tuple_of(number(0)), b")", b"\x89", b"}"
    ),
    "a state of a tensor": call("torch", "Tensor") + tuple_of(*STATE) + b"b",
    "a state of a tensor, as a list": call("torch", "Tensor") + list_of(*STATE) + b"b",
    "encodings": call("_codecs", "encode", text("x" * 100), text("hex")),
    "keys with one hash": b"}(" + b"N".join(COLLIDING) + b"Nu",
    "keys with one hash, one by one": b"}" + b"".join(key + b"Ns" for key in COLLIDING),
    "keys of keys with one hash": b"}(" + b"".join(key + b"\x85N" for key in COLLIDING) + b"u",
    "an ordered dict of one hash": call("collections", "OrderedDict") + b"(" + b"N".join(COLLIDING) + b"Nu",
    "a set of one hash": call("builtins", "set", list_of(*COLLIDING)),
    "a counter of one hash": call("collections", "Counter", list_of(*COLLIDING)),
    "an ordered dict of pairs": call("collections", "OrderedDict", list_of(*(list_of(key, b"N") for key in COLLIDING))),
    "sets of sets": list_of(b"\x8f" * 500_000),
    "deep tuples": b")" + b"\x85" * 500_000,
    "deep lists": b"]" * 100_000 + b"a" * 99_999,
    "a list in itself": b"]q\x00h\x00a",
    "a list bomb": b"]q\x00" + b"".join(b"0]q%c(%se" % (n, b"h%c" % (n - 1) * 10) for n in range(1, 30)),
    "lists of one list": list_of(*[b"K\x00"] * 1000) + b"q\x000" + list_of(b"h\x00" * 100_000),
    "long text": b"X\xff\xff\xff\xff",
    "a long name": b"c" + b"x" * 1_000_000,
    "copies of a dict": b"}q\x00("
    + b"".join(number(n) + b"N" for n in range(10_000))
    + b"u0"
    + call("collections", "OrderedDict")
    + b"h\x00b" * 100_000,
}


def write_archive(path: Path, operations: bytes) -> None:
    torch.save({"w": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, operations if name.endswith("data.pkl") else data)


def write_old_file(path: Path, operations: bytes) -> None:
    parts = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True})
    keys = b"\x80\x02](" + text("0") + b"e." + (1).to_bytes(8, "little") + bytes(4)
    operations = operations.replace(b"tQ", b"NtQ")  # of what it is a view
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + operations + keys)


@pytest.mark.parametrize("write", [write_archive, write_old_file])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_file_takes_more_than_a_multiple_of_its_size(
    tmp_path: Path, name: str, write: Callable[[Path, bytes], None]
) -> None:
    """It stands beside weights that could be imported, and is refused for itself."""
    weights = b"}" + text("w") + view(storage(1), 1) + b"s"
    operations = (
        b"\x80\x02}(" + text("state_dict") + weights + text("hyper_parameters") + b"}" + text("it") + HOSTILE[name] + b"su."
    )
    write(tmp_path / "a.ckpt", operations)
    size = (tmp_path / "a.ckpt").stat().st_size
    with bounded(size, MULTIPLE), pytest.raises(CheckpointError) as error:
        import_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "a").exists()
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("write", [write_archive, write_old_file])
def test_the_file_around_is_imported_without_it(tmp_path: Path, write: Callable[[Path, bytes], None]) -> None:
    weights = b"}" + text("w") + view(storage(1), 1) + b"s"
    write(tmp_path / "a.ckpt", b"\x80\x02}(" + text("state_dict") + weights + b"u.")
    made = import_checkpoint(tmp_path / "a.ckpt")
    assert list(differences(Store(made.path.parent).load(made.path).tree["model"], OrderedDict(w=torch.zeros(1)))) == []


DENSE = [b"]", b"}", b"\x8f", b")", b"(", b"N", b"K\x00", b"(t", b"]\x85", b"ctorch\nfloat32\n", b"U\x02ab", b"G" + bytes(8)]


@pytest.mark.parametrize("item", DENSE)
def test_the_densest_pickles_take_no_more_than_the_documented_multiple(tmp_path: Path, item: bytes) -> None:
    write_archive(tmp_path / "a.ckpt", b"\x80\x02(" + item * (200_000 // len(item)) + b"t.")
    size = (tmp_path / "a.ckpt").stat().st_size
    with bounded(size, MULTIPLE), pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_is_no_file_is_not_imported(tmp_path: Path, kind: str) -> None:
    make_strange_file(tmp_path / "a.ckpt", kind)
    with bounded(0), pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02"])
def test_a_terabyte_that_begins_like_a_file_of_torch_is_refused(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(head)
    with (tmp_path / "a.ckpt").open("r+b") as file:
        file.truncate(2**40)
    with bounded(0), pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "a.ckpt")


def test_a_tar_archive_is_refused_unread_whatever_else_it_is(tmp_path: Path) -> None:
    """Its header may claim to be followed by eight gigabytes of names."""
    head = bytearray(512)
    head[:1], head[124:136], head[156:157] = b"a", b"77777777777\0", b"x"
    head[148:156] = b"%06o\0 " % (sum(head) + 8 * 32)
    (tmp_path / "a.ckpt").write_bytes(head)
    with bounded(512), pytest.raises(CheckpointError, match="it is a tar archive"):
        import_checkpoint(tmp_path / "a.ckpt")


@given(st.binary(max_size=60), st.data())
def test_any_bytes_are_scanned_or_refused(junk: bytes, data: st.DataObject) -> None:
    sound = pickle.dumps({"a": [1, 2.5, "x", (None,)], "b": b"x"}, 2)
    cut = data.draw(st.integers(0, len(sound)))
    broken = sound[:cut] + junk + sound[cut:]
    with contextlib.suppress(ScanError):
        PickleScanner(io.BytesIO(broken), len(broken)).scan()
