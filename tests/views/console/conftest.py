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
    """A terminal of 120 columns. The test calls `take_over` itself, because pytest sets the streams after the fixtures."""
    yield from open_terminal(120)


@pytest.fixture
def narrow_terminal() -> Iterator[Terminal]:
    """A terminal of 40 columns."""
    yield from open_terminal(40)


@pytest.fixture
def ascii_terminal() -> Iterator[Terminal]:
    """A terminal whose encoding is ASCII."""
    yield from open_terminal(120, "ascii")


@pytest.fixture(autouse=True)
def _terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a common type of terminal, wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")


def open_terminal(columns: int, encoding: str = "utf-8") -> Iterator[Terminal]:
    """Yield a terminal; check afterwards that its streams are restored and no thread draws any more."""
    terminal = Terminal(columns, encoding)
    yield terminal
    for stream in (terminal.stderr, terminal.stdout):
        assert not {"write", "flush"} & set(vars(stream)), "a stream is not restored"
    assert not drawing_threads(), "a thread still draws"
    terminal.close()


class ManualBars:
    """Makes bars whose threads draw once; a test redraws them itself."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []

    def __call__(self, terminal: Terminal, run: FrozenRun, clock: ManualClock | None = None) -> Bar:
        """Return a bar that has been drawn once."""
        bar = open_bar(run, terminal.stderr, clock or ManualClock())
        assert bar is not None
        self.bars.append(bar)
        terminal.wait_for(f"{run.state} ")
        return self.bars[-1]


@pytest.fixture
def by_hand(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManualBars]:
    """A `ManualBars`, whose bars are closed in the end if a failed test has not."""
    monkeypatch.setattr(progress_bar, "REDRAW_SECONDS", 3600.0)
    bars = ManualBars()
    yield bars
    for bar in bars.bars:
        bar.close("left open by a test that failed")
