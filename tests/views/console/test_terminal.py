"""The last line of a terminal, shared with all who write there, and with processes that are forked meanwhile."""

from __future__ import annotations

import os
import signal
import threading

from fsmtrain.views.console.terminal import LastLine
from tests.pseudo_terminal import Terminal


def test_a_line_that_rested_is_drawn_again_as_it_was(terminal: Terminal) -> None:
    terminal.take_over()
    around, within = LastLine(terminal.stderr, lambda: 0), LastLine(terminal.stderr, lambda: 0)
    around.open()
    around.draw("around", 1)
    within.open()
    within.draw("within", 1)
    within.close()
    around.draw("around", 1)
    terminal.wait_for("around")
    around.close("the end")
    assert terminal.settled() == ["the end"]


def test_a_stream_that_somebody_else_has_changed_keeps_what_is_theirs(terminal: Terminal) -> None:
    terminal.take_over()
    written: list[str] = []

    def theirs(text: str, /) -> int:
        written.append(text)
        return len(text)

    terminal.stdout.write = theirs  # type: ignore[method-assign]
    line = LastLine(terminal.stderr, lambda: 0)
    line.open()
    print("a")
    line.close()
    print("b")
    assert written == ["a", "\n", "b", "\n"]
    assert vars(terminal.stdout)["write"] is theirs
    del terminal.stdout.write


def test_a_fork_waits_until_the_line_is_drawn(terminal: Terminal) -> None:
    """Else the child, a loader's worker, would wait for ever for the one who draws, of whom it has no copy."""
    terminal.take_over()
    line, holds = LastLine(terminal.stderr, lambda: 0), threading.Event()
    line.open()
    write, go_on = line._write, threading.Event()

    def slow(text: str) -> int:
        holds.set()
        go_on.wait()
        return write(text)

    line._write = slow
    thread = threading.Thread(target=line.draw, args=("drawing", 1))
    thread.start()
    holds.wait()
    threading.Timer(0.2, go_on.set).start()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends the child where it waits
        line._write = write
        printing = threading.Thread(target=print, args=("the child",))
        printing.start()
        printing.join()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    line.close()
