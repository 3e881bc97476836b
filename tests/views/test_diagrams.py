"""The drawings: complete, stable, in the configuration's own words and numbers; those in ``diagrams/`` up to date."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from attrs import asdict, evolve, frozen
from hypothesis import given, settings

from diagrams.make import CONFIGURATIONS, expected_files, outdated_files, shows_the_same
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.guard_ast.expressions import Expression, Fact, Value, is_opaque
from fsmtrain.core.guard_ast.simplify import fold
from fsmtrain.core.interval_guards import every_n_batches, every_n_steps_of
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.early_stopping import EarlyStopping
from fsmtrain.errors import OptionsError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.views.diagrams.edge_labels import condition, edge_labels
from fsmtrain.views.diagrams.formats import dot, mermaid, svg, write_diagram
from fsmtrain.views.non_defaults import non_defaults
from tests.strategies import Case, cases

ROOT = Path(__file__).parents[2]

Draw = Callable[[LoopSpec], str]


def every_other_step(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """A guard that cannot be read, as it is more than one return."""
    steps = counters.global_step
    return steps % 2 == 1


LOOPS = {
    **CONFIGURATIONS,
    "streams": Loop(Options(max_nb_epochs=2, val_check_interval=10), Sizes(train=None, val=[None], test=[None])),
    "test only": Loop(Options(), Sizes(fits=False, test=[3])),
    "no epoch": Loop(Options(max_nb_epochs=0), Sizes(train=8, val=[3])),
    "opaque": Loop(
        Options(max_nb_epochs=4),
        Sizes(train=45, val=[12], optimizers=3),
        guards=Guards(
            step={0: every_other_step, 1: every_n_steps_of(0, 5)},
            validate=every_other_step,
            save=every_other_step,
            stop=every_other_step,
        ),
    ),
}
each_loop = pytest.mark.parametrize("loop", LOOPS.values(), ids=list(LOOPS))
each_format = pytest.mark.parametrize("draw", [mermaid, dot])


# ---- readers of the two languages, as far as they are used


@frozen
class Drawing:
    """What a reader finds in a drawing."""

    states: list[str]
    arrows: list[tuple[str, str, str]]  # from, to, the label in one line
    stop_requests: list[str]  # the states that the note beside `stopped` names
    heading: str


def read_mermaid(text: str) -> Drawing:
    """Reads a ``stateDiagram-v2``. Each line has to be of a form that is known here."""
    before, _, after = text.partition("stateDiagram-v2\n    direction TB\n")
    assert before == "---\ntitle: A training loop\nconfig:\n  flowchart:\n    wrappingWidth: 360\n---\n"
    written = r"(?:[^#;<>\"\n]|#\d+;|<br/>)+"
    states: list[str] = []
    arrows: list[tuple[str, str, str]] = []
    notes: dict[str, str] = {}
    looks: list[str] = []
    kinds: dict[str, str] = {}
    lines = iter(after.splitlines())
    for line in lines:
        if found := re.fullmatch(r"    state (\w+)", line):
            states.append(found[1])
        elif found := re.fullmatch(rf"    (\w+|\[\*\]) --> (\w+|\[\*\])(?: : ({written}))?", line):
            arrows.append((found[1], found[2], _unescaped(found[3] or "")))
        elif found := re.fullmatch(r"    note left of (\w+)", line):
            inside = list(iter(lines.__next__, "    end note"))
            assert all(re.fullmatch(rf" {{8}}{written}", one) for one in inside)
            notes[found[1]] = " ".join(one.strip() for one in inside)
        elif found := re.fullmatch(r"    classDef (\w+) fill:(#\w{6}|none),stroke:#\w{6},color:#\w{6}", line):
            looks.append(found[1])
        elif found := re.fullmatch(r"    class ([\w,]+) (\w+)", line):
            kinds |= dict.fromkeys(found[1].split(","), found[2])
        else:
            pytest.fail(f"not a line of a diagram: {line!r}")
    assert sorted(kinds) == sorted(states)
    assert set(kinds.values()) <= set(looks)
    assert {*notes} <= {*states}
    return _drawing(states, arrows, notes.get("stopped", ""), notes.get("start", ""))


def read_dot(text: str) -> Drawing:
    """Reads a ``digraph``. Each line has to be of a form that is known here."""
    opening, *lines, closing = text.splitlines()
    assert (opening, closing) == ("digraph training_loop {", "}")
    written = r'"(?:[^"\\]|\\.)*"'
    attributes = rf"(?: \[\w+=(?:{written}|[\w.]+)(?:, \w+=(?:{written}|[\w.]+))*\])?"
    labels: dict[str, str] = {}
    arrows: list[tuple[str, str, str]] = []
    for line in lines:
        label = re.sub(r"\\[nl]", " ", next(iter(re.findall(rf"label=({written})", line)), '""')[1:-1])
        if found := re.fullmatch(rf"    (\w+) -> (\w+){attributes}", line):
            arrows.append((found[1].replace("begin", "[*]"), found[2], " ".join(label.split())))
        elif found := re.fullmatch(rf"    (\w+){attributes}", line):
            labels[found[1]] = label
        elif found := re.fullmatch(r"    \{rank=sink; (\w+(?:; \w+)*)\}", line):
            arrows += [(final, "[*]", "") for final in found[1].split("; ") if final != "stop_request"]
        else:
            pytest.fail(f"not a line of a diagram: {line!r}")
    arrows = [arrow for arrow in arrows if arrow[0] != "stop_request"]
    states = [name for name in labels if name not in ("graph", "node", "edge", "begin", "stop_request")]
    return _drawing(states, arrows, labels.get("stop_request", ""), labels["graph"])


def _drawing(states: list[str], arrows: list[tuple[str, str, str]], stop: str, heading: str) -> Drawing:
    assert {end for arrow in arrows for end in arrow[:2]} <= {*states, "[*]"}
    return Drawing(states, arrows, re.findall(r"\w+", stop.removeprefix("stop requested in")), heading)


def _unescaped(label: str) -> str:
    """A label as it is read: in one line, with the characters that Mermaid would take for its own."""
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label.replace("<br/>", " "))


def read_drawing(draw: Draw, loop: Loop) -> Drawing:
    """The drawing of a loop, read again."""
    return read_mermaid(draw(loop.spec)) if draw is mermaid else read_dot(draw(loop.spec))


# ---- complete


def rows_and_states_agree(loop: Loop, drawing: Drawing) -> bool:
    """Whether a drawing has each state and each row of the table, with its label, once, and no more."""
    rows = list(zip(loop.table, edge_labels(loop.spec), strict=True))
    arrows = [(str(row.source), str(row.to), " ".join(label.split())) for row, label in rows if row.to is not State.STOPPED]
    arrows += [("[*]", "start", ""), *((str(state), "[*]", "") for state in loop.table.states if state.is_final)]
    stops = list(dict.fromkeys(str(row.source) for row in loop.table if row.to is State.STOPPED))
    return (
        drawing.states == [str(state) for state in loop.table.states]
        and Counter(drawing.arrows) == Counter(arrows)
        and drawing.stop_requests == stops
    )


@each_loop
@each_format
def test_each_state_and_each_row_of_the_table_is_drawn_once(loop: Loop, draw: Draw) -> None:
    assert rows_and_states_agree(loop, read_drawing(draw, loop))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_any_configuration_can_be_drawn(case: Case) -> None:
    loop = case.loop()
    for draw in (mermaid, dot):
        assert rows_and_states_agree(loop, read_drawing(draw, loop))


def test_the_diagram_of_a_plain_run_is_small() -> None:
    drawing = read_mermaid(mermaid(CONFIGURATIONS["plain"].spec))
    assert " ".join(drawing.states) == (
        "start sanity_val fetch train_batch backward step round_end val_check epoch_end early_stop done stopped"
    )
    assert len(drawing.arrows) == 20


@each_loop
@each_format
def test_the_heading_is_in_the_drawing(loop: Loop, draw: Draw) -> None:
    assert ", ".join(non_defaults(loop.spec)) in read_drawing(draw, loop).heading


def test_the_heading_has_what_differs_from_the_defaults() -> None:
    loop = Loop(
        Options(early_stop_callback=EarlyStopping(patience=5), max_nb_epochs=2, train_percent_check=0.5),
        Sizes(train=8, val=[1], test=[None], optimizers=2),
        guards=Guards(step={1: every_n_batches(4)}, stop=every_other_step),
    )
    assert non_defaults(loop.spec) == (
        "max_nb_epochs=2",
        "early_stop_callback=EarlyStopping(patience=5)",
        "train_percent_check=0.5",
        "4 train batches",
        "1 val batch",
        "a test stream",
        "2 optimizers",
        "own guards: step[1], stop",
    )


# ---- stable


@each_loop
@each_format
def test_drawing_twice_gives_the_same_text(loop: Loop, draw: Draw) -> None:
    assert draw(loop.spec) == draw(evolve(loop).spec)


def digest(texts: Iterable[str]) -> str:
    """One value for many texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_draws_the_same_bytes(seed: str) -> None:
    code = "from tests.views.test_diagrams import *; print(digest(expected_files().values()))"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == digest(expected_files().values())


def test_the_drawings_in_the_folder_are_up_to_date() -> None:
    assert outdated_files() == {}, "run python diagrams/make.py"


def test_a_picture_that_shows_something_else_is_out_of_date() -> None:
    now = svg(CONFIGURATIONS["plain"].spec)
    moved = re.sub(r' x="[^"]*"', ' x="0"', now)
    assert now != moved
    assert shows_the_same(now.encode(), moved.encode())
    for shown_otherwise in (
        now.replace("last batch of 45", "last batch of 46"),
        now.replace('id="edge&#45;7"', 'id="edge-70"'),
        svg(CONFIGURATIONS["accumulation"].spec),
    ):
        assert shown_otherwise != now
        assert not shows_the_same(now.encode(), shown_otherwise.encode())


# ---- labels


def labels_of(loop: Loop, source: State) -> dict[str, str]:
    """The labels of the rows that leave a state, by where they lead; parallel ones are joined by a bar."""
    found: dict[str, str] = {}
    for row, label in zip(loop.table, edge_labels(loop.spec), strict=True):
        if row.source is source and row.to is not State.STOPPED:
            found[str(row.to)] = f"{found[str(row.to)]} | {label}" if str(row.to) in found else label
    return found


def test_labels_have_the_numbers_of_the_configuration() -> None:
    loop = CONFIGURATIONS["accumulation"]
    ends = "batches waited ≥ 1 or (epochs done ≥ 1 and patience exhausted)"
    assert labels_of(loop, State.SANITY_VAL) == {"sanity_val": "not last val batch of 5", "fetch": "last val batch of 5"}
    assert labels_of(loop, State.BACKWARD) == {
        "step": "gathered = 4 or last batch of 45 or batches waited > 4",
        "accumulate": "gathered ≠ 4 and not last batch of 45 and batches waited ≤ 4",
    }
    assert labels_of(loop, State.ROUND_END) == {
        "val_check": "batches since val = 11",
        "epoch_end": "last batch of 45",
        "early_stop": f"(no window open or batches waited > 4) and ({ends})",
        "fetch": f"{ends} | else",
    }
    assert labels_of(loop, State.EARLY_STOP) == {
        "done": "epoch finished and (epochs done = 20 or batches waited ≥ 1 or patience exhausted)",
        "fetch": f"epoch finished | {ends} | else",
        "epoch_end": f"(no window open or batches waited > 4) and ({ends})",
    }


def test_a_row_that_asks_nothing_has_no_label() -> None:
    loop = CONFIGURATIONS["plain"]
    assert labels_of(loop, State.START) == {"sanity_val": ""}
    assert labels_of(loop, State.BACKWARD) == {"step": ""}


def test_optimizers_with_intervals_of_their_own_are_labeled_separately() -> None:
    assert labels_of(CONFIGURATIONS["two_optimizers"], State.BACKWARD) == {
        "step": "optimizer 0: every 2 batches\noptimizer 1: every 4 batches\nor last batch of 45",
        "accumulate": "else",
    }


def test_the_label_of_a_shifted_period_has_its_first_batch() -> None:
    loop = Loop(Options(), Sizes(train=9), guards=Guards(step={0: every_n_batches(4, first=0)}))
    assert labels_of(loop, State.BACKWARD)["step"] == "every 4 batches from batch nb 0 on or last batch of 9"


def test_the_label_of_a_step_after_another_optimizers_steps_names_that_optimizer() -> None:
    guards = Guards(step={1: every_n_steps_of(0, 5)})
    assert labels_of(Loop(Options(), Sizes(train=9, optimizers=2), guards=guards), State.BACKWARD)["step"] == (
        "optimizer 0: gathered = 1\noptimizer 1: every 5 steps of optimizer 0 and optimizer 0 stepped\nor last batch of 9"
    )


def test_a_guard_that_cannot_be_read_is_drawn_by_its_name() -> None:
    loop = LOOPS["opaque"]
    assert labels_of(loop, State.ROUND_END)["save"] == "not saved and every_other_step"
    assert "optimizer 0: every_other_step\n" in labels_of(loop, State.BACKWARD)["step"]


def test_the_label_for_the_end_of_a_stream_is_in_words() -> None:
    loop = LOOPS["streams"]
    assert labels_of(loop, State.VAL_CHECK) == {
        "val_check": "pass continues",
        "epoch_end": "stream ended",
        "early_stop": "else",
    }


@each_format
def test_marks_of_the_language_in_a_name_do_no_harm(draw: Draw) -> None:
    def own(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return bool(counters.batch_nb)

    own.__name__ = 'my "<b>#1;</b>" \\guard'
    loop = Loop(Options(), Sizes(train=9, val=[1]), guards=Guards(validate=own))
    drawing = read_drawing(draw, loop)
    assert len(drawing.arrows) == len(read_drawing(draw, Loop(Options(), Sizes(train=9, val=[1]))).arrows)


@pytest.mark.parametrize("mark", [":::", "::::", "%%", "%%{"])
def test_mermaid_gets_its_own_marks_as_character_codes(mark: str) -> None:
    """In the text of an edge, three colons begin a style and two percent signs a comment."""

    def own(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return bool(counters.batch_nb)

    own.__name__ = f"every{mark}second: 50%"
    text = mermaid(Loop(Options(), Sizes(train=9, val=[1]), guards=Guards(validate=own)).spec)
    edges = [line for line in text.splitlines() if "-->" in line]
    assert mark.rstrip("{") not in "".join(edges)
    assert any(own.__name__ in _unescaped(line).replace("<br/>", " ") for line in edges)


def known_at(limits: Limits, counters: Counters, signals: Signals) -> dict[tuple[str, str], Fact]:
    """All that there is to know of one moment of a run."""
    known: dict[tuple[str, str], Fact] = {}
    for record, values in (("limits", asdict(limits)), ("counters", asdict(counters)), ("signals", asdict(signals))):
        for name, value in values.items():
            if isinstance(value, int):
                known[record, name] = value
            elif isinstance(value, list):
                known |= {(record, f"{name}[{index}]"): one for index, one in enumerate(value)}
    return known


@given(cases())
@settings(max_examples=100, deadline=None)
def test_a_label_means_what_the_guard_returns(case: Case) -> None:
    """At each visit of a run, with everything put in that is known then."""
    loop = case.loop()
    asked: dict[State, list[Expression]] = {}

    def look(state: State, counters: Counters, signals: Signals) -> None:
        rows = [row for row in loop.table.leaving(state) if row.when is not None]
        if state not in asked:
            asked[state] = [condition(loop.spec, state, row.when) for row in rows if row.when is not None]
        known = known_at(loop.limits, counters, signals)
        for row, left in zip(rows, asked[state], strict=True):
            if row.when is not None and not is_opaque(left):
                assert fold(left, known) == Value(row.when(loop.limits, counters, signals))

    case.dispatcher(loop.table, look).run()


# ---- files


@pytest.mark.parametrize(("suffix", "draw"), [(".mmd", mermaid), (".dot", dot), (".svg", svg)])
def test_the_suffix_of_the_file_decides_the_diagram_format(suffix: str, draw: Draw, tmp_path: Path) -> None:
    loop = CONFIGURATIONS["plain"]
    write_diagram(loop.spec, tmp_path / f"loop{suffix}")
    assert (tmp_path / f"loop{suffix}").read_bytes() == draw(loop.spec).encode()


@pytest.mark.parametrize("name", ["loop.bmp", "loop"])
def test_another_suffix_is_refused_with_those_that_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"\.svg, \.png, \.mmd, \.dot.*loop\.svg"):
        write_diagram(CONFIGURATIONS["plain"].spec, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
