"""``git_commit`` in ``run.json`` of runs from the shell: that of the user's module, not that of the script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def repository(folder: Path, digit: str) -> str:
    (folder / ".git").mkdir(parents=True)
    (folder / ".git/HEAD").write_text(digit * 40)
    return digit * 40


@pytest.mark.parametrize("target", ["project/mine.py:Model", "project.mine:Model"])
@pytest.mark.parametrize("is_in_git", [True, False])
def test_the_commit_is_that_of_the_file_of_the_model(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, is_in_git: bool
) -> None:
    (folder / "installed").mkdir()
    repository(folder / "installed", "a")
    (folder / "installed/fsmtrain").write_text("")
    monkeypatch.setattr(sys, "argv", [str(folder / "installed/fsmtrain"), "fit"])
    (folder / "project").mkdir()
    (folder / "mine.py").rename(folder / "project/mine.py")
    commit = repository(folder / "project", "b") if is_in_git else None
    assert run(f"fit {target} --max_nb_epochs 1 --checkpoint --quiet").code == 0
    assert json.loads(Path("runs/0/run.json").read_text())["git_commit"] == commit
    assert run(f"fit {target} --max_nb_epochs 1 --checkpoint --quiet --resume_from runs/0").code == 0
    assert json.loads(Path("runs/0/run.json").read_text())["resumed"][0]["git_commit"] == commit
