"""Reduce metrics over the batches of a pass or an epoch: those that steps return, and those that they log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from attrs import define, field

from fsmtrain.errors import ModelError
from fsmtrain.runtime.metrics.step_outputs import Metrics, Scalar
from fsmtrain.runtime.metrics.sum_min_max import Max, Min, Sum
from fsmtrain.runtime.metrics.weighted_mean import WeightedMean


class Reduction(Protocol):
    """What becomes of the values of one metric over the batches of a loader.

    A new one joins `REDUCTIONS`. What it holds is saved with the run, so that a pass continues to the same bits.
    """

    @property
    def weight(self) -> Scalar:
        """The sum of the weights so far, or the number of values; 0 if every batch had the weight 0."""
        ...

    def add(self, value: Scalar, weight: Scalar) -> None:
        """Add the value of a batch; a weight of 0 leaves it out. Must not wait for a device."""
        ...

    def result(self) -> Scalar:
        """Return the metric."""
        ...

    @classmethod
    def merge(cls, parts: Iterable[Self]) -> Self:
        """Return the reduction over the batches of all parts."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added, as plain data and tensors."""
        ...

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the reduction that is saved."""
        ...


# By the names that checkpoints use.
REDUCTIONS: dict[str, type[Reduction]] = {"mean": WeightedMean, "sum": Sum, "min": Min, "max": Max}


@define(eq=False)
class Averages:
    """The metrics of a pass or an epoch, over the batches of all loaders together, and of each loader by itself.

    Args:
        nb_loaders: How many loaders it has.
    """

    nb_loaders: int = 1
    _by_loader: list[dict[str, tuple[str, Reduction]]] = field(init=False)  # of each metric the name of its reduction

    def __attrs_post_init__(self) -> None:
        self._by_loader = [{} for _ in range(self.nb_loaders)]

    def add(self, metrics: Metrics, weight: Scalar, loader_i: int = 0, *, reduce: str = "mean") -> None:
        """Add the metrics of one batch of a loader.

        Args:
            metrics: The metrics.
            weight: How much the batch counts: the number of its samples, say. 0 leaves it out.
            loader_i: The index of the loader, from 0.
            reduce: Their reduction, a name in `REDUCTIONS`.

        Raises:
            ModelError: A metric has another reduction already.
        """
        collected = self._by_loader[loader_i]
        for name, value in metrics.items():
            if name not in collected:
                collected[name] = reduce, REDUCTIONS[reduce]()
            present, reduction = collected[name]
            if present != reduce:
                raise ModelError(
                    f"log({name!r}, ..., reduce={reduce!r}): it had reduce={present!r} before. Give it another name."
                )
            reduction.add(value, weight)

    @property
    def names(self) -> list[str]:
        """The names of the metrics, in the order in which they first occurred."""
        return list(dict.fromkeys(name for collected in self._by_loader for name in collected))

    def results(self) -> Metrics:
        """Return each metric, and with several loaders that of each loader after it: ``name/0``, ``name/1``, ..."""
        names = self.names
        results: Metrics = {}
        for name in names:
            results[name] = self._merged(name).result()
            for index, collected in enumerate(self._by_loader if self.nb_loaders > 1 else ()):
                if name in collected and f"{name}/{index}" not in names:
                    results[f"{name}/{index}"] = collected[name][1].result()
        return results

    def weights(self) -> Metrics:
        """Return the sum of the weights of each metric."""
        return {name: self._merged(name).weight for name in self.names}

    def _merged(self, name: str) -> Reduction:
        parts = [collected[name] for collected in self._by_loader if name in collected]
        return REDUCTIONS[parts[0][0]].merge(part for _, part in parts)

    # ---- saving and resuming

    def state_dict(self) -> list[dict[str, Any]]:
        """Return what has been added, for each loader."""
        return [{n: {"reduce": kind, **part.state_dict()} for n, (kind, part) in c.items()} for c in self._by_loader]

    @classmethod
    def from_state_dict(cls, state: Sequence[Mapping[str, Any]]) -> Self:
        """Return the averages that are saved."""
        averages = cls(len(state))
        for collected, saved in zip(averages._by_loader, state, strict=True):
            for name, part in saved.items():
                collected[name] = part["reduce"], REDUCTIONS[part["reduce"]].from_state_dict(part)
        return averages
