"""Downsampled curves: nothing is cut off, and means are weighted by batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.report.elements.curve_points import MAX_PAGE_POINTS, MAX_POINTS, Curve, metric_curves
from tests.views.recording.report.reported_runs import metrics_row

numbers = st.floats(-1e6, 1e6)


def curve_of(values: list[float], batches: list[int] | None = None) -> Curve:
    """Return the curve of a metric with one row per value."""
    rows = enumerate(zip(values, batches or [1] * len(values), strict=True))
    return metric_curves([metrics_row(step, {"loss": value}, batches=n) for step, (value, n) in rows])[0]


@given(st.lists(st.tuples(numbers, st.integers(1, 9)), min_size=1, max_size=4 * MAX_POINTS))
def test_every_batch_is_in_the_mean_of_a_point_and_every_row_within_its_band(rows: list[tuple[float, int]]) -> None:
    values, batches = [value for value, _ in rows], [n for _, n in rows]
    curve = curve_of(values, batches)
    assert len(curve.means) <= MAX_POINTS
    assert sum(curve.grid.batches) == sum(batches)
    whole = sum(mean * n for mean, n in zip(curve.means, curve.grid.batches, strict=True) if mean is not None)
    assert whole == pytest.approx(sum(value * n for value, n in rows), rel=1e-9, abs=1e-3)
    assert min(low for low in curve.lows if low is not None) == min(values)
    assert max(high for high in curve.highs if high is not None) == max(values)
    assert (curve.means[-1], curve.grid.steps[-1], curve.grid.batches[-1]) == (values[-1], len(values) - 1, batches[-1])


def test_a_long_curve_is_binned_and_a_short_one_is_not() -> None:
    assert not curve_of([1.0, 2.0] * (MAX_POINTS // 2)).is_binned
    binned = curve_of([1.0, 2.0] * (MAX_POINTS - 1) + [1.0])
    assert binned.is_binned
    assert binned.means[0] == 1.5
    assert (binned.lows[0], binned.highs[0]) == (1.0, 2.0)


def test_many_curves_share_the_points_of_a_page() -> None:
    names = [f"metric {i}" for i in range(50)]
    drawn = metric_curves([metrics_row(step, dict.fromkeys(names, 1.0)) for step in range(3_000)])
    assert len(drawn) == 51  # and the learning rate
    assert sum(len(curve.means) for curve in drawn) <= MAX_PAGE_POINTS


def test_nan_rows_are_left_out_of_means_and_counted() -> None:
    curve = curve_of([1.0, math.nan] * MAX_POINTS)
    assert curve.means[0] == 1.0
    assert curve.means[-1] is None
    assert (len(curve.nonfinite_steps), curve.nonfinite_steps[0]) == (MAX_POINTS, 1)


def test_a_mean_is_weighted_by_the_batches_that_have_the_metric() -> None:
    rows: list[dict[str, Any]] = [
        metrics_row(step, {"loss": 1.0, "rare": float(step % 2)}, batches=4) for step in range(2 * MAX_POINTS - 1)
    ]
    for each in rows:
        each["counts"] = {"rare": 3 if each["values"]["rare"] else 1}
    loss, _, rare = (next(curve for curve in metric_curves(rows) if curve.name == name) for name in ("loss", "0", "rare"))
    assert loss.grid.batches[0] == 8
    assert rare.means[0] == 0.75
