"""The command line as a child process: in a terminal, in a pipe, and with Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from fsmtrain import Options, plan
from tests.pseudo_terminal import Terminal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COLOUR = "\x1b["

SLOW = """
import time
import torch
from fsmtrain import TrainingModule


class Model(TrainingModule):
    pause = 0.005

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_nb):
        if self.global_step == 3:
            print("under way", flush=True)
        time.sleep(self.pause)
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return [torch.ones(1, 1)] * 8


class Stuck(Model):
    @property
    def pause(self):
        return 0 if self.global_step < 3 else 600
"""


def started(*arguments: str, cwd: Path = ROOT, **streams: Any) -> subprocess.Popen[str]:
    """The command line, just begun."""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "fsmtrain", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, **streams)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 60 columns."""
    terminal = Terminal(60)
    yield terminal
    terminal.close()


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder with a model that never ends by itself."""
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def wait_until_under_way(stream: IO[str] | None) -> None:
    assert stream is not None
    for line in stream:
        if "under way" in line:
            return
    raise AssertionError("the run never began")


def test_help_in_a_terminal_has_colours_and_its_width(terminal: Terminal) -> None:
    assert started("plan", "--help", stdout=terminal.stdout, stderr=terminal.stderr).wait() == 0
    assert COLOUR in terminal.text
    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.text).splitlines()
    assert max(map(len, lines)) == 60


def test_in_a_pipe_there_are_no_colours_and_plans_are_plain() -> None:
    helping, planning = started("fit", "--help"), started("plan", "--train", "9", "--max_nb_epochs", "2", "--json")
    text, errors = helping.communicate()
    assert (COLOUR in text, errors, helping.returncode) == (False, "", 0)
    text, errors = planning.communicate()
    assert json.loads(text) == json.loads(plan(Options(max_nb_epochs=2), train=9).to_json())
    assert (errors, planning.returncode) == ("", 0)


def test_wrong_flags_in_a_terminal_are_one_plain_line(terminal: Terminal) -> None:
    process = started("plan", "--train", "9", "--max_epochs", "3", stdout=terminal.stdout, stderr=terminal.stderr)
    assert process.wait() == 2
    assert terminal.settled() == ["error: --max_epochs: there is no such flag. Its name here is", " --max_nb_epochs."]


def test_a_reader_that_has_gone_is_no_reason_to_complain() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = started("plan", "--train", "9", stdout=writing)
    os.close(writing)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


def test_ctrl_c_stops_at_the_next_transition_and_names_the_place(slow: Path) -> None:
    process = started("fit", "slow.py:Model", "--max_nb_epochs", "9999", "--save", "cut.pt", cwd=slow)
    wait_until_under_way(process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "stopping at the next transition; press Ctrl-C again to stop at once\n" in errors
    place = r"stopped after \w+ \(epoch \d+, batch \d, optimizer 0\), at global_step \d+"
    assert re.search(place + r"\nIt cannot be continued", errors)
    assert "Traceback" not in errors
    assert (slow / "cut.pt").exists()


def test_ctrl_c_again_stops_at_once(slow: Path) -> None:
    process = started("fit", "slow.py:Stuck", cwd=slow)
    wait_until_under_way(process.stdout)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    for line in process.stderr:
        if "press Ctrl-C again to stop at once" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "stopped by Ctrl-C\nin state train_batch, epoch 0, batch 3, optimizer 0\n" in errors
    assert "Traceback" not in errors
