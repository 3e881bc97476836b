"""The progress bar: what the line says, and what it says when, told look by look."""

from __future__ import annotations

import os
import threading
import time

import pytest
from tqdm.utils import disp_len

from fsmtrain.core.states import State
from fsmtrain.views.console.progress_bar import Bar, lay_out
from fsmtrain.views.console.progress_text import ProgressSnapshot
from fsmtrain.views.console.terminal import MARGIN
from tests.pseudo_terminal import Screen, Terminal
from tests.views.console.conftest import ManualBars
from tests.views.console.shown_runs import FrozenRun, LateMetrics, ManualClock, drawing_threads

METRICS = {"loss": 0.123456, "an_accuracy": 0.9, "{braces}": 1e-9, "幅": 2.0, "a\nb": 3.0}


MOMENTS = [
    ProgressSnapshot(epoch="epoch 3/20", batch="17/45", what="backward", done=16, total=45),
    ProgressSnapshot(epoch="epoch 1000/1000", batch="123456/123456", what="validating 1234/1234", done=123456, total=123456),
    ProgressSnapshot(epoch="epoch 3/20", batch="17", what="fetch (125 s)", done=16, total=0),
    ProgressSnapshot(epoch="", batch="", what="evaluating 3/5", done=2, total=5),
    ProgressSnapshot(epoch="epoch 1/1", batch="3/2", what="step", done=3, total=2),  # counters read one after the other
]


@pytest.mark.parametrize("at", MOMENTS)
@pytest.mark.parametrize("batches", [0.0, 0.01, 12345.6])
def test_the_line_fits_into_any_width(at: ProgressSnapshot, batches: float) -> None:
    for width in range(200):
        text = lay_out(at, batches, METRICS, width)
        assert disp_len(text) <= width
        assert text.isprintable()


def test_what_does_not_fit_is_left_out_whole_metrics_first_and_the_state_last() -> None:
    texts = [lay_out(MOMENTS[0], 212.0, METRICS, width) for width in range(200, 11, -1)]
    parts = ["a?b=3", "幅=2", "{braces}=1e-09", "an_accuracy=0.9", "loss=0.1235", "212 batches/s", "212/s", "17/45", "backward"]
    shown = [[part for part in parts if part in text] for text in texts]
    assert shown[0] == [part for part in parts if part != "212/s"]
    lost = [next(i for i, now in enumerate(shown) if part not in now) for part in parts if part not in ("212/s", "backward")]
    assert lost == sorted(lost)
    assert len(set(lost[: len(METRICS)])) == len(METRICS)  # one after the other
    assert all("epoch 3/20" in text for text in texts[: -1 - len("epoch 3/20") + 11])
    for text in texts:
        for name in ("an_accuracy", "loss"):
            assert text.count(name) == text.count(f"{name}=")


def test_the_bar_is_as_full_as_the_epoch_is_done() -> None:
    def cells(done: int) -> str:
        at = ProgressSnapshot(epoch="epoch 1/1", batch="1/4", what="step", done=done, total=4)
        return lay_out(at, 0.0, {}, 79, ascii_only=True).split("|")[1]

    assert [cells(done).count("#") / len(cells(done)) for done in (0, 2, 4, 5)] == [0.0, 0.5, 1.0, 1.0]


def test_a_visit_that_takes_long_says_how_long(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    clock = ManualClock()
    bar = by_hand(terminal, FrozenRun(), clock)
    assert "fetch (" not in terminal.text
    clock.now += 12
    bar.look()
    terminal.wait_for("fetch (12 s)")
    bar.close("the end")


def test_nothing_is_written_where_nothing_has_changed(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    bar = by_hand(terminal, FrozenRun())
    for _ in range(5):
        bar.look()
    bar.close("the end")
    terminal.settled()
    assert terminal.text.count("batch 1/45") == 2  # the first look, and what stays


def test_a_window_that_becomes_narrower_has_the_bar_in_one_row_again(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    run = FrozenRun()
    bar = by_hand(terminal, run)
    terminal.resize(40)
    before = len(terminal.text)
    run.state = State.STEP
    bar.look()
    bar.close("the end")
    terminal.settled()
    screen = Screen(40)
    screen.feed(terminal.text[before:])
    assert [row.split("|")[0] for row in screen.rows[:2]] == ["epoch 1/20 1/45", "the end"]


def test_the_cursor_waits_at_the_end_of_the_text_with_room_for_what_a_key_leaves_there(
    terminal: Terminal, by_hand: ManualBars
) -> None:
    """``^C``, which is then covered by what comes."""
    terminal.take_over()
    bar = by_hand(terminal, FrozenRun())
    screen = terminal.screen
    assert (screen.row, screen.column) == (0, len("".join(screen.cells[0][: screen.column]).rstrip()))
    assert screen.column <= terminal.columns - MARGIN
    os.write(terminal.stderr.fileno(), b"^C")
    bar.close("the end")
    assert [row[:5] for row in terminal.settled()] == ["epoch", "the e"]
    assert "^" not in terminal.rows[0]


def test_half_a_line_is_left_alone_until_it_is_finished(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    run = FrozenRun()
    bar = by_hand(terminal, run)
    print("loading", end="", flush=True)
    terminal.wait_for("loading")
    run.counters.batch_nb += 1
    run.state = State.STEP
    bar.look()
    print(" done")
    bar.look()
    terminal.wait_for("epoch 1/20, batch 2/45")
    print("half", end="")
    bar.close("the end")
    assert [row.split("|")[0] for row in terminal.settled()] == ["loading done", "half", "epoch 1/20, batch 2/45 ", "the end"]


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
        bar.look()
    os.write(terminal.stdout.fileno(), b"c\r\n")
    bar.look()
    run.state = State.BACKWARD
    bar.look()
    assert "backward" in terminal.wait_for("epoch 1/20")
    bar.close("the end")
    assert [row.split("|")[0] for row in terminal.settled()] == ["(Pdb) c", "epoch 1/20, batch 1/45 ", "the end"]


def test_a_run_that_ends_before_one_that_began_later_leaves_it_its_line(terminal: Terminal, by_hand: ManualBars) -> None:
    terminal.take_over()
    first, second = FrozenRun(), FrozenRun(State.STEP)
    bar = by_hand(terminal, first)
    later = by_hand(terminal, second)
    first.state = State.BACKWARD
    bar.look()
    bar.close("the first ended")
    later.look()
    later.close("the second ended")
    rows = terminal.settled()
    assert [row.split("|")[-1].split()[0] for row in rows] == ["backward", "the", "step", "the"]
    assert terminal.text.count("backward") == 1  # never but as what stays


def test_the_last_metrics_are_given_time_to_come(
    terminal: Terminal, by_hand: ManualBars, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.take_over()
    run = FrozenRun()
    bar = by_hand(terminal, run)
    run.metrics = LateMetrics({"loss": 0.5})
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(run.metrics, "here", True))
    bar.close("the end")
    assert terminal.settled()[0].endswith("loss=0.5")


def test_nobody_draws_any_more_when_the_run_is_over(terminal: Terminal, by_hand: ManualBars) -> None:
    """Not even a thread that was late."""
    terminal.take_over()
    looks, go_on = threading.Event(), threading.Event()

    class Slow(FrozenRun):
        def progress_bar_metrics_async(self) -> LateMetrics:
            if threading.current_thread() in drawing_threads():
                looks.set()
                go_on.wait()
            return super().progress_bar_metrics_async()

    bar = Bar(Slow(), terminal.stderr, ManualClock())
    looks.wait()
    threading.Timer(0.2, go_on.set).start()
    bar.close("the end")
    assert not drawing_threads()
