"""The page: its parts in their order, its looks and its script in it, and nothing that leads out of it."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime
from itertools import groupby
from pathlib import Path

from fsmtrain.errors import UsageError
from fsmtrain.views.diagrams.dot import ACCENT, INK, LINE, NODE, SHEET
from fsmtrain.views.recording.report import config_section, header_section, time_section
from fsmtrain.views.recording.report.axes import Axis, round_up
from fsmtrain.views.recording.report.charts import SHOWN, ChartData, StepAxis, curves_chart, smoothed
from fsmtrain.views.recording.report.curves import Curve, Row, curves, families, positions
from fsmtrain.views.recording.report.html import Markup, data, joined, tag
from fsmtrain.views.recording.report.read_run_folder import Recorded, recorded
from fsmtrain.views.recording.report.timeline_section import timeline_chart

HERE = Path(__file__).parent
EPOCHS, CHECKS = 24, 400  # that are marked in a chart, at most

# The colours of the diagram that become the page's own, so that it is dark where the page is.
RECOLOURED = {
    f'polygon[fill="{SHEET}"]': ("fill", "none"),
    f'[fill="{NODE["fillcolor"]}"]': ("fill", "var(--card)"),
    f'[fill="{INK}"]': ("fill", "var(--ink)"),
    f'[stroke="{INK}"]': ("stroke", "var(--ink)"),
    f'[fill="{LINE}"]': ("fill", "var(--dim)"),
    f'[stroke="{LINE}"]': ("stroke", "var(--dim)"),
    f'[fill="{ACCENT}"]': ("fill", "var(--training)"),
    f'[stroke="{ACCENT}"]': ("stroke", "var(--training)"),
}


def report(run_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the report of a run: one HTML file that needs no other, and no network.

    It is made of the run's folder alone, so also of a run that goes on, or whose process was killed.

    Args:
        run_dir: The run's folder.
        path: The file. The folder that it stands in is made where it is missing.

    Raises:
        UsageError: `run_dir` is no run's folder, or the file cannot be written.
    """
    content = page(recorded(Path(run_dir)), datetime.now().astimezone())
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error


def page(run: Recorded, now: datetime) -> str:
    """The page of a run."""
    book = ChartData()
    drawn = curves(run.metrics)
    parts = [
        header_section.heading(run, now),
        header_section.failure(run),
        header_section.warnings(run),
        _section("Metrics", header_section.metrics_table(run)),
        config_section.config_section(run),
        time_section.diagram(run),
        time_section.states(run),
        _charts(run, drawn, book),
        time_section.optimizers(run),
        _section("The states over time", timeline_chart(run.timeline, book)),
        tag("footer", f"Made by fsmtrain of {run.path.resolve()}, {now:%Y-%m-%d %H:%M:%S %z}."),
    ]
    name = f"{(run.run.get('model') or {}).get('class', 'a model')}, run {run.run.get('name') or run.path.name}"
    style = (HERE / "page.css").read_text(encoding="utf-8") + _recolouring()
    script = (HERE / "page.js").read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_digest(script)}'; img-src data:"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", name),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("main", joined(part for part in parts if part)),
        tag("script", data(book.content()), type="application/json", id="numbers"),
        tag("script", Markup(script)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _section(title: str, content: Markup | None) -> Markup | None:
    return None if content is None else tag("section", tag("h2", title), content)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _recolouring() -> str:
    return "".join(f".diagram {what} {{ {name}: {value} }}\n" for what, (name, value) in RECOLOURED.items())


# ---- the charts over the steps


def _charts(run: Recorded, drawn: list[Curve], book: ChartData) -> Markup | None:
    if not drawn:
        return None
    across, last = _across(run.metrics, drawn), header_section.last_metrics(run)
    charts = []
    for title, members in families([curve for curve in drawn if curve.kind != "lr"]).items():
        for first in range(0, len(members), SHOWN):
            charts.append(curves_chart(title, members[first : first + SHOWN], across, book, last=last))
    rates = [curve for curve in drawn if curve.kind == "lr"]
    several = len(rates) > 1
    named = [curve.renamed(f"optimizer {curve.name}" if several else "lr") for curve in rates]
    if named:
        charts.append(curves_chart("learning rate", named, across, book))
    note = "Over global_step. Ticks at the lower edge are checks, faint lines epochs. "
    if any(curve.is_binned for curve in drawn):
        note += "A point is the mean of several batches, the band around it goes from the least to the largest. "
    if any(map(smoothed, drawn)):
        note += "The strong line is a moving mean. "
    help_ = tag("span", "Drag to look closer.", class_="help", hidden=True)
    said = tag("p", note, help_, class_="note")
    return tag("section", tag("h2", "Curves"), said, tag("div", joined(charts), class_="charts"))


def _across(rows: list[Row], drawn: list[Curve]) -> StepAxis:
    """The axis of the steps, with the epochs' beginnings and the checks that are marked on it."""
    places = [(row, x) for row, x in zip(rows, positions(rows), strict=True) if row["kind"] in ("train", "validation")]
    end = max((x for _, x in places), default=1.0)
    axis = Axis(0.0, max(end, 1e-9))
    begins = [(epoch, next(group)[1]) for epoch, group in groupby(places, key=lambda place: int(place[0].get("epoch", 0)))]
    every = max(1, int(round_up(len(begins) / EPOCHS)))
    checks = sorted({round(axis.share(x), 4) for row, x in places if row["kind"] == "validation"})
    return StepAxis(
        axis=axis,
        epochs=tuple(axis.share(x) for epoch, x in begins if epoch and epoch % every == 0),
        checks=tuple(checks) if len(checks) <= CHECKS else (),
    )
