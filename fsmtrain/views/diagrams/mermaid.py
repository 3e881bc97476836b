"""The Mermaid format: state diagrams as text that a README, an issue or a notebook shows as a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fsmtrain.core.states import State
from fsmtrain.views.diagrams.diagram_data import DiagramData, Drawable, diagram_data
from fsmtrain.views.diagrams.edges import FILLS, TITLE, colour_class, count_legend, drawn_edges, join_in_lines, stop_note
from fsmtrain.views.diagrams.tally import Tally, state_numbers

LABEL_COLUMNS, LOOP_COLUMNS, NOTE_COLUMNS = 26, 16, 44  # narrow enough that Mermaid itself breaks no line
CONFIG = ("config:", "  flowchart:", "    wrappingWidth: 360")  # of notes
GREY = "#7a7f87"  # for everything that stands on the page itself, which may be white or black
CLASSES = {
    **{kind: f"fill:{fill},stroke:{fill},color:#ffffff" for kind, fill in FILLS.items()},
    "structural": f"fill:none,stroke:{GREY},color:{GREY}",
}


def mermaid(loop: Drawable, tally: Tally | None = None) -> str:
    """Return the loop as a Mermaid ``stateDiagram-v2``."""
    return "\n".join(_lines(diagram_data(loop), tally)) + "\n"


def _lines(loop: DiagramData, tally: Tally | None) -> Iterator[str]:
    states = loop.table.states
    yield from ("---", f"title: {TITLE}", *CONFIG, "---", "stateDiagram-v2", "    direction TB")
    yield from (f"    classDef {name} {style}" for name, style in CLASSES.items())
    for state in states:
        numbers = "" if tally is None else f'"{state}<br/>{_escape(state_numbers(tally, state))}" as '
        yield f"    state {numbers}{state}"
    yield f"    [*] --> {State.START}"
    for edge in drawn_edges(loop, tally):
        row = edge.row
        text = "<br/>".join(map(_escape, edge.lines(LOOP_COLUMNS if row.source is row.to else LABEL_COLUMNS)))
        yield f"    {row.source} --> {row.to}" + (f" : {text}" if text else "")
    yield from (f"    {state} --> [*]" for state in states if state.is_final)
    heading = join_in_lines(loop.heading, ", ", NOTE_COLUMNS)
    yield from _note(State.START, [*heading, *(count_legend(tally) if tally else [])])
    if State.STOPPED in states:
        yield from _note(State.STOPPED, stop_note(loop, tally))
    for name in CLASSES:
        members = [str(state) for state in states if colour_class(state) == name]
        if members:
            yield f"    class {','.join(members)} {name}"


def _note(state: State, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"    note left of {state}"
        yield from (f"        {_escape(line)}" for line in lines)
        yield "    end note"


def _escape(line: str) -> str:
    """Return a line with what Mermaid would take for its own syntax, such as ``:::`` or ``%%``, as character codes."""
    return re.sub(r'[#;<>"&]|:{3,}|%{2,}', lambda mark: "".join(f"#{ord(character)};" for character in mark[0]), line)
