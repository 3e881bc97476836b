"""Copying a batch to the device: in a stream of its own, never too early for the device, and kept until it was used."""

from __future__ import annotations

import contextlib
import types
from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from fsmtrain import TrainingModule
from fsmtrain.errors import ModelError
from fsmtrain.runtime.data.device_transfer import CopyStream, batch_mover, move_to
from fsmtrain.runtime.nested_tensors import iter_tensors
from tests.models import machine_of, trained

META = torch.device("meta")


class RecordedStream(CopyStream):
    """A copy stream that records what happens in which order."""

    def __init__(self) -> None:
        self.is_open = False
        self.events: list[tuple[str, int]] = []

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        self.is_open = True
        self.events.append(("copies", 0))
        yield
        self.is_open = False

    def synchronize_with(self, tensors: Iterable[Tensor]) -> None:
        assert not self.is_open
        self.events.append(("synchronizes", len(list(tensors))))


class Own:
    """A batch object that moves itself, and records in which stream."""

    def __init__(self, stream: RecordedStream) -> None:
        self.stream, self.in_stream = stream, False

    def to(self, device: torch.device) -> Own:
        self.in_stream = self.stream.is_open
        return self


def test_on_the_cpu_no_batch_is_touched() -> None:
    assert batch_mover(torch.device("cpu")) is None


def test_a_device_without_streams_copies_in_its_own_queue() -> None:
    move = batch_mover(META)
    assert move is not None
    assert move(torch.ones(1)).device.type == "meta"


@pytest.mark.parametrize(
    ("batch", "tensors"),
    [
        (torch.ones(2), 1),
        ((torch.ones(2), [torch.ones(1), "a"], {"y": torch.ones(3), "n": 1}), 3),
        (pack_sequence([torch.ones(3), torch.ones(2)]), 2),
        ([], 0),
        ("a text", 0),
    ],
)
def test_all_tensors_of_a_batch_are_copied_in_the_copy_stream_and_then_synchronized(batch: Any, tensors: int) -> None:
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    moved = move(batch)
    assert stream.events == [("copies", 0), ("synchronizes", tensors)]
    assert [t.shape for t in iter_tensors(moved)] == [t.shape for t in iter_tensors(move_to(batch, META))]


def test_an_object_that_moves_itself_is_copied_in_the_computing_stream() -> None:
    """What it holds besides cannot be known, so nobody could keep its memory until the device is done with it."""
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    own = Own(stream)
    move((torch.ones(1), {"x": own}))
    assert stream.events == []
    assert not own.in_stream


def test_a_batch_on_a_device_already_is_not_copied_in_the_copy_stream() -> None:
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    move([torch.ones(1), torch.ones(1, device="meta")])
    assert stream.events == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_on_the_gpu_equals_the_batch_on_the_host() -> None:
    device = torch.device("cuda")
    move = batch_mover(device, CopyStream(device))
    assert move is not None
    for _ in range(50):
        batch = torch.randn(1 << 16).pin_memory()
        assert torch.equal(move(batch).cpu(), batch)


# ---- move_to


class Pair(NamedTuple):
    """A batch with names."""

    x: Any
    y: Any


class Movable:
    """A batch object that moves itself, and says how it was asked to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, Any]]] = []

    def to(self, device: torch.device, non_blocking: bool = False) -> Movable:
        self.asked.append((device, {"non_blocking": non_blocking}))
        return self


class Slow(Movable):
    """One whose ``to`` takes a device only."""

    def to(self, device: torch.device) -> Slow:  # type: ignore[override]
        self.asked.append((device, {}))
        return self


class Anything(Movable):
    """One whose ``to`` takes whatever it is given."""

    def to(self, *args: Any, **more: Any) -> Anything:
        self.asked.append((args[0], more))
        return self


def devices(batch: Any) -> list[str]:
    """The devices of the tensors in a nest of sequences and mappings."""
    if isinstance(batch, Tensor):
        return [batch.device.type]
    if isinstance(batch, (dict, UserDict, types.MappingProxyType)):
        return [device for item in batch.values() for device in devices(item)]
    if isinstance(batch, (list, tuple)) and not isinstance(batch, PackedSequence):
        return [device for item in batch for device in devices(item)]
    return [batch.data.device.type] if isinstance(batch, PackedSequence) else []


@pytest.mark.parametrize(
    ("batch", "tensors"),
    [
        (torch.ones(2), 1),
        ((torch.ones(2), torch.ones(3)), 2),
        ([torch.ones(2), [torch.ones(3), ()]], 2),
        ({"x": torch.ones(2), "name": "a", "nested": {"y": (torch.ones(1),)}}, 2),
        (Pair(torch.ones(2), Pair([torch.ones(3)], None)), 2),
        (OrderedDict(x=torch.ones(2)), 1),
        (UserDict({"x": torch.ones(2)}), 1),
        (pack_sequence([torch.ones(3, 2), torch.ones(2, 2)]), 1),
        ((1, "text", None, 2.5, {"flag": True}), 0),
    ],
    ids=["tensor", "tuple", "list", "dict", "named tuple", "ordered dict", "user dict", "packed sequence", "no tensor"],
)
def test_every_tensor_of_a_batch_is_moved_and_its_structure_is_kept(batch: Any, tensors: int) -> None:
    before = devices(batch)
    moved = move_to(batch, META)
    assert type(moved) is type(batch)
    assert devices(moved) == ["meta"] * tensors
    assert devices(batch) == before == ["cpu"] * tensors


def test_values_that_are_not_tensors_stay_the_same_objects() -> None:
    thing = object()
    moved = move_to({"thing": [thing], "text": "abc", "none": None}, META)
    assert moved == {"thing": [thing], "text": "abc", "none": None}


def test_the_order_and_the_keys_of_a_mapping_are_kept() -> None:
    moved = move_to(OrderedDict([("b", torch.ones(1)), (3, torch.ones(1)), ("a", 1)]), META)
    assert list(moved) == ["b", 3, "a"]


def test_named_tuples_keep_their_names() -> None:
    moved = move_to(Pair(torch.ones(1), "y"), META)
    assert moved.x.device == META
    assert moved.y == "y"


@pytest.mark.parametrize(
    ("make", "asked"),
    [(Movable, {"non_blocking": True}), (Slow, {}), (Anything, {"non_blocking": True})],
    ids=["non_blocking", "device only", "anything"],
)
def test_an_object_with_to_is_moved_with_non_blocking_if_it_takes_that(
    make: Callable[[], Movable], asked: dict[str, Any]
) -> None:
    batch = make()
    assert move_to((batch,), META) == (batch,)
    assert batch.asked == [(META, asked)]


def test_mappings_with_another_constructor_can_be_moved() -> None:
    batch: defaultdict[str, Any] = defaultdict(list, {"x": torch.ones(2)})
    moved = move_to(batch, META)
    assert isinstance(moved, defaultdict)
    assert moved["x"].device == META
    assert moved["new"] == []


# ---- dataclasses and attrs objects


@dataclass
class Plain:
    """A batch with names, a list of tensors and a value that ``__post_init__`` computed."""

    x: Any
    more: Any = None
    name: str = "a"
    count: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.count = 1 + getattr(Plain, "made", 0)
        self.mask = torch.ones(1)  # no field


@dataclass(frozen=True)
class Frozen:
    """A batch that cannot be changed."""

    x: Any
    more: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    """A batch without a ``__dict__``."""

    x: Any
    more: Any = None


@attrs.define
class Defined:
    """A batch made by attrs."""

    x: Any
    more: Any = None


@attrs.frozen(kw_only=True)
class DefinedFrozen:
    """The same, which cannot be changed, with a private field."""

    x: Any
    more: Any = None
    _hidden: Any = attrs.field(default=None, alias="hidden")


class TensorsBesideNames(OrderedDict[str, Any]):
    """A dict that also is a dataclass, and refuses `update`, as the outputs of a well-known library do."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError


RECORDS: list[Callable[..., Any]] = [Plain, Frozen, Slotted, Defined, DefinedFrozen]


@pytest.mark.parametrize("make", RECORDS)
@given(nest=st.recursive(st.sampled_from(["text", 1, None, ()]), lambda inner: st.lists(inner, max_size=2), max_leaves=3))
def test_the_tensors_of_a_record_are_moved_wherever_they_are(make: Callable[..., Any], nest: Any) -> None:
    batch = make(x=torch.ones(2), more={"nest": [make(x=(torch.ones(1), nest), more=nest)]})
    moved = move_to([batch], META)[0]
    assert type(moved) is type(batch)
    assert [tensor.device.type for tensor in iter_tensors(moved)] == ["meta"] * len([*iter_tensors(batch)])
    assert all(tensor.device.type == "cpu" for tensor in iter_tensors(batch))
    inner = moved.more["nest"][0]
    assert (inner.more, inner.x[1]) == (nest, nest)


def test_a_record_is_copied_and_not_constructed_again() -> None:
    batch = Plain(torch.ones(1))
    batch.count = 7
    moved = move_to(batch, META)
    assert (moved.count, moved.mask.device.type, batch.mask.device.type) == (7, "meta", "cpu")


def test_a_record_without_tensors_stays_the_same_object() -> None:
    batch = Frozen("text")
    assert move_to(batch, META) is batch


def test_a_record_with_to_moves_itself() -> None:
    @dataclass
    class Moves:
        x: Tensor
        asked: int = 0

        def to(self, device: Any) -> Moves:
            return Moves(self.x, self.asked + 1)

    assert move_to(Moves(torch.ones(1)), META).asked == 1


def test_a_mapping_that_refuses_update_can_be_moved() -> None:
    batch = TensorsBesideNames()
    batch["x"] = torch.ones(1)
    moved = move_to(batch, META)
    assert (type(moved), moved["x"].device.type, batch["x"].device.type) == (TensorsBesideNames, "meta", "cpu")


def test_the_memory_of_a_record_s_tensors_is_kept_until_they_were_used() -> None:
    stream = RecordedStream()
    move = batch_mover(META, stream)
    assert move is not None
    move(Plain(torch.ones(1), [torch.ones(1)]))
    assert stream.events == [("copies", 0), ("synchronizes", 3)]


# ---- the model's hook


class Opaque:
    """A batch that nobody can look into."""

    def __init__(self, loss: Tensor) -> None:
        self.hidden = [loss]


class Transferring(TrainingModule):
    """Moves its own batches."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))
        self.moved: list[tuple[str, str]] = []
        self.used: list[str] = []
        self.at = "train"

    def transfer_batch_to_device(self, batch: Any, device: torch.device) -> Any:
        self.moved.append((type(batch).__name__, device.type))
        [item] = batch.hidden
        return [super().transfer_batch_to_device(item, device)]

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.used.append("train")
        return self.w * batch[0]

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.used.append("val")
        return {"val_loss": self.w * batch[0]}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.used.append("test")
        return {"test_loss": self.w * batch[0]}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_model_s_hook_moves_train_val_and_test_batches_also_on_the_cpu() -> None:
    model, data = Transferring(), [Opaque(torch.ones(1))]
    trained(model, data, data, data, max_nb_epochs=1, val_check_interval=1.0)
    assert model.used == ["val", "train", "val", "test"]
    assert model.moved == [("Opaque", "cpu")] * 4


def test_a_plain_module_may_have_the_hook() -> None:
    class Bare(torch.nn.Linear):
        def transfer_batch_to_device(self, batch: Any, device: Any) -> Any:
            return batch.hidden[0]

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self(batch).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    assert trained(Bare(1, 1), [Opaque(torch.ones(1))] * 3, max_nb_epochs=1).global_step == 3


def test_a_hook_that_returns_nothing_or_takes_other_arguments_is_an_error() -> None:
    class Nothing(Transferring):
        def transfer_batch_to_device(self, batch: Any, device: Any) -> Any:
            pass

    with pytest.raises(ModelError, match=r"transfer_batch_to_device returned None. It must return the batch"):
        trained(Nothing(), [Opaque(torch.ones(1))], max_nb_epochs=1)

    class Three(Transferring):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:  # type: ignore[override]
            return batch

    with pytest.raises(ModelError, match=r"it must accept two positional arguments \(batch, device\)"):
        machine_of(Three(), [Opaque(torch.ones(1))])
