"""The progress bar: what its rows say, and what they say when, one redraw after the other."""

from __future__ import annotations

import os
import re
import threading
import time

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress, Task

from fsmtrain.core.states import State
from fsmtrain.views.console.progress_bar import Rows, lay_out, open_bar
from fsmtrain.views.console.run_position import ProgressSnapshot
from fsmtrain.views.console.terminal import MARGIN
from tests.pseudo_terminal import Terminal
from tests.views.console.conftest import ManualBars
from tests.views.console.shown_runs import FrozenRun, LateMetrics, ManualClock, drawing_threads

WORDS = ["backward", "212 batches/s", "loss=0.1235", "an_accuracy=0.9", "[braces]=1e-09", "幅=2"]
CONSOLE = Console(width=200, color_system=None)


def tasks(*rows: tuple[str, int, int]) -> list[Task]:
    """Tasks with these labels, done and total batches (0: not known)."""
    progress = Progress(get_time=ManualClock())
    for label, done, total in rows:
        progress.add_task(label, completed=done, total=total or None)
    return progress.tasks


USUAL = [("epoch 3/20", 106, 900), ("batch 17/45", 16, 45)]
MOMENTS = [
    USUAL,
    [("epoch 1000/1000", 123456000, 123456000), ("batch 123456/123456", 123456, 123456)],
    [("epoch 3/20", 16, 0), ("batch 17", 16, 0)],
    [("testing 3/5", 2, 5)],
    [("epoch 1/1", 3, 2), ("batch 3/2", 3, 2)],  # counters read one after the other
]


@pytest.mark.parametrize("rows", MOMENTS)
def test_every_row_fits_into_any_width(rows: list[tuple[str, int, int]]) -> None:
    for width in range(1, 200):
        for row in lay_out(tasks(*rows), WORDS, width, CONSOLE).plain.splitlines():
            assert cell_len(row) <= width
            assert row.isprintable()


def test_words_that_do_not_fit_are_left_out_whole_from_the_last_to_the_first() -> None:
    shown = [lay_out(tasks(*USUAL), WORDS, width, CONSOLE).plain.splitlines()[2] for width in range(120, 7, -1)]
    assert {tuple(row.split("  ")) for row in shown} == {tuple(WORDS[:n]) for n in range(1, len(WORDS) + 1)}


def test_of_the_times_and_the_bar_the_elapsed_time_is_left_out_first_and_the_bar_last() -> None:
    rows = [lay_out(tasks(*USUAL), WORDS, width, CONSOLE).plain.splitlines()[1] for width in range(80, 10, -1)]
    shown = [tuple(part for part in ("17/45", "━", " left", "0:00:00") if part in row) for row in rows]
    assert list(dict.fromkeys(shown)) == [
        ("17/45", "━", " left", "0:00:00"),
        ("17/45", "━", " left"),
        ("17/45", "━"),
        ("17/45",),
    ]


@pytest.mark.parametrize(("done", "full"), [(0, 0), (2, 20), (4, 40), (5, 40)])
def test_the_bar_is_as_full_as_the_epoch_is_done(done: int, full: int) -> None:
    assert lay_out(tasks(("batch 1/4", done, 4)), [], 100, CONSOLE).plain.count("━") == full


def test_a_stream_has_no_bar_and_no_remaining_time() -> None:
    assert lay_out(tasks(("epoch 1/1", 2, 0), ("batch 3", 2, 0)), ["fetch"], 80, CONSOLE).plain.splitlines() == [
        "epoch 1/1  0:00:00",
        "batch 3    0:00:00",
        "fetch",
    ]


def test_the_remaining_times_are_those_of_the_epoch_and_of_the_run_and_the_epoch_begins_anew() -> None:
    """10 batches in 10 seconds: the epoch of 20 has 10 seconds left, the run of 3 epochs 50."""
    clock = ManualClock()
    rows = Rows(clock)

    def times(epoch: int, done: int) -> list[tuple[object, object]]:
        at = ProgressSnapshot(
            epoch=f"epoch {epoch}/3",
            label=f"batch {done + 1}/20",
            activity="step",
            done=done,
            total=20,
            run_done=(epoch - 1) * 20 + done,
            run_total=60,
        )
        return [(task.elapsed, task.time_remaining) for task in rows.update(at)]

    assert times(1, 0) == [(0, None), (0, None)]
    for done in range(1, 11):
        clock.now += 1
        latest = times(1, done)
    assert latest[0] == (10, pytest.approx(50, abs=6))
    assert latest[1] == (10, pytest.approx(10, abs=2))
    clock.now += 10
    assert times(2, 0) == [(20, pytest.approx(40, abs=5)), (0, None)]


def first_words(rows: list[str]) -> list[str]:
    """The first word of each row."""
    return [row.split()[0] for row in rows]


def test_a_long_visit_shows_its_time(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    clock = ManualClock()
    bar = by_hand(terminal, FrozenRun(), clock)
    assert "fetch (" not in terminal.text
    clock.now += 12
    bar.redraw()
    terminal.wait_for("fetch (12 s)")
    bar.close("the end")


def test_nothing_is_written_where_nothing_has_changed(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    bar = by_hand(terminal, FrozenRun())
    for _ in range(5):
        bar.redraw()
    bar.close("the end")
    terminal.settled()
    assert terminal.text.count("batch  1/45") == 2  # the first redraw, and what stays


def test_a_window_that_becomes_narrower_has_rows_that_fit_again(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    run = FrozenRun()
    bar = by_hand(terminal, run)
    terminal.resize(40)
    before = len(terminal.text)
    run.state = State.STEP
    bar.redraw()
    bar.close("the end")
    terminal.settled()
    assert all(cell_len(row) <= 40 for row in re.split("[\r\n]", terminal.written_since(before)))


def test_the_cursor_waits_at_the_end_of_the_text_with_room_for_what_a_key_leaves_there(
    terminal: Terminal, by_hand: ManualBars
) -> None:
    """``^C``, which is then covered by what comes."""
    terminal.take_over()
    bar = by_hand(terminal, FrozenRun())
    screen = terminal.screen
    assert (screen.row, screen.column) == (2, len("fetch"))
    assert screen.column <= terminal.columns - MARGIN
    os.write(terminal.stderr.fileno(), b"^C")
    bar.close("the end")
    assert first_words(terminal.settled()) == ["epoch", "batch", "fetch", "the"]
    assert "^" not in "".join(terminal.rows)


def test_an_unfinished_line_is_not_overwritten(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    run = FrozenRun()
    bar = by_hand(terminal, run)
    print("loading", end="", flush=True)
    terminal.wait_for("loading")
    run.counters.batch_nb += 1
    run.state = State.STEP
    bar.redraw()
    print(" done")
    bar.redraw()
    terminal.wait_for("batch  2/45")
    print("half", end="")
    bar.close("the end")
    loading, half, *rows = terminal.settled()
    assert (loading, half) == ("loading done", "half")
    assert first_words(rows) == ["epoch", "batch", "step", "the"]


def test_a_question_to_a_person_is_not_drawn_over_until_the_run_moves_on(terminal: Terminal, by_hand: ManualBars) -> None:
    """``input`` and debuggers flush the streams, then write past them, and wait."""
    terminal.take_over()
    run, clock = FrozenRun(State.TRAIN_BATCH), ManualClock()
    bar = by_hand(terminal, run, clock)
    terminal.stdout.flush()
    os.write(terminal.stdout.fileno(), b"(Pdb) ")
    terminal.wait_for("(Pdb)")
    for _ in range(3):
        clock.now += 10  # the bar would have news
        bar.redraw()
    os.write(terminal.stdout.fileno(), b"c\r\n")
    bar.redraw()
    run.state = State.BACKWARD
    bar.redraw()
    terminal.wait_for("backward")
    bar.close("the end")
    assert first_words(terminal.settled()) == ["(Pdb)", "epoch", "batch", "backward", "the"]


def test_a_run_that_ends_before_one_that_began_later_leaves_it_its_line(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    first, second = FrozenRun(), FrozenRun(State.STEP)
    bar = by_hand(terminal, first)
    later = by_hand(terminal, second)
    first.state = State.BACKWARD
    bar.redraw()
    bar.close("the first ended")
    later.redraw()
    later.close("the second ended")
    rows = terminal.settled()
    assert first_words(rows) == ["epoch", "batch", "backward", "the", "epoch", "batch", "step", "the"]
    assert terminal.text.count("backward") == 1  # never but as what stays


class DeviceRun(FrozenRun):
    """A run whose metrics arrive when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[LateMetrics] = []

    def progress_bar_metrics_async(self, *, with_loss: bool = False) -> LateMetrics:
        self.copies.append(LateMetrics({"loss": float(len(self.copies))}))
        return self.copies[-1]


def test_metrics_that_arrive_after_a_redraw_are_shown_by_the_next_one(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    run = DeviceRun()
    bar = by_hand(terminal, run)
    bar.redraw()
    assert (len(run.copies), "loss=" in terminal.text) == (1, False)
    run.copies[0].here = True
    bar.redraw()
    terminal.wait_for("loss=0")
    assert len(run.copies) == 2  # the next copy has begun
    run.copies[1].here = True
    bar.close("the end")


def test_the_bar_waits_briefly_for_the_last_metrics(
    terminal: Terminal, by_hand: ManualBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.take_over()
    run = FrozenRun()
    bar = by_hand(terminal, run)
    run.metrics = LateMetrics({"loss": 0.5})
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(run.metrics, "here", True))
    bar.close("the end")
    assert terminal.settled()[2].endswith("loss=0.5")


def test_nobody_draws_any_more_when_the_run_is_over(terminal: Terminal, by_hand: ManualBars) -> None:
    """Not even a thread that was late."""
    terminal.take_over()
    looks, go_on = threading.Event(), threading.Event()

    class Slow(FrozenRun):
        def progress_bar_metrics_async(self, *, with_loss: bool = False) -> LateMetrics:
            if threading.current_thread() in drawing_threads():
                looks.set()
                go_on.wait()
            return super().progress_bar_metrics_async()

    bar = open_bar(Slow(), terminal.stderr, ManualClock())
    assert bar is not None
    looks.wait()
    threading.Timer(0.2, go_on.set).start()
    bar.close("the end")
    assert not drawing_threads()
