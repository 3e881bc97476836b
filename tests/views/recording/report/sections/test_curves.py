"""The moving mean of a noisy curve, and the colours of a chart."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import evolve

from fsmtrain.views.recording.report.sections import curves as curves_module
from fsmtrain.views.recording.report.sections.curves import MIN_SMOOTHED_POINTS, _styles, smoothed
from tests.views.recording.report.elements.test_curve_points import curve_of


def test_the_moving_mean_stays_within_the_points_and_leaves_a_level_curve_alone() -> None:
    assert smoothed(curve_of([1.0] * (MIN_SMOOTHED_POINTS - 1))) == []
    assert smoothed(curve_of([3.0] * MIN_SMOOTHED_POINTS)) == [3.0] * MIN_SMOOTHED_POINTS
    wild = smoothed(curve_of([0.0, 1.0] * MIN_SMOOTHED_POINTS))
    assert all(mean is not None and 0.4 < mean < 0.6 for mean in wild[20:-20])


def test_a_metric_of_each_batch_its_epoch_mean_and_its_validation_have_three_colors() -> None:
    curves = [evolve(curve_of([1.0]), kind=kind) for kind in ("train", "train", "epoch", "validation")]
    styles = _styles(curves)
    assert styles == ["line0", "line1", "dot1", "dot0"]
    assert _styles(curves[:3])[-1] == "dot1", "green is for validations"
    css = (Path(curves_module.__file__).parents[1] / "page.css").read_text(encoding="utf-8")
    rules = re.findall(r"((?:\.\w+, )*\.\w+) \{ --c: var\((--\w+)\); \}", css)
    colors = {name: color for names, color in rules for name in names.replace(".", "").split(", ")}
    assert len({colors[style] for style in styles}) == 4
