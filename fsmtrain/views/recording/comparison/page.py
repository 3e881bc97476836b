"""`write_comparison`: one HTML page about several runs: what differs, the best values, and the curves over each other."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from fsmtrain.errors import UsageError
from fsmtrain.plurals import plural
from fsmtrain.views.recording.comparison.curves import STYLES, XAxis, curves_section, run_class
from fsmtrain.views.recording.comparison.run_facts import RunFacts
from fsmtrain.views.recording.comparison.run_table import RunTable
from fsmtrain.views.recording.comparison.text_table import cell, cells, headings
from fsmtrain.views.recording.report.elements.charts import ChartData
from fsmtrain.views.recording.report.elements.html import Markup, join, table_element, tag
from fsmtrain.views.recording.report.elements.html_page import html_page, write_page

_HERE = Path(__file__).parent
# Of the hue circle, so that neighbours in the table differ most.
_HUES = (255, 45, 150, 330, 85, 205, 15, 285, 120, 180)


def write_comparison(
    table: RunTable, path: str | os.PathLike[str], *, x_axis: XAxis = "step", damaged: Mapping[str, str]
) -> None:
    """Write the page.

    Args:
        table: The runs.
        path: The HTML file. Its folder is created if it is missing.
        x_axis: What the curves are drawn over.
        damaged: For each run that cannot be read, why.

    Raises:
        UsageError: There is no run, or the file cannot be written.
    """
    if not table.runs:
        raise UsageError("compare: there is no run to compare.")
    write_page(path, render_comparison(table, datetime.now().astimezone(), x_axis=x_axis, damaged=damaged))


def render_comparison(table: RunTable, now: datetime, *, x_axis: XAxis, damaged: Mapping[str, str]) -> str:
    """Return the page. `now` is when it is made."""
    data = ChartData()
    count = plural(len(table.runs), "run")
    folders = ", ".join(dict.fromkeys(str(run.record.path.absolute().parent) for run in table.runs))
    header = tag(
        "header", tag("p", "from ", folders, class_="run-name"), tag("h1", count), tag("p", _summary(table), class_="outcome")
    )
    sections = [header, _damage(damaged), _runs(table), curves_section(table, x_axis, data), _others(table), _common(table)]
    footer = tag("footer", f"Made by fsmtrain, {now:%Y-%m-%d %H:%M:%S %z}.")
    content = join(section for section in (*sections, footer) if section)
    css = (_HERE / "compare.css").read_text(encoding="utf-8") + _run_css()
    return html_page(f"Comparison of {count}", content, data, extra_css=css, extra_script=_HERE / "compare.js")


def _summary(table: RunTable) -> Markup:
    best = table.best_run
    if best is None:
        return Markup("")
    which = "least" if table.mode == "min" else "greatest"
    values = ", ".join(f"{name}={cell(table.setting(best, name))}" for name in table.typed_columns)
    return join(
        [tag("b", best.name), f" has the {which} {table.metric}: {table.best(best):.4g}{f' ({values})' if values else ''}."]
    )


def _damage(damaged: Mapping[str, str]) -> Markup | None:
    if not damaged:
        return None
    items = join(tag("li", f"{name}: {why}") for name, why in damaged.items())
    return tag("section", tag("h2", "Left out"), tag("ul", items), class_="warnings")


def _runs(table: RunTable) -> Markup:
    """Return the table of runs: a row for each, in the colour of its curves."""
    columns = table.typed_columns
    names = headings(table, columns)
    metric = names.index(f"best {table.metric}") if table.metric else -1
    ranked = sorted((table.best(run) for run in table.runs if math.isfinite(table.best(run))), reverse=table.mode == "max")
    rows = []
    for index, run in enumerate(table.runs):
        texts = cells(table, run, columns)
        first = tag("th", tag("i", class_=f"swatch {run_class(index)}"), texts[0], scope="row")
        others = [_cell(text, run, table, ranked if n == metric else None) for n, text in enumerate(texts) if n]
        rows.append(tag("tr", first, *others, data_run=index, tabindex="0"))
    text = "Flags and hyperparameters in which the runs do not differ are not shown." if len(table.runs) > 1 else ""
    help_text = tag("span", " Click a heading to sort.", class_="help", hidden=True)
    heads = [tag("th", name, scope="col", data_column=n) for n, name in enumerate(names)]
    return tag(
        "section", tag("h2", "Runs"), tag("p", text, help_text, class_="note"), table_element(heads, rows, class_="runs")
    )


def _cell(text: str, run: RunFacts, table: RunTable, ranked: list[float] | None) -> Markup:
    """Return a cell; one with a value of the metric has its place among all as a bar: the best is the longest."""
    if ranked is None:
        return tag("td", text, class_="words" if text and not _is_number(text) else None)
    value = table.best(run)
    if not math.isfinite(value):
        return tag("td", text)
    share = 1 - ranked.index(value) / len(ranked)
    is_best = run is table.best_run
    bar = tag("span", tag("i", style=f"width:{share:.0%}"), class_="bar")
    return tag(
        "td", tag("b", text, class_="value best") if is_best else tag("span", text, class_="value"), bar, class_="ranked"
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _others(table: RunTable) -> Markup | None:
    """Return the differences that follow from what was typed, or are of the machine: a row for each, a column for each run."""
    names = [name for name in table.columns if name not in table.typed_columns]
    rows = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", tag("code", cell(run.settings.get(name)))) for run in table.runs))
        for name in names
    ]
    content = tag(
        "details", tag("summary", "guards, sizes, plan, versions"), table_element(["", *(r.name for r in table.runs)], rows)
    )
    return tag("section", tag("h2", "Other differences"), content) if rows else None


def _common(table: RunTable) -> Markup | None:
    """Return what is the same in all runs, except what is the default everywhere."""
    differ = set(table.columns)
    first = table.runs[0].settings
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", tag("code", cell(value))))
        for name, value in first.items()
        if name not in differ and value is not None
    ]
    content = tag("details", tag("summary", "flags, hyperparameters, sizes and plan"), table_element((), rows))
    return tag("section", tag("h2", "The same in all runs"), content) if rows and len(table.runs) > 1 else None


def _run_css() -> str:
    """Return a rule for each style of a run: ten hues, as lines, then dashed."""
    rules: Iterable[str] = (
        f".run{n} {{ --c: oklch(var(--run-l{n // 2 % 2}) var(--run-c) {_HUES[n % len(_HUES)]}deg); }}\n" for n in range(STYLES)
    )
    dashed = ", ".join(f"path.run{n}" for n in range(len(_HUES), STYLES))
    swatches = ", ".join(f".swatch.run{n}, .legend i.run{n}" for n in range(len(_HUES), STYLES))
    return "".join(rules) + f"{dashed} {{ stroke-dasharray: 5 3; }}\n{swatches} {{ border-top-style: dashed; }}\n"
