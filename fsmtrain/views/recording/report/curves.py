"""Curves: what a folder's rows say of one metric, or of one learning rate, in few enough points for a page.

A point stands for one row, or for several neighbours: their mean, weighted by the batches behind each, and the least and the
largest of them. Nothing is cut off. The last row is always a point of its own, so that a curve ends where the run did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, evolve, field, frozen

Row = dict[str, Any]

MOST, LEAST = 1_500, 40  # points of a curve
BUDGET = 16_000  # points of all curves together, which a page of under 2 MB can hold


@frozen
class Grid:
    """Where the points of some curves stand. `x` is in steps; batches of one step are spread up to the next."""

    x: tuple[float, ...]
    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    batches: tuple[int, ...]


@frozen
class Curve:
    """The points of one metric. Where all that a point stands for was no finite number it is None.

    Attributes:
        name: The metric's name.
        kind: Where it comes from: ``"train"``, ``"validation"``, or ``"lr"`` for a learning rate.
        grid: Where the points stand.
        means: What the points are.
        lows: The least row that each stands for.
        highs: The largest.
        odd: How many rows were no finite numbers.
        first_odd: The step of the first of these.
    """

    name: str
    kind: str
    grid: Grid
    means: tuple[float | None, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    odd: int = 0
    first_odd: int | None = None

    @property
    def is_binned(self) -> bool:
        """Whether a point stands for several rows."""
        return self.lows != self.highs

    def renamed(self, name: str) -> Curve:
        """The same under another name."""
        return evolve(self, name=name)

    @property
    def finite(self) -> list[float]:
        """The points that are numbers."""
        return [mean for mean in self.means if mean is not None]


@define
class _Raw:
    """The rows of one curve."""

    name: str
    kind: str
    rows: list[tuple[float, int, int, int, float]] = field(factory=list)  # x, step, epoch, batches, value


def curves(rows: list[Row]) -> list[Curve]:
    """The curves of a run's metrics and learning rates, in the order in which they first came."""
    raw: dict[tuple[str, str], _Raw] = {}
    for row, x in zip(rows, positions(rows), strict=True):
        kind = row["kind"]
        if kind not in ("train", "validation"):
            continue
        named = [(kind, name, value) for name, value in row["values"].items()]
        named += [("lr", str(index), rate) for index, rate in enumerate(row.get("lr", ())) if rate is not None]
        for kind_of, name, value in named:
            one = raw.setdefault((kind_of, name), _Raw(name, kind_of))
            counts = row.get("counts", {})
            batches = counts.get(name, row.get("batches") or 1) if kind_of == "train" else 1
            one.rows.append((x, row["step"], row.get("epoch", 0), batches, as_number(value)))
    most = max(LEAST, min(MOST, BUDGET // max(1, len(raw))))
    return [_curve(one, most) for one in raw.values()]


def positions(rows: Iterable[Row]) -> Iterator[float]:
    """Where rows stand among the steps. The batches between two steps are spread over the way from one to the other.

    >>> list(positions([{"kind": "train", "step": step} for step in (0, 0, 1, 1)] + [{"kind": "validation", "step": 2}]))
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    rows = list(rows)
    sizes: dict[int, int] = {}
    for row in rows:
        if row["kind"] == "train":
            sizes[row["step"]] = sizes.get(row["step"], 0) + 1
    seen: dict[int, int] = {}
    for row in rows:
        step = row["step"]
        if row["kind"] != "train":
            yield float(step)
            continue
        yield step + seen.get(step, 0) / sizes[step]
        seen[step] = seen.get(step, 0) + 1


def as_number(value: object) -> float:
    """A value of the folder as a number; what is none is NaN."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _curve(raw: _Raw, most: int) -> Curve:
    *rows, last = raw.rows
    size = -(-len(rows) // (most - 1)) if rows else 1
    points = [rows[first : first + size] for first in range(0, len(rows), size)] + [[last]]
    finite = [[value for *_, value in point if math.isfinite(value)] for point in points]
    odd = [step for _, step, _, _, value in raw.rows if not math.isfinite(value)]
    return Curve(
        raw.name,
        raw.kind,
        Grid(
            x=tuple(round(point[-1][0], 3) for point in points),
            steps=tuple(point[-1][1] for point in points),
            epochs=tuple(point[-1][2] for point in points),
            batches=tuple(sum(batches for *_, batches, _ in point) for point in points),
        ),
        means=tuple(map(_mean, points)),
        lows=tuple(min(values, default=None) for values in finite),
        highs=tuple(max(values, default=None) for values in finite),
        odd=len(odd),
        first_odd=odd[0] if odd else None,
    )


def _mean(point: list[tuple[float, int, int, int, float]]) -> float | None:
    weighed = [(batches, value) for *_, batches, value in point if math.isfinite(value)]
    if not weighed:
        return None
    if len(weighed) == 1:
        return weighed[0][1]
    return sum(batches * value for batches, value in weighed) / sum(batches for batches, _ in weighed)


# ---- which stand in one chart

PREFIXES = ("train", "val", "validation", "test", "valid")


def family(name: str) -> str:
    """What a metric measures, whoever measured it and of which optimizer: ``loss``, ``val_loss`` and ``loss/1`` are one family.

    >>> [family(name) for name in ("val_loss", "train/loss", "loss/1", "value", "val_")]
    ['loss', 'loss', 'loss', 'value', 'val_']
    """
    for prefix in PREFIXES:
        for mark in "_/":
            if name.startswith(prefix + mark) and len(name) > len(prefix) + 1:
                name = name[len(prefix) + 1 :]
    head, _, tail = name.rpartition("/")
    return head if head and tail.isdecimal() else name


def families(drawn: Iterable[Curve]) -> dict[str, list[Curve]]:
    """The curves of each family."""
    together: dict[str, list[Curve]] = {}
    for curve in drawn:
        together.setdefault(family(curve.name), []).append(curve)
    return together
