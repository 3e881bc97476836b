"""The codec: what goes in comes out, down to types, bits and shared memory; what it cannot hold is refused with its path."""

from __future__ import annotations

import collections
import contextlib
import enum
import random
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from fsmtrain import strict_json
from fsmtrain.errors import CodecError
from fsmtrain.runtime.checkpoint_files.codec.codec import Encoded, decode, encode
from fsmtrain.runtime.checkpoint_files.codec.codec_common import MAX_DEPTH
from fsmtrain.runtime.checkpoint_files.codec.decoding import TAGS as ALL_TAGS
from tests.models import bits_of
from tests.runtime.checkpoint_files.sample_states import differences, state_trees, tensors_in


def through_json(tree: Any) -> Any:
    """A state through the codec and the text of its skeleton; its tensors copied, as a file would."""
    encoded = encode(tree)
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in encoded.tensors.items()}
    return decode(Encoded(strict_json.parse(strict_json.dump(encoded.skeleton)), tensors))


@given(state_trees())
@example([float("inf"), float("-inf"), float("nan"), -float("nan"), -0.0, 5e-324, 2**53, -(2**53), 2**53 - 1, 10**5000])
@example({"$tensor": 1, "a": {"$dict": []}, "$$": {}})
@example({1: "whole", "1": "text", False: "a bool", (1, "a"): "pair", None: 0, 1.5: 1, b"b": 2, "": 3})
@example({"\ud800": 1, "ä": 2})
@example(OrderedDict(b=1, a=2))
@example(np.empty((0, 3), dtype=">f8"))
@example(torch.zeros(2, dtype=torch.int16)[::2])
def test_a_decoded_state_equals_the_encoded_one(tree: Any) -> None:
    assert list(differences(tree, through_json(tree))) == []


@given(state_trees())
def test_tensors_share_memory_after_as_before(tree: Any) -> None:
    """What is written into one is seen in the others, and in no more."""
    copy = through_json(tree)
    ours, theirs = tensors_in(tree), tensors_in(copy)
    for one, other in zip(ours, theirs, strict=True):
        for tensor in (one, other):
            with torch.no_grad():
                tensor.zero_()
        assert list(map(bits_of, ours)) == list(map(bits_of, theirs))


def test_one_tensor_in_two_places_is_stored_once_and_stays_one() -> None:
    weight = nn.Parameter(torch.randn(2, 3))
    tree = {"model": {"encoder.weight": weight, "decoder.weight": weight}}
    assert list(encode(tree).tensors) == ["model.encoder.weight"]
    copy = through_json(tree)["model"]
    assert copy["encoder.weight"] is copy["decoder.weight"]


@pytest.mark.parametrize("tensor", [torch.empty(0, 3), torch.tensor([1 + 2j]).conj(), torch.ones(2)[::2]])
def test_one_object_in_two_places_stays_one(tensor: Tensor) -> None:
    copy = through_json([tensor, {"again": tensor}])
    assert copy[0] is copy[1]["again"]
    assert len(encode([tensor, tensor]).tensors) == 1


def test_views_are_stored_in_the_tensor_that_covers_them() -> None:
    flat = torch.arange(6.0)
    encoded = encode({"first": flat[:2], "all": flat, "turned": flat.view(2, 3).T})
    assert list(encoded.tensors) == ["all"]


def test_tensors_side_by_side_in_one_storage_are_stored_apart() -> None:
    """A slice of a large tensor does not take the large tensor along."""
    first, second = torch.arange(2000.0).reshape(2, 1000)
    encoded = encode([first[:3], second[:3]])
    assert {name: tensor.numel() for name, tensor in encoded.tensors.items()} == {"0": 3, "1": 3}


@pytest.mark.parametrize("end", [4, 7])
def test_two_dtypes_of_one_memory_stay_in_one_memory(end: int) -> None:
    """Also where the one that covers both begins in the midst of the other's elements."""
    whole = torch.arange(8, dtype=torch.int16)
    copy = through_json([whole[1:end], whole[2:6].view(torch.float32)])
    assert copy[1].view(torch.int16).tolist() == [2, 3, 4, 5]
    copy[0].zero_()
    assert copy[1].view(torch.int16).tolist() == [0 if number < end else number for number in range(2, 6)]


def test_the_order_in_memory_is_kept() -> None:
    """A convolution in channels_last may compute other bits than one in the usual order."""
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    copy, other = through_json([image, array])
    assert copy.stride() == image.stride()
    assert other.strides == array.strides


def test_a_conjugate_is_saved_by_its_values() -> None:
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    lazy = [tensor, tensor.conj(), tensor.conj().imag]
    assert list(differences([one.clone() for one in lazy], through_json(lazy))) == []


def test_a_state_dict_keeps_the_versions_of_its_modules() -> None:
    """`load_state_dict` reads them: a BatchNorm of an old version has no count of batches."""
    state = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict()
    copy = through_json(state)
    assert copy._metadata == state._metadata  # type: ignore[attr-defined]
    assert list(copy) == list(state)


def test_random_states_are_restored() -> None:
    states = [random.getstate(), np.random.get_state(), np.random.default_rng(1).bit_generator.state, torch.get_rng_state()]
    copy = through_json(states)
    assert list(differences(states, copy)) == []
    random.setstate(copy[0])
    np.random.set_state(copy[1])
    torch.set_rng_state(copy[3])


def test_the_same_state_gives_the_same_bytes() -> None:
    words = [f"word{number}" for number in range(50)]
    texts = {strict_json.dump(encode(set(random.sample(words, len(words)))).skeleton) for _ in range(5)}
    assert len(texts) == 1


def test_names_of_tensors_are_their_paths() -> None:
    tree = {"model": {"0.weight": torch.ones(1), "0": {"weight": torch.ones(1)}}, "ema": [torch.ones(1)], 3: torch.ones(1)}
    assert list(encode(tree).tensors) == ["model.0.weight", "model.0.weight#2", "ema.0", "3"]


class Color(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


class Own(dict[str, int]):
    pass


class Sub(torch.Tensor):
    pass


def in_itself() -> Any:
    items: list[Any] = []
    items.append(items)
    return items


def deep(levels: int) -> Any:
    tree: Any = 1
    for _ in range(levels):
        tree = {"a": tree}
    return tree


def with_attribute() -> Any:
    values: Any = OrderedDict()
    values.note = 1
    return values


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a function": (lambda: len, "a function cannot be saved"),
    "a lambda": (lambda: lambda: None, "a function cannot be saved"),
    "a class": (lambda: dict, "the class dict cannot be saved"),
    "an object": (object, "an object cannot be saved"),
    "an enum's member": (lambda: Color.RED, "Color cannot be saved. Its class is derived from IntEnum"),
    "a named tuple": (lambda: Point(1), "Point cannot be saved. Its class is derived from tuple"),
    "a subclass of dict": (lambda: Own(a=1), "Own cannot be saved. Its class is derived from dict"),
    "a module": (lambda: nn.Linear(1, 1), "Save its state_dict()"),
    "a generator": (torch.Generator, "Save generator.get_state()"),
    "an iterator": (lambda: iter([1]), "a list_iterator cannot be saved"),
    "a default_factory": (lambda: defaultdict(lambda: 0), "default_factory is a function"),
    "an attribute": (with_attribute, "an OrderedDict with the attributes ['note']"),
    "a list in itself": (in_itself, "a list that contains itself"),
    "too deep": (lambda: deep(MAX_DEPTH + 1), f"nested in more than {MAX_DEPTH} containers"),
    "a graph": (lambda: torch.ones(1, requires_grad=True) * 2, "autograd graph"),
    "a dtype of none": (lambda: torch.quint4x2, "the dtype quint4x2 cannot be saved"),
    "sparse": (lambda: torch.ones(2).to_sparse(), "a sparse tensor"),
    "quantized": (lambda: torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8), "a quantized tensor"),
    "meta": (lambda: torch.ones(2, device="meta"), "on the device 'meta'"),
    "a subclass of Tensor": (lambda: torch.ones(1).as_subclass(Sub), "Sub cannot be saved"),
    "unmaterialised": (lambda: nn.LazyLinear(1).weight, "UninitializedParameter cannot be saved"),
    "a tensor as a key": (lambda: {(torch.ones(1),): 1}, "as a key"),
    "an array of objects": (lambda: np.array([None]), "the NumPy dtype '|O'"),
    "a structured array": (lambda: np.zeros(1, dtype=[("a", "f4")]), "the NumPy dtype"),
    "a long double": (lambda: np.longdouble(1), "the NumPy dtype"),
    "a masked array": (lambda: np.ma.masked_array([1]), "MaskedArray cannot be saved"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_error_for_a_value_that_cannot_be_saved_has_its_path(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(CodecError, match=re.escape(reason)) as caught:
        encode({"optimizers": [{"state": {3: make()}}]})
    assert str(caught.value).startswith("optimizers[0]['state'][3]")


def test_the_deepest_allowed_nesting_is_restored() -> None:
    assert through_json(deep(MAX_DEPTH)) == deep(MAX_DEPTH)
    nested: Any = 0
    for _ in range(MAX_DEPTH - 1):
        nested = OrderedDict([((1,), nested)])
    assert through_json(nested) == nested


def test_every_dtype_of_torch_is_saved_or_refused() -> None:
    for dtype in {value for value in vars(torch).values() if isinstance(value, torch.dtype)}:
        try:
            tensor = torch.empty(2, dtype=dtype)
            encoded = encode(tensor)
        except (CodecError, RuntimeError, NotImplementedError, TypeError):
            continue
        [stored] = encoded.tensors.values()
        copy = decode(Encoded(encoded.skeleton, {"tensor": stored}))
        assert (copy.dtype, copy.shape) == (tensor.dtype, tensor.shape)


TAGS = [*ALL_TAGS, "$unknown"]
FIELDS = ["name", "shape", "stride", "offset", "dtype", "as", "order"]
json_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4) | st.sampled_from(["t", "<f4"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(FIELDS), inner, max_size=4)
        | st.dictionaries(st.sampled_from(TAGS), inner, min_size=1, max_size=1)
    ),
    max_leaves=6,
)


@given(json_values)
@example({"$tensor": {"name": "t", "stride": [-1]}})
@example({"$tensor": {"name": "t", "offset": 2, "shape": [2], "stride": [1], "dtype": "float32"}})
@example({"$tensor": {"name": "t", "offset": 0, "shape": [2**40, 2**40], "stride": [0, 0], "dtype": "float32"}})
@example({"$tensor": {"name": "t", "as": "complex128"}})
@example({"$tensor": {"name": "t", "as": "nn"}})
@example({"$array": {"name": "t", "dtype": "O", "shape": [1]}})
@example({"$array": {"name": "t", "dtype": "<f4", "shape": [2**70, 0]}})
@example({"$array": {"name": "t", "dtype": "<f4", "shape": [3], "order": 1}})
@example({"$dtype": ["float32"]})
@example({"$dtype": "nn"})
@example({"$device": "cuda:" + "9" * 50})
@example({"$default": [["list"], []]})
@example({"$default": ["eval", []]})
@example({"$deque": [-1, []]})
@example({"$deque": [2**80, []]})
@example({"$dict": [[[], 1]]})
@example({"$set": [[1]]})
@example({"$range": ["0x1", "0x2", "0x0"]})
@example({"$size": [2**80]})
@example({"$size": ["a"]})
@example({"a": 1, "$b": 2})
@example(1e999)
def test_any_skeleton_is_decoded_or_raises_a_codec_error(skeleton: Any) -> None:
    with contextlib.suppress(CodecError):
        decode(Encoded(skeleton, {"t": torch.arange(3.0)}))


def test_a_view_beyond_its_memory_is_refused() -> None:
    """torch would make the memory larger, with whatever lies there."""
    reference = {"name": "t", "offset": 2, "shape": [2], "stride": [1], "dtype": "float32"}
    with pytest.raises(CodecError, match="after the end of its tensor"):
        decode(Encoded({"$tensor": reference}, {"t": torch.arange(3.0)}))


def test_deep_skeletons_are_refused() -> None:
    skeleton: Any = []
    for _ in range(strict_json.MAX_DEPTH):
        skeleton = [skeleton]
    with pytest.raises(CodecError, match="nested in more than"):
        decode(Encoded(skeleton, {}))


def test_the_state_of_every_scheduler_is_restored() -> None:
    """MultiStepLR has a Counter of whole numbers; its keys are no text after, either."""
    milestones = Counter({4: 2, 2: 1})
    copy = through_json({"milestones": milestones, "recent": deque([1, 2], maxlen=2), "chain": collections.OrderedDict(a=1)})
    assert type(copy["milestones"]) is Counter
    assert copy["milestones"] == milestones
    copy["recent"].append(3)
    assert list(copy["recent"]) == [2, 3]
