"""The moving mean of a noisy curve."""

from __future__ import annotations

from fsmtrain.views.recording.report.sections.curves import MIN_SMOOTHED_POINTS, smoothed
from tests.views.recording.report.elements.test_curve_points import curve_of


def test_the_moving_mean_stays_within_the_points_and_leaves_a_level_curve_alone() -> None:
    assert smoothed(curve_of([1.0] * (MIN_SMOOTHED_POINTS - 1))) == []
    assert smoothed(curve_of([3.0] * MIN_SMOOTHED_POINTS)) == [3.0] * MIN_SMOOTHED_POINTS
    wild = smoothed(curve_of([0.0, 1.0] * MIN_SMOOTHED_POINTS))
    assert all(mean is not None and 0.4 < mean < 0.6 for mean in wild[20:-20])
