"""Begin a pass of a ``DataLoader`` in the middle: skip batches in its sampler."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from fsmtrain.errors import PositionError
from fsmtrain.plurals import plural
from fsmtrain.runtime.rng import get_global_states, global_states_are
from fsmtrain.user_warnings import warn


def iter_from(loader: DataLoader[Any], skipped: int, name: str, rewind: Callable[[], None], *, workers_live: bool) -> Any:
    """Begin a pass of a loader after its first batches.

    A new pass first draws a base seed for its workers, then the sampler draws; both are repeated here, in this order. Workers
    that live on from the pass before got their seed in an earlier pass, so there the sampler draws first.

    Args:
        loader: Torch's own class, or a subclass.
        skipped: How many batches are left out.
        name: The loader's name in errors and warnings.
        rewind: Sets every generator to its state just before the pass began.
        workers_live: Whether the loader's persistent workers were there before that pass.

    Returns:
        An iterator; None if the loader's class does not use its sampler.

    Raises:
        PositionError: The sampler ends before.
    """
    which = "sampler" if loader.batch_sampler is None else "batch_sampler"
    sampler = _SkippingSampler(getattr(loader, which), skipped, name, rewind if workers_live else None)
    rewind()
    if loader.persistent_workers:
        vars(loader)["_iterator"] = None  # existing workers would go on with the sampler that they know
    with swapped(loader, **{which: sampler}):
        iterator = iter(loader)
    if not sampler.has_begun:
        return None
    sampler.skip()
    return iterator


@contextlib.contextmanager
def swapped(loader: DataLoader[Any], **attributes: Any) -> Iterator[None]:
    """Give a loader other attributes for a while, also those that it does not let be set."""
    own = {name: getattr(loader, name) for name in attributes}
    vars(loader).update(attributes)
    try:
        yield
    finally:
        vars(loader).update(own)


class _SkippingSampler(Iterator[Any]):
    """A sampler whose first pass leaves out its first indices. It has one pass at a time, as its loader does.

    Attributes:
        has_begun: Whether the loader has asked for a pass.
    """

    def __init__(self, sampler: Any, skipped: int, name: str, rewind: Callable[[], None] | None) -> None:
        self._sampler, self._skipped, self._name, self._rewind = sampler, skipped, name, rewind
        self._indices: Any = None  # of the pass under way
        self.has_begun = False

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        self.has_begun = True
        self._indices = iter(self._sampler) if self._rewind is None else None
        return self

    def __next__(self) -> Any:
        self.skip()
        return next(self._indices)

    def skip(self) -> None:
        """Skip the first indices, in the first call only."""
        if self._rewind is not None:
            self._rewind()
            self._rewind = None
        if self._indices is None:
            self._indices = iter(self._sampler)
        skipped, self._skipped = self._skipped, 0
        states = None
        for i in range(skipped):
            try:
                next(self._indices)
            except StopIteration:
                raise PositionError(
                    f"{self._name}: the saved position is after {plural(skipped, 'batch')}, but the sampler ends after {i}. "
                    f"Pass a loader like the one that was saved."
                ) from None
            if i == 0:
                states = get_global_states()
        if states is not None and not global_states_are(states):
            warn(
                f"{self._name}: its sampler draws from a global random generator during the epoch, and so does training, so "
                f"the rest of the epoch may have another order. Give the sampler its own generator."
            )
