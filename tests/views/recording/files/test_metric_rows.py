"""Rows of metrics: means over batches, and that nothing is cut off however they are put together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.metric_rows import RowBuilder, merge_rows


def note(batch: int, optimizer: int | None = 0, /, **values: float) -> MetricRecord:
    """A note of a train batch."""
    return MetricRecord("train", batch / 10, 0, batch, batch, values, optimizer, 0.5)


def all_rows(notes: list[MetricRecord], width: int) -> list[Row]:
    """The rows of these notes, the last one too."""
    bins = RowBuilder()
    bins.batches_per_row = width
    return [*bins.add(notes), *bins.flush(math.inf)]


def test_a_batch_is_a_row_with_its_place_its_metrics_and_its_learning_rate() -> None:
    [first, second] = all_rows([note(0, loss=1.0), note(1, loss=2.0, acc=0.5)], 1)
    assert first == {
        "kind": "train", "time": 0.0, "epoch": 0, "batch": 0, "step": 0, "batches": 1, "values": {"loss": 1.0}, "lr": [0.5],
    }  # fmt: skip
    assert second["values"] == {"loss": 2.0, "acc": 0.5}


def test_the_optimizers_of_a_batch_are_one_row() -> None:
    [row] = all_rows([note(0, 0, a=1.0), note(0, 1, b=2.0)], 1)
    assert (row["batches"], row["values"], row["lr"]) == (1, {"a": 1.0, "b": 2.0}, [0.5, 0.5])


def test_a_validation_keeps_its_step_and_is_never_averaged() -> None:
    check = MetricRecord("validation", 0.05, 0, 0, 1, {"val_loss": 3.0})
    bins = RowBuilder()
    bins.batches_per_row = 10
    rows = [*bins.add([note(0, loss=1.0), check, note(1, loss=2.0)]), *bins.flush(math.inf)]
    assert [(row["kind"], row["values"]) for row in rows] == [
        ("train", {"loss": 1.0}),
        ("validation", {"val_loss": 3.0}),
        ("train", {"loss": 2.0}),
    ]


def test_a_row_that_is_still_open_is_held_back_for_a_while() -> None:
    bins = RowBuilder()
    assert list(bins.add([note(3, loss=1.0)])) == []
    assert list(bins.flush(before=0.2)) == []
    assert len(list(bins.flush(before=0.3))) == 1
    assert list(bins.flush(math.inf)) == []


def test_a_number_that_is_none_stays_one_through_every_mean() -> None:
    rows = all_rows([note(0, loss=1.0), note(1, loss=math.nan), note(2, loss=math.inf)], 1)
    assert [row["values"]["loss"] for row in rows] == [1.0, "NaN", "Infinity"]
    assert [row["values"]["loss"] for row in merge_rows(rows[1:], 2)] == ["NaN"]
    assert [row["values"]["loss"] for row in merge_rows([rows[0], rows[2]], 2)] == ["Infinity"]


@given(
    metrics=st.lists(
        st.dictionaries(st.sampled_from("abc"), st.integers(-8, 8).map(float), min_size=1), min_size=1, max_size=60
    ),
    width=st.integers(1, 5),
    later=st.lists(st.integers(1, 40), max_size=3),
)
def test_no_batch_is_lost_and_no_mean_is_wrong_however_rows_are_put_together(
    metrics: list[dict[str, float]], width: int, later: list[int]
) -> None:
    """The sum of a metric over the run is that of the rows' means, each times the number of values that it is the mean of."""
    rows = all_rows([MetricRecord("train", b / 10, 0, b, b, values, 0, 0.5) for b, values in enumerate(metrics)], width)
    for wider in later:
        rows = list(merge_rows(rows, wider))
    assert sum(row["batches"] for row in rows) == len(metrics)
    assert rows[-1]["batch"] == len(metrics) - 1
    for name in "abc":
        values = [values[name] for values in metrics if name in values]
        told = [(row["values"][name], row.get("counts", {}).get(name, row["batches"])) for row in rows if name in row["values"]]
        assert sum(count for _, count in told) == len(values)
        assert sum(mean * count for mean, count in told) == pytest.approx(sum(values))


@given(batches=st.lists(st.integers(1, 4), min_size=1, max_size=80), width=st.integers(1, 4))
def test_to_double_the_width_halves_the_rows(batches: list[int], width: int) -> None:
    rows = [{**all_rows([note(i, loss=1.0)], 1)[0], "batches": min(n, width)} for i, n in enumerate(batches)]
    full = [row for row in rows if row["batches"] == width]
    assert len(list(merge_rows(full, 2 * width))) == math.ceil(len(full) / 2)
    assert len(list(merge_rows(rows, 2 * width))) <= math.ceil(len(rows) / 2)
