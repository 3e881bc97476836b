"""The codec: encode a state tree as a JSON skeleton and named tensors, and decode it again.

None, bools, text, lists, finite floats, ints below 2**53 and dicts with text keys are written as such. Everything else is an
object with one key, a tag that begins with ``$``; a dict with such a key is itself written under the tag ``$dict``. Decoding
knows the tags in `decoding` and nothing else: it never looks up a class by name.

The tags are part of the format, docs/checkpoint-format.md.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from torch import Tensor

from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.codec.decoding import Decoder
from fsmtrain.runtime.checkpoint_files.codec.encoding import Encoder
from fsmtrain.runtime.checkpoint_files.tensors.tensor_collector import StoredTensor, named_tensors
from fsmtrain.runtime.checkpoint_files.tensors.tensor_resolver import TensorResolver
from fsmtrain.runtime.checkpoint_files.tree_path import TreePath


@frozen(eq=False)
class Encoded:
    """A state tree in two parts: what JSON can hold, and the tensors that it refers to by name."""

    skeleton: Any
    tensors: dict[str, Tensor]


@frozen(eq=False)
class Unnamed:
    """An encoded state tree whose tensors have no names yet: naming thousands takes time, and can wait."""

    skeleton: Any
    tensors: list[StoredTensor]

    def named(self) -> Encoded:
        """Name the tensors."""
        return Encoded(self.skeleton, named_tensors(self.tensors))


def encode(tree: Any) -> Encoded:
    """Encode a state tree. The tensors are the state's own, not copies.

    Raises:
        CodecError: A value cannot be saved. The message begins with its path.
    """
    return encode_unnamed(tree).named()


def encode_unnamed(tree: Any) -> Unnamed:
    """Encode a state tree but for the names of its tensors; raises as `encode`."""
    encoder = Encoder()
    skeleton = encoder.encode(tree, TreePath(), 0)
    return Unnamed(skeleton, encoder.collector.stored_tensors())


def encoding_error(tree: Any) -> str | None:
    """Return why a state tree cannot be encoded; None if it can."""
    try:
        encode_unnamed(tree)
    except CodecError as error:
        return str(error)
    return None


def decode(encoded: Encoded) -> Any:
    """Decode a state tree.

    Tensors that were one object are one object again, in the memory of the encoded tensors.

    Raises:
        CodecError: No encoder wrote this. The message begins with the path of the error.
    """
    return Decoder(TensorResolver(encoded.tensors)).decode(encoded.skeleton, TreePath(), 0)
