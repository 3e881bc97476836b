"""Mermaid's own parser reads the drawings as they are meant. It is installed by

npm install --no-package-lock --ignore-scripts --prefix tests/views/diagrams/mermaid
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diagrams.make import CONFIGURATIONS
from fsmtrain import Guards, Loop, Options, Sizes, State
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.views.diagrams.edge_labels import edge_labels
from fsmtrain.views.diagrams.edges import colour_class, stop_note
from fsmtrain.views.diagrams.formats import mermaid
from fsmtrain.views.diagrams.tally import Tally, planned_tally, state_numbers
from fsmtrain.views.non_defaults import non_defaults

FOLDER = Path(__file__).parent / "mermaid"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="there is no node to run Mermaid's parser"),
    pytest.mark.skipif(not (FOLDER / "node_modules" / "mermaid").exists(), reason="Mermaid's parser is not installed"),
]


def own_guard(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """A guard whose name is full of what Mermaid takes for its own."""
    return bool(counters.batch_nb)


own_guard.__name__ = 'a; "b" <i>#35; : c --> d & e'

LOOPS = {
    **CONFIGURATIONS,
    "marks": Loop(Options(max_nb_epochs=2), Sizes(train=9, val=[1]), guards=Guards(validate=own_guard)),
    "test only": Loop(Options(), Sizes(fits=False, test=[3])),
}
COUNTED = {
    f"{name}, counted": Tally(loop.table, planned_tally(loop.plan()).row_counts, {State.FETCH: 1.0, State.TEST: 0.001})
    for name, loop in LOOPS.items()
}


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    """What Mermaid's parser reads, all in one process, for it takes a while to start."""
    texts = {name: mermaid(loop.spec) for name, loop in LOOPS.items()}
    texts |= {f"{name}, counted": mermaid(loop.spec, COUNTED[f"{name}, counted"]) for name, loop in LOOPS.items()}
    assert NODE is not None
    run = subprocess.run([NODE, "parse.mjs"], cwd=FOLDER, input=json.dumps(texts), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    read: dict[str, Any] = json.loads(run.stdout)
    return read


def plain(text: str) -> str:
    """A text as it is read by a person: the parser keeps line breaks, and marks in a spelling of its own until it draws."""
    return " ".join(re.sub(r"ﬂ°°(\d+)¶ß", lambda code: chr(int(code[1])), re.sub(r"<br ?/?>", " ", text)).split())


@pytest.mark.parametrize("name", [*LOOPS, *COUNTED])
def test_mermaid_reads_each_state_and_each_row_of_the_table(name: str, parsed: dict[str, Any]) -> None:
    loop, tally, read = LOOPS[name.removesuffix(", counted")], COUNTED.get(name), parsed[name]
    assert read["type"] == "stateDiagram"
    counts = [f" {taken:,}×" if tally else "" for taken in (tally.row_counts if tally else (0,) * len(loop.table))]
    rows = [
        (str(row.source), str(row.to), " ".join(f"{label}{count}".split()))
        for row, label, count in zip(loop.table, edge_labels(loop.spec), counts, strict=True)
        if row.to is not State.STOPPED
    ]
    ends = [(str(state), "root_end", "") for state in loop.table.states if state.is_final]
    found = [(one["id1"], one["id2"], plain(one["relationTitle"])) for one in read["relations"]]
    assert found == [("root_start", "start", ""), *rows, *ends]
    states = {one["id"]: one for one in read["states"]}
    assert states.keys() - {"root_start", "root_end"} == {str(state) for state in loop.table.states}
    for state in loop.table.states:
        assert states[str(state)]["classes"] == [colour_class(state)]
        if tally:
            expected = [plain(f"{state} {state_numbers(tally, state)}")]
            assert [plain(text) for text in states[str(state)]["descriptions"]] == expected
    assert plain(states["start"]["note"]["text"]).startswith(", ".join(non_defaults(loop.spec)))
    if State.STOPPED in loop.table.states:
        assert plain(states["stopped"]["note"]["text"]) == " ".join(stop_note(loop.spec, tally))
