"""Loggers that raise, block or are slow: each is reported once, and disturbs neither the run nor other loggers."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Callback
from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording import logger_calls
from fsmtrain.views.recording.logger_calls import LoggerCalls
from tests.views.recording.test_recorder import Collecting, recorded


class Unprintable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


class Raising:
    """A logger that raises in one of its methods."""

    def __init__(self, error: BaseException, method: str = "log_metrics") -> None:
        self.error, self.method = error, method

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self._raise("log_metrics")

    def log_hyperparams(self, hparams: dict[str, Any]) -> None:
        self._raise("log_hyperparams")

    def close(self) -> None:
        self._raise("close")

    def _raise(self, method: str) -> None:
        if method == self.method:
            raise self.error


ERRORS = [
    RuntimeError("the server is gone\nand more lines"),
    ConnectionError(),
    Unprintable(),
    SystemExit(1),
    KeyboardInterrupt(),
    UserWarning("quota"),
]


@pytest.mark.parametrize("method", ["log_metrics", "close"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_logger_that_raises_anything_is_reported_once_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: BaseException, method: str
) -> None:
    """Whatever handlers `logging` has, and whatever filters `warnings`; ``quiet`` is on."""
    good, package = Collecting(), logging.getLogger("fsmtrain")
    package.addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings(action="error"):
            assert recorded(tmp_path, logger=(Raising(error, method), good)).run().counters.epochs_done == 2
    finally:
        package.removeHandler(package.handlers[-1])
    printed = capfd.readouterr().err
    assert printed.count(f"warning: the logger Raising raised in {method} and is disabled for this run: ") == 1
    assert printed.count("\n") == 1
    assert type(error).__name__ in printed
    assert len(good.calls) == 16
    assert "Raising raised" in (tmp_path / "0" / "log.txt").read_text()


class Blocking(Collecting):
    """A logger whose first call does not return before `free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.is_called = threading.Event(), threading.Event()

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.is_called.set()
        self.free.wait(60)
        super().log_metrics(metrics, step)


def test_a_logger_that_blocks_is_reported_once_and_the_run_goes_on_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger_calls, "STALL_SECONDS", 0.05)
    blocking, good = Blocking(), Collecting()
    assert recorded(tmp_path, logger=[blocking, good]).run().counters.epochs_done == 2
    assert len(good.calls) == 16
    printed = capsys.readouterr().err
    assert printed.count("the logger Blocking has not returned from log_metrics for 0.05 s. The run continues") == 1
    blocking.free.set()
    for thread in threading.enumerate():
        if thread.name == "fsmtrain logger":
            thread.join(10)
    assert len(blocking.calls) == 16
    assert blocking.closed == 1


def test_a_logger_that_blocks_while_too_much_waits_for_it_is_given_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger_calls, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(logger_calls, "MAX_WAITING_RECORDS", 10)
    blocking = Blocking()
    calls = LoggerCalls(blocking)
    calls.start()
    records = [MetricRecord("train", b / 10, 0, b, b, {"loss": 1.0}, 0) for b in range(20)]
    calls.log_records(records[:1])
    assert blocking.is_called.wait(10)
    for record in records[1:]:
        calls.log_records([record])
    assert "gets no further metrics in this run: too many wait for it" in capsys.readouterr().err
    blocking.free.set()


def test_a_slow_logger_gets_every_batch_with_its_step(tmp_path: Path) -> None:
    """A hundred batches wait while its first call is under way; each gets a call."""

    class Freeing(Callback):
        def on_epoch_end(self, machine: Any) -> None:
            blocking.is_called.wait(10)
            blocking.free.set()

    blocking = Blocking()
    recorded(tmp_path, train=300, val=0, max_nb_epochs=1, logger=blocking, callbacks=[Freeing()]).run()
    assert [(step, metrics["twice"]) for metrics, step in blocking.calls] == [(n, 2.0 * n) for n in range(300)]


def test_all_calls_of_a_logger_come_from_one_thread(tmp_path: Path) -> None:
    class Threads(Collecting):
        def __init__(self) -> None:
            super().__init__()
            self.threads: set[int] = set()

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            self.threads.add(threading.get_ident())

        def close(self) -> None:
            self.threads.add(threading.get_ident())

    logger = Threads()
    recorded(tmp_path, logger=logger).run()
    assert len(logger.threads) == 1
    assert threading.get_ident() not in logger.threads
