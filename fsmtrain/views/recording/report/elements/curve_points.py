"""Curves of metrics and learning rates, downsampled to as many points as a page can hold.

A point stands for one row of ``metrics.jsonl``, or for several neighbours: their mean, weighted by batches, their minimum and
their maximum. Nothing is cut off. The last row is always a point of its own, so a curve ends at the run's last value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from attrs import frozen

from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import to_float

MAX_POINTS, MIN_POINTS = 1_500, 40  # per curve
MAX_PAGE_POINTS = 16_000  # of all curves together: a page of under 2 MB


@frozen
class Grid:
    """The positions of the points of one or several curves.

    Attributes:
        x: Positions in steps. The batches of one step are spread evenly up to the next step.
        steps: ``global_step`` of each point.
        epochs: The epoch of each point, from 0.
        batches: How many batches each point stands for.
    """

    x: tuple[float, ...]
    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    batches: tuple[int, ...]


CURVE_KINDS = ("train", "epoch", "validation")  # of the rows that make curves


@frozen
class Curve:
    """The points of one metric. A point is None if none of its values is finite.

    Attributes:
        name: The metric's name.
        kind: ``"train"``, ``"epoch"``, ``"validation"``, or ``"lr"`` for a learning rate.
        grid: The positions of the points.
        means: The value of each point.
        lows: The minimum of its rows.
        highs: The maximum of its rows.
        nonfinite_steps: The step of each row that was NaN or infinite.
    """

    name: str
    kind: str
    grid: Grid
    means: tuple[float | None, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    nonfinite_steps: tuple[int, ...]

    @property
    def is_binned(self) -> bool:
        """Whether a point stands for several rows."""
        return self.lows != self.highs


class _RawPoint(NamedTuple):
    x: float
    step: int
    epoch: int
    batches: int
    value: float


def metric_curves(
    rows: list[Row], positions: Iterable[float] | None = None, max_page_points: int = MAX_PAGE_POINTS
) -> list[Curve]:
    """Return the curves of all metrics and learning rates, in the order in which they first appear.

    Args:
        rows: The rows of ``metrics.jsonl``.
        positions: The position of each row on the x axis; None: its steps.
        max_page_points: How many points all these curves may have together.
    """
    raw: dict[tuple[str, str], list[_RawPoint]] = {}  # by kind and name
    for row, x in zip(rows, x_positions(rows) if positions is None else positions, strict=True):
        row_kind = row["kind"]
        if row_kind not in CURVE_KINDS:
            continue
        values = [(row_kind, name, value) for name, value in row["values"].items()]
        values += [("lr", str(index), rate) for index, rate in enumerate(row.get("lr", ())) if rate is not None]
        for kind, name, value in values:
            batches = row.get("counts", {}).get(name, row.get("batches") or 1) if kind == "train" else 1
            point = _RawPoint(x, row["step"], row.get("epoch", 0), batches, to_float(value))
            raw.setdefault((kind, name), []).append(point)
    max_points = max(MIN_POINTS, min(MAX_POINTS, max_page_points // max(1, len(raw))))
    return [_downsample(kind, name, points, max_points) for (kind, name), points in raw.items()]


def x_positions(rows: Sequence[Row]) -> Iterator[float]:
    """Yield the position of each row in steps. Batches of one step are spread evenly up to the next.

    >>> list(x_positions([{"kind": "train", "step": step} for step in (0, 0, 1, 1)] + [{"kind": "validation", "step": 2}]))
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    rows_of_step = Counter(row["step"] for row in rows if row["kind"] == "train")
    seen = Counter[int]()
    for row in rows:
        step = row["step"]
        if row["kind"] == "train":
            yield step + seen[step] / rows_of_step[step]
            seen[step] += 1
        else:
            yield float(step)


def _downsample(kind: str, name: str, points: list[_RawPoint], max_points: int) -> Curve:
    *rows, last = points
    size = -(-len(rows) // (max_points - 1)) if rows else 1
    bins = [rows[start : start + size] for start in range(0, len(rows), size)] + [[last]]
    finite = [[point.value for point in bin_ if math.isfinite(point.value)] for bin_ in bins]
    return Curve(
        name,
        kind,
        Grid(
            x=tuple(round(bin_[-1].x, 3) for bin_ in bins),
            steps=tuple(bin_[-1].step for bin_ in bins),
            epochs=tuple(bin_[-1].epoch for bin_ in bins),
            batches=tuple(sum(point.batches for point in bin_) for bin_ in bins),
        ),
        means=tuple(map(_weighted_mean, bins)),
        lows=tuple(min(values, default=None) for values in finite),
        highs=tuple(max(values, default=None) for values in finite),
        nonfinite_steps=tuple(point.step for point in points if not math.isfinite(point.value)),
    )


def _weighted_mean(points: list[_RawPoint]) -> float | None:
    finite = [point for point in points if math.isfinite(point.value)]
    if len(finite) <= 1:
        return finite[0].value if finite else None
    return sum(point.batches * point.value for point in finite) / sum(point.batches for point in finite)


# ---- which curves share a chart

SPLIT_PREFIXES = ("train", "val", "validation", "test", "valid")


def family(name: str) -> str:
    """Return what a metric measures, without its split and its optimizer.

    ``loss``, ``val_loss`` and ``loss/1`` are one family.

    >>> [family(name) for name in ("val_loss", "train/loss", "loss/1", "loss_epoch", "value", "val_")]
    ['loss', 'loss', 'loss', 'loss', 'value', 'val_']
    """
    for suffix in ("_step", "_epoch"):
        name = name.removesuffix(suffix) or name
    for prefix in SPLIT_PREFIXES:
        for separator in "_/":
            if name.startswith(prefix + separator) and len(name) > len(prefix) + 1:
                name = name[len(prefix) + 1 :]
    head, _, tail = name.rpartition("/")
    return head if head and tail.isdecimal() else name
