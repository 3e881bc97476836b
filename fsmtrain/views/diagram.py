"""State diagrams of one configuration's table, as text: Mermaid's, which a README can hold, and Graphviz' DOT.

Shapes, colours and the order of things belong here; what the arrows say is in `labels`. Nothing is left out: each row of
the table is one arrow, but for the requests to stop, which Mermaid's drawing gathers in one note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from os import PathLike
from pathlib import Path

from fsmtrain.core.loop import Loop
from fsmtrain.core.states import State
from fsmtrain.core.table import Row
from fsmtrain.errors import OptionsError
from fsmtrain.views.heading import heading
from fsmtrain.views.labels import labels

# The way of a plain batch, which the eye is to follow.
SPINE = tuple(pairwise((State.FETCH, State.TRAIN_BATCH, State.BACKWARD, State.STEP, State.ROUND_END, State.FETCH)))

KINDS: dict[State, str] = {
    **dict.fromkeys((State.TRAIN_BATCH, State.BACKWARD, State.ACCUMULATE, State.STEP), "training"),
    **dict.fromkeys((State.SANITY_VAL, State.VAL_CHECK, State.TEST), "evaluation"),
    State.EARLY_STOP: "decision",
}  # all others hold these together: "structural"

# Strong fills under white text, and a middle grey for all that stands on the page itself, which may be white or black.
FILLS = {"training": "#2563a8", "evaluation": "#2e7d4f", "decision": "#a8601c"}
GREY, FAINT, ACCENT = "#7a7f87", "#9aa0a8", "#4a90d9"
WIDTH = 30  # characters in a line of a label


def write(loop: Loop, path: str | PathLike[str]) -> None:
    """Draw the loop into a file, in the format that its suffix asks for.

    Raises:
        OptionsError: No drawing has this suffix.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise OptionsError(
            f"path={str(path)!r}: no drawing has the suffix {path.suffix!r}. Those that work are {', '.join(FORMATS)}, "
            f"as in {str(path.with_suffix('.mmd'))!r}."
        )
    path.write_bytes(FORMATS[path.suffix](loop))


# ---- Mermaid


def mermaid(loop: Loop) -> str:
    """The loop as a Mermaid ``stateDiagram-v2``."""
    return "\n".join(_mermaid(loop)) + "\n"


def _mermaid(loop: Loop) -> Iterator[str]:
    states = loop.table.states
    yield from ("---", "title: A training loop", "---", "stateDiagram-v2", "    direction TB")
    for name, style in CLASSES.items():
        yield f"    classDef {name} {style}"
    for state in states:
        yield f"    state {state}"
    yield f"    [*] --> {State.START}"
    for row, label in zip(loop.table, labels(loop), strict=True):
        if row.to is not State.STOPPED:
            yield f"    {row.source} --> {row.to}" + (f" : {_mermaid_text(label, '<br/>')}" if label else "")
    for state in states:
        if state.is_final:
            yield f"    {state} --> [*]"
    yield from _mermaid_note(State.START, heading(loop))
    sources = [str(row.source) for row in loop.table if row.to is State.STOPPED]
    if sources:
        yield from _mermaid_note(State.STOPPED, ("a stop request leads here from", ", ".join(sources)))
    for name in CLASSES:
        members = [str(state) for state in states if KINDS.get(state, "structural") == name]
        if members:
            yield f"    class {','.join(members)} {name}"


def _mermaid_note(state: State, lines: Iterable[str]) -> Iterator[str]:
    yield f"    note right of {state}"
    yield from (f"        {_mermaid_text(line, chr(10) + ' ' * 8)}" for line in lines)
    yield "    end note"


def _mermaid_text(text: str, end_of_line: str) -> str:
    for mark, entity in (("#", "#35;"), ("<", "#lt;"), (">", "#gt;"), ('"', "#quot;")):
        text = text.replace(mark, entity)
    return end_of_line.join(_wrapped(text))


# ---- DOT


def dot(loop: Loop) -> str:
    """The loop in Graphviz' DOT language."""
    return "\n".join(_dot(loop)) + "\n"


def _dot(loop: Loop) -> Iterator[str]:
    title = ["A training loop", *heading(loop)]
    yield "digraph training_loop {"
    yield f"    graph [{_attributes(GRAPH, label=_dot_text(title))}]"
    yield f"    node [{_attributes(NODE)}]"
    yield f"    edge [{_attributes(EDGE)}]"
    yield f"    begin [{_attributes(BEGIN)}]"
    for state in loop.table.states:
        yield f"    {state} [{_attributes(_dot_node(state))}]"
    yield f"    begin -> {State.START}"
    for row, label in zip(loop.table, labels(loop), strict=True):
        yield f"    {row.source} -> {row.to} [{_attributes(_dot_edge(row), label=_dot_text(_wrapped(label)))}]"
    yield "}"


def _dot_node(state: State) -> dict[str, str]:
    if state is State.STOPPED:
        return {"shape": "doublecircle", "style": "dashed", "color": FAINT, "fontcolor": FAINT, "fontsize": "9"}
    if state is State.DONE:
        return {"shape": "doublecircle", "color": GREY, "fontcolor": GREY}
    kind = KINDS.get(state)
    group = {"group": "spine"} if any(state in ends for ends in SPINE) else {}
    if kind is None:
        return {"color": GREY, "fontcolor": GREY, **group}
    return {"style": "rounded,filled", "fillcolor": FILLS[kind], "color": FILLS[kind], "fontcolor": "white", **group}


def _dot_edge(row: Row) -> dict[str, str]:
    ends = row.source, row.to
    if row.to is State.STOPPED:
        return {"style": "dashed", "color": FAINT, "penwidth": "0.7", "arrowsize": "0.6", "constraint": "false"}
    if ends in SPINE:
        return {"color": ACCENT, "penwidth": "2.4", "weight": "0" if row.to is State.FETCH else "20"}
    return {}


def _attributes(attributes: Mapping[str, str], **more: str) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in {**attributes, **more}.items() if value)


def _dot_text(lines: Iterable[str]) -> str:
    return "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)


def _wrapped(text: str) -> list[str]:
    """The text in lines, broken before an ``and`` or ``or`` where it would grow too long."""
    lines = []
    for clause in text.split("\n"):
        line = ""
        for piece in re.split(r" (?=(?:and|or) )", clause):
            if line and len(line) + len(piece) >= WIDTH:
                lines.append(line)
                line = piece
            else:
                line = f"{line} {piece}" if line else piece
        lines.append(line)
    return lines


GRAPH = {
    "labelloc": "t",
    "rankdir": "TB",
    "bgcolor": "transparent",
    "fontname": "Helvetica",
    "fontcolor": GREY,
    "nodesep": "0.5",
}
NODE = {"shape": "box", "style": "rounded", "fontname": "Helvetica", "fontsize": "13"}
EDGE = {"fontname": "Helvetica", "fontsize": "10", "color": GREY, "fontcolor": GREY}
BEGIN = {
    "shape": "circle",
    "style": "filled",
    "label": " ",
    "width": "0.16",
    "fixedsize": "true",
    "fillcolor": GREY,
    "color": GREY,
}
CLASSES = {
    **{kind: f"fill:{fill},stroke:{fill},color:#ffffff" for kind, fill in FILLS.items()},
    "structural": f"fill:none,stroke:{GREY},color:{GREY}",
}

# What each suffix draws. A format that a program has to render belongs here too.
FORMATS: dict[str, Callable[[Loop], bytes]] = {
    ".mmd": lambda loop: mermaid(loop).encode(),
    ".dot": lambda loop: dot(loop).encode(),
}
