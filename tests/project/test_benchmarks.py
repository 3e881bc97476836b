"""The benchmarks: all contestants do the same work, and one that does not is an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

pytest.importorskip("termios", reason="the benchmarks draw on a terminal of their own")

from benchmarks import goals
from benchmarks.harness import compare, timed_loaders
from benchmarks.harness.compare import Contestant, Scenario, measure_in_turns
from benchmarks.harness.pseudo_terminal import terminal
from benchmarks.harness.timed_loaders import TimedRange, Times, data_loader, in_memory, make_batches
from benchmarks.measurements.dispatcher import DispatcherCost
from benchmarks.scenarios import NAMES, scenarios
from benchmarks.trainings import by_hand
from benchmarks.trainings.with_other_trainers import NONE

pytestmark = pytest.mark.slow


def ignore_progress(_: str) -> None:
    """Print nothing."""


@pytest.mark.parametrize("name", NAMES)
def test_all_contestants_end_with_the_weights_of_the_loop_by_hand(name: str, tmp_path: Path) -> None:
    scenario = scenarios(NONE, tmp_path)[name]
    with terminal() as drawn:
        results = measure_in_turns(scenario, batches=16, rounds=1, drawn=drawn, say=ignore_progress)
    assert [result.name for result in results[:2]] == ["loop by hand", "loop by hand, repeated"]
    assert len(results) == 2 + len(scenario.others)
    assert all(result.wall > 0 for result in results)


def skip_a_batch(loader: Any) -> nn.Module:
    """Train without the first batch."""
    return by_hand.plain(list(loader)[1:])


@pytest.mark.parametrize(
    ("contestant", "message"),
    [
        (Contestant("skips a batch", skip_a_batch), "has not done the same work"),
        (Contestant("does not draw", by_hand.plain, draws=True), "has written nothing"),
    ],
)
def test_a_contestant_that_does_less_is_an_error(contestant: Contestant, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "TERMINAL_SECONDS", 0.1)
    scenario = Scenario("", by_hand.plain, [contestant], make_batches, in_memory)
    with pytest.raises(RuntimeError, match=f"{contestant.name}: .*{message}"):
        measure_in_turns(scenario, batches=16, rounds=1, say=ignore_progress)


@pytest.mark.parametrize("make", [in_memory, data_loader])
def test_the_clocks_are_read_when_the_first_and_last_measured_batches_are_requested(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    yielded: list[Any] = []
    monkeypatch.setattr(timed_loaders, "read_clocks", lambda: Times(len(yielded) * 1e-6, len(yielded) * 2e-6))
    timed = TimedRange(3, 7)
    for batch in make(make_batches(10), timed):
        yielded.append(batch)
    assert timed.readings == [Times(3e-6, 6e-6), Times(7e-6, 14e-6)]
    assert timed.per_batch.wall == pytest.approx(1.0)  # µs a batch
    assert timed.per_batch.cpu == pytest.approx(2.0)


def test_a_loader_that_is_not_iterated_exactly_once_is_an_error() -> None:
    timed = TimedRange(3, 7)
    loader = in_memory(make_batches(10), timed)
    with pytest.raises(RuntimeError, match="0 times"):
        _ = timed.per_batch
    list(loader)
    list(loader)
    with pytest.raises(RuntimeError, match="4 times"):
        _ = timed.per_batch


def test_a_missed_goal_is_marked() -> None:
    met = goals.Results(dispatcher=[DispatcherCost("plain", 1, 1, 1.0, [1500.0])])
    missed = goals.Results(dispatcher=[DispatcherCost("plain", 1, 1, 1.0, [2500.0])])
    assert "missed" not in goals.lines(met)[-1]
    assert goals.lines(missed)[-1].split()[-2:] == ["2.5", "missed"]
    assert goals.lines(goals.Results()) == []
