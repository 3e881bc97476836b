"""The command ``report``."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path

import pytest

from tests.cli.conftest import Run

FIT = "fit mine.py:Model --max_nb_epochs 1 --quiet"


def test_the_newest_run_is_reported_where_none_is_named(run: Run, folder: Path) -> None:
    run(f"{FIT} --run_name zero")
    run(f"{FIT} --run_name another")
    os.utime(folder / "runs/zero/run.json", (1, 1))
    result = run("report")
    assert (result.code, result.out, result.err) == (0, f"{Path('runs/another/report.html')}\n", "")
    assert "run another" in (folder / "runs/another/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("typed", ["runs/0", "0", "0 --runs_dir runs"])
def test_a_run_is_a_folder_or_the_name_of_one(run: Run, folder: Path, typed: str) -> None:
    run(FIT)
    run(FIT)
    assert run(f"report {typed} --out deep/page.html").out == f"{Path('deep/page.html')}\n"
    assert "run 0" in (folder / "deep/page.html").read_text(encoding="utf-8")


def test_what_is_no_run_is_one_message_and_exit_code_two(run: Run, folder: Path) -> None:
    assert run("report").err == "error: there is no run in runs. Name a run folder, or pass --runs_dir.\n"
    run(FIT)
    for typed, said in (
        ("7", "error: there is no run 7: it is neither a run folder nor a run in runs; runs has 0.\n"),
        (".", "error: . is not a run folder: it has no run.json.\n"),
        ("0 --runs_dir none", "error: there is no run 0: it is neither a run folder nor a run in none; none has no runs.\n"),
    ):
        result = run(f"report {typed}")
        assert (result.code, result.out, result.err) == (2, "", said)
    (folder / "file").write_text("")
    assert run("report 0 --out file/page.html").code == 2


def test_open_shows_it_in_the_browser(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    run(FIT)
    run("report")
    assert shown == []
    run("report --open")
    assert shown == [(folder / "runs/0/report.html").as_uri()]
