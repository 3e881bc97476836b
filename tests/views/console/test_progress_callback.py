"""The progress of runs on a terminal, as people see it; what is written elsewhere is in `test_lines`."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fsmtrain import Options
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.machine import Machine
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.runtime.hooks.bind_hooks import bind_hooks
from fsmtrain.runtime.metrics.host_transfer import PendingMetrics
from fsmtrain.views.console.progress_callback import Progress
from tests.pseudo_terminal import Terminal
from tests.views.console.shown_runs import Model, SizedBatches, UnsizedBatches, drawing_threads, machine_with_progress


def test_the_bar_shows_epoch_batch_and_state_while_a_long_forward_is_under_way(terminal: Terminal) -> None:
    """The model waits until a person could see it. All count from 1: the third of four batches, the second of two epochs."""
    terminal.take_over()
    epochs = iter((1, 2))

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            terminal.wait_for("batch 3/4 ")
            terminal.wait_for("train_batch ")
            terminal.wait_for(f"epoch {next(epochs)}/2 ")

    machine_with_progress(Model(wait)).run()


def test_a_long_fetch_is_visible_as_such(terminal: Terminal) -> None:
    terminal.take_over()

    class Slow(SizedBatches):
        def __iter__(self) -> Iterator[torch.Tensor]:
            for i, batch in enumerate(super().__iter__()):
                if i == 2:
                    terminal.wait_for("batch 3/4 ")
                    terminal.wait_for("fetch ")
                yield batch

    machine_with_progress(Model(), Slow(4), max_nb_epochs=1).run()


def test_a_stream_has_batches_without_a_last_one_and_no_bar(terminal: Terminal) -> None:
    terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            assert "━" not in terminal.wait_for("batch 3 ")

    machine_with_progress(Model(wait), UnsizedBatches(4), max_nb_epochs=1).run()


def test_passes_over_other_batches_show_what_they_do_and_how_far_they_are(terminal: Terminal) -> None:
    terminal.take_over()
    seen: list[str] = []

    def wait(step: str, batch_nb: int) -> None:
        if step != "train" and batch_nb == 1:
            what = {"val": "trying validation 2/2" if not seen else "validating 2/3", "test": "testing 2/5"}[step]
            seen.append(terminal.wait_for(what))

    machine_with_progress(
        Model(wait), val=SizedBatches(3), test=SizedBatches(5), max_nb_epochs=1, nb_sanity_val_steps=2, val_check_interval=1.0
    ).run()
    assert ["━" in row for row in seen] == [True, False, True]  # a validation interrupts an epoch, whose bar stays


def test_a_run_that_only_evaluates_has_a_bar_too(terminal: Terminal) -> None:
    terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 3:
            assert "━" in terminal.wait_for("testing 4/5 ")

    Machine(Options(device="cpu"), Model(wait), Loaders(test=SizedBatches(5)), runs="test").run()
    assert terminal.settled()[0].startswith("done  ━")


def test_the_bar_shows_the_loss_and_the_metrics_of_the_progress_bar(terminal: Terminal) -> None:
    terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 3:
            terminal.wait_for("batch=2  half=0.5")
            terminal.wait_for("loss=")

    machine_with_progress(Model(wait), val=SizedBatches(1), val_check_interval=1.0).run()
    assert terminal.settled()[2].endswith("batch=3  half=0.5  val_loss=0.25")


def test_a_model_that_shows_a_loss_of_its_own_has_that_in_the_bar(terminal: Terminal) -> None:
    terminal.take_over()

    class Own(Model):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return super().training_step(batch, batch_nb) | {"progress_bar": {"loss": 7.0}}

    machine_with_progress(Own()).run()
    assert terminal.settled()[2].endswith("loss=7")


def test_the_last_bar_stays_with_the_reason_below_it(terminal: Terminal) -> None:
    terminal.take_over()
    machine_with_progress(Model()).run()
    run, epoch, status, sentence = terminal.settled()
    assert run.startswith("epoch 2/2  ━")
    assert epoch.startswith("batch 4/4  ━")
    assert status.startswith("done  ")
    assert sentence.startswith("ended after 2 epochs, 8 batches, ")
    assert sentence.endswith("s: all epochs are done; raise max_nb_epochs to train longer")


def test_in_a_terminal_of_40_columns_each_row_is_one_line(narrow_terminal: Terminal) -> None:
    narrow_terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            narrow_terminal.wait_for("batch 3/4  ━")

    machine_with_progress(Model(wait), max_nb_epochs=1).run()
    run, epoch, status, *sentence = narrow_terminal.settled()
    assert [row.split("  ")[0] for row in (run, epoch, status)] == ["epoch 1/1", "batch 4/4", "done"]
    assert "".join(sentence).startswith("ended after 1 epoch, 4 batches, ")


def test_a_terminal_without_block_characters_has_a_bar_of_others(ascii_terminal: Terminal) -> None:
    ascii_terminal.take_over()
    machine_with_progress(Model()).run()
    assert ascii_terminal.settled()[0].startswith("epoch 2/2  ---")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal.take_over()
    machine_with_progress(Model()).run()
    assert [row.split(" after")[0] for row in terminal.settled()] == ["epoch 1/2", "epoch 2/2", "ended"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_screen_names_the_place_and_the_terminal_is_restored(
    terminal: Terminal, error: type[BaseException]
) -> None:
    terminal.take_over()
    settings = terminal.settings

    def fail(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            raise error("no more")

    with pytest.raises(error):
        machine_with_progress(Model(fail)).run()
    print("what comes next")
    _, epoch, _, sentence, after = terminal.settled()
    assert epoch.startswith("batch 3/4 ")
    assert sentence.startswith(
        f"ended by {error.__name__} in the state train_batch, epoch 1/2, batch 3/4 (counted from 1), after"
    )
    assert after == "what comes next"
    assert terminal.settings == settings


def test_after_a_stop_request_the_screen_names_it(terminal: Terminal) -> None:
    terminal.take_over()
    run: Machine

    def stop(step: str, batch_nb: int) -> None:
        if batch_nb == 1:
            run.stop()

    run = machine_with_progress(Model(stop))
    run.run()
    _, epoch, status, sentence = terminal.settled()
    assert epoch.startswith("batch 2/4 ")
    assert status.startswith("stopped")
    assert sentence.startswith("ended after 0 epochs, 2 batches, ")
    assert sentence.endswith("s: a stop was requested")


def test_an_error_of_the_drawing_ends_the_bar_and_not_the_run(terminal: Terminal) -> None:
    terminal.take_over()

    class Failing(Machine):
        def progress_bar_metrics_async(self, *, with_loss: bool = False) -> PendingMetrics:
            if drawing_threads():
                raise RuntimeError("no such device")
            return super().progress_bar_metrics_async(with_loss=with_loss)

    result = Failing(Options(max_nb_epochs=1, device="cpu"), Model(), Loaders(train=SizedBatches(4), val=(), test=())).run()
    assert result.stop_reason is StopReason.MAX_EPOCHS
    assert "(progress bar disabled after an error: RuntimeError('no such device'))" in terminal.settled()


def test_prints_during_a_run_appear_whole_above_the_bar(terminal: Terminal) -> None:
    """``print``, to either stream, in one piece or in two, and a logger that got the stream before the run."""
    terminal.take_over()
    logger = logging.getLogger("tests.progress")
    handler = logging.StreamHandler(terminal.stderr)
    logger.addHandler(handler)

    def talk(step: str, batch_nb: int) -> None:
        terminal.wait_for(f"batch {batch_nb + 1}/4 ")
        if batch_nb == 0:
            print("to stdout")
        elif batch_nb == 1:
            print("to stderr", file=sys.stderr)
        elif batch_nb == 2:
            logger.warning("to a logger")
        else:
            print("in two", end=" ")
            print("pieces")
            terminal.wait_for("pieces")

    machine_with_progress(Model(talk), max_nb_epochs=1).run()
    logger.removeHandler(handler)
    *printed, run, epoch, _, sentence = terminal.settled()
    assert printed == ["to stdout", "to stderr", "to a logger", "in two pieces"]
    assert (run[:9], epoch[:9]) == ("epoch 1/1", "batch 4/4")
    assert sentence.startswith("ended")


def test_a_run_within_a_run_is_seen_while_it_lasts(terminal: Terminal) -> None:
    """One `Progress` for both, as a trainer that is used twice has it."""
    terminal.take_over()
    progress = Progress()

    def inner(step: str, batch_nb: int) -> None:
        terminal.wait_for("epoch 1/7 ")
        terminal.wait_for(f"batch {batch_nb + 1}/3 ")

    def outer(step: str, batch_nb: int) -> None:
        terminal.wait_for(f"batch {batch_nb + 1}/4 ")
        if batch_nb == 1:
            with pytest.raises(KeyboardInterrupt):
                machine_with_progress(Model(interrupted), SizedBatches(3), progress=progress, max_nb_epochs=7).run()
            terminal.wait_for("batch 2/4 ")

    def interrupted(step: str, batch_nb: int) -> None:
        inner(step, batch_nb)
        if batch_nb == 2:
            raise KeyboardInterrupt

    machine_with_progress(Model(outer), progress=progress, max_nb_epochs=1).run()
    assert [row.split("  ")[0].split(" in ")[0].split(", 4")[0] for row in terminal.settled()] == [
        *("epoch 1/7", "batch 3/3", "train_batch", "ended by KeyboardInterrupt"),
        *("epoch 1/1", "batch 4/4", "done", "ended after 1 epoch"),
    ]


def test_a_terminal_that_is_closed_meanwhile_ends_no_run(terminal: Terminal) -> None:
    terminal.take_over()

    def hang_up(step: str, batch_nb: int) -> None:
        terminal.hang_up()

    assert machine_with_progress(Model(hang_up)).run().stop_reason is StopReason.MAX_EPOCHS


def test_there_is_no_hook_that_is_called_for_each_batch() -> None:
    hooks = bind_hooks(object(), [Progress()], object())
    assert (hooks.on_batch_start, hooks.on_batch_end, hooks.on_transition) == (None, None, None)


def test_what_draws_bars_is_imported_only_when_one_is_drawn() -> None:
    code = "import sys, fsmtrain.views.console.progress_callback; print('fsmtrain.views.console.progress_bar' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
