"""The table of runs as text: which columns, in which order, within the width of a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsmtrain.errors import UsageError
from fsmtrain.views.recording.comparison.text_table import as_text
from tests.views.recording.comparison.compared_runs import table_of, write_run

STOPPING = {"monitor": "val_loss", "patience": 3, "mode": "min", "min_delta": 0.0}


def seven(folder: Path) -> Any:
    for n in range(7):
        rule = None if n == 0 else {**STOPPING, "patience": 3 + n % 2}
        plan, guards = {"global_step": n}, {"save": f"guard_{n}"}
        write_run(
            folder / f"run-{n}",
            lr=0.1 * n,
            options={"seed": n % 2, "early_stop_callback": rule},
            plan=plan,
            guards=guards,
            git_commit="a" * n,
        )
    return table_of(folder)


def test_how_a_run_went_comes_first_then_what_was_typed_the_most_telling_first(tmp_path: Path) -> None:
    head = as_text(seven(tmp_path), {}).splitlines()[0].split()
    assert head[:6] == ["run", "state", "steps", "time", "best", "val_loss"]
    assert head[6] == "lr"
    assert sorted(head[7:]) == ["early_stop_callback", "early_stop_callback.patience", "epochs", "seed", "started"]
    assert "guards.save" in as_text(seven(tmp_path), {}, shows_all=True).splitlines()[0]


@pytest.mark.parametrize("width", range(30, 200, 5))
def test_no_line_is_wider_than_the_terminal_and_what_is_left_out_is_said(tmp_path: Path, width: int) -> None:
    table = seven(tmp_path)
    whole, *lines = as_text(table, {}, width=width).splitlines()
    rows = [line for line in (whole, *lines) if line.startswith("run")]
    assert len(rows) == 8
    assert all(len(line) <= width for line in rows)
    assert sum(line.startswith("not shown: ") for line in lines) == 1
    assert whole.startswith("run    state")


def test_chosen_columns_are_those_alone(tmp_path: Path) -> None:
    head, *_ = as_text(seven(tmp_path), {}, columns=["lr", "state", "guards.save"], width=10).splitlines()
    assert head.split() == ["run", "lr", "state", "guards.save"]
    with pytest.raises(UsageError, match=r"--columns lrr: .*Did you mean lr"):
        as_text(seven(tmp_path), {}, columns=["lrr"])
