"""`write_report`: assemble the HTML report of a run, one file that loads nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from attrs import evolve

from fsmtrain.errors import DAMAGED_STATE
from fsmtrain.views.diagrams.dot import ACCENT, BACKGROUND, INK, LINE, NODE
from fsmtrain.views.recording.read_run_folder import RunRecord, read_run_folder
from fsmtrain.views.recording.report.elements.charts import ChartData
from fsmtrain.views.recording.report.elements.html import Markup, join, tag
from fsmtrain.views.recording.report.elements.html_page import html_page, write_page
from fsmtrain.views.recording.report.sections import config, curves, diagram, header, metrics, problems, steps, time, timeline

# Colours of the diagram's text and lines -> the page's own, which replace them, so that it is dark on a dark page.
PAGE_COLORS = {INK: "var(--ink)", LINE: "var(--dim)", ACCENT: "var(--blue)"}


def write_report(run_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the report of a run: one HTML file that needs no other file and no network.

    It is made from the run folder alone, so the run may still be running, or its process may have been killed.

    Args:
        run_dir: The run folder.
        path: The HTML file. Its folder is created if it is missing.

    Raises:
        UsageError: `run_dir` is not a run folder, or the file cannot be written.
    """
    write_page(path, render_page(read_run_folder(Path(run_dir)), datetime.now().astimezone()))


def render_page(run: RunRecord, now: datetime) -> str:
    """Return the page. `now` is when the report is made. A section whose data are damaged is left out, and named."""
    data = ChartData()
    rendered: dict[str, Markup | None] = {}
    parts: dict[str, Callable[[], Markup | None]] = {
        "header": lambda: header.header_section(run, now),
        "error": lambda: problems.error_section(run),
        "metrics": lambda: metrics.metrics_section(run),
        "configuration": lambda: config.config_section(run),
        "diagram": lambda: diagram.diagram_section(run),
        "times": lambda: time.time_section(run),
        "curves": lambda: curves.curves_section(run, data),
        "steps": lambda: steps.steps_section(run),
        "timeline": lambda: timeline.timeline_section(run, data),
    }
    for name, make in parts.items():
        try:
            rendered[name] = make()
        except DAMAGED_STATE as error:
            run = evolve(run, damage=(*run.damage, f"The section {name} is left out: its data are damaged ({error!r:.200})."))
    warnings = problems.warnings_section(run)
    first = [rendered.pop(name, None) for name in ("header", "error")]
    footer = tag("footer", f"Made by fsmtrain from {run.path.resolve()}, {now:%Y-%m-%d %H:%M:%S %z}.")
    sections = [*first, warnings, *rendered.values(), footer]
    content = join(section for section in sections if section)
    return html_page(f"{run.model_class}, run {run.name}", content, data, extra_css=_diagram_css())


def _diagram_css() -> str:
    rules = [f'polygon[fill="{BACKGROUND}"] {{ fill: none }}', f'[fill="{NODE["fillcolor"]}"] {{ fill: var(--card) }}']
    rules += [f'[{name}="{ours}"] {{ {name}: {new} }}' for ours, new in PAGE_COLORS.items() for name in ("fill", "stroke")]
    return "".join(f".diagram {rule}\n" for rule in rules)
