"""The page about several runs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from fsmtrain.views.recording.comparison.page import render_comparison
from tests.views.recording.comparison.compared_runs import NOW, table_of, write_run
from tests.views.recording.report.reported_runs import Page


def page_of(runs: Path, damaged: dict[str, str] | None = None, **choices: object) -> Page:
    page = Page(render_comparison(table_of(runs), NOW, x_axis=choices.get("x", "step"), damaged=damaged or {}))  # type: ignore[arg-type]
    assert page.wrong == []
    return page


def test_each_run_has_a_row_and_a_curve_of_the_same_colour(tmp_path: Path) -> None:
    for n in range(25):
        write_run(tmp_path / f"run{n:02}", lr=0.1 * n, losses=(2.0, 1.0 + n))
    page = page_of(tmp_path)
    series = page.numbers["charts"][0]["series"]
    assert [each["name"] for each in series] == [f"run{n:02}" for n in range(25)]
    assert [each["y"] for each in series] == [[2.0, 1.0 + n] for n in range(25)]
    lines = re.findall(r'<path class="line (run\d+)" d="[^"]+" data-run="(\d+)"', page.source)
    swatches = re.findall(r'<i class="swatch (run\d+)">', page.source)
    assert {run: style for style, run in lines} == {str(n): style for n, style in enumerate(swatches)}
    assert len({*swatches[:20]}) == 20, "twenty runs are told apart"
    assert "run00 has the least val_loss: 1 (lr=0)." in page.text


@pytest.mark.parametrize("x", ["step", "epoch", "time"])
def test_a_diverged_run_one_of_a_single_point_and_one_without_metrics(tmp_path: Path, x: str) -> None:
    write_run(tmp_path / "a", losses=(1.0, math.nan, math.inf))
    write_run(tmp_path / "b", losses=(2.0,))
    write_run(tmp_path / "c", losses=(), reason=None)
    page = page_of(tmp_path, x=x)
    assert "1 run had values that are not finite." in page.text
    assert re.search(r'<path class="dots run1" d="M[^"]+"', page.source)
    assert "killed" in page.text


def test_nothing_of_a_run_becomes_part_of_the_page_s_structure(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    write_run(tmp_path / "a", lr=evil, options={evil: 1}, hparams={"lr": evil, evil: 2}, model={"class": evil})
    write_run(tmp_path / "b")
    page = page_of(tmp_path, damaged={evil: evil})
    assert evil not in page.source
    assert len(page.texts["script"]) == 2


def test_runs_without_any_metric_or_difference_are_a_page_too(tmp_path: Path) -> None:
    write_run(tmp_path / "a", losses=())
    assert "1 run" in page_of(tmp_path).text
