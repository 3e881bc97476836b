"""The first signal requests a stop, the second has its default effect; handlers are restored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fsmtrain.runtime.data.worker_exit import worker_exits
from fsmtrain.signal_handlers import stop_on_signals


class Stops:
    """Counts the requests."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture(autouse=True)
def handler() -> Iterator[object]:
    """Python's own handler of Ctrl-C, and after the test the one that was there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_requests_a_stop() -> None:
    stop = Stops()
    with stop_on_signals(stop) as interrupt:
        assert not interrupt
        signal.raise_signal(signal.SIGINT)
        assert stop.count == 1
        assert interrupt
    assert interrupt.exit_code == 130


def test_the_second_signal_stops_at_once() -> None:
    stop = Stops()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.count == 1


@pytest.mark.parametrize("times", [0, 1])
def test_the_handler_is_restored(times: int) -> None:
    with stop_on_signals(Stops()):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_is_restored_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), stop_on_signals(Stops()):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_was_set_during_the_run_is_kept() -> None:
    with stop_on_signals(Stops()):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = Stops()
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGINT)
    assert stop.count == 0


def test_other_signals_can_be_requests_too() -> None:
    stop = Stops()
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(stop, (signal.SIGTERM,)) as interrupt:
        signal.raise_signal(signal.SIGTERM)
    assert (stop.count, interrupt.exit_code) == (1, 143)
    assert signal.getsignal(signal.SIGTERM) is before


def test_nothing_is_done_outside_of_the_main_thread() -> None:
    inside: list[object] = []

    def elsewhere() -> None:
        with stop_on_signals(Stops()) as interrupt:
            inside.append((signal.getsignal(signal.SIGINT), bool(interrupt)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert inside == [(signal.default_int_handler, False)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_takes_no_request() -> None:
    """As a loader's worker: Ctrl-C reaches it too, and the batch that it fetches is needed."""
    stop = Stops()
    with stop_on_signals(stop):
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGINT)
            os._exit(stop.count)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def _of_torch(number: int, frame: object) -> None:
    raise RuntimeError("DataLoader worker (pid 1) is killed by signal")


@pytest.fixture
def of_children() -> Iterator[None]:
    """What is done at children's deaths is put back after the test."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("of_children")
@pytest.mark.parametrize("is_set_before", [True, False])
def test_after_a_request_workers_die_in_silence(is_set_before: bool) -> None:
    """Also where torch sets its handler only when the request has come, with the first workers that it starts."""
    with stop_on_signals(Stops()):
        if is_set_before:
            signal.signal(signal.SIGCHLD, _of_torch)
        signal.raise_signal(signal.SIGTERM)
        if not is_set_before:
            signal.signal(signal.SIGCHLD, _of_torch)
            worker_exits.after_start()
        signal.raise_signal(signal.SIGCHLD)
    assert signal.getsignal(signal.SIGCHLD) is _of_torch


@pytest.mark.usefixtures("of_children")
def test_without_a_request_a_worker_s_death_is_an_error() -> None:
    with stop_on_signals(Stops()):
        signal.signal(signal.SIGCHLD, _of_torch)
        worker_exits.after_start()
        with pytest.raises(RuntimeError, match="is killed"):
            signal.raise_signal(signal.SIGCHLD)
    with stop_on_signals(Stops()):
        signal.raise_signal(signal.SIGTERM)
    with stop_on_signals(Stops()):  # a later run knows nothing of that request
        worker_exits.after_start()
        with pytest.raises(RuntimeError, match="is killed"):
            signal.raise_signal(signal.SIGCHLD)


def test_a_context_within_another_one_has_no_effect() -> None:
    outer, inner = Stops(), Stops()
    with stop_on_signals(outer), stop_on_signals(inner) as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert not interrupt
    assert (outer.count, inner.count) == (1, 0)
    assert not callable(signal.getsignal(signal.SIGTERM))


def test_a_context_within_another_one_has_no_effect_after_ctrl_c_either() -> None:
    inner = Stops()
    with stop_on_signals(Stops()):
        signal.raise_signal(signal.SIGINT)
        with stop_on_signals(inner), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert inner.count == 0
