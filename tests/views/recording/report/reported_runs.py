"""Run folders to report, and the parsed pages of their reports."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fsmtrain import Machine, Options, build
from fsmtrain.core.sizes import Sizes
from fsmtrain.loop import Loop
from fsmtrain.views.recording.files.json_values import json_document, json_line, json_number
from fsmtrain.views.recording.read_run_folder import read_run_folder
from fsmtrain.views.recording.report.page import render_page
from fsmtrain.views.recording.run_metadata import table_json
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches

NOW = datetime.fromisoformat("2026-01-02T04:00:00+00:00")
VOID = {"meta", "link"}


class Page(HTMLParser):
    """A page, taken apart. `wrong` are elements that are not closed, or closed twice."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.wrong: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # element, name, value
        self.texts: dict[str, list[str]] = {}  # by the element that they stand in
        self._open: list[str] = []
        self._shown: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)
        if not {"script", "style"} & set(self._open):
            self._shown.append(data)

    @property
    def text(self) -> str:
        """All that a person reads."""
        return " ".join(" ".join(self._shown).split())

    @property
    def numbers(self) -> Any:
        """The numbers behind the charts."""
        return json.loads(self.texts["script"][0])

    @property
    def series(self) -> dict[str, Any]:
        """The series of all charts by name."""
        return {series["name"]: series for chart in self.numbers["charts"] for series in chart["series"]}


def read_page(folder: Path) -> Page:
    """The report of a folder."""
    return Page(render_page(read_run_folder(folder), NOW))


def record_run(runs: Path, model: Any = None, *, train: int = 6, val: int = 2, test: int = 0, **flags: Any) -> Machine:
    """A machine that has not run yet, writes its run down, and shows nothing."""
    callbacks = flags.pop("callbacks", ())
    given = {"max_nb_epochs": 2, "quiet": True, "device": "cpu", "runs_dir": runs, "val_check_interval": 3}
    loaders: dict[str, Any] = {"train_dataloader": NumberedBatches(train), "val_dataloaders": NumberedBatches(val)}
    if test:
        loaders["test_dataloaders"] = NumberedBatches(test)
    return build(Options(**{**given, **flags}), model or LoggingModel(), callbacks=callbacks, **loaders)


def write_run_folder(
    folder: Path, rows: Iterable[dict[str, Any]], *, timeline: Iterable[dict[str, Any]] = (), **facts: Any
) -> Path:
    """A folder that holds what it is given, in the documented format, of a run that has not ended."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(json_document({"format": 1, "name": folder.name, "model": {"class": "Model"}, **facts}))
    (folder / "metrics.jsonl").write_bytes(b"".join(map(json_line, rows)))
    (folder / "timeline.jsonl").write_bytes(b"".join(map(json_line, timeline)))
    return folder


def metrics_row(
    step: int, values: dict[str, float], *, kind: str = "train", batches: int = 1, epoch: int = 0
) -> dict[str, Any]:
    """A row of metrics."""
    position = {"kind": kind, "time": float(step), "epoch": epoch, "batch": step, "step": step}
    more = {"batches": batches, "lr": [0.1]} if kind == "train" else {}
    return {**position, **more, "values": {name: json_number(value) for name, value in values.items()}}


def write_million_batch_folder(folder: Path, metrics: int = 6) -> Path:
    """The folder of a long run, as large as the writer lets one become: 10,000 rows, 2,000 lines, 1,000 validations."""
    chance = random.Random(0)
    rows = []
    for n in range(10_000):
        step = (n + 1) * 100
        losses = {f"metric {i}": math.exp(-n / 3000) + chance.random() for i in range(metrics)}
        rows.append(metrics_row(step, losses, batches=100, epoch=n // 100) | {"lr": [1e-3 * 0.999**n, 1e-2 * 0.999**n]})
        if n % 10 == 9:
            rows.append(metrics_row(step, {"val_loss": math.exp(-n / 3000)}, kind="validation", epoch=n // 100))
    loop = Loop(Options(max_nb_epochs=100, accumulate_grad_batches=2), Sizes(train=10_000, val=[10], optimizers=2))
    states = [state.value for state in loop.table.states if not state.is_final]
    spent = dict.fromkeys(states, 0.0)
    timeline = []
    for n in range(2_000):
        for state in states:
            spent[state] += chance.random()
        times = {state: [500 * n, round(seconds, 6)] for state, seconds in spent.items()}
        timeline.append({"time": 10.0 * (n + 1), "epoch": n // 20, "step": 500 * n, "states": times})
    write_run_folder(folder, rows, timeline=timeline)
    (folder / "table.json").write_bytes(json_document(table_json(loop.spec)))
    last = {"format": 1, "written": "2026-01-02T03:00:00+00:00", "state": "fetch", **timeline[-1]}
    (folder / "status.json").write_bytes(json_document({**last, "row_counts": [7] * len(loop.table)}))
    return folder
