"""The table of runs: which columns differ, order, conditions, the best value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.comparison.find_runs import named_runs, runs_of
from fsmtrain.views.recording.comparison.run_table import run_table
from fsmtrain.views.recording.folder_lock import lock_folder
from tests.views.recording.comparison.compared_runs import NOW, table_of, write_run

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)
)


@given(st.lists(VALUES, min_size=1, max_size=6), st.booleans())
def test_sorting_keeps_every_run_and_leaves_those_without_a_value_last(
    tmp_path_factory: pytest.TempPathFactory, rates: list[object], reverse: bool
) -> None:
    runs = tmp_path_factory.mktemp("runs")
    for n, rate in enumerate(rates):
        write_run(runs / str(n), lr=rate)
    table = table_of(runs).in_order("lr", reverse=reverse)
    shown = [run.settings.get("lr") for run in table.runs]
    assert sorted(map(repr, shown)) == sorted(map(repr, rates))
    present = [value not in (None, "") for value in shown]
    assert present == sorted(present, reverse=True)
    numbers = [value for value in shown if isinstance(value, (int, float))]
    assert numbers == sorted(numbers, reverse=reverse)
    assert ("lr" in table.columns) == (len({(isinstance(rate, bool), rate) for rate in rates}) > 1)


def test_flags_hyperparameters_sizes_and_guards_that_differ_are_the_columns(tmp_path: Path) -> None:
    write_run(
        tmp_path / "a", lr=0.1, options={"seed": 1, "quiet": True, "run_name": "a", "early_stop_callback": {"patience": 3}}
    )
    write_run(
        tmp_path / "b", lr=0.2, options={"seed": 1, "quiet": False, "run_name": "b", "early_stop_callback": {"patience": 5}}
    )
    assert table_of(tmp_path).columns == ["early_stop_callback.patience", "lr"]
    write_run(tmp_path / "c", lr=0.2, options={"seed": 2}, guards={"stop": "mine"}, plan={"global_step": 7}, device="cuda:0")
    assert {"seed", "lr", "guards.stop", "planned_steps", "device"} <= set(table_of(tmp_path).columns)


def test_a_flag_that_an_older_run_did_not_have_counts_as_its_default(tmp_path: Path) -> None:
    write_run(tmp_path / "old")
    write_run(tmp_path / "new", options={"max_steps": None, "val_check_interval": 0.95})
    assert table_of(tmp_path).columns == []


def test_a_hyperparameter_with_the_name_of_a_flag_has_a_column_of_its_own(tmp_path: Path) -> None:
    for n in (1, 2):
        write_run(tmp_path / str(n), options={"seed": 7}, hparams={"seed": n})
    assert table_of(tmp_path).columns == ["hparams.seed"]


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        (["lr<0.1"], "b"),
        (["lr <= 1e-1"], "ab"),
        (["lr!=0.1"], "bc"),
        (["lr=0.10"], "a"),
        (["lr=None"], "c"),
        (["state=ended", "val_loss<0.6"], "b"),
        (["reason=error"], "c"),
        (["val_loss>=0.6"], "a"),
        (["run>b"], "c"),
    ],
)
def test_where(tmp_path: Path, conditions: list[str], left: str) -> None:
    write_run(tmp_path / "a", lr=0.1, losses=(3.0, 1.0, 2.0))
    write_run(tmp_path / "b", lr=0.01, losses=(0.5,))
    write_run(tmp_path / "c", lr=None, losses=(), reason="error")
    assert "".join(run.name for run in table_of(tmp_path).where(conditions).runs) == left


def test_a_name_that_no_run_has_and_a_condition_without_a_comparison_are_errors(tmp_path: Path) -> None:
    table = table_of(write_run(tmp_path / "a").parent)
    with pytest.raises(UsageError, match=r"val_los: no run has .* Did you mean val_loss"):
        table.in_order("val_los")
    with pytest.raises(UsageError, match=r"--where lr: write a name, =, !=, <"):
        table.where(["lr"])
    with pytest.raises(UsageError, match=r"--metric acc: no run has recorded it. They have val_loss."):
        table_of(tmp_path, metric="acc")


def test_the_best_value_is_that_of_the_monitored_metric_in_its_mode(tmp_path: Path) -> None:
    rule = {"early_stop_callback": {"monitor": "val_loss", "mode": "max"}}
    write_run(tmp_path / "a", losses=(1.0, 3.0, 2.0, math.nan), options=rule)
    write_run(tmp_path / "b", losses=(1.0, 2.0))
    table = table_of(tmp_path)
    assert (table.metric, table.mode, [table.best(run) for run in table.runs]) == ("val_loss", "max", [3.0, 2.0])
    assert table.best_run is table.runs[0]
    assert table_of(tmp_path, mode="min").best(table.runs[1]) == 1.0


@pytest.mark.parametrize(("score", "mode"), [(3.0, "max"), (1.0, "min")])
def test_without_early_stopping_the_score_of_the_best_checkpoint_says_what_is_better(
    tmp_path: Path, score: float, mode: str
) -> None:
    folder = write_run(tmp_path / "a", losses=(1.0, 3.0, 2.0))
    text = (
        (folder / "end.json").read_text().replace("{", f'{{"best_checkpoint": {{"monitor": "val_loss", "score": {score}}},', 1)
    )
    (folder / "end.json").write_text(text)
    assert table_of(tmp_path).mode == mode


def test_damaged_foreign_and_unknown_folders_are_told_apart(tmp_path: Path) -> None:
    write_run(tmp_path / "intact")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "file").write_text("")
    write_run(tmp_path / "future", format=99)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    for name, contents in (("odd", '{"epoch": [], "step": {}, "time": "x", "wall_seconds": []}'), ("odder", "[1]")):
        (write_run(tmp_path / name, options={"seed": {"": [1]}}) / "end.json").write_text(contents)
    found, damaged = runs_of(tmp_path, NOW)
    assert {run.name for run in found} == {"intact", "odd", "odder"}
    assert set(damaged) == {"future", "damaged"}
    assert "has format 99" in damaged["future"]
    assert run_table(found).columns == ["seed."] or run_table(found).columns


def test_runs_that_run_ended_stopped_failed_and_were_killed(tmp_path: Path) -> None:
    reasons = {"ended": "max_epochs", "stopped": "requested", "failed": "error", "killed": None, "running": None}
    for name, reason in reasons.items():
        write_run(tmp_path / name, reason=reason)
    lock = lock_folder(tmp_path / "running")
    assert lock is not None
    try:
        assert all(run.outcome == run.name for run in table_of(tmp_path).runs)
    finally:
        lock.release()


def test_names_numbers_ranges_and_folders_name_runs_each_once(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "baseline-2"):
        write_run(tmp_path / "runs" / name)
    write_run(tmp_path / "others" / "x")

    def names(*typed: str) -> list[str]:
        return [run.name for run in named_runs(typed, tmp_path / "runs", NOW)[0]]

    assert names("2-3", "3", "baseline-2") == ["2", "3", "baseline-2"]
    assert names(str(tmp_path / "others"), "1") == ["x", "1"]
    assert sorted(names()) == ["1", "2", "3", "baseline-2"]
    with pytest.raises(UsageError, match="there is no run 4"):
        names("2-4")
