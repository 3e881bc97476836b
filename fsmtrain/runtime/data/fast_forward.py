"""A ``DataLoader`` over a map-style dataset, begun in mid-pass: the indices are drawn again, the items not loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from fsmtrain.errors import PositionError
from fsmtrain.runtime.generators import PROCESS_WIDE
from fsmtrain.user_warnings import warn


def supports_fast_forward(loader: object) -> bool:
    """Whether a loader is one of torch's over a map-style dataset."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def iter_from(loader: DataLoader[Any], batches: int, name: str, put_back: Callable[[], None], *, workers_live: bool) -> Any:
    """A pass of a loader that has given this many batches.

    Args:
        loader: Torch's own class, or one derived from it.
        batches: How many of its batches are left out, without a single item of them being loaded.
        name: What the loader is called, for errors and warnings.
        put_back: Makes every generator what it was just before the pass began.
        workers_live: Whether the loader's persistent workers had been there before that pass.

    Returns:
        An iterator; None for a derived class that has a way of its own to go through its sampler.

    Raises:
        PositionError: The sampler ends before.

    A fresh pass draws what its workers are seeded with, then the sampler draws; all that is repeated here, in this order.
    Workers that lived on from the pass before had been seeded in an earlier one, so there the sampler's draws come first.
    """
    which = "sampler" if loader.batch_sampler is None else "batch_sampler"
    rest = _SkippingSampler(getattr(loader, which), batches, name, put_back if workers_live else None)
    put_back()
    if loader.persistent_workers:
        vars(loader)["_iterator"] = None  # workers that are there already would go on with the sampler they know
    with _swapped(loader, **{which: rest}):
        iterator = iter(loader)
    return iterator if rest.skip() else None


def detect_rng_use(loader: DataLoader[Any]) -> contextlib.AbstractContextManager[None]:
    """A context in which a pass is begun whose batches are pairs: whether its worker's generators have drawn, and the batch."""
    return _swapped(loader, collate_fn=_Watching(loader.collate_fn), worker_init_fn=_Begin(loader.worker_init_fn))


@contextlib.contextmanager
def _swapped(loader: DataLoader[Any], **attributes: Any) -> Iterator[None]:
    """The loader with other attributes, also those that it guards against being set."""
    own = {name: getattr(loader, name) for name in attributes}
    vars(loader).update(attributes)
    try:
        yield
    finally:
        vars(loader).update(own)


class _SkippingSampler:
    """A sampler whose next pass leaves out what it gives first. After that it is the sampler."""

    def __init__(self, sampler: Any, left_out: int, name: str, first: Callable[[], None] | None) -> None:
        self.sampler, self.left_out, self.name, self.first = sampler, left_out, name, first
        self.last: _Indices | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        self.last = _Indices(self)
        return self.last

    def skip(self) -> bool:
        """Leave them out now, if that has not happened yet; whether anybody has asked for indices."""
        if self.last is not None:
            self.last.skip()
        return self.last is not None


class _Indices(Iterator[Any]):
    """One pass of such a sampler."""

    def __init__(self, owner: _SkippingSampler) -> None:
        self._owner = owner
        self._indices = iter(owner.sampler) if owner.first is None else None

    def __next__(self) -> Any:
        self.skip()
        assert self._indices is not None
        return next(self._indices)

    def skip(self) -> None:
        owner = self._owner
        if owner.first is not None:
            owner.first()
            owner.first = None
        if self._indices is None:
            self._indices = iter(owner.sampler)
        left_out, owner.left_out = owner.left_out, 0
        drawn = None
        for i in range(left_out):
            try:
                next(self._indices)
            except StopIteration:
                raise PositionError(
                    f"{owner.name}: the saved position is after {left_out} batches, but the sampler ends after {i}. Pass a "
                    f"loader like the one that was saved."
                ) from None
            if i == 0:
                drawn = [generator.take() for generator in PROCESS_WIDE.values()]
        if drawn is not None and not rng_unchanged(drawn):
            warn(
                f"{owner.name}: its sampler draws from a process-wide generator while the epoch goes on, and so does training. "
                f"The rest of this epoch may have another order than it would have had. Give it a generator of its own."
            )


def rng_unchanged(states: list[Any]) -> bool:
    """Whether the process-wide generators are in these states."""
    return all(g.are_same(state, g.take()) for g, state in zip(PROCESS_WIDE.values(), states, strict=True))


_begun: list[Any] = []  # in a worker process: the states in which it began


class _Begin:
    """A ``worker_init_fn`` that keeps the states in which the worker begins."""

    def __init__(self, inner: Callable[[int], None] | None) -> None:
        self._inner = inner

    def __call__(self, worker: int) -> None:
        if self._inner is not None:
            self._inner(worker)
        _begun[:] = [generator.take() for generator in PROCESS_WIDE.values()]


class _Watching:
    """A ``collate_fn`` that says of each batch whether anything has been drawn in its worker."""

    def __init__(self, inner: Callable[[Any], Any]) -> None:
        self._inner = inner

    def __call__(self, items: Any) -> tuple[bool, Any]:
        batch = self._inner(items)
        return not rng_unchanged(_begun), batch
