"""Measure what fsmtrain costs, beside a hand-written loop and other trainers, and print tables.

    python -m benchmarks                       # everything, with the trainers that are installed
    python -m benchmarks plain windows         # these parts only
    python -m benchmarks --quick --no-peers    # a short run, without other trainers

A full run that is not quick is saved in benchmarks/results/, as is any run with --keep. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch
from attrs import evolve, frozen

from benchmarks import goals
from benchmarks.goals import Results
from benchmarks.harness import environment, tables
from benchmarks.harness.compare import measure_in_turns
from benchmarks.harness.pseudo_terminal import terminal
from benchmarks.measurements import build_plan_check, checkpointing, dispatcher, growth, recording, saving_thread, startup
from benchmarks.scenarios import NAMES, scenarios
from benchmarks.trainings.with_other_trainers import NONE, peers

RESULTS = Path(__file__).parent / "results"
PARTS = ("dispatcher", *NAMES, "saving", "growth", "startup", "build")


@frozen(kw_only=True)
class Amount:
    """How much is measured."""

    rounds: int = 9  # each is a turn of each contestant
    batches: int = 4000  # measured in a turn, for most parts
    dispatcher: int = 100_000  # batches of a run without any work
    saving: int = 200  # batches of a run with checkpoints
    growth: int = 1_000_000  # batches of the longest run
    processes: int = 9  # started for each trainer


QUICK = Amount(rounds=3, batches=500, dispatcher=20_000, saving=50, growth=20_000, processes=2)


def print_progress(text: str) -> None:
    """Print to the real standard error, which stays free while a pseudo-terminal takes its place."""
    print(text, file=sys.__stderr__, flush=True)


def run(part: str, amount: Amount, folder: Path, results: Results, *, with_peers: bool) -> list[str]:
    """Measure one part; return its table."""
    few = min(amount.rounds, 5)
    match part:
        case "dispatcher":
            results.dispatcher = dispatcher.measure_dispatcher(batches=amount.dispatcher, rounds=amount.rounds)
            return dispatcher.lines(results.dispatcher, dispatcher.by_transitions(batches=amount.dispatcher // 50, rounds=few))
        case "saving":
            results.saving = checkpointing.measure(rounds=amount.rounds, batches=amount.saving)
            results.saving_thread = saving_thread.measure_both(rounds=amount.rounds)
            return [*checkpointing.lines(results.saving), *saving_thread.lines(results.saving_thread)]
        case "growth":
            return growth.lines(batches=amount.growth, rounds=few)
        case "startup":
            results.startup = startup.measure(rounds=amount.processes, peers=with_peers, say=print_progress)
            return startup.lines(results.startup)
        case "build":
            return build_plan_check.lines(folder, rounds=amount.rounds)
    scenario = scenarios(peers() if with_peers else NONE, folder)[part]
    with terminal() as drawn:
        measured = measure_in_turns(scenario, batches=amount.batches, rounds=amount.rounds, drawn=drawn, say=print_progress)
    results.turns[part] = measured
    table = tables.comparison_table(scenario.name, measured)
    return table + (recording.lines(batches=amount.batches * 10) if part == "features" else [])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure (default: all): {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns: a minute or two, with coarse numbers")
    parser.add_argument("--no-peers", action="store_true", help="do not measure other trainers")
    parser.add_argument("--batches", type=int, help=f"batches measured in a turn (default: {Amount().batches:,})")
    parser.add_argument("--rounds", type=int, help=f"turns of each contestant (default: {Amount().rounds})")
    parser.add_argument("--keep", action="store_true", help="save the tables in benchmarks/results/")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}. Choose from: {', '.join(PARTS)}.")
    default = QUICK if arguments.quick else Amount()
    overrides = {"rounds": arguments.rounds, "batches": arguments.batches}
    amount = evolve(default, **{name: value for name, value in overrides.items() if value})
    torch.set_num_threads(1)
    about, text, results = environment.lines(), list[str](), Results()
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts or PARTS:
            print_progress(part)
            text += run(part, amount, Path(folder), results, with_peers=not arguments.no_peers)
    about += [
        f"           {environment.load_average()} at the end",
        f"rounds     {amount.rounds}, most turns of {amount.batches:,} batches; medians of the differences within the rounds",
    ]
    report = "\n".join([*about, *text, *goals.lines(results)]) + "\n"
    print(report)
    if arguments.keep or not (arguments.parts or arguments.quick or arguments.no_peers):
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.txt"
        path.write_text(report, encoding="utf-8")
        print_progress(f"saved as {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
