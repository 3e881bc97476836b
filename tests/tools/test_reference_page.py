"""docs/reference.md: its tables are those of the code, and its code runs; `help()` shows the same."""

from __future__ import annotations

import pydoc
import re
from pathlib import Path

import pytest
from attrs import fields

from fsmtrain import Callback, Options, Trainer, TrainingModule
from fsmtrain.runtime.hooks.callback import HOOKS
from fsmtrain.runtime.model_inspection.uncalled_hooks import MODEL_METHODS
from tools.reference_page import PAGE, TABLES, render

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    assert render(TEXT) == TEXT, "renew them with python -m tools.reference_page"
    assert sorted(re.findall(r"<!-- ((?!end)[\w ]+) -->", TEXT)) == sorted(TABLES)


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("machine", "trainer")])
def test_every_entry_of_a_table_has_a_meaning(name: str) -> None:
    rows = [line for line in TABLES[name]().splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        assert all(cells[2 if name == "steps" else 1 :]), row


def test_the_code_of_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    exec("\n".join(blocks), {"__name__": "reference"})
    assert "Guards(stop=...) ended the training" in capsys.readouterr().out


def test_help_of_trainer_shows_every_flag_with_its_meaning() -> None:
    shown = pydoc.plain(pydoc.render_doc(Trainer))
    for field in fields(Trainer):
        if field.init:
            assert re.search(rf"^ \|      {field.name}: \S", shown, re.MULTILINE), field.name
    assert all(field.name in shown for field in fields(Options))


def test_help_of_training_module_shows_every_method_that_a_run_calls() -> None:
    shown = pydoc.plain(pydoc.render_doc(TrainingModule))
    for method in MODEL_METHODS:
        assert re.search(rf"^ \|\s+{method}\(", shown, re.MULTILINE), method


def test_help_of_callback_shows_every_hook() -> None:
    shown = pydoc.plain(pydoc.render_doc(Callback))
    assert [hook for hook in HOOKS if f"{hook}(self, machine" not in shown] == []
