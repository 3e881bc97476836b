"""The report of a run: its contents, and that damaged folders and hostile names do no harm."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import EarlyStopping, Machine, Trainer, TrainingModule
from fsmtrain.errors import MissingExtraError, UsageError
from fsmtrain.views.diagrams import svg_png
from fsmtrain.views.number_format import duration
from fsmtrain.views.recording.read_run_folder import read_run_folder
from fsmtrain.views.recording.report.page import write_report
from fsmtrain.views.recording.report.sections import diagram
from tests.models import Adversaries, batches, machine_of
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches, read_json
from tests.views.recording.report.reported_runs import (
    Page,
    metrics_row,
    read_page,
    record_run,
    write_million_batch_folder,
    write_run_folder,
)


def reported(machine: Machine) -> Page:
    """Run a machine to its end and return its report."""
    machine.run()
    assert machine.run_dir is not None
    return read_page(machine.run_dir)


# ---- the page


def check_page(page: Page) -> None:
    """Assert what holds for every page: elements are closed, nothing is loaded, and only its own script runs."""
    assert page.wrong == []
    assert page.source.startswith("<!doctype html>\n")
    leads = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "srcset", "data")]
    assert leads == ["data:,"]  # the icon that browsers would ask for
    style = " ".join([*page.texts["style"], *(value for _, name, value in page.attributes if name == "style")])
    assert not re.search(r"url\(|@import|expression", style)
    [policy] = [value for element, name, value in page.attributes if element == "meta" and value.startswith("default-src")]
    assert policy.startswith("default-src 'none'; ")
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert len(page.texts["script"]) == 2


def test_a_report_is_one_page_that_loads_nothing_else(tmp_path: Path) -> None:
    page = reported(record_run(tmp_path, test=3))
    check_page(page)
    for title in ("Metrics", "Configuration", "State machine", "Time by state", "Curves", "Optimizer steps"):
        assert title in page.texts["h2"]


def test_the_header_has_the_stop_reason_and_the_wall_time(tmp_path: Path) -> None:
    machine = record_run(tmp_path)
    page = reported(machine)
    assert "All epochs are done; raise max_nb_epochs to train longer." in page.text
    assert machine.run_dir is not None
    recorded = read_run_folder(machine.run_dir).end["wall_seconds"]  # rounded
    assert recorded == pytest.approx(machine.wall_seconds, rel=0.01, abs=0.01)
    assert f"time {duration(recorded)} epoch 2 of 2 batches 12 steps 12 validations 4" in page.text


def test_the_report_lists_model_options_sizes_and_device(tmp_path: Path) -> None:
    page = reported(record_run(tmp_path, accumulate_grad_batches=4, seed=7))
    for text in ("LoggingModel, 2 parameters", "accumulate_grad_batches=4", "SGD", "6 train batches", "cpu, precision 32"):
        assert text in page.text
    assert re.search(r"seed 7\b", page.text)


def test_a_curve_ends_at_the_last_value_of_its_metric(tmp_path: Path) -> None:
    page = reported(record_run(tmp_path, test=3, accumulate_grad_batches=4))
    end = read_json(tmp_path / "0" / "end.json")["metrics"]
    assert {"loss", "twice", "val_loss"} < end.keys()
    for name in ("loss", "twice", "val_loss"):
        assert page.series[name]["y"][-1] == end[name]
    assert "test_loss" in page.text
    for name, value in end.items():
        assert f"{name} {value:.4g}" in page.text.replace(" monitored", "")


def test_the_last_value_is_that_of_end_json_even_if_rows_are_means(tmp_path: Path) -> None:
    folder = write_run_folder(tmp_path / "0", [metrics_row(step, {"loss": 0.5}, batches=100) for step in (99, 199)])
    (folder / "end.json").write_text(json.dumps({"sentence": "all is done", "metrics": {"loss": 0.25}}))
    assert "loss 0.25 0.5 step 99 0.5 step 99 Training values are means over up to 100 batches." in read_page(folder).text


def test_the_timeline_of_a_short_run_shows_every_batch(tmp_path: Path) -> None:
    page = reported(record_run(tmp_path, accumulate_grad_batches=2))
    loss = page.series["loss"]
    grid = page.numbers["grids"][loss["grid"]]
    assert loss["y"] == 2 * [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert grid["step"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert grid["x"] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5]
    assert grid["epoch"] == [*(6 * [0]), *(6 * [1])]
    assert "low" not in loss


def test_a_train_and_val_loss_share_one_chart_and_so_do_losses_of_two_optimizers(tmp_path: Path) -> None:
    page = reported(record_run(tmp_path))
    assert [[series["name"] for series in chart["series"]] for chart in page.numbers["charts"][:2]] == [
        ["loss", "val_loss"],
        ["twice"],
    ]
    adversaries = machine_of(Adversaries(), batches(8), runs_dir=tmp_path / "two", max_nb_epochs=1)
    page = reported(adversaries)
    charts = [[series["name"] for series in chart["series"]] for chart in page.numbers["charts"]]
    assert charts[:2] == [["loss/0", "loss/1"], ["optimizer 0", "optimizer 1"]]
    assert page.series["optimizer 1"]["y"][-1] == 0.1
    assert "0 Adam 4 4 4 of 1 backward" in page.text
    assert "1 SGD 4 4 4 of 1 backward" in page.text


def test_the_report_compares_the_plan_with_what_happened(tmp_path: Path) -> None:
    page = reported(record_run(tmp_path, accumulate_grad_batches=4))
    assert "0 SGD 4 4 2 of 4 backwards, 2 of 2" in page.text
    assert "As planned: 4 steps, 4 validations." in page.text
    stopping = EarlyStopping(monitor="val_loss", patience=1)
    page = reported(record_run(tmp_path / "early", max_nb_epochs=9, early_stop_callback=stopping))
    assert "Of the plan: 6 of 54 steps, 2 of 18 validations." in page.text
    assert "The monitored metric stopped improving" in page.text


def test_the_diagram_shows_the_table_and_the_row_counts_of_the_run(tmp_path: Path) -> None:
    machine = record_run(tmp_path)
    page = reported(machine)
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {"state-train_batch", "state-val_check", "stop-request"} <= ids
    for index, (case, taken) in enumerate(zip(machine.loop.table, machine.trace.taken, strict=True)):
        assert read_json(tmp_path / "0" / "table.json")["rows"][index]["source"] == str(case.source)
        assert read_json(tmp_path / "0" / "end.json")["row_counts"][index] == taken
    assert "12×" in page.text


def test_without_the_draw_extra_the_transitions_are_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        raise MissingExtraError("draw: not installed")

    machine = record_run(tmp_path)
    machine.run()
    monkeypatch.setattr(diagram, "svg", missing)
    page = read_page(tmp_path / "0")
    check_page(page)
    assert "pip install 'fsmtrain[draw]'" in page.text
    assert ("details", "open", "") in page.attributes
    assert "fetch train_batch 12×" in page.text
    assert svg_png.svg is not missing


def test_the_monitored_metric_and_its_best_value_are_marked(tmp_path: Path) -> None:
    rule = EarlyStopping(monitor="val_loss", patience=3)
    page = reported(record_run(tmp_path, early_stop_callback=rule))
    assert "val_loss monitored 0.5 0.5 step 3 0.5 step 3" in page.text
    assert [value for element, name, value in page.attributes if (element, name) == ("b", "class")].count("best") == 1


# ---- runs that did not come to their end


class Failing(LoggingModel):
    """Fails in its ninth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen += 1
        if self.seen == 9:
            raise RuntimeError("no <luck> & no 'way'")
        return super().training_step(batch, batch_nb)


def test_an_error_is_shown_with_its_last_transitions(tmp_path: Path) -> None:
    machine = record_run(tmp_path, Failing())
    with pytest.raises(RuntimeError, match="luck"):
        machine.run()
    machine.report(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    check_page(page)
    assert "RuntimeError in the state train_batch." in page.text
    assert "RuntimeError : no <luck> & no 'way'" in page.text
    assert "the last transitions, epochs and batches counted from 0:" in page.text
    assert "in training_step" in page.text  # the traceback


def killed(tmp_path: Path) -> Path:
    """The folder of a run whose process was killed in the middle of a line."""
    record_run(tmp_path).run()
    folder = tmp_path / "0"
    (folder / "end.json").unlink()
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write('{"kind":"train","time":0.0632,"ep')
    return folder


def test_the_report_of_a_killed_run_shows_how_far_it_went(tmp_path: Path) -> None:
    page = read_page(killed(tmp_path))
    check_page(page)
    assert "killed" in page.texts["b"]
    assert "The run has not ended by itself: its process was killed." in page.text
    assert "Last recorded progress: state done, " in page.text
    assert "metrics.jsonl: 1 damaged line was skipped." in page.text
    assert page.series["loss"]["y"][-1] == 5.0
    assert "12×" in page.text


@pytest.mark.parametrize("name", ["table.json", "status.json", "end.json", "metrics.jsonl", "timeline.jsonl", "log.txt"])
def test_only_run_json_is_required_and_other_files_may_be_damaged(tmp_path: Path, name: str) -> None:
    record_run(tmp_path).run()
    path = tmp_path / "0" / name
    for content in (b'{"format": 1, "sta', b"\xff\xfe\0[1]\n7\n", b"[]", b"{}", None):
        path.write_bytes(content) if content is not None else path.unlink()
        check_page(read_page(tmp_path / "0"))


def test_a_run_that_was_killed_at_once_has_a_report(tmp_path: Path) -> None:
    page = read_page(write_run_folder(tmp_path / "0", []))
    check_page(page)
    assert "It has not recorded any progress." in page.text


# ---- numbers that are none, names that are none


def test_a_nan_loss_is_a_gap_in_the_curve_and_a_warning(tmp_path: Path) -> None:
    losses = [1.0, 0.5, math.nan, math.inf, 0.25, math.nan]
    page = read_page(write_run_folder(tmp_path / "0", [metrics_row(step, {"loss": loss}) for step, loss in enumerate(losses)]))
    assert page.series["loss"]["y"] == [1.0, 0.5, None, None, 0.25, None]
    assert "loss was not finite, first at step 2." in page.text
    assert "loss: 4 rows" not in page.text
    assert "loss: 3 rows not finite, first at step 2." in page.text
    assert "loss nan" in page.text


SCRIPT, ATTRIBUTE = "</script><script>alert(1)</script>", "\" onload='alert(1)' x=\""
HOSTILE = [SCRIPT, ATTRIBUTE, "<!--", "]]>", "a\nb\0\ud800", "__proto__", "&lt;", ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(tmp_path: Path, name: str) -> None:
    facts = {
        "model": {"class": name, "parameters": 1},
        "options": {name: name, "precision": name, "early_stop_callback": {"monitor": name, "mode": "min"}},
        "non_defaults": [name],
        "command": [name],
        "git_commit": name,
        "optimizers": [name],
        "versions": {name: name},
        "guards": {"step": {"0": name}, name: name},
    }
    rows = [metrics_row(step, {name: 1.0 / step, f"val_{name}": 2.0}) for step in (1, 2, 3)]
    times = [{"time": 1.0, "states": {name: [1, 0.5], "step": [1, 0.5]}}]
    folder = write_run_folder(tmp_path / "0", rows, timeline=times, **facts)
    cases = [{"source": "fetch", "to": "train_batch", "label": name}]
    for file, content in {
        "table.json": {"format": 1, "states": [name], "rows": cases},
        "status.json": {"format": 1, "written": name, "state": name, "row_counts": [3], "states": times[0]["states"]},
        "end.json": {
            "format": 1,
            "sentence": name,
            "reason": "error",
            "metrics": {name: 1.0},
            "optimizer_steps": [1],
            "error": {"type": name, "message": name, "notes": [name], "traceback": name},
        },
    }.items():
        (folder / file).write_text(json.dumps(content))
    (folder / "log.txt").write_text(f"2026-01-01 00:00:00  warning: {name}\n", errors="replace")
    page = read_page(folder)
    check_page(page)
    assert "alert(1)" not in page.texts["script"][1]
    assert name in page.series


def test_warnings_are_listed_and_equal_ones_once(tmp_path: Path) -> None:
    folder = write_run_folder(tmp_path / "0", [])
    log = "2026-01-01 00:00:00  warning: a\n    b\n2026-01-01 00:00:00  error: c\n2026-01-01 00:00:01  epoch 1\n" * 2
    (folder / "log.txt").write_text(log)
    page = read_page(folder)
    assert page.texts["li"] == ["a\nb (2 times)", "c (2 times)"]


# ---- how large it gets


@pytest.mark.slow
@pytest.mark.parametrize("metrics", [6, 60])
def test_a_run_of_a_million_batches_fits_a_page_of_under_two_megabytes(tmp_path: Path, metrics: int) -> None:
    page = read_page(write_million_batch_folder(tmp_path / "0", metrics))
    check_page(page)
    assert len(page.source.encode()) < 2_000_000
    loss = page.series["metric 0"]
    grid = page.numbers["grids"][loss["grid"]]
    assert sum(grid["n"]) == 1_000_000
    assert (grid["step"][-1], grid["n"][-1]) == (1_000_000, 100)
    assert len(loss["y"]) <= 1_500


# ---- asked of a machine


def test_a_machine_reports_its_own_run_also_while_it_goes_on(tmp_path: Path) -> None:
    class Reporting:
        def on_epoch_end(self, machine: Machine) -> None:
            machine.report(tmp_path / "meanwhile" / f"{machine.counters.current_epoch}.html")

    machine = record_run(tmp_path, callbacks=[Reporting()])
    machine.run()
    meanwhile = Page((tmp_path / "meanwhile" / "0.html").read_text(encoding="utf-8"))
    assert "running" in meanwhile.texts["b"]
    machine.report(tmp_path / "report.html")
    assert "All epochs are done" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_of_an_unrecorded_run_is_an_error_that_names_runs_dir(tmp_path: Path) -> None:
    machine = record_run(tmp_path, runs_dir=None)
    machine.run()
    with pytest.raises(UsageError, match=r"runs_dir=None: nothing is recorded, and .* Leave runs_dir at its default"):
        machine.report(tmp_path / "report.html")
    with pytest.raises(UsageError, match="nothing is recorded yet"):
        record_run(tmp_path).report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_folder_without_run_json_and_an_unknown_format_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a run folder: it has no run\.json"):
        write_report(tmp_path, tmp_path / "report.html")
    (tmp_path / "run.json").write_text('{"format": 2}')
    with pytest.raises(UsageError, match="has format 2; this version of fsmtrain reads format 1"):
        write_report(tmp_path, tmp_path / "report.html")
    (tmp_path / "run.json").write_text('{"form')
    with pytest.raises(UsageError, match=r"run\.json is damaged"):
        write_report(tmp_path, tmp_path / "report.html")


def test_a_test_after_the_fit_is_in_the_report(tmp_path: Path) -> None:
    trainer = Trainer(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=tmp_path)
    model: TrainingModule = LoggingModel()
    trainer.fit(model, NumberedBatches(3))
    trainer.test(test_dataloaders=NumberedBatches(4))
    assert "test_loss 1.5" in read_page(tmp_path / "0").text
