"""State diagrams in Mermaid's language, which a README, an issue or a notebook can hold as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fsmtrain.core.states import State
from fsmtrain.views.diagrams.diagram_data import DiagramData, Drawable, diagram_data
from fsmtrain.views.diagrams.edges import FILLS, TITLE, arrows, filled, kind, legend, stop_request
from fsmtrain.views.diagrams.tally import Tally, told

LABEL, LOOP, NOTE = 26, 16, 44  # characters in a line, so that Mermaid itself breaks none
CONFIG = ("config:", "  flowchart:", "    wrappingWidth: 360")  # of notes, here
GREY = "#7a7f87"  # for all that stands on the page itself, which may be white or black
CLASSES = {
    **{name: f"fill:{fill},stroke:{fill},color:#ffffff" for name, fill in FILLS.items()},
    "structural": f"fill:none,stroke:{GREY},color:{GREY}",
}


def mermaid(loop: Drawable, tally: Tally | None = None) -> str:
    """The loop as a Mermaid ``stateDiagram-v2``."""
    return "\n".join(_lines(diagram_data(loop), tally)) + "\n"


def _lines(loop: DiagramData, tally: Tally | None) -> Iterator[str]:
    states = loop.table.states
    yield from ("---", f"title: {TITLE}", *CONFIG, "---", "stateDiagram-v2", "    direction TB")
    yield from (f"    classDef {name} {style}" for name, style in CLASSES.items())
    for state in states:
        yield f"    state {state}" if tally is None else f'    state "{state}<br/>{_text(told(tally, state))}" as {state}'
    yield f"    [*] --> {State.START}"
    for arrow in arrows(loop, tally):
        row = arrow.row
        text = "<br/>".join(map(_text, arrow.lines(LOOP if row.source is row.to else LABEL)))
        yield f"    {row.source} --> {row.to}" + (f" : {text}" if text else "")
    yield from (f"    {state} --> [*]" for state in states if state.is_final)
    yield from _note(State.START, [*filled(loop.heading, ", ", NOTE), *(legend(tally) if tally else [])])
    if State.STOPPED in states:
        yield from _note(State.STOPPED, stop_request(loop, tally))
    for name in CLASSES:
        members = [str(state) for state in states if kind(state) == name]
        if members:
            yield f"    class {','.join(members)} {name}"


def _note(state: State, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"    note left of {state}"
        yield from (f"        {_text(line)}" for line in lines)
        yield "    end note"


def _text(line: str) -> str:
    return re.sub(r'[#;<>"&]', lambda mark: f"#{ord(mark[0])};", line)
