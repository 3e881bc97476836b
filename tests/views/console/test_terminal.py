"""Live lines of a terminal that is shared with others who write there, and with processes that are forked meanwhile."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from rich.text import Text

from fsmtrain.views.console.terminal import LiveLines, can_redraw
from tests.pseudo_terminal import Terminal


def test_lines_that_others_have_hidden_are_drawn_again_unchanged(terminal: Terminal) -> None:
    terminal.take_over()
    outer = LiveLines(terminal.stderr, lambda: 0)
    outer.draw(Text("outer"), 1)
    inner = LiveLines(terminal.stderr, lambda: 0)
    inner.draw(Text("inner\nof two lines"), 1)
    inner.close()
    outer.draw(Text("outer"), 1)
    terminal.wait_for("outer")
    outer.close(Text("the end"))
    assert terminal.settled() == ["the end"]


def test_a_stream_that_other_code_has_patched_keeps_its_patch(terminal: Terminal) -> None:
    terminal.take_over()
    written: list[str] = []

    def theirs(text: str, /) -> int:
        written.append(text)
        return len(text)

    terminal.stdout.write = theirs  # type: ignore[method-assign]
    lines = LiveLines(terminal.stderr, lambda: 0)
    print("a")
    lines.close()
    print("b")
    assert written == ["a", "\n", "b", "\n"]
    assert vars(terminal.stdout)["write"] is theirs
    del terminal.stdout.write


def test_a_fork_waits_until_the_line_is_drawn(terminal: Terminal) -> None:
    """Else the child, a loader's worker, would wait for ever for the one who draws, of whom it has no copy."""
    terminal.take_over()
    lines, holds = LiveLines(terminal.stderr, lambda: 0), threading.Event()
    write, go_on = lines._write, threading.Event()

    def slow(text: str) -> int:
        holds.set()
        go_on.wait()
        return write(text)

    lines._write = slow
    thread = threading.Thread(target=lines.draw, args=(Text("drawing"), 1))
    thread.start()
    holds.wait()
    threading.Timer(0.2, go_on.set).start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends the child where it waits
        lines._write = write
        printing = threading.Thread(target=print, args=("the child",))
        printing.start()
        printing.join()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    lines.close()


def test_a_terminal_that_cannot_move_its_cursor_has_no_live_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_redraw(terminal.stderr)
    monkeypatch.setenv("TERM", "dumb")
    assert not can_redraw(terminal.stderr)
    assert not can_redraw(None)
