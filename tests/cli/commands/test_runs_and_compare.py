"""The commands ``runs`` and ``compare``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

FIT = "fit mine.py:Whole --max_nb_epochs 1 --quiet"


def test_real_runs_are_listed_by_what_differs_and_compared_on_one_page(run: Run, folder: Path) -> None:
    run(f"{FIT} --hparams lr=0.1 --run_name first")
    run(f"{FIT} --hparams lr=0.5 --run_name second --accumulate_grad_batches 3")
    listed = run("runs")
    head, second, first, note, left_out = listed.out.splitlines()
    assert left_out.startswith("not shown: ")
    assert (listed.code, listed.err) == (0, "")
    assert head.split()[:6] == ["run", "state", "steps", "time", "best", "val_loss"]
    assert head.split()[6:] == ["accumulate_grad_batches", "lr", "epochs", "started"]
    assert second.split()[0] == "second"
    assert first.split()[0] == "first"
    assert note.startswith("* the best of all")
    filtered = run("runs --where lr=0.1 --json")
    content = json.loads(filtered.out)
    assert [each["run"] for each in content["runs"]] == ["first"]
    assert content["runs"][0]["settings"]["lr"] == 0.1
    page = run("compare second first --out page.html")
    assert (page.code, page.out) == (0, "page.html\n")
    text = (folder / "page.html").read_text(encoding="utf-8")
    assert text.index("</i>second<") < text.index("</i>first<")


def test_what_cannot_be_listed_is_one_message_and_exit_code_two(run: Run, folder: Path) -> None:
    assert run("runs").code == 2
    (folder / "runs").mkdir()
    assert run("runs").out == "no run in runs\n"
    assert run("compare").err == "error: compare: there is no run to compare.\n"
    run(f"{FIT} --hparams lr=0.1")
    for typed in (
        "runs --where lr",
        "runs --sort nothing",
        "runs --metric nothing",
        "compare 7",
        "compare 0 --out mine.py/x.html",
    ):
        result = run(typed)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: ")


def test_the_folder_of_all_runs_is_named_as_in_other_commands_too(run: Run, folder: Path) -> None:
    run(f"{FIT} --hparams lr=0.1 --runs_dir B")
    assert run("runs --runs_dir B").out == run("runs B").out != ""
    both = run("runs B --runs_dir B")
    assert (both.code, both.err.count("\n")) == (2, 1)
    assert run("runs B --columns lr,state,val_loss").out.splitlines()[0].split() == ["run", "lr", "state", "val_loss"]
    assert run("runs B --sort stats").err.endswith("Did you mean state, started, steps?\n")
    nope = run("runs B --sort qqqq").err
    assert nope.startswith("error: --sort qqqq: no run has")
    assert len(nope) < 300
