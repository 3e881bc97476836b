"""`LoaderWorkers`: the worker processes of a run's loaders, and what to do if the run waits for them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from fsmtrain.plurals import plural


@frozen(kw_only=True)
class LoaderWorkers:
    """The worker processes of the loader that has most of them.

    Attributes:
        num_workers: Its ``num_workers``; None if no loader has any, such as a list of batches.
        restarts: Whether its workers start anew for each pass: it has some and not ``persistent_workers=True``.
        cpus: How many CPUs this process may use; None if not known.
    """

    num_workers: int | None = None
    restarts: bool = False
    cpus: int | None = None

    @classmethod
    def of(cls, loaders: Iterable[Any]) -> LoaderWorkers:
        """Return those of some loaders. Among those with as many workers, one whose workers start anew counts."""
        found = []
        for loader in loaders:
            number = getattr(loader, "num_workers", None)
            if isinstance(number, int):
                found.append((number, number > 0 and not getattr(loader, "persistent_workers", False)))
        number, restarts = max(found, default=(None, False))
        return cls(num_workers=number, restarts=restarts, cpus=usable_cpus())

    def advice(self, epochs: int) -> str:
        """Return what a run that waits for its loaders waits for, and what may help.

        Args:
            epochs: How many epochs the run has done.

        >>> LoaderWorkers(num_workers=2, restarts=True, cpus=2).advice(epochs=9)
        'waiting for the loader, whose 2 workers start anew in each pass; DataLoader(persistent_workers=True) keeps them.'
        >>> LoaderWorkers(num_workers=2, cpus=8).advice(epochs=9)
        'waiting for the loader with num_workers=2; more may help, up to 8, the number of CPUs.'
        >>> LoaderWorkers(num_workers=2, cpus=2).advice(epochs=9)
        'waiting for the loader with num_workers=2, all CPUs; work done once, before training, may help.'
        """
        number, cpus = self.num_workers, self.cpus
        most = f", up to {cpus}, the number of CPUs" if cpus else ""
        if number is None:
            return f"waiting for the loader; a DataLoader with num_workers=... may help{most}."
        if number and self.restarts and epochs > 1:
            workers = plural(number, "worker")
            return (
                f"waiting for the loader, whose {workers} {'starts' if number == 1 else 'start'} anew in each pass; "
                f"DataLoader(persistent_workers=True) keeps {'it' if number == 1 else 'them'}."
            )
        if cpus is not None and number >= cpus:
            return f"waiting for the loader with num_workers={number}, all CPUs; work done once, before training, may help."
        if number == 0:
            return f"waiting for the loader with num_workers=0; num_workers=..., persistent_workers=True may help{most}."
        return f"waiting for the loader with num_workers={number}; more may help{most}."


def usable_cpus() -> int | None:
    """Return how many CPUs this process may use, which is what ``DataLoader`` compares its workers with."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
