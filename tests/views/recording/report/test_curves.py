"""Curves and axes: nothing is cut off, and each number stands where it belongs."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.report.axes import Axis, round_up
from fsmtrain.views.recording.report.curve_points import MAX_PAGE_POINTS, MAX_POINTS, Curve, metric_curves
from fsmtrain.views.recording.report.sections.curves import MIN_SMOOTHED_POINTS, smoothed
from fsmtrain.views.recording.report.sections.timeline import time_spans
from tests.views.recording.report.reported_runs import metrics_row

numbers = st.floats(-1e6, 1e6)


def of(values: list[float], batches: list[int] | None = None) -> Curve:
    """The curve of one metric with a row for each of these values."""
    told = enumerate(zip(values, batches or [1] * len(values), strict=True))
    return metric_curves([metrics_row(step, {"loss": value}, batches=n) for step, (value, n) in told])[0]


@given(st.lists(st.tuples(numbers, st.integers(1, 9)), min_size=1, max_size=4 * MAX_POINTS))
def test_every_batch_is_in_the_mean_of_some_point_and_every_row_within_its_band(rows: list[tuple[float, int]]) -> None:
    values, batches = [value for value, _ in rows], [n for _, n in rows]
    curve = of(values, batches)
    assert len(curve.means) <= MAX_POINTS
    assert sum(curve.grid.batches) == sum(batches)
    whole = sum(mean * n for mean, n in zip(curve.means, curve.grid.batches, strict=True) if mean is not None)
    assert whole == pytest.approx(sum(value * n for value, n in rows), rel=1e-9, abs=1e-3)
    assert min(low for low in curve.lows if low is not None) == min(values)
    assert max(high for high in curve.highs if high is not None) == max(values)
    assert (curve.means[-1], curve.grid.steps[-1], curve.grid.batches[-1]) == (values[-1], len(values) - 1, batches[-1])


def test_a_long_curve_is_binned_and_a_short_one_is_not() -> None:
    assert not of([1.0, 2.0] * (MAX_POINTS // 2)).is_binned
    binned = of([1.0, 2.0] * (MAX_POINTS - 1) + [1.0])
    assert binned.is_binned
    assert binned.means[0] == 1.5
    assert (binned.lows[0], binned.highs[0]) == (1.0, 2.0)


def test_many_curves_share_what_a_page_can_hold() -> None:
    names = [f"metric {i}" for i in range(50)]
    drawn = metric_curves([metrics_row(step, dict.fromkeys(names, 1.0)) for step in range(3_000)])
    assert len(drawn) == 51  # and the learning rate
    assert sum(len(curve.means) for curve in drawn) <= MAX_PAGE_POINTS


def test_what_is_no_number_spoils_no_mean_and_is_counted() -> None:
    curve = of([1.0, math.nan] * MAX_POINTS)
    assert curve.means[0] == 1.0
    assert curve.means[-1] is None
    assert (curve.nonfinite_rows, curve.first_nonfinite_step) == (MAX_POINTS, 1)


def test_a_mean_is_weighted_by_the_batches_that_a_metric_has_values_of() -> None:
    rows: list[dict[str, Any]] = [
        metrics_row(step, {"loss": 1.0, "rare": float(step % 2)}, batches=4) for step in range(2 * MAX_POINTS - 1)
    ]
    for each in rows:
        each["counts"] = {"rare": 3 if each["values"]["rare"] else 1}
    loss, _, rare = (next(curve for curve in metric_curves(rows) if curve.name == name) for name in ("loss", "0", "rare"))
    assert loss.grid.batches[0] == 8
    assert rare.means[0] == 0.75


def test_the_moving_mean_stays_within_the_points_and_leaves_a_level_curve_alone() -> None:
    assert smoothed(of([1.0] * (MIN_SMOOTHED_POINTS - 1))) == []
    assert smoothed(of([3.0] * MIN_SMOOTHED_POINTS)) == [3.0] * MIN_SMOOTHED_POINTS
    wild = smoothed(of([0.0, 1.0] * MIN_SMOOTHED_POINTS))
    assert all(mean is not None and 0.4 < mean < 0.6 for mean in wild[20:-20])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.booleans())
def test_an_axis_has_room_for_all_of_its_numbers_and_few_round_ticks(values: list[float], is_log: bool) -> None:
    known = [abs(value) for value in values if value] if is_log else values
    axis = Axis.over(known, is_log=is_log)
    for value in known:
        assert abs(value) > 1e300 or -1e-9 <= axis.fraction(value) <= 1 + 1e-9
    ticks = axis.ticks()
    assert len(ticks) <= 12
    assert ticks == sorted(set(ticks)) or axis.high - axis.low < 1e-9 * max(map(abs, (axis.low, axis.high)))
    assert all(-0.01 <= axis.fraction(tick) <= 1.01 for tick in ticks) or not is_log


@given(st.floats(1e-300, 1e300))
def test_a_round_number_is_at_most_two_and_a_half_times_as_large(number: float) -> None:
    assert number * 0.999 <= round_up(number) <= 2.51 * number


@given(st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0.0, 1.0)), min_size=1, max_size=2_000))
def test_the_time_of_a_state_is_the_same_however_the_timeline_is_cut(parts: list[tuple[float, float]]) -> None:
    rows: list[dict[str, Any]] = []
    time = spent = 0.0
    for length, share in parts:
        time, spent = time + length, spent + length * share
        rows.append({"time": time, "states": {"step": [1, spent]}})
    told = time_spans(rows, ["step", "fetch"], max_spans=50)
    assert len(told) <= 51
    before = [0.0, *(span.end for span in told)]
    whole = sum(span.shares[0] * (span.end - since) for span, since in zip(told, before, strict=False))
    assert whole == pytest.approx(spent, rel=1e-6, abs=1e-9)
    assert told[-1].end == time


def test_a_long_visit_fills_the_parts_that_it_was_under_way_in() -> None:
    rows: list[dict[str, Any]] = [{"time": float(t), "state": "test", "states": {"step": [1, 0.5]}} for t in (1, 2, 3)]
    rows.append({"time": 4.0, "state": "done", "states": {"step": [1, 0.5], "test": [1, 3.25]}})
    told = [span.shares for span in time_spans(rows, ["step", "test"])]
    assert told == [(0.5, 0.25), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]
