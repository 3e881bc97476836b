"""The share of each state over time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.report.sections.timeline import time_spans


@given(st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0.0, 1.0)), min_size=1, max_size=2_000))
def test_merging_timeline_spans_keeps_the_time_of_each_state(parts: list[tuple[float, float]]) -> None:
    rows: list[dict[str, Any]] = []
    time = spent = 0.0
    for length, share in parts:
        time, spent = time + length, spent + length * share
        rows.append({"time": time, "states": {"step": [1, spent]}})
    spans = time_spans(rows, ["step", "fetch"], max_spans=50)
    assert len(spans) <= 51
    before = [0.0, *(span.end for span in spans)]
    whole = sum(span.shares[0] * (span.end - since) for span, since in zip(spans, before, strict=False))
    assert whole == pytest.approx(spent, rel=1e-6, abs=1e-9)
    assert spans[-1].end == time


def test_a_long_visit_fills_all_spans_that_it_covers() -> None:
    rows: list[dict[str, Any]] = [{"time": float(t), "state": "test", "states": {"step": [1, 0.5]}} for t in (1, 2, 3)]
    rows.append({"time": 4.0, "state": "done", "states": {"step": [1, 0.5], "test": [1, 3.25]}})
    spans = [span.shares for span in time_spans(rows, ["step", "test"])]
    assert spans == [(0.5, 0.25), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)]
