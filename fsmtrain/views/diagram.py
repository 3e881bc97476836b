"""State diagrams of one configuration's table, as text: Mermaid's, which a README can hold, and Graphviz' DOT.

Shapes, colours and the order of things belong here; what the arrows say is in `labels`. Each row of the table is an arrow
of its own, but for the requests to stop: an arrow from nearly every state would hide the others, so one note names them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, pairwise
from os import PathLike
from pathlib import Path

from fsmtrain.core.loop import Loop
from fsmtrain.core.states import State
from fsmtrain.core.table import Row
from fsmtrain.errors import OptionsError
from fsmtrain.views.heading import heading
from fsmtrain.views.labels import labels

TITLE = "A training loop"

# The way of a plain batch, which the eye is to follow.
SPINE = tuple(pairwise((State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.STEP, State.ROUND_END, State.FETCH)))

KINDS: dict[State, str] = {
    **dict.fromkeys((State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP), "training"),
    **dict.fromkeys((State.SANITY_VAL, State.VAL_CHECK, State.TEST), "evaluation"),
    State.EARLY_STOP: "decision",
}  # the others, which hold these together, are "structural"

# Strong fills under white text; for all that stands on the page itself, which may be white or black, a middle grey.
FILLS = {"training": "#2563a8", "evaluation": "#2e7d4f", "decision": "#a8601c"}
GREY, ACCENT = "#7a7f87", "#4a90d9"


def write(loop: Loop, path: str | PathLike[str]) -> None:
    """Draw the loop into a file, in the format that its suffix asks for.

    Raises:
        OptionsError: No drawing has this suffix.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise OptionsError(
            f"path={str(path)!r}: the suffix says what is drawn, and those that work are {', '.join(FORMATS)}. "
            f"For Mermaid pass {str(path.with_suffix('.mmd'))!r}."
        )
    path.write_bytes(FORMATS[path.suffix](loop))


# ---- Mermaid

MERMAID_LABEL, MERMAID_LOOP, MERMAID_NOTE = 26, 16, 44  # characters in a line, so that Mermaid itself breaks none
MERMAID_CONFIG = ("config:", "  flowchart:", "    wrappingWidth: 360")  # of notes, here
MERMAID_CLASSES = {
    **{kind: f"fill:{fill},stroke:{fill},color:#ffffff" for kind, fill in FILLS.items()},
    "structural": f"fill:none,stroke:{GREY},color:{GREY}",
}


def mermaid(loop: Loop) -> str:
    """The loop as a Mermaid ``stateDiagram-v2``."""
    return "\n".join(_mermaid(loop)) + "\n"


def _mermaid(loop: Loop) -> Iterator[str]:
    states = loop.table.states
    yield from ("---", f"title: {TITLE}", *MERMAID_CONFIG, "---", "stateDiagram-v2", "    direction TB")
    yield from (f"    classDef {name} {style}" for name, style in MERMAID_CLASSES.items())
    yield from (f"    state {state}" for state in states)
    yield f"    [*] --> {State.START}"
    for row, label in _arrows(loop):
        lines = _wrapped(label, MERMAID_LOOP if row.source is row.to else MERMAID_LABEL)
        text = "<br/>".join(map(_mermaid_text, lines))
        yield f"    {row.source} --> {row.to}" + (f" : {text}" if text else "")
    yield from (f"    {state} --> [*]" for state in states if state.is_final)
    yield from _mermaid_note(State.START, _filled(heading(loop), ", ", MERMAID_NOTE))
    if State.STOPPED in states:
        yield from _mermaid_note(State.STOPPED, _stop_request(loop))
    for name in MERMAID_CLASSES:
        members = [str(state) for state in states if KINDS.get(state, "structural") == name]
        if members:
            yield f"    class {','.join(members)} {name}"


def _mermaid_note(state: State, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"    note left of {state}"
        yield from (f"        {_mermaid_text(line)}" for line in lines)
        yield "    end note"


def _mermaid_text(line: str) -> str:
    return re.sub(r'[#;<>"]', lambda mark: f"#{ord(mark[0])};", line)


# ---- DOT

DOT_LABEL, DOT_TITLE = 30, 64  # characters in a line
FONT = {"fontname": "Helvetica", "fontcolor": GREY, "color": GREY}
GRAPH = {**FONT, "labelloc": "t", "rankdir": "TB", "bgcolor": "transparent", "nodesep": "0.4"}
NODE = {**FONT, "shape": "box", "style": "rounded", "fontsize": "13"}
EDGE = {**FONT, "fontsize": "11"}
FINAL = {"shape": "doublecircle", "style": "solid", "fontsize": "11"}
NOTE = {"shape": "note", "style": "solid", "fontsize": "11"}


def dot(loop: Loop) -> str:
    """The loop in Graphviz' DOT language."""
    return "\n".join(_dot(loop)) + "\n"


def _dot(loop: Loop) -> Iterator[str]:
    states = loop.table.states
    spine = {(row.source, row.to): row for row in loop.table if (row.source, row.to) in SPINE}.values()  # of two rows the last
    title = [TITLE, *_filled(heading(loop), ", ", DOT_TITLE)]
    yield "digraph training_loop {"
    yield f"    graph {_attributes(GRAPH, label=_dot_text(title))}"
    yield f"    node {_attributes(NODE)}"
    yield f"    edge {_attributes(EDGE)}"
    yield from (f"    {state} {_attributes(_dot_state(state))}".rstrip() for state in states)
    yield "    begin [shape=point, width=0.16]"
    yield f"    begin -> {State.START}"
    for row, label in _arrows(loop):
        text = _dot_text(f"  {line}  " for line in _wrapped(label, DOT_LABEL))
        yield f"    {row.source} -> {row.to} {_attributes(_dot_arrow(row, row in spine), label=text)}".rstrip()
    if State.STOPPED in states:
        yield f"    stop_request {_attributes(NOTE, label=_dot_text(_stop_request(loop)))}"
        yield f"    stop_request -> {State.STOPPED} [style=dashed]"
    yield f"    {{rank=sink; {'; '.join(str(state) for state in states if state.is_final)}}}"
    yield "}"


def _dot_state(state: State) -> dict[str, str]:
    fill = FILLS[KINDS[state]] if state in KINDS else None
    look = FINAL if state.is_final else {}
    if fill is not None:
        look = {"style": "rounded,filled", "fillcolor": fill, "color": fill, "fontcolor": "white"}
    on_spine = any(state in ends for ends in SPINE)
    return {**look, "group": "spine"} if on_spine else look  # a group stands in one line


def _dot_arrow(row: Row, on_spine: bool) -> dict[str, str]:
    if not on_spine:
        return {}
    return {"color": ACCENT, "penwidth": "2.4", "weight": "0" if row.to is State.FETCH else "20"}


def _attributes(attributes: Mapping[str, str], *, label: str = "") -> str:
    both = {**attributes, "label": label} if label else attributes
    written = ", ".join(f'{name}="{value}"' for name, value in both.items())
    return f"[{written}]" if written else ""


def _dot_text(lines: Iterable[str]) -> str:
    return r"\n".join(line.replace("\\", r"\\").replace('"', r"\"") for line in lines)


# ---- both


def _arrows(loop: Loop) -> list[tuple[Row, str]]:
    """The rows that are drawn as arrows, each with its label."""
    return [(row, label) for row, label in zip(loop.table, labels(loop), strict=True) if row.to is not State.STOPPED]


def _stop_request(loop: Loop) -> list[str]:
    """The other rows, by their states: two rows of one state differ in what is counted alone."""
    sources = list(dict.fromkeys(str(row.source) for row in loop.table if row.to is State.STOPPED))
    return ["stop requested in", *_filled(sources, ", ", DOT_LABEL)]


def _wrapped(label: str, width: int) -> list[str]:
    """The label in lines of at most this many characters, broken before an ``and`` or ``or`` where one is near."""
    lines = []
    for clause in label.split("\n"):
        pieces = re.split(r" (?=(?:and|or) )|(?<=:) ", clause)
        lines += _filled(chain.from_iterable(textwrap.wrap(piece, width) for piece in pieces), " ", width)
    return lines


def _filled(pieces: Iterable[str], glue: str, width: int) -> list[str]:
    """The pieces in lines of at most this many characters, as far as no piece is longer."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + len(glue) + len(piece) <= width:
            lines[-1] += glue + piece
        else:
            lines[-1:] = [line + glue.rstrip() for line in lines[-1:]]
            lines.append(piece)
    return lines


# What each suffix draws. A format that another program has to render has its place here too.
FORMATS: dict[str, Callable[[Loop], bytes]] = {
    ".mmd": lambda loop: mermaid(loop).encode(),
    ".dot": lambda loop: dot(loop).encode(),
}
