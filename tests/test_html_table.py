"""What a notebook shows of values: tables, with everything escaped, and errors without our own frames."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from fsmtrain import Options, Trainer, check, plan
from fsmtrain.errors import FsmtrainError, OptionsError
from fsmtrain.html_table import html_table
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches


def test_values_are_escaped() -> None:
    table = html_table([("<b>", "a & b", 0.123456789, None)], ["<i>"])
    assert "&lt;b&gt;" in table
    assert "a &amp; b" in table
    assert "&lt;i&gt;" in table
    assert "<td>0.123457</td><td></td>" in table


def test_plans_checks_results_and_histories_are_tables_in_a_notebook(tmp_path: Path) -> None:
    options = Options(max_nb_epochs=3)
    assert "<th>epochs</th>" in plan(options, train=4)._repr_html_()
    assert "moments of the run were explored" in check(options, train=4)._repr_html_()
    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=tmp_path, device="cpu")
    result = trainer.fit(LoggingModel(), NumberedBatches(50), NumberedBatches(1))
    assert "<th>val_loss</th>" in result._repr_html_()
    shown = trainer.history._repr_html_()
    assert shown.count("<tr>") == 41
    assert "rows between are not shown" in shown


def test_an_error_in_a_notebook_has_the_user_s_frames_and_none_of_ours() -> None:
    with pytest.raises(FsmtrainError) as caught:
        Options(val_check_interval=1.5)
    lines = caught.value._render_traceback_()
    assert "test_html_table.py" in lines[1]
    assert not any("fsmtrain/options" in line or "attr" in line for line in lines[:-1])
    assert lines[-1].startswith("OptionsError: val_check_interval=1.5")
    assert len(lines) < len(traceback.format_exception(caught.value))
    bare = OptionsError("never raised")
    bare.add_note("a note")
    assert bare._render_traceback_() == ["OptionsError: never raised", "a note"]
