"""Axes: all values fit, and ticks are round and few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.report.elements.axes import Axis, round_up


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.booleans())
def test_an_axis_fits_all_of_its_values_and_has_few_round_ticks(values: list[float], is_log: bool) -> None:
    known = [abs(value) for value in values if value] if is_log else values
    axis = Axis.over(known, is_log=is_log)
    for value in known:
        assert abs(value) > 1e300 or -1e-9 <= axis.fraction(value) <= 1 + 1e-9
    ticks = axis.ticks()
    assert len(ticks) <= 12
    assert ticks == sorted(set(ticks)) or axis.high - axis.low < 1e-9 * max(map(abs, (axis.low, axis.high)))
    assert all(-0.01 <= axis.fraction(tick) <= 1.01 for tick in ticks) or not is_log


@given(st.floats(1e-300, 1e300))
def test_round_up_is_at_most_two_and_a_half_times_as_large(number: float) -> None:
    assert number * 0.999 <= round_up(number) <= 2.51 * number
