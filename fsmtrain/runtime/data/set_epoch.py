"""Call ``set_epoch`` before a pass: on a loader, its samplers and its dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from fsmtrain.user_warnings import warn


class EpochSetter:
    """Tells a loader and its parts which epoch begins, so that each can have its own order, or its own items.

    Args:
        loader: Anything that can be iterated over.
        name: The loader's name in warnings.
    """

    def __init__(self, loader: Any, name: str) -> None:
        self._loader, self._name = loader, name
        self._workers_epoch: int | None = None  # of the first pass, in which persistent workers get their copy of the dataset
        self._has_warned = False

    def set_epoch(self, epoch: int) -> None:
        """Call ``set_epoch(epoch)`` once on each of loader, sampler, batch sampler and dataset that has it."""
        for method in _methods(self._loader):
            method(epoch)
        self._warn_of_persistent_workers(epoch)

    def _warn_of_persistent_workers(self, epoch: int) -> None:
        loader = self._loader
        if self._has_warned or not (getattr(loader, "persistent_workers", False) and getattr(loader, "num_workers", 0)):
            return
        if self._workers_epoch is None:
            self._workers_epoch = epoch
        elif epoch != self._workers_epoch and any(True for part in _datasets(loader) if _method(part) is not None):
            self._has_warned = True
            warn(
                f"{self._name}: set_epoch({epoch}) of its dataset does not reach the copies of the dataset in persistent "
                f"workers: they stay at epoch {self._workers_epoch}. Use persistent_workers=False."
            )


def _methods(loader: Any) -> Iterator[Callable[[int], object]]:
    """Yield the method ``set_epoch`` of each part that has one; of a part that is reached twice, once."""
    seen: list[object] = []
    for part in _parts(loader):
        method = _method(part)
        if method is not None and not any(part is other for other in seen):
            seen.append(part)
            yield method


def _method(part: Any) -> Callable[[int], object] | None:
    method = getattr(part, "set_epoch", None)
    return method if callable(method) else None


def _parts(loader: Any) -> Iterator[Any]:
    """Yield a loader, its samplers, and its datasets."""
    yield loader
    for name in ("sampler", "batch_sampler"):
        part, seen = getattr(loader, name, None), 0
        while part is not None and seen < _MAX_WRAPPED_SAMPLERS:
            yield part
            part, seen = getattr(part, "sampler", None), seen + 1
    yield from _datasets(loader)


_MAX_WRAPPED_SAMPLERS = 8  # one inside of the other, as BatchSampler.sampler is


def _datasets(loader: Any) -> Iterator[Any]:
    """Yield a loader's dataset, and those inside torch's `Subset` and `ConcatDataset`."""
    waiting = [getattr(loader, "dataset", None)]
    while waiting:
        part = waiting.pop(0)
        if part is not None:
            yield part
        if isinstance(part, Subset):
            waiting.append(part.dataset)
        elif isinstance(part, ConcatDataset):
            waiting += part.datasets
