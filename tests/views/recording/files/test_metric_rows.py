"""Rows of metrics: means over batches; merging rows cuts nothing off."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.metric_rows import RowBuilder, merge_rows


def record(batch: int, optimizer: int | None = 0, /, **values: float) -> MetricRecord:
    """Return a record of a train batch."""
    return MetricRecord("train", batch / 10, 0, batch, batch, values, optimizer, 0.5)


def all_rows(records: list[MetricRecord], width: int) -> list[Row]:
    """Return the rows of these records, the unfinished one included."""
    builder = RowBuilder()
    builder.batches_per_row = width
    return [*builder.add(records), *builder.flush(math.inf)]


def test_a_batch_is_a_row_with_position_metrics_and_learning_rate() -> None:
    [first, second] = all_rows([record(0, loss=1.0), record(1, loss=2.0, acc=0.5)], 1)
    assert first == {
        "kind": "train", "time": 0.0, "epoch": 0, "batch": 0, "step": 0, "batches": 1, "values": {"loss": 1.0}, "lr": [0.5],
    }  # fmt: skip
    assert second["values"] == {"loss": 2.0, "acc": 0.5}


def test_the_optimizers_of_a_batch_are_one_row() -> None:
    [row] = all_rows([record(0, 0, a=1.0), record(0, 1, b=2.0)], 1)
    assert (row["batches"], row["values"], row["lr"]) == (1, {"a": 1.0, "b": 2.0}, [0.5, 0.5])


def test_a_validation_keeps_its_step_and_is_never_averaged() -> None:
    check = MetricRecord("validation", 0.05, 0, 0, 1, {"val_loss": 3.0})
    builder = RowBuilder()
    builder.batches_per_row = 10
    rows = [*builder.add([record(0, loss=1.0), check, record(1, loss=2.0)]), *builder.flush(math.inf)]
    assert [(row["kind"], row["values"]) for row in rows] == [
        ("train", {"loss": 1.0}),
        ("validation", {"val_loss": 3.0}),
        ("train", {"loss": 2.0}),
    ]


@pytest.mark.parametrize("flushed", [True, False], ids=["flushed at once", "not flushed"])
def test_what_a_hook_logs_between_two_epochs_keeps_its_step_however_rows_are_flushed(*, flushed: bool) -> None:
    validation = MetricRecord(seconds=1.5, kind="validation", epoch=0, batch=1, step=1, values={"val_loss": 2.0})
    records = [record(1, loss=1.0), validation, record(1, None, epochs=1.0), record(2, loss=3.0)]
    builder = RowBuilder()
    rows = [row for one in records for row in (*builder.add([one]), *(builder.flush(math.inf) if flushed else ()))]
    rows += builder.flush(math.inf)
    assert [(row["step"], row["values"]) for row in rows] == [(one.step, one.values) for one in records]


def test_an_unfinished_row_is_held_back_for_a_while() -> None:
    builder = RowBuilder()
    assert list(builder.add([record(3, loss=1.0)])) == []
    assert list(builder.flush(before=0.2)) == []
    assert len(list(builder.flush(before=0.3))) == 1
    assert list(builder.flush(math.inf)) == []


def test_nan_and_infinity_survive_every_mean() -> None:
    rows = all_rows([record(0, loss=1.0), record(1, loss=math.nan), record(2, loss=math.inf)], 1)
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
def test_merging_rows_loses_no_batch_and_keeps_every_mean(
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
        having = [row for row in rows if name in row["values"]]
        means = [(row["values"][name], row.get("counts", {}).get(name, row["batches"])) for row in having]
        assert sum(count for _, count in means) == len(values)
        assert sum(mean * count for mean, count in means) == pytest.approx(sum(values))


@given(batches=st.lists(st.integers(1, 4), min_size=1, max_size=80), width=st.integers(1, 4))
def test_doubling_the_batches_per_row_halves_the_rows(batches: list[int], width: int) -> None:
    rows = [{**all_rows([record(i, loss=1.0)], 1)[0], "batches": min(n, width)} for i, n in enumerate(batches)]
    full = [row for row in rows if row["batches"] == width]
    assert len(list(merge_rows(full, 2 * width))) == math.ceil(len(full) / 2)
    assert len(list(merge_rows(rows, 2 * width))) <= math.ceil(len(rows) / 2)
