"""The progress of runs as people see it: on the screen of a terminal, and in lines elsewhere."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from tqdm.utils import disp_len

from fsmtrain import Options, TrainingModule
from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatch import Spent
from fsmtrain.core.loop import Loop
from fsmtrain.core.reasons import StopReason
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.machine import Machine
from fsmtrain.runtime.arrivals import Arrival
from fsmtrain.runtime.building import Loaders
from fsmtrain.runtime.callbacks import hooks_of
from fsmtrain.views import bar as bars
from fsmtrain.views.bar import Bar, lay_out
from fsmtrain.views.lines import outlook
from fsmtrain.views.progress import Progress
from fsmtrain.views.standing import Rates, Standing, standing
from fsmtrain.views.terminal import LastLine
from tests.views.screens import Screen, Terminal

END = "all epochs are done; raise max_nb_epochs to train longer"


# ---- what is shown


class Batches:
    """So many batches, with or without a length."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.ones(2, 3) for _ in range(self.n))


class Sized(Batches):
    def __len__(self) -> int:
        return self.n


class Model(TrainingModule):
    """A model that does something else besides, at each call."""

    def __init__(self, aside: Callable[[str, int], None] | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.aside = aside or (lambda step, batch_nb: None)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.aside("train", batch_nb)
        loss = self.layer(batch).pow(2).mean()
        return {"loss": loss, "progress_bar": {"batch": float(batch_nb), "half": torch.tensor(0.5)}}

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        self.aside("val", batch_nb)
        return {"val_loss": self.layer(batch).pow(2).mean()}

    def validation_end(self, outputs: Any) -> Any:
        return {"val_loss": 0.25, "progress_bar": {"val_loss": 0.25}}

    def test_step(self, batch: Any, batch_nb: int) -> Any:
        self.aside("test", batch_nb)
        return {"test_loss": self.layer(batch).pow(2).mean()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def machine(
    model: TrainingModule,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] = (),
    test: Iterable[Any] = (),
    *,
    progress: Progress | None = None,
    **flags: Any,
) -> Machine:
    """A run of a model that is shown by the machine's own `Progress`, or by a given one."""
    own = progress is None
    options = Options(**{"max_nb_epochs": 2, "nb_sanity_val_steps": 0, "device": "cpu", "progress_bar": own, **flags})
    loaders = Loaders(train=Sized(4) if train is None else train, val=val, test=test)
    return Machine(options, model, loaders, callbacks=() if progress is None else [progress])


class Late:
    """Metrics that come when they are told to."""

    def __init__(self, values: dict[str, float], *, here: bool = False, failure: Exception | None = None) -> None:
        self._values, self.here, self.failure = values, here, failure

    @property
    def arrived(self) -> bool:
        if self.failure is not None:
            raise self.failure
        return self.here

    def values(self) -> dict[str, float]:
        if self.failure is not None:
            raise self.failure
        return self._values if self.here else {}


class Standstill:
    """A run that stands where it is put."""

    def __init__(self, state: State = State.FETCH, counters: Counters | None = None, **sizes: Any) -> None:
        self.state, self.counters = state, counters or Counters()
        self.loop = Loop(
            Options(max_nb_epochs=20, val_check_interval=45), Sizes(**{"train": 45, "val": [12], "test": [7], **sizes})
        )
        self.times: dict[State, Spent] = {}
        self.stop_reason: StopReason | None = None
        self.metrics = Late({}, here=True)

    def arriving_metrics(self) -> Late:
        return self.metrics


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of 120 columns. A test takes it over itself: pytest sets the streams after its fixtures are made."""
    yield from opened(120)


@pytest.fixture
def narrow_terminal() -> Iterator[Terminal]:
    """The same with 40 columns."""
    yield from opened(40)


def opened(columns: int, encoding: str = "utf-8") -> Iterator[Terminal]:
    """A terminal that is closed afterwards, with nothing left behind in it."""
    terminal = Terminal(columns, encoding)
    yield terminal
    for stream in (terminal.stderr, terminal.stdout):
        assert not {"write", "flush"} & set(vars(stream)), "a stream has not been put back"
    assert not drawing(), "a thread goes on drawing"
    terminal.close()


def drawing() -> list[threading.Thread]:
    """The threads that draw, or are about to write."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("fsmtrain progress")]


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars are drawn when a test says so: after a first look, their threads take no other."""
    monkeypatch.setattr(bars, "INTERVAL", 3600.0)


def bar_by_hand(run: Standstill, terminal: Terminal, clock: Callable[[], float] = Clock()) -> Bar:  # noqa: B008
    """A bar whose first look is over."""
    bar = Bar(run, terminal.stderr, clock)
    terminal.wait_for("epoch")
    return bar


# ---- a bar on a terminal


def test_the_bar_shows_epoch_batch_and_state_while_a_long_forward_is_under_way(terminal: Terminal) -> None:
    """The model waits until a person could see it. All count from 1: the third of four batches, the second of two epochs."""
    terminal.take_over()
    rows: list[str] = []

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            rows.append(terminal.wait_for(f"epoch {len(rows) + 1}/2, batch 3/4 |"))

    machine(Model(wait)).run()
    assert [row.split("|")[2].split()[0] for row in rows] == ["train_batch", "train_batch"]


def test_a_long_fetch_is_visible_as_such(terminal: Terminal) -> None:
    terminal.take_over()

    class Slow(Sized):
        def __iter__(self) -> Iterator[torch.Tensor]:
            for i, batch in enumerate(super().__iter__()):
                if i == 2:
                    assert " fetch " in terminal.wait_for("epoch 1/1, batch 3/4 |") + " "
                yield batch

    machine(Model(), Slow(4), max_nb_epochs=1).run()


def test_a_stream_has_batches_without_a_last_one_and_no_bar(terminal: Terminal) -> None:
    terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            row = terminal.wait_for("epoch 1/1, batch 3 ")
            assert "|" not in row
            assert "train_batch" in row

    machine(Model(wait), Batches(4), max_nb_epochs=1).run()


def test_passes_over_other_batches_are_told_by_what_they_do_and_how_far_they_are(terminal: Terminal) -> None:
    terminal.take_over()
    seen: list[str] = []

    def wait(step: str, batch_nb: int) -> None:
        if step != "train" and batch_nb == 1:
            what = {"val": "trying validation 2/2" if not seen else "validating 2/3", "test": "testing 2/5"}[step]
            seen.append(terminal.wait_for(what))

    machine(Model(wait), val=Sized(3), test=Sized(5), max_nb_epochs=1, nb_sanity_val_steps=2, val_check_interval=1.0).run()
    assert [row.split("|")[0] for row in seen] == ["epoch 1/1, batch 1/4 ", "epoch 1/1, batch 4/4 ", "epoch 1/1, batch 4/4 "]


def test_a_run_that_only_evaluates_has_a_bar_too(terminal: Terminal) -> None:
    terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 3:
            terminal.wait_for("evaluating 4/5 |")

    Machine(Options(device="cpu"), Model(wait), Loaders(test=Sized(5)), runs="test").run()
    assert terminal.settled()[0].startswith("done |")


def test_the_bar_shows_the_metrics_of_the_progress_bar(terminal: Terminal) -> None:
    terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 3:
            terminal.wait_for("batch=2  half=0.5")

    machine(Model(wait), val=Sized(1), val_check_interval=1.0).run()
    assert terminal.settled()[0].endswith("batch=3  half=0.5  val_loss=0.25")


def test_the_last_bar_stays_with_the_reason_below_it(terminal: Terminal) -> None:
    terminal.take_over()
    machine(Model()).run()
    bar, sentence = terminal.settled()
    assert bar.startswith("epoch 2/2, batch 4/4 |█")
    assert "| done " in bar
    assert sentence.startswith("ended after 2 epochs, 8 batches, ")
    assert sentence.endswith(f" s: {END}")


def test_a_terminal_of_40_columns_has_the_bar_in_one_row(narrow_terminal: Terminal) -> None:
    narrow_terminal.take_over()

    def wait(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            narrow_terminal.wait_for("epoch 1/1 3/4|")

    machine(Model(wait), max_nb_epochs=1).run()
    bar, *sentence = narrow_terminal.settled()
    assert bar.startswith("epoch 1/1 4/4|█")
    assert "".join(sentence).startswith("ended after 1 epoch, 4 batches, ")


def test_a_terminal_without_block_characters_has_a_bar_of_others() -> None:
    for terminal in opened(120, "ascii"):
        terminal.take_over()
        machine(Model()).run()
        assert terminal.settled()[0].startswith("epoch 2/2, batch 4/4 |#")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_screen_says_where_and_the_terminal_is_as_before(
    terminal: Terminal, error: type[BaseException]
) -> None:
    terminal.take_over()
    settings = terminal.settings

    def fail(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            raise error("no more")

    with pytest.raises(error):
        machine(Model(fail)).run()
    print("what comes next")
    bar, sentence, after = terminal.settled()
    assert bar.startswith("epoch 1/2, batch 3/4 |")
    assert sentence.startswith(
        f"ended by {error.__name__} in the state train_batch, epoch 1/2, batch 3/4 (counted from 1), after"
    )
    assert after == "what comes next"
    assert terminal.settings == settings


def test_after_a_stop_request_the_screen_says_so(terminal: Terminal) -> None:
    terminal.take_over()
    run: Machine

    def stop(step: str, batch_nb: int) -> None:
        if batch_nb == 1:
            run.stop()

    run = machine(Model(stop))
    run.run()
    bar, sentence = terminal.settled()
    assert bar.startswith("epoch 1/2, batch 2/4 |")
    assert "stopped" in bar
    assert sentence.startswith("ended after 0 epochs, 2 batches, ")
    assert sentence.endswith("s: a stop was requested")


def test_an_error_of_the_drawing_ends_the_bar_and_not_the_run(terminal: Terminal) -> None:
    terminal.take_over()

    class Failing(Machine):
        def arriving_metrics(self) -> Arrival:
            if drawing():
                raise RuntimeError("no such device")
            return super().arriving_metrics()

    result = Failing(Options(max_nb_epochs=1, device="cpu"), Model(), Loaders(train=Sized(4), val=(), test=())).run()
    assert result.stop_reason is StopReason.MAX_EPOCHS
    assert terminal.settled()[-1] == "(the bar was given up: RuntimeError('no such device'))"


# ---- a terminal that is shared


def test_what_is_printed_meanwhile_stands_whole_above_the_bar(terminal: Terminal) -> None:
    """``print``, to either stream, in one piece or in two, and a logger that got the stream before the run."""
    terminal.take_over()
    logger = logging.getLogger("tests.progress")
    handler = logging.StreamHandler(terminal.stderr)
    logger.addHandler(handler)

    def talk(step: str, batch_nb: int) -> None:
        terminal.wait_for(f"batch {batch_nb + 1}/4 |")
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

    machine(Model(talk), max_nb_epochs=1).run()
    logger.removeHandler(handler)
    *printed, bar, sentence = terminal.settled()
    assert printed == ["to stdout", "to stderr", "to a logger", "in two pieces"]
    assert bar.startswith("epoch 1/1, batch 4/4 |")
    assert sentence.startswith("ended")


def test_half_a_line_is_left_alone_until_it_is_finished(terminal: Terminal, by_hand: None) -> None:
    terminal.take_over()
    run = Standstill()
    bar = bar_by_hand(run, terminal)
    sys.stdout.write("loading")
    run.counters.batch_nb += 1
    bar.look()
    sys.stdout.write(" done\n")
    bar.look()
    terminal.wait_for("epoch 1/20, batch 2/45")
    sys.stdout.write("half")
    bar.close("the end")
    assert [row.split("|")[0] for row in terminal.settled()] == ["loading done", "half", "epoch 1/20, batch 2/45 ", "the end"]


def test_a_question_to_a_person_is_not_drawn_over_until_the_run_moves_on(terminal: Terminal, by_hand: None) -> None:
    """``input`` and debuggers flush the streams, then write past them, and wait."""
    terminal.take_over()
    run, clock = Standstill(State.TRAIN_BATCH), Clock()
    bar = bar_by_hand(run, terminal, clock)
    sys.stdout.flush()
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


def test_a_visit_that_takes_long_says_how_long(terminal: Terminal, by_hand: None) -> None:
    terminal.take_over()
    clock = Clock()
    bar = bar_by_hand(Standstill(), terminal, clock)
    assert "fetch (" not in terminal.text
    clock.now += 12
    bar.look()
    terminal.wait_for("fetch (12 s)")
    bar.close("the end")


def test_nothing_is_written_where_nothing_has_changed(terminal: Terminal, by_hand: None) -> None:
    terminal.take_over()
    bar = bar_by_hand(Standstill(), terminal)
    for _ in range(5):
        bar.look()
    bar.close("the end")
    terminal.settled()
    assert terminal.text.count("batch 1/45") == 2  # the first look, and what stays


def test_a_window_that_becomes_narrower_has_the_bar_in_one_row_again(terminal: Terminal, by_hand: None) -> None:
    terminal.take_over()
    run = Standstill()
    bar = bar_by_hand(run, terminal)
    terminal.resize(40)
    before = len(terminal.text)
    run.state = State.STEP
    bar.look()
    bar.close("the end")
    terminal.settled()
    screen = Screen(40)
    screen.feed(terminal.text[before:])
    assert [row.split("|")[0] for row in screen.rows[:2]] == ["epoch 1/20 1/45", "the end"]


def test_a_run_within_a_run_is_seen_while_it_lasts(terminal: Terminal) -> None:
    """One `Progress` for both, as a trainer that is used twice has it."""
    terminal.take_over()
    progress = Progress()

    def inner(step: str, batch_nb: int) -> None:
        terminal.wait_for(f"epoch 1/7, batch {batch_nb + 1}/3 |")

    def outer(step: str, batch_nb: int) -> None:
        terminal.wait_for(f"epoch 1/1, batch {batch_nb + 1}/4 |")
        if batch_nb == 1:
            with pytest.raises(KeyboardInterrupt):
                machine(Model(interrupted), Sized(3), progress=progress, max_nb_epochs=7).run()
            terminal.wait_for("epoch 1/1, batch 2/4 |")

    def interrupted(step: str, batch_nb: int) -> None:
        inner(step, batch_nb)
        if batch_nb == 2:
            raise KeyboardInterrupt

    machine(Model(outer), progress=progress, max_nb_epochs=1).run()
    assert [row.split("|")[0].split(" in ")[0].split(", 4")[0] for row in terminal.settled()] == [
        "epoch 1/7, batch 3/3 ",
        "ended by KeyboardInterrupt",
        "epoch 1/1, batch 4/4 ",
        "ended after 1 epoch",
    ]


def test_a_run_that_ends_before_one_that_began_later_leaves_it_its_line(terminal: Terminal, by_hand: None) -> None:
    terminal.take_over()
    first, second = Standstill(), Standstill(State.STEP)
    bar = bar_by_hand(first, terminal)
    later = Bar(second, terminal.stderr, Clock())
    terminal.wait_for("step")
    bar.look()
    bar.close("the first ended")
    later.look()
    later.close("the second ended")
    rows = terminal.settled()
    assert [row.split("|")[0] for row in rows] == ["epoch 1/20, batch 1/45 ", "the first ended"] * 1 + [
        "epoch 1/20, batch 1/45 ",
        "the second ended",
    ]
    assert "fetch" in rows[0]
    assert "step" in rows[2]


def test_a_terminal_that_is_closed_meanwhile_ends_no_run(terminal: Terminal) -> None:
    terminal.take_over()

    def hang_up(step: str, batch_nb: int) -> None:
        if batch_nb == 1 and terminal._master != -1:
            terminal.wait_for("batch 2/4")
            terminal.hang_up()

    assert machine(Model(hang_up)).run().stop_reason is StopReason.MAX_EPOCHS


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
        sys.stdout.write("the child\n")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()
    line.close()


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


# ---- the layout of the bar


METRICS = {"loss": 0.123456, "an_accuracy": 0.9, "{braces}": 1e-9, "幅": 2.0, "a\nb": 3.0}
MOMENTS = [
    Standing(epoch="epoch 3/20", batch="17/45", what="backward", done=16, total=45),
    Standing(epoch="epoch 1000/1000", batch="123456/123456", what="validating 1234/1234", done=123456, total=123456),
    Standing(epoch="epoch 3/20", batch="17", what="fetch (125 s)", done=16, total=0),
    Standing(epoch="", batch="", what="evaluating 3/5", done=2, total=5),
    Standing(epoch="epoch 1/1", batch="3/2", what="step", done=3, total=2),  # counters that were read one after the other
]


@pytest.mark.parametrize("at", MOMENTS)
@pytest.mark.parametrize("batches", [0.0, 0.01, 12345.6])
def test_the_line_fits_into_any_width(at: Standing, batches: float) -> None:
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
    assert all("epoch 3/20" in text for text in texts[: -1 - len("epoch 3/20") + 11])
    for text in texts:
        for name in ("an_accuracy", "loss"):
            assert text.count(name) == text.count(f"{name}=")


def test_the_bar_is_as_full_as_the_epoch_is_done() -> None:
    def cells(done: int) -> str:
        at = Standing(epoch="epoch 1/1", batch="1/4", what="step", done=done, total=4)
        return lay_out(at, 0.0, {}, 79, ascii_only=True).split("|")[1]

    assert [cells(done).count("#") / len(cells(done)) for done in (0, 2, 4)] == [0.0, 0.5, 1.0]


# ---- where a run stands


def test_people_count_from_1_the_epoch_and_the_batch_under_way() -> None:
    at = standing(Standstill(State.BACKWARD, Counters(current_epoch=2, batch_nb=16)))
    assert (at.epoch, at.batch, at.what, at.done, at.total) == ("epoch 3/20", "17/45", "backward", 16, 45)


@pytest.mark.parametrize(
    ("state", "what", "done", "total"),
    [
        (State.SANITY_VAL, "trying validation 3/5", 2, 5),
        (State.VAL_CHECK, "validating 3/12", 17, 45),
        (State.TEST, "testing 3/7", 2, 7),
        (State.EPOCH_END, "epoch_end", 17, 45),
        (State.DONE, "done", 17, 45),
    ],
)
def test_a_pass_over_other_batches_counts_its_own(state: State, what: str, done: int, total: int) -> None:
    at = standing(Standstill(state, Counters(batch_nb=16, eval_nb=2)))
    assert (at.what, at.done, at.total) == (what, done, total)


def test_streams_have_no_total() -> None:
    run = Standstill(State.VAL_CHECK, Counters(batch_nb=16, eval_nb=2), train=None, val=[None])
    assert (standing(run).batch, standing(run).what, standing(run).total) == ("17", "validating 3", 0)


def test_a_rate_is_that_of_the_last_batches_and_a_check_does_not_slow_the_training_down() -> None:
    rates = Rates()
    assert rates.of(State.FETCH) == 0
    rates.note({State.FETCH: Spent(10, 1.0), State.STEP: Spent(10, 1.0), State.VAL_CHECK: Spent(4, 100.0)})
    assert rates.of(State.BACKWARD) == 5
    assert rates.of(State.VAL_CHECK) == 0.04
    rates.begin_again()
    rates.note({State.FETCH: Spent(20, 1.5), State.STEP: Spent(20, 1.5), State.VAL_CHECK: Spent(4, 100.0)})
    assert rates.of(State.BACKWARD) == 10


def test_a_rate_forgets_what_is_long_past() -> None:
    rates = Rates()
    for i in range(100):
        rates.note({State.FETCH: Spent(i, i / 10)})
    for i in range(100):
        rates.note({State.FETCH: Spent(100 + i, 10 + i / 50)})
    assert rates.of(State.FETCH) == pytest.approx(50)


# ---- plain lines


def test_a_file_gets_a_line_at_the_start_one_for_each_epoch_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()

    def pass_time(step: str, batch_nb: int) -> None:
        clock.now += 0.5

    machine(Model(pass_time), val=Sized(1), test=Sized(3), val_check_interval=4, progress=Progress(clock)).run()
    start, first, second, end = capsys.readouterr().err.splitlines()
    assert start == "training: 2 epochs of 4 batches, checks of 1 batch, then a test of 3 batches"
    assert first.startswith("epoch 1/2 after 2.5 s, ")
    assert second.startswith("epoch 2/2 after 5.0 s, ")
    assert first.endswith(" batches/s, batch=3, half=0.5, val_loss=0.25")
    assert end == f"ended after 2 epochs, 8 batches, 6.5 s: {END}"


def test_short_epochs_have_no_line_each_but_the_last_one_always_has(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()

    def pass_time(step: str, batch_nb: int) -> None:
        clock.now += 0.25

    machine(Model(pass_time), Sized(1), max_nb_epochs=11, progress=Progress(clock)).run()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines[1:-1]] == ["1/11", "5/11", "9/11", "11/11"]


@pytest.mark.parametrize(
    ("error", "name"), [(RuntimeError("no more"), "RuntimeError"), (KeyboardInterrupt(), "KeyboardInterrupt")]
)
def test_a_file_is_told_what_ended_the_run_and_where(
    capsys: pytest.CaptureFixture[str], error: BaseException, name: str
) -> None:
    def fail(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            raise error

    with pytest.raises(type(error)):
        machine(Model(fail), progress=Progress(Clock())).run()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"ended by {name} in the state train_batch, epoch 1/2, batch 3/4 (counted from 1), after 0.0 s"


def test_lines_go_to_what_is_standard_error_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [io.StringIO() for _ in range(3)]

    def replace(step: str, batch_nb: int) -> None:
        monkeypatch.setattr(sys, "stderr", files[1] if sys.stderr is files[0] else files[2])

    monkeypatch.setattr(sys, "stderr", files[0])
    machine(Model(replace), Sized(1), progress=Progress(Clock())).run()
    assert [file.getvalue().split()[0] for file in files] == ["training:", "epoch", "epoch"]
    assert not any(character in file.getvalue() for file in files for character in "\r\b")


def closed() -> io.StringIO:
    """A stream that nobody can write to."""
    file = io.StringIO()
    file.close()
    return file


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stderr", [None, closed(), Broken()])
def test_a_run_goes_on_where_nobody_can_read_of_it(monkeypatch: pytest.MonkeyPatch, stderr: Any) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert machine(Model()).run().stop_reason is StopReason.MAX_EPOCHS


def test_a_line_waits_for_its_metrics_and_the_run_does_not_wait_for_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The epochs' lines come in their order, each with the metrics of its own end, and the last sentence after all of them."""
    run, clock, printed = Standstill(), Clock(), ""
    progress = Progress(clock)
    progress.on_run_start(run)
    ends = [Late({"loss": float(epoch)}) for epoch in range(3)]
    for epoch, end in enumerate(ends):
        run.counters.current_epoch, run.metrics = epoch, end
        progress.on_epoch_end(run)
        clock.now += 5
    assert capsys.readouterr().err.splitlines()[1:] == []
    ends[2].here = ends[1].here = True
    ends[0].here = True
    run.state, run.stop_reason = State.DONE, StopReason.REQUESTED
    progress.on_run_end(run)
    printed = capsys.readouterr().err
    assert [line.split(",")[0].split(":")[0] for line in printed.splitlines()] == [
        "epoch 1/20 after 0.0 s",
        "epoch 2/20 after 5.0 s",
        "epoch 3/20 after 10.0 s",
        "ended after 0 epochs",
    ]
    assert [line.split("loss=")[1] for line in printed.splitlines()[:3]] == ["0", "1", "2"]
    assert not drawing()


@pytest.mark.parametrize("failure", [None, RuntimeError("no such device")])
def test_a_line_whose_metrics_never_come_is_written_without_them(
    capsys: pytest.CaptureFixture[str], failure: Exception | None
) -> None:
    run = Standstill()
    run.metrics = Late({"loss": 1.0}, failure=failure)
    progress = Progress(Clock())
    progress.on_run_start(run)
    progress.on_epoch_end(run)
    progress.on_run_end(run)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()[1:]] == [
        "epoch 1/20 after 0.0 s",
        "ended in the state fetch",
    ]
    assert not drawing()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({}, "training: 20 epochs of 45 batches, checks of 12 batches, then a test of 7 batches"),
        ({"train": 1, "val": [], "test": []}, "training: 20 epochs of 1 batch"),
        ({"fits": False, "train": 0, "val": []}, "an evaluation of 7 batches"),
    ],
)
def test_the_first_line_says_what_will_run(sizes: dict[str, Any], text: str) -> None:
    assert outlook(Standstill(**sizes).loop.limits) == text


# ---- what it costs


def test_there_is_no_hook_that_is_called_for_each_batch() -> None:
    hooks = hooks_of(object(), [Progress()])
    assert (hooks.on_batch_start, hooks.on_batch_end, hooks.on_transition) == (None, None, None)


def test_what_draws_bars_is_imported_only_when_one_is_drawn() -> None:
    code = "import sys, fsmtrain.views.progress; print('fsmtrain.views.bar' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
