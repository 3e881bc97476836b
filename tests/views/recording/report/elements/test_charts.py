"""The colours of states in charts."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from fsmtrain.core.states import Kind
from fsmtrain.views.recording.report import page
from fsmtrain.views.recording.report.elements import charts


def test_every_kind_of_state_has_a_hue_and_every_shade_a_colour_in_page_css() -> None:
    css = (Path(page.__file__).with_name("page.css")).read_text(encoding="utf-8")
    hues = [line for line in css.splitlines() if "--hue: " in line]
    for kind in get_args(Kind):
        assert any(f".{kind} {{" in line or f".{kind}, " in line for line in hues), kind
    for shade in range(charts.SHADES):
        assert f".shade{shade} {{ --c: " in css
