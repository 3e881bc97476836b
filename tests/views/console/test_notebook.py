"""The progress of a run in a notebook, on a stand-in for IPython."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

import pytest
from rich.text import Text

from tests.views.console.shown_runs import Model, machine_with_progress


class ZMQInteractiveShell:
    """By this name a notebook's shell is known."""


class CellOutput:
    """An output of a cell that can be replaced."""

    def __init__(self, text: Text) -> None:
        self.texts = [text.plain]

    def update(self, text: Text) -> None:
        self.texts.append(text.plain)


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[CellOutput]:
    """The outputs of the cell that runs in a notebook."""
    outputs: list[CellOutput] = []

    def display(text: Text, *, display_id: bool) -> CellOutput:
        assert display_id
        outputs.append(CellOutput(text))
        return outputs[-1]

    ipython = ModuleType("IPython.display")
    ipython.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    return outputs


def test_a_notebook_has_one_output_that_is_updated_and_ends_with_the_reason(
    outputs: list[CellOutput], capsys: pytest.CaptureFixture[str]
) -> None:
    machine_with_progress(Model()).run()
    [output] = outputs
    assert output.texts[0] == ""
    run, epoch, status, sentence = output.texts[-1].splitlines()
    assert (run[:9], epoch[:9]) == ("epoch 2/2", "batch 4/4")
    assert status.endswith("batch=3  half=0.5")
    assert sentence.startswith("ended after 2 epochs, ")
    assert capsys.readouterr().err == ""


def test_a_shell_of_ipython_without_a_notebook_has_plain_lines(
    outputs: list[CellOutput], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "get_ipython", object)
    machine_with_progress(Model()).run()
    assert outputs == []
    assert capsys.readouterr().err.startswith("epoch 1/2 after ")
