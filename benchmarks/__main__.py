"""`make bench`: what things cost, measured side by side, and printed as tables at the end.

    python -m benchmarks                       # everything, with the trainers that are installed
    python -m benchmarks plain windows         # these parts alone
    python -m benchmarks --quick --no-peers    # a short run, of this package alone

A run of everything that is not quick is kept in benchmarks/results/, and so is any with --keep.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch
from attrs import evolve, frozen

from benchmarks import building, dispatching, goals, growth, recording, resuming, starting, tables, where
from benchmarks.goals import Results
from benchmarks.peers import NONE, peers
from benchmarks.scenarios import NAMES, scenarios
from benchmarks.terminal import terminal
from benchmarks.turns import measure

RESULTS = Path(__file__).parent / "results"
PARTS = ("machine", *NAMES, "saving", "growth", "starting", "building")


@frozen(kw_only=True)
class Amount:
    """How much is measured."""

    rounds: int = 9  # turns of each contestant
    batches: int = 4000  # of each turn, as a rule
    alone: int = 100_000  # batches of the machine alone
    saved: int = 200  # batches of each run that saves
    longest: int = 1_000_000  # batches of a run that may grow
    processes: int = 9  # fresh ones of each


QUICK = Amount(rounds=3, batches=500, alone=20_000, saved=50, longest=20_000, processes=2)


def say(text: str) -> None:
    """Tell a person how far it is."""
    print(text, file=sys.__stderr__, flush=True)


def run(part: str, amount: Amount, folder: Path, results: Results, *, with_peers: bool) -> list[str]:
    """Measure one part; returns its table."""
    few = min(amount.rounds, 5)
    match part:
        case "machine":
            results.alone = dispatching.alone(batches=amount.alone, rounds=amount.rounds)
            return dispatching.lines(results.alone, dispatching.by_transitions(batches=amount.alone // 50, rounds=few))
        case "saving":
            results.saving = resuming.measure(rounds=amount.rounds, batches=amount.saved)
            return resuming.lines(results.saving)
        case "growth":
            return growth.lines(batches=amount.longest, rounds=few)
        case "starting":
            results.started = starting.measure(rounds=amount.processes, peers=with_peers, say=say)
            return starting.lines(results.started)
        case "building":
            return building.lines(folder, rounds=amount.rounds)
    scenario = scenarios(peers() if with_peers else NONE, folder)[part]
    with terminal() as drawn:
        found = measure(scenario, batches=amount.batches, rounds=amount.rounds, drawn=drawn, say=say)
    results.turns[part] = found
    table = tables.of_turns(scenario.name, found)
    return table + (recording.lines(batches=amount.batches * 10) if part == "features" else [])


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"all of them: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--no-peers", action="store_true", help="leave other trainers out")
    parser.add_argument("--batches", type=int, help="measured in each turn of a contestant")
    parser.add_argument("--rounds", type=int, help="turns of each contestant")
    parser.add_argument("--keep", action="store_true", help="keep the tables in benchmarks/results/")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    usual = QUICK if arguments.quick else Amount()
    given = {"rounds": arguments.rounds, "batches": arguments.batches}
    amount = evolve(usual, **{name: value for name, value in given.items() if value})
    torch.set_num_threads(1)
    about, text, results = where.lines(), list[str](), Results()
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts or PARTS:
            say(part)
            text += run(part, amount, Path(folder), results, with_peers=not arguments.no_peers)
    about += [
        f"           {where.load()} when it ended",
        f"turns      {amount.rounds} of {amount.batches:,} batches as a rule; medians of the differences within the rounds",
    ]
    whole = "\n".join([*about, *text, *goals.lines(results)]) + "\n"
    print(whole)
    if arguments.keep or not (arguments.parts or arguments.quick or arguments.no_peers):
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.txt"
        path.write_text(whole, encoding="utf-8")
        say(f"kept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
