"""Where a run stands in a loader of any kind, as plain data, and how a new loader is brought there. See `ResumableLoader`.

What costs something there, or cannot be exact, is told by a warning; what does not fit is an error. Nothing is passed over.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from fsmtrain.errors import DataError, PositionError
from fsmtrain.runtime.data import worker_exit
from fsmtrain.runtime.data.fast_forward import detect_rng_use, iter_from, rng_unchanged, supports_fast_forward
from fsmtrain.runtime.generators import (
    PROCESS_WIDE,
    is_stateful,
    own_states,
    plain,
    process_wide,
    put_own_back,
    put_process_wide_back,
)
from fsmtrain.user_warnings import warn
from fsmtrain.wording import plural

Position = dict[str, Any]  # numbers, texts, lists, tensors, None, and what a loader's own ``state_dict`` returned

_NOTHING = object()
_PATIENCE = 1.0  # seconds after which one is told how long going through a loader again will take


class ResumableLoader:
    """A loader and the place in it up to which its batches have been given. It lives as long as the run does.

    There are three ways to bring a new loader to a place:

    - *state*: it has ``state_dict`` and ``load_state_dict``, as `SeededDataLoader` has and torchdata's ``StatefulDataLoader``.
    - *indices*: a ``DataLoader`` over a map-style dataset draws its indices again, from the generators' states at the pass's
      start, and loads none of the items that are left out.
    - *replay*: anything else is gone through again from the pass's start.

    Args:
        loader: Anything that can be iterated over.
        name: What it is called, for errors and warnings.
        length: Its batches; None where it has no length.

    Attributes:
        given: The batches given in this pass.
        is_under_way: Whether a pass has begun, or is to, and has not ended.
        is_to_begin: Whether it could not be begun when that was asked for, and begins when it is asked for a batch.
    """

    def __init__(self, loader: Any, name: str, length: int | None) -> None:
        self.loader, self.name, self._length = loader, name, length
        self.yielded, self.is_under_way, self.is_to_begin = 0, False, False
        self._strategy = "state" if is_stateful(loader) else "indices" if supports_fast_forward(loader) else "replay"
        self._iterator: Any = None
        self._has_begun = self._is_used_up = self._workers_lived = False
        self._taken = 0  # over all passes
        self._start: Any = None  # the states of generators and samplers just before the pass
        self._first: Any = None  # the same, before the first pass
        self._ahead: Any = _NOTHING  # a batch that has been fetched and not given
        self._looks_ahead = False  # whether the next batch has been asked for, and may not have come
        self._before_ahead: tuple[Any, Any] | None = None  # what a loader with a state said before that, and the generators
        self._is_watched = False  # whether workers say if they have drawn
        self._revives = False  # whether the next pass must draw as one of workers that are there already

    # ---- a pass

    def begin(self) -> None:
        """Begin the next pass, as a ``for`` statement does. Where that fails, it is still to begin, and nothing was drawn."""
        last = self._start, self._is_used_up
        self._reset()
        self.is_under_way = self.is_to_begin = True
        self._start = self._now()
        try:
            self._begin()
        except BaseException:
            self._put_start_back()
            self._iterator, self._is_watched = None, False
            self._start, self._is_used_up = last
            raise
        self._first = self._first if self._has_begun else self._start
        self._has_begun, self.is_to_begin, self._revives = True, False, False

    def _begin(self) -> None:
        if self._revives:
            self._begin_at(0)
        else:
            before = self._workers()
            self._iterator = iter(self.loader)
            self._workers_lived = before is not None and before is self._iterator
        worker_exit.workers_have_begun()

    def next(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: There is none.
            DataError: There is none, and the loader's length says that there is.
        """
        if not self._looks_ahead:
            if self.is_to_begin:
                self.begin()
            batch = self._fetch()
        elif self._ahead is _NOTHING:
            raise StopIteration
        else:
            batch, self._ahead, self._looks_ahead, self._before_ahead = self._ahead, _NOTHING, False, None
        self.yielded += 1
        return batch

    def has_next(self) -> bool:
        """Whether there is a further batch. It is fetched to find out, and kept."""
        if not self._looks_ahead:
            if self.is_to_begin:
                self.begin()
            self._looks_ahead = True
            if self._strategy == "state":
                self._before_ahead = copy.deepcopy(self.loader.state_dict()), process_wide()
            with contextlib.suppress(StopIteration):
                self._ahead = self._fetch()
        return self._ahead is not _NOTHING

    @property
    def before_ahead(self) -> tuple[Any, Any] | None:
        """What a loader with a state, and the generators, were before the batch that was fetched ahead; None without one."""
        return self._before_ahead

    def push_back(self, batch: Any, before: tuple[Any, Any] | None) -> None:
        """Take the batch given last for one that was fetched ahead; `before` is what `before_ahead` was before it was given."""
        self._ahead, self._looks_ahead, self._before_ahead = batch, True, before
        self.yielded -= 1

    def exhaust(self) -> None:
        """Ask for one batch more, of a loader that has given them all."""
        next(self._iterator, None)
        self._is_used_up = True

    def end(self) -> None:
        """End the pass, wherever it is."""
        self._iterator, self._is_watched, self.is_under_way, self.is_to_begin = None, False, False, False
        self._ahead, self._looks_ahead, self._before_ahead = _NOTHING, False, None

    def _reset(self) -> None:
        self.end()
        self.yielded, self._is_used_up = 0, False

    def _fetch(self) -> Any:
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._is_used_up = True
            if self._length is not None and self.yielded < self._length:
                raise DataError(
                    f"{self.name}: its length is {self._length}, but it ended after {plural(self.yielded, 'batch')}. Correct "
                    f"its __len__, or give it none to use it as a stream."
                ) from None
            raise
        if self._is_watched:
            has_drawn, batch = batch
            if has_drawn:
                batch = self._fetch_anew()
        self._taken += 1
        return batch

    def _fetch_anew(self) -> Any:
        """The batch after those given, from workers that have loaded all before it as well."""
        warn(
            f"{self.name}: its items draw random numbers in worker processes, whose generators can only be brought where they "
            f"were by loading this epoch's batches again. SeededDataLoader needs none of this."
        )
        self._iterator, self._is_watched = None, False
        own = own_states(self.loader)
        try:
            with _process_wide_kept():
                self._put_start_back()
                self._iterator = iter(self.loader)
                _go_through(self._iterator, self.yielded, self.name)
                return next(self._iterator)
        finally:
            put_own_back(self.loader, own, self.name)

    # ---- positions

    def state_dict(self) -> Position:
        """Where the cursor stands, as of the batches given. Batches that were fetched ahead count as not given."""
        has_begun = self.is_under_way and not self.is_to_begin
        position: Position = {
            "way": self._strategy,
            "like": self._signature(),
            "is_under_way": self.is_under_way,
            "is_to_begin": self.is_to_begin,
            "given": self.yielded,
            "taken": self._taken - (self._ahead is not _NOTHING),
            "is_used_up": self._is_used_up,
            "is_ahead": self._looks_ahead,
            "workers_live": self._workers_lived if has_begun else self._revives or self._workers() is not None,
            "start": plain(self._start),
            "first": plain(self._first) if self._is_iterator() else None,
            "own": own_states(self.loader),
            "state": None,
            "before_ahead": None,
        }
        if self._strategy == "state" and self._has_begun:
            if self.is_under_way and self._before_ahead is not None:
                position["state"], position["before_ahead"] = self._before_ahead
            else:
                position["state"] = self.loader.state_dict()
        return position

    def load_state_dict(self, position: Position) -> None:
        """Bring the loader, and the cursor, to a position. The process-wide generators are left as they are.

        Raises:
            PositionError: The position is not one of a loader like this.
        """
        self._refuse_unlike(position)
        self._reset()
        self.yielded, self._taken, self._start, self._first = (position[key] for key in ("given", "taken", "start", "first"))
        self._has_begun, self._workers_lived = self._start is not None, position["workers_live"]
        with _process_wide_kept():
            if position["is_under_way"] and not position["is_to_begin"]:
                self._resume(position)
            elif self._has_begun:
                self._restore_between_epochs(position)
            else:
                put_own_back(self.loader, position["own"], self.name)
        self.is_under_way, self.is_to_begin = position["is_under_way"], position["is_to_begin"]

    def _resume(self, position: Position) -> None:
        """Begin again the pass that is under way."""
        if self._strategy == "state":
            self._warn_of_samplers()
            self._put_start_back()
            self.loader.load_state_dict(position["state"])
            self._iterator = iter(self.loader)
        elif self._strategy == "indices":
            self._warn_of_workers(position)
            self._begin_at(self.yielded)
        else:
            self._replay(self.yielded)
        if position["before_ahead"] is not None:
            put_process_wide_back(position["before_ahead"])
        if position["is_ahead"]:
            self.has_next()

    def _restore_between_epochs(self, position: Position) -> None:
        """Bring the loader to where it is between two passes."""
        if self._strategy == "state":
            self._put_start_back()
            self.loader.load_state_dict(position["state"])
            if position["is_used_up"]:
                self.loader.state_dict()  # torchdata's goes where it is told to when it is next asked something
            else:
                iter(self.loader)  # the pass that was left; the next call begins another
        elif self._is_iterator():
            self._replay(self._taken)
        elif position["workers_live"]:
            self._warn_of_workers(position)
            self._revives = True
        put_own_back(self.loader, position["own"], self.name)

    def _begin_at(self, batches: int) -> None:
        """Begin a pass without its first batches, whose indices are drawn and whose items are not loaded."""
        loader = self.loader
        self._is_watched = batches > 0 and loader.num_workers > 0 and not loader.persistent_workers
        with detect_rng_use(loader) if self._is_watched else contextlib.nullcontext():
            self._iterator = iter_from(loader, batches, self.name, self._put_start_back, workers_live=self._workers_lived)
        if self._iterator is None:
            self._is_watched = False
            self._replay(batches)

    def _replay(self, batches: int) -> None:
        """Begin a pass and go through its first batches. An iterator has one pass, which goes on from epoch to epoch."""
        if self._is_iterator():
            self._start, batches = self._first, self._taken
        self._put_start_back()
        self._iterator = iter(self.loader)
        if isinstance(self.loader, (list, tuple)):
            for _ in range(batches):
                next(self._iterator)
        elif batches:
            _go_through(self._iterator, batches, self.name)

    # ---- what there is to know about the loader

    def _now(self) -> Any:
        """The states as they are taken: made plain only where somebody asks for a position."""
        return {"process_wide": {name: g.take() for name, g in PROCESS_WIDE.items()}, "own": own_states(self.loader)}

    def _put_start_back(self) -> None:
        put_process_wide_back(self._start["process_wide"])
        put_own_back(self.loader, self._start["own"], self.name)

    def _is_iterator(self) -> bool:
        return isinstance(self.loader, Iterator)

    def _workers(self) -> Any:
        """The iterator of a ``DataLoader`` whose workers live on from pass to pass, if it has been made."""
        return self.loader._iterator if self._strategy == "indices" and self.loader.persistent_workers else None

    def _signature(self) -> dict[str, Any]:
        """What a loader must have in common with this one, so that a position of this one is one of it too."""
        like: dict[str, Any] = {"batches": self._length}
        if isinstance(self.loader, DataLoader):
            like["batch_size"] = self.loader.batch_size
            like["workers"] = self.loader.num_workers
            with contextlib.suppress(TypeError, NotImplementedError):
                like["items"] = len(self.loader.dataset)  # type: ignore[arg-type]
        return like

    def _refuse_unlike(self, position: Position) -> None:
        if position["way"] != self._strategy:
            raise PositionError(
                f"{self.name}: the position was saved with another kind of loader, one that is brought there by "
                f"{position['way']}, and this {type(self.loader).__name__} by {self._strategy}. Pass one like the one that was "
                f"saved."
            )
        for key, own in self._signature().items():
            saved = position["like"].get(key)
            if key != "workers" and saved != own:
                raise PositionError(
                    f"{self.name}: {key}={own}, but the position was saved with {key}={saved}: the rest of the epoch would be "
                    f"another. Pass a loader like the one that was saved, or begin anew."
                )

    def _warn_of_samplers(self) -> None:
        """Say where a loader with a state has a sampler without one, which it can only begin anew."""
        for sampler in (getattr(self.loader, "sampler", None), getattr(self.loader, "batch_sampler", None)):
            package = type(sampler).__module__.split(".")[0]
            if sampler is not None and package not in ("torch", "torchdata", "fsmtrain") and not is_stateful(sampler):
                name = type(sampler).__name__
                warn(
                    f"{self.name}: {name} has no state_dict and load_state_dict, so that {type(self.loader).__name__} begins "
                    f"it anew. The order stays what it was only if {name} draws from no process-wide generator."
                )

    def _warn_of_workers(self, position: Position) -> None:
        """Say where items that draw random numbers could not draw the same again."""
        loader, before = self.loader, position["like"]["workers"]
        reason = None
        if loader.num_workers != before:
            reason = f"num_workers={loader.num_workers}, but the position was saved with {before}"
        elif loader.num_workers and loader.persistent_workers:
            reason = "persistent_workers=True, and new workers do not know what the old ones had drawn"
        elif loader.num_workers and not loader.in_order:
            reason = "in_order=False, so that its batches come in whatever order"
        if reason is not None:
            warn(
                f"{self.name}: {reason}. The run goes on exactly only if its items draw no random numbers. With "
                f"SeededDataLoader it does in any case."
            )


@contextlib.contextmanager
def _process_wide_kept() -> Iterator[None]:
    """A context that leaves the process-wide generators as they were."""
    states = [(generator, generator.take()) for generator in PROCESS_WIDE.values()]
    try:
        yield
    finally:
        for generator, state in states:
            generator.put_back(state)


def _go_through(batches: Iterator[Any], n: int, name: str) -> None:
    """Take `n` batches again, and say what that costs."""
    began, drawn, told = time.perf_counter(), None, False
    for i in range(n):
        if next(batches, _NOTHING) is _NOTHING:
            raise PositionError(
                f"{name}: the saved position is after {plural(n, 'batch')}, but the loader ends after {i}. Pass a "
                f"loader like the one that was saved."
            )
        drawn = drawn or [generator.take() for generator in PROCESS_WIDE.values()]
        seconds = time.perf_counter() - began
        if not told and (seconds > _PATIENCE or i + 1 == n):
            told = True
            warn(
                f"{name}: to resume, {plural(n, 'batch')} must be loaded again, which takes about {seconds / (i + 1) * n:.2g}"
                f" s. SeededDataLoader, or a loader with state_dict and load_state_dict, needs none of this."
            )
    if drawn is not None and not rng_unchanged(drawn):
        warn(
            f"{name}: it draws from a process-wide generator while the epoch goes on, and so does training. What follows may "
            f"be other than it would have been. Use SeededDataLoader, or give the loader a generator of its own."
        )
