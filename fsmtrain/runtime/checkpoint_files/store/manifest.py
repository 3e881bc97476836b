"""The manifest of a checkpoint: format version, metadata, sizes and SHA-256 checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import asdict, frozen

from fsmtrain import strict_json
from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.checked_io import FileDigest, open_reader, write_file
from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, decode, encode
from fsmtrain.runtime.checkpoint_files.files import Files
from fsmtrain.runtime.checkpoint_files.tree_path import short_repr

FORMAT = "fsmtrain checkpoint"
VERSION = 1
MANIFEST = "manifest.json"
STATE = "state.json"
TENSORS = "tensors.safetensors"
MODEL = "model.safetensors"  # the tensors of the state's "model", named as in its state_dict
FILE_NAMES = (STATE, TENSORS, MODEL)  # no other file is opened

MAX_MANIFEST_BYTES = 2**22  # bytes


@frozen
class Manifest:
    """What a checkpoint says about itself."""

    metadata: dict[str, Any]
    files: Mapping[str, FileDigest]


def encode_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Encode a checkpoint's metadata as JSON.

    Raises:
        CodecError: A value cannot be saved, or is a tensor or array.
    """
    encoded = encode({"metadata": dict(metadata)})
    if encoded.tensors:
        name = next(iter(encoded.tensors))
        raise CodecError(f"{name}: metadata cannot contain tensors or arrays. Use tensor.item(), or save it in the state.")
    skeleton: dict[str, Any] = encoded.skeleton["metadata"]
    return skeleton


def write_manifest(files: Files, path: str, metadata: dict[str, Any], contents: Mapping[str, FileDigest]) -> None:
    """Write a manifest. The metadata is encoded already.

    Raises:
        ValueError: It would be too large to be read again.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "about": metadata,
        "files": {name: asdict(digest) for name, digest in contents.items()},
    }
    text = strict_json.dump({**content, "sha256": _own_checksum(content)}, indent=2) + b"\n"
    if len(text) > MAX_MANIFEST_BYTES:
        raise ValueError(f"the metadata has {len(text)} bytes, more than {MAX_MANIFEST_BYTES}. Save it in the state")
    write_file(files, path, [text])


def read_manifest(files: Files, path: str) -> Manifest:
    """Read and verify a manifest.

    Raises:
        OSError: It could not be read.
        ValueError: It is damaged, of another version, or not a manifest.
    """
    with open_reader(files, path, max_size=MAX_MANIFEST_BYTES) as reader:
        content = strict_json.parse(reader.read(reader.remaining))
    if type(content) is not dict or content.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    version = content.get("version")
    if version != VERSION:
        raise ValueError(
            f"its format version is {short_repr(version)}, this fsmtrain reads {VERSION}. Use the fsmtrain that wrote it"
        )
    if content.pop("sha256", None) != _own_checksum(content):
        raise ValueError("it is damaged: its SHA-256 is not the one in it")
    about = decode(Encoded(content.get("about"), {}))
    if type(about) is not dict:
        raise ValueError("its 'about' is not a dict")
    return Manifest(about, _parse_files(content.get("files")))


def _parse_files(entries: Any) -> dict[str, FileDigest]:
    if type(entries) is not dict or STATE not in entries or TENSORS not in entries:
        raise ValueError(f"it does not name {STATE} and {TENSORS}")
    contents = {}
    for name, entry in entries.items():
        if name not in FILE_NAMES:
            raise ValueError(f"it names the file {short_repr(name)}; a checkpoint only has {', '.join(FILE_NAMES)}")
        if type(entry) is not dict or type(entry.get("size")) is not int or type(entry.get("sha256")) is not str:
            raise ValueError(f"it has no size and SHA-256 of {name}")
        contents[name] = FileDigest(entry["size"], entry["sha256"])
    return contents


def _own_checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the content as one line of ASCII with sorted keys: layout does not count."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
