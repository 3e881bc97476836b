"""Detect losses and gradients that are inf or NaN, on their device, without waiting for it.

Nothing here makes the host wait for the device but `NonFiniteMonitor.read`, which reads once however much has been noted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

import torch
from attrs import astuple, define, field, frozen
from torch import Tensor
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype

What = Literal["loss", "gradient"]

_WHATS: tuple[What, ...] = ("loss", "gradient")
MAX_PENDING_VALUES = 64  # numbers that wait as tensors of their own, before only the first bad one of them is kept


@frozen
class NonFiniteValue:
    """A number that was inf or NaN: of which backward, and whether it was its loss or a gradient after it.

    Attributes:
        current_epoch, batch_nb, split_nb, optimizer_i: Where, all from 0.
        batch: The batch's number in the whole run, from 1.
        what: ``"loss"``, or ``"gradient"`` where the loss was finite.
    """

    current_epoch: int
    batch_nb: int
    split_nb: int
    optimizer_i: int
    batch: int
    what: What

    def __str__(self) -> str:
        split = f", split {self.split_nb}" if self.split_nb else ""
        what = "the loss" if self.what == "loss" else "a gradient"
        return f"{what} of epoch {self.current_epoch}, batch {self.batch_nb}{split}, optimizer {self.optimizer_i}"


Place = tuple[int, int, int, int, int]  # all of a `NotFinite` but what it was


class NonFiniteMonitor:
    """The losses and gradients since the last reading. Of those that are not finite the first is found."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._places: list[Sequence[int]] = []
        self._first_bad: tuple[Tensor, Tensor] | None = None  # (1,) whether all before is finite, (1, 6) the first that is not

    def add(self, value: Tensor, place: Place, what: What) -> None:
        """Note a number, in the order in which they come up."""
        self._values.append(value.detach().reshape(()))
        self._places.append((*place, _WHATS.index(what)))
        if len(self._values) == MAX_PENDING_VALUES:
            self._compact()

    def read(self) -> NonFiniteValue | None:
        """The first number that was not finite since the last reading, if one was. Waits for the device, once."""
        if not self._values and self._first_bad is None:
            return None
        if self._first_bad is None:
            finite = self._are_finite().tolist()
            row = self._places[finite.index(False)] if False in finite else None
        else:
            if self._values:
                self._compact()
            all_finite, first = self._first_bad
            ok, *told = torch.cat([all_finite.to(first.dtype), first[0]]).tolist()
            row = None if ok else told
        self.reset()
        if row is None:
            return None
        epoch, batch_nb, split_nb, optimizer_i, batch, what = row
        return NonFiniteValue(epoch, batch_nb, split_nb, optimizer_i, batch, _WHATS[what])

    def reset(self) -> None:
        """Begin anew, without reading."""
        self._values, self._places, self._first_bad = [], [], None

    def _compact(self) -> None:
        """Keep only the first of all that are not finite, on the device."""
        finite = self._are_finite()
        places = torch.tensor(self._places).to(finite.device, non_blocking=True)  # (numbers, 6)
        if self._first_bad is not None:
            finite, places = torch.cat([self._first_bad[0], finite]), torch.cat([self._first_bad[1], places])
        first = finite.to(torch.uint8).argmin().reshape(1)  # of all that are finite, any
        self._values, self._places = [], []
        self._first_bad = finite.index_select(0, first), places.index_select(0, first)

    def _are_finite(self) -> Tensor:
        values = self._values
        device = values[-1].device
        if any(value.device != device for value in values):
            values = [value.to(device, non_blocking=True) for value in values]
        return torch.isfinite(torch.stack(values))


@torch.no_grad()
def all_finite(parameters: Iterable[Tensor]) -> Tensor | None:
    """A number that is finite exactly if every gradient is; None where there is no gradient. Reads nothing.

    One kernel for all gradients of a type does it, the one with which a gradient scaler looks for overflows: it is many times
    faster than their norms, and overflows nowhere itself. It multiplies them by 1, which changes nothing.
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if not gradients:
        return None
    values: list[Tensor | None] = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    found: list[Tensor] = []
    for (device, dtype), ((group,), _) in _group_tensors_by_device_and_dtype([values]).items():
        alike = cast("list[Tensor]", group)
        if device.type not in ("cpu", "cuda"):
            found += [torch.linalg.vector_norm(one, math.inf).reshape(1).float() for one in alike if one.numel()]
            continue
        if dtype.is_complex:
            alike = [torch.view_as_real(one) for one in alike]
        bad, one = torch.zeros(1, device=device), torch.ones(1, device=device)
        torch._amp_foreach_non_finite_check_and_unscale_(alike, bad, one)
        found.append(bad.neg_().sqrt_())  # 1 becomes NaN
    if len(found) < 2:
        return found[0] if found else None
    return torch.cat([one.to(found[0].device, non_blocking=True) for one in found]).sum()


@define(eq=False)
class NonFiniteState:
    """What a run remembers of numbers that were not finite.

    Attributes:
        left_out: The batches that rollbacks have taken out of the run, in the order of the rollbacks.
        spoiled: Of each optimizer, the number that is known to have spoiled its open window.
        found: What ended the run in `rolled_back`.
    """

    bad_windows: list[NonFiniteValue | None]
    excluded: tuple[NonFiniteValue, ...] = ()
    cause: NonFiniteValue | None = None
    excluded_batches: frozenset[int] = field(init=False)  # the numbers of those left out

    def __attrs_post_init__(self) -> None:
        self.exclude(self.excluded)

    def exclude(self, batches: Iterable[NonFiniteValue]) -> None:
        """Take these batches, and no others, for left out."""
        self.excluded = tuple(batches)
        self.excluded_batches = frozenset(one.batch for one in self.excluded)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "left_out": [list(astuple(one)) for one in self.excluded],
            "spoiled": [None if one is None else list(astuple(one)) for one in self.bad_windows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what another run did."""
        self.exclude(NonFiniteValue(*one) for one in state["left_out"])
        self.bad_windows = [None if one is None else NonFiniteValue(*one) for one in state["spoiled"]]
        self.cause = None
