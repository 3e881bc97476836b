"""The extended state: where it begins. What it counts on the way is in `test_loop`."""

from __future__ import annotations

from attrs import asdict, fields
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.counters import Counters, Signals


@given(st.integers(1, 4))
def test_a_run_begins_with_nothing_done(optimizers: int) -> None:
    """A guard of the user's may look at any counter, at the first visit too."""
    begun = asdict(Counters.begin(optimizers))
    assert begun.pop("window_length") == 1
    assert begun.pop("stepped_in") == [-1] * optimizers
    assert begun.pop("gathered_by") == begun.pop("optimizer_steps") == [0] * optimizers
    assert begun.pop("epoch_ended_early") is begun.pop("saved") is False
    assert set(begun.values()) == {0}


def test_without_a_number_of_optimizers_there_is_one() -> None:
    assert Counters() == Counters.begin(1)


def test_before_anything_has_come_from_outside_a_batch_has_one_split_and_nothing_is_raised() -> None:
    signals = asdict(Signals().copy())
    assert signals.pop("splits") == 1
    assert set(signals.values()) == {False}


@given(st.sampled_from([field.name for field in fields(Counters)]))
def test_the_values_of_counters_are_one_per_field_and_equal_in_a_copy(name: str) -> None:
    """Also a number that stands in a list; and what changes later is not the copy's."""
    before = Counters.begin(2)
    after = before.copy()
    assert after == before
    value = getattr(after, name)
    if isinstance(value, list):
        value[1] += 1
    else:
        setattr(after, name, not value if isinstance(value, bool) else value + 1)
    assert before == Counters.begin(2)
    assert after.values() != before.values()
