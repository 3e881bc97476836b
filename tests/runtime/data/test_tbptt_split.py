"""Batches of any structure are split along their time dimension; in a run, hiddens pass from split to split."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.errors import DataError, ModelError
from fsmtrain.runtime.data.tbptt_split import split_in_time
from tests.models import Recurrent, machine_of, same_bits, sequences, trained


class Pair(NamedTuple):
    """A batch with names."""

    x: Any
    y: Any


def test_a_tensor_is_cut_along_its_second_dimension_and_the_last_split_may_be_shorter() -> None:
    batch = torch.arange(10).reshape(2, 5)
    assert same_bits(split_in_time(batch, 2), [batch[:, :2], batch[:, 2:4], batch[:, 4:]])


def test_labels_without_a_time_dimension_go_whole_into_every_split() -> None:
    x, label = torch.rand(4, 5, 3), torch.rand(4)
    splits = split_in_time((x, label), 3)
    assert same_bits(splits, [(x[:, :3], label), (x[:, 3:], label)])


def test_lists_of_sequences_are_cut_along_their_own_first_dimension() -> None:
    """As the documented collate function for packed sequences makes them."""
    x = [torch.rand(5, 2), torch.rand(5, 2), torch.rand(5, 2)]
    y = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    splits = split_in_time((x, y), 4)
    assert same_bits(splits[0], ([s[:4] for s in x], [[1, 2, 3, 4], [6, 7, 8, 9]]))
    assert same_bits(splits[1], ([s[4:] for s in x], [[5], [10]]))
    assert len(splits) == 2


@pytest.mark.parametrize(
    "batch",
    [
        {"x": torch.rand(2, 4), "label": torch.rand(2), "name": "a"},
        OrderedDict(x=torch.rand(2, 4), y=torch.rand(2, 4, 3)),
        Pair(torch.rand(2, 4), torch.rand(2, 4)),
        [torch.rand(2, 4), torch.rand(2)],
        (torch.rand(2, 4), {"y": torch.rand(2, 4)}, None, 3),
    ],
    ids=["dict", "ordered dict", "named tuple", "list", "mapping within"],
)
def test_the_structure_of_a_batch_is_kept(batch: Any) -> None:
    splits = split_in_time(batch, 2)
    assert len(splits) == 2
    assert [type(split) for split in splits] == [type(batch)] * 2
    assert same_bits(split_in_time(batch, 4), [batch])


@given(st.integers(1, 12), st.integers(1, 15))
def test_splits_put_together_are_the_batch(steps: int, size: int) -> None:
    x, y = torch.rand(3, steps), torch.rand(3, steps, 2)
    splits = split_in_time({"x": x, "y": [y[0], y[1]]}, size)
    assert len(splits) == -(-steps // size)
    assert all(split["x"].shape[1] == size for split in splits[:-1])
    assert torch.equal(torch.cat([split["x"] for split in splits], dim=1), x)
    assert torch.equal(torch.cat([split["y"][1] for split in splits]), y[1])


@pytest.mark.parametrize("batch", [torch.rand(4), (torch.rand(4), 3), {"name": "abc"}, "text", [], None])
def test_a_batch_without_a_time_dimension_cannot_be_split(batch: Any) -> None:
    with pytest.raises(DataError, match=r"truncated_bptt_steps=2: .*no time dimension"):
        split_in_time(batch, 2)


@pytest.mark.parametrize(
    "batch", [(torch.rand(4, 5), torch.rand(4, 6)), [[torch.rand(5)], [torch.rand(6)]], ([[1, 2], [1, 2, 3]],)]
)
def test_parts_of_different_lengths_cannot_be_split(batch: Any) -> None:
    with pytest.raises(DataError, match=r"different numbers of time steps \(dim 1\): \d, \d"):
        split_in_time(batch, 2)


def test_mappings_with_another_constructor_can_be_split() -> None:
    batch: defaultdict[str, Any] = defaultdict(list, {"x": torch.rand(2, 3)})
    assert [split["x"].shape[1] for split in split_in_time(batch, 2)] == [2, 1]


# ---- splitting in a run


def test_an_override_splits_in_its_own_way() -> None:
    class Backwards(Recurrent):
        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            return super().tbptt_split_batch(batch, split_size)[::-1]

        def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
            lengths.append(batch[0].shape[1])
            return super().training_step(batch, batch_nb, hiddens)

    lengths: list[int] = []
    trained(Backwards(), sequences(2, size=2, steps=5), max_nb_epochs=1, truncated_bptt_steps=2)
    assert lengths == [1, 2, 2]


@pytest.mark.parametrize("splits", [[], None, torch.ones(2), iter([1])])
def test_an_override_must_return_a_list_of_at_least_one_split(splits: Any) -> None:
    class Wrong(Recurrent):
        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            return splits  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="tbptt_split_batch returned"):
        trained(Wrong(), sequences(2, size=2, steps=5), max_nb_epochs=1, truncated_bptt_steps=2)


def test_hiddens_are_none_at_first_and_then_what_the_same_optimizer_s_last_split_returned() -> None:
    class Two(Recurrent):
        def configure_optimizers(self) -> Any:
            return [self.configure(self.lstm.parameters()), self.configure(self.head.parameters())]

        def training_step(self, batch: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:  # type: ignore[override]
            received.append((batch_nb, optimizer_i, None if hiddens is None else hiddens["of"]))
            assert hiddens is None or not hiddens["state"][0].requires_grad
            loss, state = self.loss(batch, None if hiddens is None else hiddens["state"])
            assert state[0].requires_grad == (optimizer_i == 0)
            return {"loss": loss, "hiddens": {"state": state, "of": (batch_nb, optimizer_i, len(received))}}

    received: list[Any] = []
    trained(Two(), sequences(4, size=2, steps=4), max_nb_epochs=1, truncated_bptt_steps=2)
    assert received == [
        (0, 0, None),
        (0, 1, None),
        (0, 0, (0, 0, 1)),
        (0, 1, (0, 1, 2)),
        (1, 0, None),
        (1, 1, None),
        (1, 0, (1, 0, 5)),
        (1, 1, (1, 1, 6)),
    ]


@pytest.mark.parametrize("as_dict", [True, False])
def test_a_split_that_returns_no_hiddens_leaves_none_to_the_next(as_dict: bool) -> None:
    class Forgetful(Recurrent):
        def training_step(self, batch: Any, batch_nb: int, hiddens: Any) -> Any:
            received.append(hiddens)
            loss, hiddens = self.loss(batch, None)
            if len(received) == 1:
                return {"loss": loss, "hiddens": hiddens}
            return {"loss": loss} if as_dict else loss

    received: list[Any] = []
    trained(Forgetful(), sequences(2, size=2, steps=6), max_nb_epochs=1, truncated_bptt_steps=2)
    assert [hiddens is None for hiddens in received] == [True, False, True]


def test_a_training_step_without_hiddens_is_refused() -> None:
    class Blind(Recurrent):
        def training_step(self, batch: Any, batch_nb: int) -> Any:  # type: ignore[override]
            return self.loss(batch, None)[0]

    with pytest.raises(ModelError, match=r"truncated_bptt_steps=2: training_step has no parameter 'hiddens'"):
        machine_of(Blind(), sequences(2, size=2, steps=4), truncated_bptt_steps=2)
