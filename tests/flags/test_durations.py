"""Durations: what ``max_time`` may be, and its one spelling."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import Options
from fsmtrain.flags.durations import duration_as_text, seconds_of


@given(st.integers(1, 10**9))
def test_the_text_of_a_timedelta_is_read_as_its_seconds(milliseconds: int) -> None:
    given = timedelta(milliseconds=milliseconds)
    assert seconds_of(duration_as_text(given)) == pytest.approx(given.total_seconds(), abs=1e-5)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("8:00:00", 28_800),
        ("00:01:30", 90),
        ("02:00:00:00", 172_800),
        (timedelta(minutes=90), 5_400),
        ({"hours": 8}, 28_800),
        ({"days": 1, "minutes": 1}, 86_460),
        (None, None),
    ],
)
def test_the_spellings_of_a_time(value: Any, seconds: float | None) -> None:
    assert Options(max_time=value).max_seconds == seconds
    assert Options(max_time=Options(max_time=value).max_time).max_seconds == seconds
