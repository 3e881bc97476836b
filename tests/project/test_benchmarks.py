"""The benchmarks themselves: that all contestants do the same work, and that one that does not is told off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

pytest.importorskip("termios", reason="the benchmarks draw on a terminal of their own")

from benchmarks import batches as handed
from benchmarks import by_hand, goals, turns
from benchmarks.batches import Spent, Stretch, batches_of, data_loader, in_memory
from benchmarks.dispatching import Alone
from benchmarks.peers import NONE
from benchmarks.scenarios import NAMES, scenarios
from benchmarks.terminal import terminal
from benchmarks.turns import Contestant, Scenario, measure

pytestmark = pytest.mark.slow


def silence(_: str) -> None:
    """Says nothing."""


@pytest.mark.parametrize("name", NAMES)
def test_all_contestants_come_to_the_weights_of_the_loop_by_hand(name: str, tmp_path: Path) -> None:
    scenario = scenarios(NONE, tmp_path)[name]
    with terminal() as drawn:
        found = measure(scenario, batches=16, rounds=1, drawn=drawn, say=silence)
    assert [one.name for one in found[:2]] == ["a loop by hand", "the same again"]
    assert len(found) == 2 + len(scenario.others)
    assert all(one.wall > 0 for one in found)


def too_few(loader: Any) -> nn.Module:
    """Leaves a batch out."""
    all_of_them = list(loader)
    return by_hand.plain(all_of_them[1:])


@pytest.mark.parametrize(
    ("contestant", "message"),
    [
        (Contestant("who leaves a batch out", too_few), "has not done the same work"),
        (Contestant("who does not draw", by_hand.plain, draws=True), "nothing was drawn"),
    ],
)
def test_who_does_less_than_the_others_is_not_compared(
    contestant: Contestant, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.1)
    scenario = Scenario("", by_hand.plain, [contestant], batches_of, in_memory)
    with pytest.raises(RuntimeError, match=f"{contestant.name}: .*{message}"):
        measure(scenario, batches=16, rounds=1, say=silence)


@pytest.mark.parametrize("make", [in_memory, data_loader])
def test_the_clock_is_read_when_the_first_and_the_last_batch_are_asked_for(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(handed, "now", lambda: Spent(len(given) * 1e-6, len(given) * 2e-6))
    stretch = Stretch(3, 7)
    for batch in make(batches_of(10), stretch):
        given.append(batch)
    assert stretch.readings == [Spent(3e-6, 6e-6), Spent(7e-6, 14e-6)]
    assert stretch.spent.wall == pytest.approx(1.0)  # µs a batch
    assert stretch.spent.cpu == pytest.approx(2.0)


def test_a_loader_that_was_not_gone_through_once_gives_no_time() -> None:
    stretch = Stretch(3, 7)
    loader = in_memory(batches_of(10), stretch)
    with pytest.raises(RuntimeError, match="0 times"):
        _ = stretch.spent
    list(loader)
    list(loader)
    with pytest.raises(RuntimeError, match="4 times"):
        _ = stretch.spent


def test_a_goal_that_is_missed_is_called_so() -> None:
    met = goals.Results(alone=[Alone("plain", 1, 1, 1.0, [1500.0])])
    missed = goals.Results(alone=[Alone("plain", 1, 1, 1.0, [2500.0])])
    assert "missed" not in goals.lines(met)[-1]
    assert goals.lines(missed)[-1].split()[-2:] == ["2.5", "missed"]
    assert goals.lines(goals.Results()) == []
