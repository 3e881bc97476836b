"""The codec: any state as a skeleton of JSON and named tensors, and back, types included.

JSON holds None, bools, text, lists, floats that are finite, whole numbers below 2**53 and dicts of text as they are.
All else is an object with one key, a tag that begins with ``$``; so a dict that has such a key itself is written
under the tag ``$dict``. Decoding knows the tags in `decoding` and nothing else: it never looks up a class by a name.

The tags are part of the format: docs/checkpoint-format.md lists them.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from torch import Tensor

from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.codec.decoding import Decoder
from fsmtrain.runtime.checkpoint_files.codec.encoding import Encoder
from fsmtrain.runtime.checkpoint_files.tensors.tensor_resolver import TensorResolver
from fsmtrain.runtime.checkpoint_files.tree_path import TreePath


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
    encoder = Encoder()
    skeleton = encoder.value(tree, TreePath(), 0)
    return Encoded(skeleton, encoder.collector.tensors_to_store())


def encoding_error(tree: Any) -> str | None:
    """Why a state cannot be encoded; None where it can."""
    try:
        encode(tree)
    except CodecError as error:
        return str(error)
    return None


def decode(encoded: Encoded) -> Any:
    """The state that was encoded. Its tensors lie where the encoded ones do; those that were one object are one again.

    Raises:
        CodecError: No encoder wrote this. The message begins with the path of what is wrong.
    """
    return Decoder(TensorResolver(encoded.tensors)).value(encoded.skeleton, TreePath(), 0)
