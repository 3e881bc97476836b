"""Detect losses and gradients that are inf or NaN, on their device, without waiting for it.

Only `NonFiniteMonitor.read` makes the host wait for the device, once for all values.
`training/on_nonfinite_policies` acts on them.
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
MAX_PENDING_VALUES = 64  # tensors that are kept one by one, before only the first bad one of them is


@frozen
class NonFiniteValue:
    """A loss or gradient that was inf or NaN, and its place in the run.

    Attributes:
        current_epoch, batch_nb, split_nb, optimizer_i: The backward, all from 0.
        batch: The batch's number in the whole run, from 1.
        what: ``"loss"``, or ``"gradient"`` if the loss was finite.
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


Place = tuple[int, int, int, int, int]  # the fields of a `NonFiniteValue` before `what`


class NonFiniteMonitor:
    """The losses and gradients since the last read, of which it finds the first that is not finite."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []
        self._places: list[Sequence[int]] = []
        self._first_bad: tuple[Tensor, Tensor] | None = None  # (1,): is all so far finite; (1, 6): place of the first bad value

    def add(self, value: Tensor, place: Place, what: What) -> None:
        """Add a value. Call it in the order of the backwards."""
        self._values.append(value.detach().reshape(()))
        self._places.append((*place, _WHATS.index(what)))
        if len(self._values) == MAX_PENDING_VALUES:
            self._compact()

    def read(self) -> NonFiniteValue | None:
        """Return the first value since the last read that was not finite; None if all were. Waits for the device once."""
        if not self._values and self._first_bad is None:
            return None
        if self._first_bad is None:
            finite = self._are_finite().tolist()
            row = self._places[finite.index(False)] if False in finite else None
        else:
            if self._values:
                self._compact()
            all_finite, first = self._first_bad
            ok, *place = torch.cat([all_finite.to(first.dtype), first[0]]).tolist()
            row = None if ok else place
        self.reset()
        if row is None:
            return None
        epoch, batch_nb, split_nb, optimizer_i, batch, what = row
        return NonFiniteValue(epoch, batch_nb, split_nb, optimizer_i, batch, _WHATS[what])

    def reset(self) -> None:
        """Forget all values, without reading them."""
        self._values, self._places, self._first_bad = [], [], None

    def _compact(self) -> None:
        """Keep only the first bad value, on the device."""
        finite = self._are_finite()
        places = torch.tensor(self._places).to(finite.device, non_blocking=True)  # (numbers, 6)
        if self._first_bad is not None:
            finite, places = torch.cat([self._first_bad[0], finite]), torch.cat([self._first_bad[1], places])
        first = finite.to(torch.uint8).argmin().reshape(1)  # any, if all are finite
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
    """Return a scalar tensor that is finite if and only if every gradient is; None if there is no gradient. Does not wait.

    One kernel per dtype does it, the one with which a gradient scaler looks for overflows: it is many times faster than the
    norms of the gradients, and does not overflow itself. It multiplies them by 1, which changes nothing.
    """
    gradients = [gradient for parameter in parameters if (gradient := parameter.grad) is not None]
    if not gradients:
        return None
    values: list[Tensor | None] = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    flags: list[Tensor] = []  # each finite if its group is
    for (device, dtype), ((group,), _) in _group_tensors_by_device_and_dtype([values]).items():
        same_type = cast("list[Tensor]", group)
        if device.type not in ("cpu", "cuda"):
            flags += [torch.linalg.vector_norm(g, math.inf).reshape(1).float() for g in same_type if g.numel()]
            continue
        if dtype.is_complex:
            same_type = [torch.view_as_real(g) for g in same_type]
        bad, one = torch.zeros(1, device=device), torch.ones(1, device=device)
        torch._amp_foreach_non_finite_check_and_unscale_(same_type, bad, one)
        flags.append(bad.neg_().sqrt_())  # 1 becomes NaN
    if len(flags) < 2:
        return flags[0] if flags else None
    return torch.cat([flag.to(flags[0].device, non_blocking=True) for flag in flags]).sum()


@define(eq=False)
class NonFiniteState:
    """The state of a run that concerns values that were not finite.

    Attributes:
        excluded: The batches that rollbacks excluded, in the order of the rollbacks.
        bad_windows: For each optimizer, the first bad value known in its open window; None if there is none.
        cause: The value because of which the run entered `rolled_back`.
    """

    bad_windows: list[NonFiniteValue | None]
    excluded: tuple[NonFiniteValue, ...] = ()
    cause: NonFiniteValue | None = None
    excluded_batches: frozenset[int] = field(init=False)  # their `batch` numbers

    def __attrs_post_init__(self) -> None:
        self.exclude(self.excluded)

    def exclude(self, batches: Iterable[NonFiniteValue]) -> None:
        """Exclude these batches and no others."""
        self.excluded = tuple(batches)
        self.excluded_batches = frozenset(value.batch for value in self.excluded)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "excluded": [list(astuple(value)) for value in self.excluded],
            "bad_windows": [value and list(astuple(value)) for value in self.bad_windows],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state over."""
        self.exclude(NonFiniteValue(*fields) for fields in state["excluded"])
        self.bad_windows = [fields and NonFiniteValue(*fields) for fields in state["bad_windows"]]
        self.cause = None
