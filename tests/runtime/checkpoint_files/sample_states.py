"""State trees of all kinds for the codec, and how two are compared."""

from __future__ import annotations

import math
import struct
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor, nn

from fsmtrain.runtime.checkpoint_files.tensors.dtypes import SAFETENSORS_NAMES, STORED_AS
from tests.models import bits_of

FLOAT_DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
INTEGER_DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
OTHER_DTYPES = sorted({*SAFETENSORS_NAMES, *STORED_AS} - {*FLOAT_DTYPES, *INTEGER_DTYPES, torch.float4_e2m1fn_x2}, key=str)

# torch warns of this dtype once in a process; here it is, and nobody hears it.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch.zeros(1, dtype=torch.complex32)

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=5),
    st.sampled_from(["$tensor", "$", "$dict", "\ud800\udc00", "__metadata__", "a.b", ""]),
    st.binary(max_size=5),
    st.complex_numbers(),
    st.sampled_from([torch.float32, torch.complex32, torch.device("cpu"), torch.device("cuda", 3)]),
    st.builds(torch.Size, st.lists(st.integers(0, 5), max_size=3)),
    st.builds(range, st.integers(-(2**64), 2**64), st.integers(-5, 5), st.integers(1, 3)),
)
numpy_dtypes = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="<"),
    npst.integer_dtypes(endianness=">"),
    npst.unsigned_integer_dtypes(),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    npst.datetime64_dtypes(),
    npst.timedelta64_dtypes(),
    npst.unicode_string_dtypes(max_len=4),
    npst.byte_string_dtypes(max_len=4),
)
arrays = numpy_dtypes.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0, max_side=3)))
scalars = numpy_dtypes.filter(lambda dtype: dtype.isnative).flatmap(npst.from_dtype)
keys = st.recursive(
    st.one_of(plain, scalars.filter(lambda scalar: scalar == scalar)).filter(lambda key: not _has_nan(key)),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=3,
)


def _has_nan(key: Any) -> bool:
    return isinstance(key, (float, complex, np.generic)) and key != key


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of any dtype, shape and layout; a parameter, too."""
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    dtype = draw(st.sampled_from(FLOAT_DTYPES + INTEGER_DTYPES + OTHER_DTYPES))
    count = math.prod(shape) * dtype.itemsize
    data = torch.tensor(list(draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8)
    data = data % 2 if dtype == torch.bool else data
    tensor = data.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    tensor = tensor.permute(draw(st.permutations(range(len(shape)))))
    if tensor.dim() and tensor.shape[0] and draw(st.booleans()):
        tensor = tensor[:: draw(st.integers(1, 3))]
    if dtype in FLOAT_DTYPES and draw(st.booleans()):
        return nn.Parameter(tensor, requires_grad=draw(st.booleans()))
    return tensor.requires_grad_(dtype in FLOAT_DTYPES and draw(st.booleans()))


def tensor_views(tensor: Tensor) -> list[Tensor]:
    """A tensor, and others in the same memory."""
    flat = tensor.detach().reshape(-1)
    return [tensor, tensor.detach(), tensor.detach().mT if tensor.dim() >= 2 else flat, flat[1:], flat[::2], flat[:2], flat[2:]]


@st.composite
def state_trees(draw: st.DrawFn) -> Any:
    """A state in which some tensors share their memory."""
    pool = [view for tensor in draw(st.lists(tensors(), max_size=2)) for view in tensor_views(tensor)]
    shared = [st.sampled_from(pool)] if pool else []
    leaves = st.one_of(plain, scalars, arrays, tensors(), st.binary(max_size=3).map(bytearray), *shared)

    def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        items = st.lists(inner, max_size=3)
        pairs = st.lists(st.tuples(keys, inner), max_size=3)
        return st.one_of(
            items,
            items.map(tuple),
            pairs.map(dict),
            st.dictionaries(st.text(max_size=3), inner, max_size=3),
            pairs.map(OrderedDict),
            pairs.map(lambda pairs: defaultdict(list, pairs)),
            st.builds(deque, items, st.none() | st.integers(3, 5)),
            st.dictionaries(keys, st.integers(), max_size=3).map(Counter),
            st.sets(keys, max_size=3),
            st.frozensets(keys, max_size=3),
        )

    return draw(st.recursive(leaves, containers, max_leaves=8))


def differences(a: Any, b: Any, path: str = "tree") -> Iterator[str]:
    """Where two states differ: in type, in value down to the bits, in the order of keys, in layout."""
    if type(a) is not type(b):
        yield f"{path}: {type(a)} and {type(b)}"
    elif isinstance(a, Tensor):
        yield from _of_tensors(a, b, path)
    elif isinstance(a, np.ndarray):
        if (a.dtype.str, a.shape, a.tobytes("A")) != (b.dtype.str, b.shape, b.tobytes("A")):
            yield f"{path}: {a!r} and {b!r}"
        if a.flags.writeable != b.flags.writeable:
            yield f"{path}: only one can be written"
    elif isinstance(a, np.generic):
        if (a.dtype.str, a.tobytes()) != (b.dtype.str, b.tobytes()):
            yield f"{path}: {a!r} and {b!r}"
    elif isinstance(a, dict):
        yield from differences(list(a), list(b), f"{path} keys")
        for key, value in a.items():
            if key in b:
                yield from differences(value, b[key], f"{path}[{key!r}]")
        if getattr(a, "default_factory", None) is not getattr(b, "default_factory", None):
            yield f"{path}: another default_factory"
        yield from differences(getattr(a, "_metadata", None), getattr(b, "_metadata", None), f"{path}._metadata")
    elif isinstance(a, (list, tuple, deque)):
        if len(a) != len(b) or getattr(a, "maxlen", None) != getattr(b, "maxlen", None):
            yield f"{path}: {a!r} and {b!r}"
        for position, (one, other) in enumerate(zip(a, b, strict=False)):
            yield from differences(one, other, f"{path}[{position}]")
    elif isinstance(a, (float, complex)):
        if _bits(a) != _bits(b):
            yield f"{path}: {a!r} and {b!r}"
    elif isinstance(a, (set, frozenset)):
        if a != b or sorted(map(repr, map(type, a))) != sorted(map(repr, map(type, b))):
            yield f"{path}: {a!r} and {b!r}"
    elif a != b:
        yield f"{path}: {a!r} and {b!r}"


def _of_tensors(a: Tensor, b: Tensor, path: str) -> Iterator[str]:
    told = [(t.dtype, t.shape, t.requires_grad, t.device.type) for t in (a, b)]
    if told[0] != told[1]:
        yield f"{path}: {told}"
    elif bits_of(a) != bits_of(b):
        yield f"{path}: {a} and {b}"


def _bits(number: complex) -> bytes:
    return struct.pack("dd", number.real, number.imag) if isinstance(number, complex) else struct.pack("d", number)


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors of a state, in the order in which they stand there."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        return [tensor for value in tree.values() for tensor in tensors_in(value)]
    if isinstance(tree, (list, tuple, deque)):
        return [tensor for value in tree for tensor in tensors_in(value)]
    return []
