"""What `rich.progress` by itself does to a terminal: the reasons for `terminal.py`.

Each test shows a guarantee of the bar that rich breaks. If one fails with a newer rich, the part of `terminal.py` that it
names may be superfluous.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.pseudo_terminal import Terminal


@contextmanager
def bar_of_rich(terminal: Terminal) -> Iterator[Progress]:
    """A bar as rich's documentation makes one, redrawn by its own thread."""
    terminal.take_over()
    with Progress(console=Console(file=terminal.stderr, force_terminal=True, width=60)) as progress:
        progress.add_task("a bar of rich", total=2)
        yield progress


def wait_for_redraws(progress: Progress) -> None:
    """Wait until the bar has been redrawn a few times since now."""
    redraws = [threading.Event() for _ in range(3)]
    refresh = progress.live.refresh

    def counted() -> None:
        refresh()
        next((event for event in redraws if not event.is_set()), redraws[-1]).set()

    progress.live.refresh = counted  # type: ignore[method-assign]
    assert redraws[-1].wait(10)
    progress.live.refresh = refresh  # type: ignore[method-assign]


def test_the_line_of_a_logger_that_has_kept_the_stream_is_lost(terminal: Terminal) -> None:
    """`_SharedStream`, which replaces the methods of the stream, and not the stream in ``sys``."""
    handler = logging.StreamHandler(terminal.stderr)
    with bar_of_rich(terminal) as progress:
        wait_for_redraws(progress)
        handler.emit(logging.makeLogRecord({"msg": "from a logger"}))
        wait_for_redraws(progress)
    assert "from a logger" not in terminal.settled()


def test_half_a_line_that_is_flushed_becomes_a_line_of_its_own(terminal: Terminal) -> None:
    """`SharedTerminal.cursor_is_known`."""
    with bar_of_rich(terminal):
        print("loading", end="", flush=True)
        print(" done")
    assert "loading done" not in terminal.settled()


def test_a_bracket_in_what_is_flushed_is_taken_for_markup(terminal: Terminal) -> None:
    """`_SharedStream`, which passes text on unchanged."""
    with bar_of_rich(terminal):
        print("[red] alert", end="", flush=True)
    assert not any("[red]" in row for row in terminal.settled())


def test_a_prompt_is_overwritten_while_it_waits(terminal: Terminal) -> None:
    """`LiveLines.wait_for_progress`."""
    with bar_of_rich(terminal) as progress:
        wait_for_redraws(progress)
        sys.stdout.flush()
        os.write(terminal.stdout.fileno(), b"(Pdb) ")  # as readline does
        terminal.wait_for("(Pdb)")
        wait_for_redraws(progress)
        assert not any("(Pdb)" in row for row in terminal.rows)


def test_a_child_that_is_forked_during_a_redraw_cannot_print(terminal: Terminal) -> None:
    """The lock that `os.register_at_fork` takes."""
    with bar_of_rich(terminal) as progress:
        holding, done = threading.Event(), threading.Event()

        def redraw() -> None:
            with progress.live._lock:  # which a redraw holds
                holding.set()
                done.wait(10)

        thread = threading.Thread(target=redraw)
        thread.start()
        holding.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(1)  # ends the child where it waits
            print("the child")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGALRM
        done.set()
        thread.join()


def test_a_terminal_that_is_closed_is_an_error_at_the_end(terminal: Terminal) -> None:
    """`LiveLines._put`."""
    with pytest.raises(OSError, match=r"\[Errno"), bar_of_rich(terminal):
        terminal.hang_up()
