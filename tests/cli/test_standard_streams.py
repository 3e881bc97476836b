"""Every command as a process: without docstrings, and with a standard output that is closed, full, or no longer read."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import MODEL

pytestmark = pytest.mark.slow

ONE = "--max_nb_epochs 1 --device cpu"
COMMANDS = {
    "plan": f"plan mine.py:Model {ONE}",
    "check": f"check mine.py:Model {ONE} --json",
    "draw": "draw loop.mmd --train 9",  # prints nothing
    "fit": f"fit mine.py:Model {ONE} --runs_dir none --save again.pt",
    "fit, printing": f"fit mine.py:Printing {ONE} --runs_dir none --quiet",
    "test": "test mine.py:Model --weights weights.pt --device cpu",
    "report": "report --out report.html",
    "import": "import theirs.ckpt --to imported",
    "help": "--help",
    "help of fit": "fit --help",
    "version": "--version",
}
SILENT = {"draw"}
PRINTING = MODEL + "\n\nclass Printing(Model):\n    def on_epoch_end(self):\n        print('epoch')\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a recorded run with saved weights, and a checkpoint of another trainer."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "mine.py").write_text(PRINTING)
    torch.save({"state_dict": {"layer.weight": torch.zeros(1, 2), "layer.bias": torch.zeros(1)}}, folder / "theirs.ckpt")
    done = subprocess.run([*program(), *shlex.split(f"fit mine.py:Model {ONE} --save weights.pt --quiet")], cwd=folder)
    assert done.returncode == 0
    return folder


def program(*python: str) -> list[str]:
    return [sys.executable, *python, "-m", "fsmtrain"]


def in_shell(folder: Path, command: str, redirected: str, *python: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a shell's redirections."""
    words = shlex.join([*program(*python), *shlex.split(COMMANDS[command])])
    return subprocess.run(f"exec {words} {redirected}", shell=True, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
def test_without_docstrings_a_command_does_the_same(folder: Path, command: str) -> None:
    bare = in_shell(folder, command, "", "-OO")
    assert bare.returncode == 0, bare.stderr
    if command == "plan":
        assert bare.stdout == in_shell(folder, command, "").stdout


@pytest.mark.parametrize(
    ("command", "redirected"), [*((name, ">&-") for name in COMMANDS), ("fit", "<&- >&- 2>&-"), ("plan", "<&- >&- 2>&-")]
)
def test_without_a_standard_output_a_command_succeeds(folder: Path, command: str, redirected: str) -> None:
    done = in_shell(folder, command, redirected)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    ("command", "python"), [*((name, ()) for name in COMMANDS if name != "fit, printing"), ("fit", ("-u",)), ("help", ("-u",))]
)
def test_a_full_standard_output_is_one_message(folder: Path, command: str, python: tuple[str, ...]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    done = in_shell(folder, command, "> /dev/full", *python)
    assert done.returncode == (0 if command in SILENT else 1), done.stderr
    assert ("error: standard output: No space left on device" in done.stderr) is (command not in SILENT)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "python"), [*((name, ()) for name in COMMANDS), ("fit", ("-u",)), ("help", ("-u",))])
def with_an_unread_pipe(folder: Path, command: str, *python: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is a pipe that has been closed at its other end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        words = [*program(*python), *shlex.split(COMMANDS[command])]
        return subprocess.run(words, cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(writer)


@pytest.mark.parametrize(("command", "python"), [*((name, ()) for name in COMMANDS), ("fit", ("-u",)), ("help", ("-u",))])
def test_a_pipe_that_nobody_reads_is_exit_code_141_without_a_word(folder: Path, command: str, python: tuple[str, ...]) -> None:
    done = with_an_unread_pipe(folder, command, *python)
    assert done.returncode == (0 if command in SILENT else 141), done.stderr
    assert "Error" not in done.stderr


def test_a_run_is_saved_before_its_metrics_fail_to_be_printed(folder: Path) -> None:
    (folder / "again.pt").unlink(missing_ok=True)
    assert with_an_unread_pipe(folder, "fit").returncode == 141
    assert (folder / "again.pt").exists()


def test_a_pipe_of_the_user_s_own_that_breaks_is_an_error_of_the_user_s(folder: Path) -> None:
    (folder / "piping.py").write_text(
        "import os\nfrom mine import Model\n\n\nclass Piping(Model):\n    def on_epoch_end(self):\n"
        "        reader, writer = os.pipe()\n        os.close(reader)\n        os.write(writer, b'x')\n"
    )
    words = [*program(), "fit", "piping.py:Piping", *shlex.split(ONE), "--runs_dir", "none", "--quiet"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "os.write(writer, b'x')" in done.stderr
