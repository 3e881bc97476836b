"""Checkpoints that were damaged, or made to do damage: a clear error or the one before; never a crash or a read elsewhere.

The bytes of every file are tried at sampled places; with ``FSMTRAIN_FUZZ=100`` in the environment at a hundred times as many.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.manifest import FILE_NAMES, MANIFEST, MODEL, STATE, TENSORS
from tests.bounded import bounded
from tests.runtime.checkpoint_files.sample_states import differences
from tests.strange_files import STRANGE_FILES, make_strange_file

EFFORT = int(os.environ.get("FSMTRAIN_FUZZ", "1"))
NEWEST = "000001"


def state(number: int) -> dict[str, Any]:
    tensors = {"weight": torch.full((3, 2), float(number)), "mask": torch.tensor([True, False]), "none": torch.empty(0, 4)}
    return {"model": tensors, "optimizers": [{3: {"exp_avg": torch.tensor([number])}}], "text": "ä", "number": number}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints that are sound."""
    folder = tmp_path_factory.mktemp("fuzz") / "checkpoints"
    store = Store(folder)
    store.save(state(0), {"epoch": 0})
    store.save(state(1), {"epoch": 1})
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "checkpoints"))


_watch: list[tuple[str, Any]] | None = None
_is_watching = False


WATCHED = {"open", "import", "exec", "compile", "pickle.find_class", "subprocess.Popen", "os.system"}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is not None and event in WATCHED:
        _watch.append((event, arguments[0]))


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """No file outside of the folder is opened, nothing is imported, compiled, unpickled or run."""
    global _watch, _is_watching
    if not _is_watching:
        sys.addaudithook(_hook)
        _is_watching = True
    Store(folder).load_newest()  # what torch imports at its first use is not meant
    _watch = []
    try:
        yield
    finally:
        seen, _watch = _watch, None
    own = (str(folder), "/proc/self/")  # the latter is `bounded`
    strange = [(event, what) for event, what in seen if event != "open" or not str(what).startswith(own)]
    assert not strange


def looked_at(folder: Path) -> LoadedCheckpoint:
    """What is found: whole, and one of the two that were saved."""
    loaded = Store(folder).load_newest()
    assert loaded is not None
    number = 1 if loaded.path.name == NEWEST else 0
    assert list(differences(state(number), loaded.tree)) == []
    assert loaded.metadata == {"epoch": number}
    return loaded


def refused(folder: Path) -> str:
    """The newest is skipped, and the one before is found, within bounds of time and memory; returns the reason."""
    with bounded(sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))):
        [skipped] = looked_at(folder).skipped
    path, _, reason = skipped.partition(": ")
    assert path == str(folder / NEWEST)
    assert 0 < len(reason) < 1000
    return reason


# ---- damage


def damaged(data: bytes, name: str) -> Iterator[bytes]:
    """A file's bytes with one of them changed, cut off, doubled or gone."""
    chance = random.Random(name)
    for _ in range(40 * EFFORT):
        position = chance.randrange(len(data))
        flipped = bytearray(data)
        flipped[position] ^= 1 << chance.randrange(8)
        yield bytes(flipped)
    for _ in range(10 * EFFORT):
        position = chance.randrange(len(data))
        yield data[:position]
        yield data[:position] + data[position + 1 :]
        yield data[:position] + bytes(len(data) - position)
    yield from (data + b"\0", data + data, b"", b"\0" * len(data))


@pytest.mark.parametrize("name", [*FILE_NAMES, MANIFEST])
def test_any_damage_to_a_file_is_found(folder: Path, name: str) -> None:
    """In the manifest a change of blanks, which says nothing else, is none."""
    path = folder / NEWEST / name
    data = path.read_bytes()
    with watched(folder):
        for changed in damaged(data, name):
            if changed == data:
                continue
            path.write_bytes(changed)
            loaded = looked_at(folder)
            assert loaded.skipped or (name == MANIFEST and json.loads(changed) == json.loads(data))


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / NEWEST / name).unlink()
    assert refused(folder) == f"{name}: No such file or directory."


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_file_of_another_checkpoint_is_found(folder: Path, name: str) -> None:
    shutil.copy(folder / "000000" / name, folder / NEWEST / name)
    assert "SHA-256" in refused(folder) or "bytes" in refused(folder)


def test_two_files_that_were_swapped_are_found(folder: Path) -> None:
    one, other = folder / NEWEST / MODEL, folder / NEWEST / TENSORS
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    refused(folder)


# ---- malice: the checksums are right


def forge(checkpoint: Path, contents: dict[str, bytes], change: Callable[[dict[str, Any]], Any] = len) -> None:
    """Put these files in place, and make a manifest that fits them."""
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    for name, data in contents.items():
        (checkpoint / name).write_bytes(data)
        manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del manifest["sha256"]
    change(manifest)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))


def test_a_rewritten_manifest_with_true_values_is_accepted(folder: Path) -> None:
    """So what the tests below refuse is refused for its content."""
    forge(folder / NEWEST, {})
    assert looked_at(folder).skipped == ()


NAMES_ELSEWHERE = ("../secret", "/etc/passwd", "..", ".", "", "a/b", "c:\\x", "state.json/", "\0", "manifest.json", "x" * 5000)


@pytest.mark.parametrize("name", NAMES_ELSEWHERE)
def test_a_manifest_that_names_another_file_is_refused(folder: Path, name: str) -> None:
    (folder / "secret").write_text("{}")
    forge(folder / NEWEST, {}, lambda manifest: manifest["files"].update({name: manifest["files"][STATE]}))
    with watched(folder):
        assert "a checkpoint only has" in refused(folder)


@pytest.mark.parametrize("name", [*FILE_NAMES, MANIFEST])
def test_a_link_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    path = folder / NEWEST / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with watched(folder):
        assert "symbolic links" in refused(folder)


def test_a_checkpoint_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / NEWEST).rename(tmp_path / "elsewhere")
    (folder / NEWEST).symlink_to(tmp_path / "elsewhere")
    with watched(folder):
        assert refused(folder) == "it is not a folder."


@pytest.mark.parametrize("name", [*FILE_NAMES, MANIFEST])
@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_only_regular_files_are_read(folder: Path, name: str, kind: str) -> None:
    make_strange_file(folder / NEWEST / name, kind)
    assert refused(folder)


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_stands_in_place_of_a_checkpoint_is_skipped(folder: Path, kind: str) -> None:
    make_strange_file(folder / NEWEST, kind)
    assert refused(folder)


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_stands_in_place_of_the_folder_is_an_error_or_empty(tmp_path: Path, kind: str) -> None:
    make_strange_file(tmp_path / "checkpoints", kind)
    with bounded(0), contextlib.suppress(CheckpointError):
        assert Store(tmp_path / "checkpoints").load_newest() is None


def test_a_terabyte_of_nothing_that_a_manifest_names_is_an_error(folder: Path) -> None:
    """Its header says so, its size says so, and its checksum cannot be known before it is read."""
    size = 2**40
    header = json.dumps({"a": entry("U8", [size], [0, size])}).encode()
    (folder / NEWEST / TENSORS).write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(folder / NEWEST / TENSORS, 8 + len(header) + size)
    forge(folder / NEWEST, {}, lambda manifest: manifest["files"][TENSORS].update(size=8 + len(header) + size))
    assert refused(folder) == "tensors.safetensors: there is not enough memory to load it."


HOSTILE_JSON = {
    "brackets and quotes": b'"\\' * 100_000,
    "a string that never ends": b"[" * 1000 + b'"\\"' * 70_000,
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep dicts": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "never closed": b"[" * 1_000_000,
    "a huge number": b"1" * 1_000_000,
    "a huge exponent": b"1e999999999",
    "NaN": b"NaN",
    "Infinity": b'{"a": [Infinity]}',
    "no text": b"\xff\xfe",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "nothing": b"",
    "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a tag of none": b'{"$eval": "1"}',
    "a class": b'{"$object": "os.system"}',
    "a tensor of none": b'{"$tensor": {"name": "../x"}}',
    "twice the same key": b'{"$tuple": 1, "$tuple": 2}',
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused(folder: Path, name: str) -> None:
    data = HOSTILE_JSON[name]
    forge(folder / NEWEST, {STATE: data})
    with watched(folder):
        assert refused(folder).startswith("state.json: ")
    (folder / NEWEST / MANIFEST).write_bytes(data[: 2**22])
    with watched(folder):
        assert refused(folder).startswith("manifest.json: ")


def reference(name: str, **fields: Any) -> dict[str, Any]:
    return {"$tensor": {"name": name, **fields}}


MODULUS = sys.hash_info.modulus  # multiples of it have the hash 0
COLLIDING = [MODULUS * number for number in range(60_000)]
ARRAY = {"$array": {"name": "optimizers.0.3.exp_avg", "dtype": "<i8", "shape": [1]}}
HOSTILE_STATES: dict[str, Any] = {
    "keys with one hash": {"$dict": [[{"$int": hex(key)}, 0] for key in COLLIDING]},
    "ordered keys with one hash": {"$ordered": [[{"$int": hex(key)}, 0] for key in COLLIDING]},
    "a set of one hash": {"$set": [{"$int": hex(key)} for key in COLLIDING]},
    "keys of keys with one hash": {"$counter": [[{"$tuple": [{"$int": hex(key)}]}, 0] for key in COLLIDING]},
    "keys with one hash that are floats": {"$dict": [[{"$float": repr(2.0 ** (61 * n))}, 0] for n in range(16)] * 4000},
    "many references to an array": [ARRAY] * 400,
    "a view of a million dimensions": reference(
        "model.weight", dtype="float32", shape=[1] * 10**6, stride=[1] * 10**6, offset=0
    ),
    "a view of large dimensions": reference(
        "model.weight", dtype="float32", shape=[2**61] * 10**5, stride=[0] * 10**5, offset=0
    ),
    "strides of a million dimensions": reference("model.weight", stride=[1] * 10**6),
    "two strides": [reference("model.weight", stride=[1, 3]), reference("model.weight", stride=[2, 1])],
    "an array of many dimensions": {"$array": {**ARRAY["$array"], "shape": [2**61] * 10**5}},
    "a long tag": {"$" + "x" * 10**6: 0},
    "a long name": reference("x" * 10**6),
    "a long dtype": {"$array": {**ARRAY["$array"], "dtype": "x" * 10**6}},
    "a long key above an error": {"x" * 10**6: {"$eval": 0}},
}


@pytest.mark.parametrize("name", HOSTILE_STATES)
def test_a_forged_state_stalls_and_fills_nothing(folder: Path, name: str) -> None:
    forge(folder / NEWEST, {STATE: json.dumps(HOSTILE_STATES[name]).encode()})
    with watched(folder):
        assert refused(folder).startswith("state.json: ")


def test_as_many_keys_that_are_no_multiples_are_read(folder: Path) -> None:
    keys = {key // MODULUS: 0 for key in COLLIDING}
    forge(folder / NEWEST, {STATE: json.dumps({"$dict": [*map(list, keys.items())]}).encode()})
    assert Store(folder).load(1).tree == keys


def test_many_large_arrays_take_their_own_memory_once(folder: Path) -> None:
    arrays = [np.full(2**21, number) for number in range(8)]
    Store(folder).save(arrays, {})
    with bounded(sum(array.nbytes for array in arrays), multiple=1):
        loaded = Store(folder).load(2).tree
    assert all(map(np.array_equal, loaded, arrays))
    loaded[0][:] = 5  # their memory is their own
    assert loaded[1][0] == 1


DENSE_JSON = [
    "[]",
    "{}",
    '{"":0}',
    "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
    '{"$deque":[0,[]]}',
    '{"$set":[0]}',
    '{"$tuple":[]}',
    "9e9",
]


@pytest.mark.parametrize("item", DENSE_JSON)
def test_the_densest_json_takes_no_more_than_the_documented_multiple(folder: Path, item: str) -> None:
    data = ("[" + ",".join([item] * (500_000 // len(item))) + "]").encode()
    forge(folder / NEWEST, {STATE: data})
    with bounded(len(data)):
        Store(folder).load(1)


def test_a_huge_file_is_refused_before_it_is_read(folder: Path) -> None:
    def huge(manifest: dict[str, Any]) -> None:
        manifest["files"][STATE]["size"] = 2**40

    forge(folder / NEWEST, {}, huge)
    os.truncate(folder / NEWEST / STATE, 2**40)
    assert refused(folder) == f"state.json: it has {2**40} bytes, more than the {2**28} that are read."
    os.truncate(folder / NEWEST / MANIFEST, 2**40)
    assert refused(folder) == f"manifest.json: it has {2**40} bytes, more than the {2**22} that are read."


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE_TENSORS = {
    "nothing": b"",
    "no header": b"\0" * 7,
    "a header beyond the end": safetensors({}, length=100),
    "a huge header": safetensors({}, length=2**63),
    "a deep header": safetensors(b"[" * 100_000),
    "a list": safetensors([]),
    "no entry": safetensors({"a": 1}),
    "a missing field": safetensors({"a": {"dtype": "F32"}}),
    "an unknown dtype": safetensors({"a": entry("F99")}, b"1234"),
    "a dtype of none": safetensors({"a": entry(["F32"])}, b"1234"),
    "a million dimensions": safetensors({"a": entry(shape=(1,) * 10**6)}, b"1234"),
    "large dimensions": safetensors({"a": entry(shape=(2**61,) * 10**5)}, b"1234"),
    "a long name": safetensors({"a" * 10**6: entry(shape=(2,))}, b"1234"),
    "a long dtype": safetensors({"a": entry("F" * 10**6)}, b"1234"),
    "a negative size": safetensors({"a": entry(shape=(-1,))}, b"1234"),
    "a huge size": safetensors({"a": entry(shape=(2**61,), offsets=(0, 2**63))}, b"1234"),
    "a huge size of nothing": safetensors({"a": entry(shape=(2**61, 0, 2**61), offsets=(0, 0))}),
    "a size that overflows": safetensors({"a": entry(shape=(2**32, 2**32), offsets=(0, 0))}),
    "a float as size": safetensors({"a": entry(shape=(1.0,))}, b"1234"),
    "a bool as size": safetensors({"a": entry(shape=(True,))}, b"1234"),
    "bytes that do not fit": safetensors({"a": entry(shape=(2,))}, b"1234"),
    "beyond the end": safetensors({"a": entry(shape=(2,), offsets=(0, 8))}, b"1234"),
    "before the beginning": safetensors({"a": entry(offsets=(-4, 0))}, b"1234"),
    "a gap": safetensors({"a": entry(offsets=(4, 8))}, b"12345678"),
    "two in one place": safetensors({"a": entry(), "b": entry()}, b"1234"),
    "two in one place, and as many bytes": safetensors({"a": entry(), "b": entry()}, b"12345678"),
    "turned around": safetensors({"a": entry(offsets=(4, 0))}, b"1234"),
    "more than belongs there": safetensors({"a": entry()}, b"12345"),
    "neither true nor false": safetensors({"a": entry("BOOL", (4,))}, b"\1\0\2\1"),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
@pytest.mark.parametrize("file", [TENSORS, MODEL])
def test_hostile_tensor_files_are_refused(folder: Path, name: str, file: str) -> None:
    forge(folder / NEWEST, {file: HOSTILE_TENSORS[name]})
    with watched(folder):
        assert refused(folder).startswith(f"{file}: ")


def test_no_memory_is_allocated_for_a_tensor_beyond_the_file(folder: Path) -> None:
    forge(folder / NEWEST, {TENSORS: safetensors({"a": entry(shape=(2**40,), offsets=(0, 2**42))}, b"1234")})
    assert "the tensor 'a' ends after the end of the file" in refused(folder)
    forge(folder / NEWEST, {TENSORS: safetensors({"a": entry(shape=(2**40,))}, b"1234")})
    assert f"the shape [{2**40}] of the tensor 'a' does not match its 4 bytes" in refused(folder)
    forge(folder / NEWEST, {TENSORS: safetensors({}, length=2**40)})
    assert f"its header claims {2**40} bytes" in refused(folder)


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another format": lambda m: m.update(format="a zip"),
    "a newer version": lambda m: m.update(version=2),
    "no version": lambda m: m.pop("version"),
    "no files": lambda m: m.update(files={}),
    "files that are a list": lambda m: m.update(files=[STATE, TENSORS]),
    "no state": lambda m: m["files"].pop(STATE),
    "no size": lambda m: m["files"][STATE].pop("size"),
    "a size that is text": lambda m: m["files"][STATE].update(size="1"),
    "a negative size": lambda m: m["files"][STATE].update(size=-1),
    "a huge size": lambda m: m["files"][STATE].update(size=2**62),
    "a checksum of none": lambda m: m["files"][STATE].update(sha256=None),
    "about nothing": lambda m: m.pop("about"),
    "about a tensor": lambda m: m.update(about={"a": {"$tensor": {"name": "model.weight"}}}),
    "without the model": lambda m: m["files"].pop(MODEL),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_invalid_manifests_are_errors(folder: Path, name: str) -> None:
    forge(folder / NEWEST, {}, MANIFESTS[name])
    with watched(folder):
        assert refused(folder)


def test_the_error_for_a_newer_format_version_names_the_way_out(folder: Path) -> None:
    forge(folder / NEWEST, {}, MANIFESTS["a newer version"])
    assert "its format version is 2, this fsmtrain reads 1. Use the fsmtrain that wrote it" in refused(folder)


FIELDS = ["name", "stride", "shape", "offset", "$dict", "$tensor", "$array", "a"]
json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.sampled_from(["model.weight", "float32", "0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_forged_state_is_read_or_refused(sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """One node of the skeleton is another; nothing but our error comes of it."""
    skeleton = json.loads((sound / NEWEST / STATE).read_text())
    nodes = list(_nodes(skeleton))
    holder, key = data.draw(st.sampled_from(nodes))
    holder[key] = data.draw(json_values)
    checkpoint = Path(shutil.copytree(sound / NEWEST, tmp_path_factory.mktemp("forged") / NEWEST))
    forge(checkpoint, {STATE: json.dumps(skeleton).encode()})
    with contextlib.suppress(CheckpointError):
        Store(checkpoint.parent).load(checkpoint)


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _nodes(item)
