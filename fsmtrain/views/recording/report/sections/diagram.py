"""Section "State machine": the state diagram and the table of transitions, with counts."""

from __future__ import annotations

from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import MissingExtraError
from fsmtrain.views.diagrams.diagram_data import DiagramData
from fsmtrain.views.diagrams.svg_png import svg
from fsmtrain.views.diagrams.tally import Tally
from fsmtrain.views.number_format import repeat_count
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.html import Markup, paragraphs, printable, table_element, tag
from fsmtrain.views.recording.report.sections.time import state_times


def diagram_section(run: RunRecord) -> Markup | None:
    """Return the section, without the picture if the extra ``draw`` is missing; None without a table."""
    try:
        diagram = _diagram_data(run)
    except (KeyError, TypeError, ValueError):
        return None  # the table has states that this version does not know
    if diagram is None:
        return None
    tally = _tally(run, diagram)
    note, picture = "", None
    try:
        picture = Markup(svg(diagram, tally))
    except MissingExtraError:
        note = "The diagram is missing, since graphics support is not installed: pip install 'fsmtrain[draw]'."
    counts = [""] * len(diagram.table) if tally is None else map(repeat_count, tally.row_counts)
    rows = [
        tag("tr", *(tag("td", text) for text in (str(row.source), str(row.to), label)), tag("td", count, class_="number"))
        for row, label, count in zip(diagram.table, diagram.labels, counts, strict=True)
    ]
    transitions = table_element(("from", "to", "if", "taken"), rows)
    return tag(
        "section",
        tag("h2", "State machine"),
        paragraphs([note], class_="note"),
        tag("div", picture, class_="diagram", tabindex="0", role="group", aria_label="state diagram") if picture else "",
        tag("details", tag("summary", "transitions as a table"), transitions, open=picture is None),
    )


def _diagram_data(run: RunRecord) -> DiagramData | None:
    rows = run.table.get("rows")
    if not rows:
        return None
    table = Table(tuple(Row(source=State(row["source"]), to=State(row["to"])) for row in rows))
    return DiagramData(table, tuple(printable(row["label"]) for row in rows))


def _tally(run: RunRecord, diagram: DiagramData) -> Tally | None:
    counts = run.last.get("row_counts", run.status.get("row_counts"))
    if not isinstance(counts, list) or len(counts) != len(diagram.table):
        return None
    seconds = {state: timing.seconds for state, timing in state_times(run).items()}
    return Tally(diagram.table, tuple(map(int, counts)), seconds)
