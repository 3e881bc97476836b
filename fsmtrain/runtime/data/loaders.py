"""Train, val and test loaders of any kind: their lengths, and the batches of an epoch."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader

from fsmtrain.errors import DataError
from fsmtrain.runtime.data.passed_loaders import Loader
from fsmtrain.runtime.data.restore_loader_position import ResumableLoader


def is_iterator(loader: Loader) -> bool:
    """Return whether a loader can be iterated over only once."""
    return isinstance(loader, Iterator)


def make_resumable(loader: Loader, name: str) -> ResumableLoader:
    """Return a `ResumableLoader` at the beginning of a loader. A run keeps one per loader."""
    return ResumableLoader(loader, name)


def make_all_resumable(loaders: Sequence[Loader], name: str) -> list[ResumableLoader]:
    """Return a `ResumableLoader` for each loader.

    If there are several, their names have their index, from 0.
    """
    names = [f"{name}[{index}]" if len(loaders) > 1 else name for index in range(len(loaders))]
    return list(map(make_resumable, loaders, names))


class SizedBatches:
    """The batches of one epoch of a loader with a length. None is fetched before it is asked for.

    A loader with a pass under way continues that pass.
    """

    def __init__(self, loader: ResumableLoader) -> None:
        self._loader = loader
        self.next = loader.next
        if not loader.is_under_way:
            loader.begin()

    def finish(self) -> None:
        """Exhaust a fully consumed loader, as a ``for`` loop would, if each of its passes is known to begin anew.

        Samplers may draw random numbers at StopIteration. A loader that yields more batches than its length is reported once.

        Other loaders are not asked for more batches than their length: they may have more, and yield them in the next epoch.
        """
        loader = self._loader
        if loader.yielded == loader.length and _begins_anew(loader.loader):
            loader.exhaust()
        loader.end()


def _begins_anew(loader: Any) -> bool:
    """Return whether each pass over a loader certainly has an iterator of its own."""
    return isinstance(loader, DataLoader) or inspect.isgeneratorfunction(getattr(type(loader), "__iter__", None))


class StreamedBatches:
    """The batches of one epoch of a stream.

    One batch is fetched ahead, so that the last one is known to be the last.

    A loader with a pass under way continues that pass.

    Args:
        loader: The stream.
        limit: The most batches to take from it; None for all.
    """

    def __init__(self, loader: ResumableLoader, limit: int | None = None) -> None:
        self._loader, self._limit = loader, limit
        if not loader.is_under_way:
            loader.begin()
        if not loader.is_pending and not self._is_at_its_limit:
            self._look_ahead()

    def _look_ahead(self) -> None:
        loader = self._loader
        if not loader.has_next() and loader.yielded == 0:
            hint = " It is an iterator, which can be used only once: pass an iterable." if is_iterator(loader.loader) else ""
            raise DataError(f"{loader.name}: the stream ended without any batch.{hint}")

    def next(self) -> Any:
        """Return the next batch.

        If fetching the one after it raises an error, this one counts as not yielded.
        """
        if self._loader.is_pending:
            self._look_ahead()
        if self._limit is not None and self._loader.yielded + 1 >= self._limit:
            return self._loader.next()  # no batch is fetched that nobody would see
        return self._loader.next_with_look_ahead()

    def finish(self) -> None:
        """End the pass. The stream is exhausted already, by the look-ahead."""
        self._loader.end()

    @property
    def has_ended(self) -> bool:
        """Whether the batch yielded last was the stream's last, or the last one that is used."""
        return self._is_at_its_limit or not self._loader.has_next()

    @property
    def _is_at_its_limit(self) -> bool:
        return self._limit is not None and self._loader.yielded >= self._limit


class EvaluationBatches(Iterator[tuple[int, int, Any]]):
    """The batches of a pass over val or test loaders, each with its indices.

    Yields ``(index of the loader, index in the loader, batch)``, counted from 0.

    Args:
        loaders: The loaders. Each begins a new pass.
        limits: How many batches to take from each; None takes a stream to its end.
        epoch: The epoch that the loaders are told before a new pass.
        place: To continue a pass, its `place`; the loaders are at their positions of then.

    Raises:
        DataError: A loader ends before its length, or a stream has no batch.
    """

    def __init__(
        self,
        loaders: Sequence[ResumableLoader],
        limits: Sequence[int | None],
        epoch: int = 0,
        place: tuple[int, int] | None = None,
    ) -> None:
        self._loaders, self._limits, self._epoch = loaders, limits, epoch
        self._index, self._yielded = place or (0, 0)
        if place is None:
            for loader in loaders:
                loader.end()
        self._batches: SizedBatches | StreamedBatches | None = None  # of the present loader

    def __next__(self) -> tuple[int, int, Any]:
        while self._index < len(self._loaders):
            if self._limits[self._index] != 0:
                batches = self._batches or self._begin()
                if not self._loader_is_finished():
                    batch = batches.next()
                    self._yielded += 1
                    return self._index, self._yielded - 1, batch
                batches.finish()
            self._index, self._yielded, self._batches = self._index + 1, 0, None
        raise StopIteration

    def _begin(self) -> SizedBatches | StreamedBatches:
        loader = self._loaders[self._index]
        limit, built_with = self._limits[self._index], loader.length
        if not loader.is_under_way:
            loader.set_epoch(self._epoch)
        if loader.length != built_with and limit is not None:
            raise DataError(
                f"{loader.name}: it had {built_with} batches when the run was built, and has {loader.length} now. A val or "
                f"test loader must keep its length; only a train loader may change it between epochs."
            )
        is_stream = loader.length is None or limit is None
        self._batches = StreamedBatches(loader, limit) if is_stream else SizedBatches(loader)
        return self._batches

    def _loader_is_finished(self) -> bool:
        if self._yielded == self._limits[self._index]:
            return True
        return isinstance(self._batches, StreamedBatches) and self._yielded > 0 and self._batches.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the batch yielded last was the last of the pass."""
        if self._index == len(self._loaders):
            return True
        return self._loader_is_finished() and all(limit == 0 for limit in self._limits[self._index + 1 :])

    @property
    def place(self) -> tuple[int, int]:
        """The index of the present loader, and the index of the next batch in it, both from 0."""
        return self._index, self._yielded
