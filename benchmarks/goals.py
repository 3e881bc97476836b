"""What fsmtrain may cost, and what was found: the last table of a run of the benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from attrs import define, field

from benchmarks.dispatching import Alone
from benchmarks.ours import BARE_NAME, DEFAULT_NAME
from benchmarks.resuming import Ratio
from benchmarks.starting import Found as Started
from benchmarks.turns import Measured


@define
class Results:
    """All that was measured; empty where it was not."""

    turns: dict[str, list[Measured]] = field(factory=dict)
    alone: Sequence[Alone] = ()
    started: Mapping[str, Sequence[Started]] = field(factory=dict)
    saving: Sequence[Ratio] = ()


def goals(results: Results) -> Iterator[tuple[str, float, float]]:
    """What is asked, how much is allowed, and how much was found."""
    if results.alone:
        yield "the machine alone, µs a batch", 2.0, results.alone[0].nanoseconds / 1e3
    for part, name, most in (("plain", BARE_NAME, 5.0), ("defaults", DEFAULT_NAME, 15.0)):
        for one in results.turns.get(part, ()):
            if one.name == name:
                yield f"added to a batch, {name}, µs", most, one.added
                yield "    in the processor's time, all threads", most, one.added_cpu
    if results.started:
        yield "import after torch, ms", 150.0, statistics.median(one["import"] for one in results.started["fsmtrain"]) * 1e3
    if results.saving:
        yield "saving every 50 batches, %", 2.0, (statistics.median(ratio.clock for ratio in results.saving) - 1) * 100


def lines(results: Results) -> list[str]:
    """The table."""
    found = list(goals(results))
    head = [] if not found else ["", f"{'what it may cost':<40}{'at most':>10}{'found':>10}"]
    return head + [
        f"  {name:<38}{most:>10.1f}{value:>10.1f}  {'' if value <= most else 'missed'}".rstrip() for name, most, value in found
    ]
