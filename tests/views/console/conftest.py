"""Fixtures: terminals and progress bars."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fsmtrain.views.console import progress_bar
from fsmtrain.views.console.progress_bar import Bar, open_bar
from tests.pseudo_terminal import Terminal
from tests.views.console.shown_runs import FrozenRun, ManualClock, drawing_threads


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 120 columns. A test takes it over itself: pytest sets the streams after its fixtures are made."""
    yield from open_terminal(120)


@pytest.fixture
def narrow_terminal() -> Iterator[Terminal]:
    """The same with 40 columns."""
    yield from open_terminal(40)


@pytest.fixture
def ascii_terminal() -> Iterator[Terminal]:
    """One that has no other characters than those of ASCII."""
    yield from open_terminal(120, "ascii")


@pytest.fixture(autouse=True)
def _terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usual type of terminal, wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")


def open_terminal(columns: int, encoding: str = "utf-8") -> Iterator[Terminal]:
    """A terminal that is closed afterwards, with nothing left behind in it."""
    terminal = Terminal(columns, encoding)
    yield terminal
    for stream in (terminal.stderr, terminal.stdout):
        assert not {"write", "flush"} & set(vars(stream)), "a stream has not been put back"
    assert not drawing_threads(), "a thread goes on drawing"
    terminal.close()


class ManualBars:
    """Makes bars that are drawn when a test says so: their threads look once, and not again."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []

    def __call__(self, terminal: Terminal, run: FrozenRun, clock: ManualClock | None = None) -> Bar:
        """A bar whose first look is over."""
        bar = open_bar(run, terminal.stderr, clock or ManualClock())
        assert bar is not None
        self.bars.append(bar)
        terminal.wait_for(f"{run.state} ")
        return self.bars[-1]


@pytest.fixture
def by_hand(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManualBars]:
    """What makes such bars, and in the end closes those that a failed test has left."""
    monkeypatch.setattr(progress_bar, "REDRAW_SECONDS", 3600.0)
    made = ManualBars()
    yield made
    for each in made.bars:
        each.close("left by a test that failed")
