"""Lightning modules on the command line: planned, checked, drawn, trained and resumed with the flags of fsmtrain."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

L: Any = pytest.importorskip("lightning.pytorch")

from fsmtrain.cli.app import main  # noqa: E402

TARGET = f"{Path(__file__).parent / 'command_line_module.py'}:Module"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_plan_has_the_counts_of_the_loaders(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--max_nb_epochs", "2", "--accumulate_grad_batches", "2", "--val_check_interval", "1.0"]
    assert main(["plan", TARGET, *flags, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["global_step"] == 6


def test_plan_with_typed_sizes_asks_for_no_loader(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", f"{TARGET}WithoutLoaders", "--train", "45", "--val", "12", "--max_nb_epochs", "1"]) == 0
    assert "45 steps" in capsys.readouterr().out


def test_check_and_draw(tmp_path: Path) -> None:
    assert main(["check", TARGET, "--max_nb_epochs", "2"]) == 0
    assert main(["draw", "loop.dot", TARGET, "--max_nb_epochs", "2"]) == 0
    assert "val_check" in (tmp_path / "loop.dot").read_text(encoding="utf-8")


def test_fit_records_what_is_logged_and_resumes(tmp_path: Path) -> None:
    flags = ["--hparams", "lr=0.2", "--checkpoint", "--quiet", "--seed", "1"]
    assert main(["fit", TARGET, "--max_nb_epochs", "1", *flags]) == 0
    rows = (tmp_path / "runs" / "0" / "metrics.jsonl").read_text(encoding="utf-8")
    assert "train_loss_step" in rows
    assert "val_loss" in rows
    assert main(["fit", TARGET, "--max_nb_epochs", "2", *flags, "--resume_from", "runs/0/checkpoints"]) == 0


@pytest.mark.parametrize("flags", [["--test"], ["--truncated_bptt_steps", "3"], ["--on_nonfinite", "skip"]])
def test_flag_that_such_a_module_cannot_have_is_an_error(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", TARGET, "--max_nb_epochs", "1", *flags]) != 0
    assert flags[0] in capsys.readouterr().err


def test_lightning_is_imported_only_if_it_is_used() -> None:
    code = (
        "import sys, fsmtrain.cli.app, fsmtrain.machine, fsmtrain.adapters.lightning;"
        "assert not {'lightning', 'pytorch_lightning', 'torchmetrics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
