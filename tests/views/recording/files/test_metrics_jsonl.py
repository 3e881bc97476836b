"""The metrics' files: how large they get, and that the table says the same as the lines."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files import metrics_jsonl
from fsmtrain.views.recording.files.metric_rows import RowBuilder
from fsmtrain.views.recording.files.metrics_jsonl import MetricsFiles
from fsmtrain.views.recording.files.timeline_jsonl import TimelineFile
from tests.views.recording.recorded_runs import read_csv, read_json_lines


def notes(batches: range) -> list[MetricRecord]:
    """Notes of so many batches: the loss is the batch's index."""
    return [MetricRecord("train", b / 1000, 0, b, b, {"loss": float(b)}, 0, 0.1) for b in batches]


def test_however_many_batches_there_are_the_file_has_a_bounded_number_of_rows_of_equal_width(tmp_path: Path) -> None:
    files, bins, most = MetricsFiles(tmp_path, max_train_rows=64), RowBuilder(), 0
    for start in range(0, 10_000, 50):
        bins.batches_per_row = files.batches_per_row(50, 1.0)
        files.append(list(bins.add(notes(range(start, start + 50)))))
        most = max(most, len(read_json_lines(tmp_path / "metrics.jsonl")))
    files.append(list(bins.flush(100.0)))
    files.close()
    told = read_json_lines(tmp_path / "metrics.jsonl")
    assert 30 < len(told) <= most <= 64
    assert sum(row["batches"] for row in told) == 10_000
    assert sum(row["batches"] * row["values"]["loss"] for row in told) == sum(range(10_000))
    widths = {row["batches"] for row in told[:-1]}
    assert max(widths) <= 3 * min(widths)


def test_batches_that_come_very_fast_share_rows_but_for_the_first_ones(tmp_path: Path) -> None:
    files = MetricsFiles(tmp_path)
    assert files.batches_per_row(10**6, 1.0) == 1
    bins = RowBuilder()
    files.append([*bins.add(notes(range(metrics_jsonl.FREE_TRAIN_ROWS))), *bins.flush(10.0)])
    assert files.batches_per_row(10 * metrics_jsonl.MAX_ROWS_PER_SECOND, 1.0) == 10
    assert files.batches_per_row(metrics_jsonl.MAX_ROWS_PER_SECOND // 2, 1.0) == 1
    assert files.batches_per_row(10, 0.0) == 1
    files.close()


def test_a_metric_that_comes_later_is_a_new_column_at_the_right(tmp_path: Path) -> None:
    files = MetricsFiles(tmp_path)
    place = {"kind": "train", "time": 0.0, "epoch": 0, "batch": 0, "step": 0, "batches": 1}
    files.append([{**place, "values": {"loss": 1.0}, "lr": [0.1]}])
    files.append([{**place, "kind": "validation", "values": {"val, loss": 2.0, 'a "b"': 3.0}}])
    files.append([{**place, "values": {"loss": "NaN", "time": 5.0, "lr": 6.0}, "lr": [0.1, 0.2]}])
    files.close()
    told = read_csv(tmp_path / "metrics.csv")
    fixed = ["kind", "time", "epoch", "batch", "step", "batches", "lr/0", "lr/1"]
    assert list(told[0]) == [*fixed, "loss", "val, loss", 'a "b"', "metric/time", "metric/lr"]
    assert [row["loss"] for row in told] == ["1.0", "", "NaN"]
    assert [row['a "b"'] for row in told] == ["", "3.0", ""]
    assert [row["lr/1"] for row in told] == ["", "", "0.2"]
    assert (told[2]["metric/time"], told[2]["metric/lr"]) == ("5.0", "6.0")
    assert {tuple(row) for row in told} == {tuple(told[0])}, "a row has other columns than the header"


def test_new_columns_all_the_time_do_not_have_the_table_written_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        told = [row["time"] for row in read_json_lines(tmp_path / "timeline.jsonl")]
        assert len(told) <= 20
        assert told == sorted(told)
    timeline.close()
    assert told[-1] == 999
    assert len(told) >= 8
    gaps = [after - before for before, after in pairwise(told[:-1])]
    assert max(gaps) <= 4 * min(gaps)


def test_files_that_are_gone_on_with_stay_as_small_and_as_even(tmp_path: Path) -> None:
    """As those of a run that is resumed again and again."""
    for start in range(0, 4_000, 500):
        files, timeline, bins = MetricsFiles(tmp_path, max_train_rows=64), TimelineFile(tmp_path, max_lines=20), RowBuilder()
        files.reload()
        for first in range(start, start + 500, 50):
            bins.batches_per_row = files.batches_per_row(50, 1.0)
            files.append([*bins.add(notes(range(first, first + 50)))])
            timeline.append({"time": float(first + 1)})
            assert len(read_json_lines(tmp_path / "metrics.jsonl")) <= 64
            assert len(read_json_lines(tmp_path / "timeline.jsonl")) <= 20
        files.append([*bins.flush(100.0)])
        files.close()
        timeline.close()
    told = read_json_lines(tmp_path / "metrics.jsonl")
    assert sum(row["batches"] for row in told) == 4_000
    widths = sorted(row["batches"] for row in told)
    assert widths[-1] <= 4 * widths[len(widths) // 4]
    assert len(read_csv(tmp_path / "metrics.csv")) == len(told)
