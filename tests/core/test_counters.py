"""The extended state: where it begins. What it counts on the way is in `test_loop`."""

from __future__ import annotations

from attrs import asdict
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.counters import Counters


@given(st.integers(1, 4))
def test_a_run_begins_with_nothing_done(optimizers: int) -> None:
    """A guard of the user's may look at any counter, at the first visit too."""
    begun = asdict(Counters.begin(optimizers))
    assert begun.pop("window") == 1
    assert begun.pop("stepped_in") == [-1] * optimizers
    assert begun.pop("gathered_by") == begun.pop("optimizer_steps") == [0] * optimizers
    assert begun.pop("cut") is begun.pop("saved") is False
    assert set(begun.values()) == {0}


def test_without_a_number_of_optimizers_there_is_one() -> None:
    assert Counters() == Counters.begin(1)
