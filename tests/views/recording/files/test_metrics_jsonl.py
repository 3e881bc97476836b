"""metrics.jsonl, metrics.csv and timeline.jsonl: their size stays bounded, and the table equals the lines."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files import metrics_jsonl
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.metric_rows import RowBuilder
from fsmtrain.views.recording.files.metrics_jsonl import MetricsFiles
from fsmtrain.views.recording.files.timeline_jsonl import TimelineFile
from tests.views.recording.recorded_runs import read_csv, read_json_lines


def records(batches: range) -> list[MetricRecord]:
    """Return records of these batches, whose loss is the index of the batch."""
    return [MetricRecord("train", b / 1000, 0, b, b, {"loss": float(b)}, 0, 0.1) for b in batches]


def test_the_metrics_file_has_a_bounded_number_of_rows_of_equal_width(tmp_path: Path) -> None:
    files, builder, most = MetricsFiles(tmp_path, max_train_rows=64), RowBuilder(), 0
    for start in range(0, 10_000, 50):
        builder.batches_per_row = files.batches_per_row(50, 1.0)
        files.append(list(builder.add(records(range(start, start + 50)))))
        most = max(most, len(read_json_lines(tmp_path / "metrics.jsonl")))
    files.append(list(builder.flush(100.0)))
    files.close()
    rows = read_json_lines(tmp_path / "metrics.jsonl")
    assert 30 < len(rows) <= most <= 64
    assert sum(row["batches"] for row in rows) == 10_000
    assert sum(row["batches"] * row["values"]["loss"] for row in rows) == sum(range(10_000))
    widths = {row["batches"] for row in rows[:-1]}
    assert max(widths) <= 3 * min(widths)


def test_fast_batches_share_rows_except_the_first_ones(tmp_path: Path) -> None:
    files = MetricsFiles(tmp_path)
    assert files.batches_per_row(10**6, 1.0) == 1
    builder = RowBuilder()
    files.append([*builder.add(records(range(metrics_jsonl.FREE_TRAIN_ROWS))), *builder.flush(10.0)])
    assert files.batches_per_row(10 * metrics_jsonl.MAX_ROWS_PER_SECOND, 1.0) == 10
    assert files.batches_per_row(metrics_jsonl.MAX_ROWS_PER_SECOND // 2, 1.0) == 1
    assert files.batches_per_row(10, 0.0) == 1
    files.close()


def test_a_metric_that_appears_later_is_a_new_csv_column_at_the_right(tmp_path: Path) -> None:
    files = MetricsFiles(tmp_path)
    place = {"kind": "train", "time": 0.0, "epoch": 0, "batch": 0, "step": 0, "batches": 1}
    files.append([{**place, "values": {"loss": 1.0}, "lr": [0.1]}])
    files.append([{**place, "kind": "validation", "values": {"val, loss": 2.0, 'a "b"': 3.0}}])
    files.append([{**place, "values": {"loss": "NaN", "time": 5.0, "lr": 6.0}, "lr": [0.1, 0.2]}])
    files.close()
    rows = read_csv(tmp_path / "metrics.csv")
    fixed = ["kind", "time", "epoch", "batch", "step", "batches", "lr/0", "lr/1"]
    assert list(rows[0]) == [*fixed, "loss", "val, loss", 'a "b"', "metric/time", "metric/lr"]
    assert [row["loss"] for row in rows] == ["1.0", "", "NaN"]
    assert [row['a "b"'] for row in rows] == ["", "3.0", ""]
    assert [row["lr/1"] for row in rows] == ["", "", "0.2"]
    assert (rows[2]["metric/time"], rows[2]["metric/lr"]) == ("5.0", "6.0")
    assert {tuple(row) for row in rows} == {tuple(rows[0])}, "a row has other columns than the header"


def test_frequent_new_columns_do_not_rewrite_the_csv_file_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, written = MetricsFiles(tmp_path), 0
    write = files._rewrite_csv

    def counted() -> None:
        nonlocal written
        written += 1
        write()

    monkeypatch.setattr(files, "_rewrite_csv", counted)
    place = {"kind": "train", "time": 0.0, "epoch": 0, "batch": 0, "step": 0, "batches": 1}
    monkeypatch.setattr(metrics_jsonl, "CSV_REST_FACTOR", 10**9)
    for i in range(50):
        files.append([{**place, "values": {f"m{i}": 1.0}}])
    assert written == 1
    files.close()
    assert written == 2
    assert len(read_csv(tmp_path / "metrics.csv")) == 50


def test_the_timeline_keeps_its_last_line_and_a_bounded_number_of_others(tmp_path: Path) -> None:
    timeline = TimelineFile(tmp_path, max_lines=20)
    for i in range(1000):
        timeline.append({"time": float(i)}, is_last=i == 999)
        times = [row["time"] for row in read_json_lines(tmp_path / "timeline.jsonl")]
        assert len(times) <= 20
        assert times == sorted(times)
    timeline.close()
    assert times[-1] == 999
    assert len(times) >= 8
    gaps = [after - before for before, after in pairwise(times[:-1])]
    assert max(gaps) <= 4 * min(gaps)


def test_files_of_a_run_that_is_resumed_often_stay_small_and_even(tmp_path: Path) -> None:
    for start in range(0, 4_000, 500):
        files, timeline, builder = MetricsFiles(tmp_path, max_train_rows=64), TimelineFile(tmp_path, max_lines=20), RowBuilder()
        files.reload()
        for first in range(start, start + 500, 50):
            builder.batches_per_row = files.batches_per_row(50, 1.0)
            files.append([*builder.add(records(range(first, first + 50)))])
            timeline.append({"time": float(first + 1)})
            assert len(read_json_lines(tmp_path / "metrics.jsonl")) <= 64
            assert len(read_json_lines(tmp_path / "timeline.jsonl")) <= 20
        files.append([*builder.flush(100.0)])
        files.close()
        timeline.close()
    rows = read_json_lines(tmp_path / "metrics.jsonl")
    assert sum(row["batches"] for row in rows) == 4_000
    widths = sorted(row["batches"] for row in rows)
    assert widths[-1] <= 4 * widths[len(widths) // 4]
    assert len(read_csv(tmp_path / "metrics.csv")) == len(rows)


NAMES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "time",
                "metric/time",
                "metric/metric/time",
                "lr",
                "lr/0",
                "metric/lr/0",
                "=1",
                "'=1",
                "metric/=1",
                "\ud800",
                "\\ud800",
            ]
        ),
        st.text(st.sampled_from("lr/=+-@'metic\t\r\ud800"), max_size=8),
    ),
    unique=True,
)


@given(NAMES)
def test_two_metrics_never_share_a_csv_column_and_none_is_a_formula(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    files = MetricsFiles(folder)
    place = {"kind": "train", "time": 0.0, "epoch": 0, "batch": 0, "step": 0, "batches": 1}
    files.append([{**place, "values": dict.fromkeys(names[:3], 1.0)}])
    files.append([{**place, "values": {name: float(i) for i, name in enumerate(names)}}])
    files.close()
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        header, *_, last = csv.reader(file)
    assert len(set(header)) == len(header) == 6 + len(names)
    assert not any(column.startswith(("=", "+", "-", "@", "\t", "\r")) for column in header)
    assert sorted(last[6:]) == sorted(str(float(i)) for i in range(len(names)))


def test_no_row_stands_for_batches_before_and_after_a_checkpoint(tmp_path: Path) -> None:
    """Checkpoints after every 70th batch, of which the last one must be a place to cut at, whatever has been merged."""
    files, builder = MetricsFiles(tmp_path, max_train_rows=64), RowBuilder()
    for start in range(0, 3_000, 50):
        builder.batches_per_row = files.batches_per_row(50, 1.0)
        rows: list[Row] = []
        for record in records(range(start, start + 50)):
            rows += builder.add([record])
            if record.batch % 700 == 699:
                builder.add_boundary(record.seconds + 1e-4)
                files.add_boundary(record.seconds + 1e-4)
        files.append(rows)
    files.append(list(builder.flush(100.0)))
    for last in (2799, 2099, 1399, 699):
        files.cut(last / 1000 + 1e-4)
        rows = read_json_lines(tmp_path / "metrics.jsonl")
        assert sum(row["batches"] * row["values"]["loss"] for row in rows) == sum(range(last + 1))
        assert len(read_csv(tmp_path / "metrics.csv")) == len(rows)
    files.close()
