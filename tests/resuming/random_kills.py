"""Kill runs at random moments: ``python -m tests.resuming.random_kills [--kills N] [--seed N] [--jobs N] [SETUP ...]``.

Each run of a set-up (`random_kill_setups`) is a process of its own, which is killed from outside after a random time, wherever
it is then, and started again; some are killed a second time. Prints how many of the kills came out the same as the run that is
not killed: weights, optimizers and all else bit for bit, the record row by row, and what a logger gets, each at least once.
With the same seed, the same times are drawn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.models import TransitionRecorder
from tests.resuming.kill_and_resume import (
    UnexpectedExit,
    differences,
    empty_folder,
    import_torch_modules,
    is_recorded,
    outcome,
    run_in_child,
)
from tests.resuming.random_kill_setups import SETUPS
from tests.resuming.resume_scenarios import Scenario

MAX_ATTEMPTS = 20  # at a kill that comes after the end of the run
SECOND_KILLS = 0.3  # the part of the killed runs that are killed again after they were resumed


@define
class KilledRuns:
    """What came of the kills of one set-up."""

    name: str
    kills: int = 0
    same: int = 0
    from_checkpoint: int = 0  # of the kills
    seconds: float = 0.0
    wrong: list[str] = field(factory=list)


def recorded_run(setup: Scenario) -> dict[str, Any]:
    """Run, or continue what another process began in this folder; returns the outcome."""
    visits = TransitionRecorder()
    machine = is_recorded(setup)([visits])
    machine.resume_from("auto")
    machine.run()
    return outcome(machine, visits)


def kill_runs(name: str, kills: int, seed: int, folder: Path) -> KilledRuns:
    """Kill runs of a set-up so many times."""
    setup, moments, result = SETUPS[name], random.Random(f"{seed} {name}"), KilledRuns(name)
    setup([])  # its guards are read once, here
    began = time.perf_counter()
    reference = run_in_child(lambda: recorded_run(setup), empty_folder(folder))
    seconds = time.perf_counter() - began
    while result.kills < kills:
        _kill_and_resume(setup, reference, seconds, moments, result, folder, most=kills - result.kills)
    result.seconds = time.perf_counter() - began
    return result


def _kill_and_resume(
    setup: Scenario,
    reference: dict[str, Any],
    seconds: float,
    moments: random.Random,
    result: KilledRuns,
    folder: Path,
    *,
    most: int,
) -> None:
    """Kill one run once or twice, `most` times at most, resume it, and compare its end with the reference."""
    times: list[float] = []
    found, from_checkpoint = [], False
    try:
        for _ in range(MAX_ATTEMPTS):
            times = [moments.uniform(0, seconds)]
            if run_in_child(lambda: recorded_run(setup), empty_folder(folder), kill_after=times[0]) is None:
                break
        else:
            raise UnexpectedExit(f"the run ended before it was killed, {MAX_ATTEMPTS} times")
        ended = None
        if most > 1 and moments.random() < SECOND_KILLS:
            times.append(moments.uniform(0, seconds))
            ended = run_in_child(lambda: recorded_run(setup), folder, kill_after=times[1])
            if ended is not None:
                times.pop()
        if ended is None:
            ended = run_in_child(lambda: recorded_run(setup), folder)
        found, from_checkpoint = differences(reference, ended), len(ended["events"]) < len(reference["events"])
    except UnexpectedExit as error:
        found = [f"{str(error).rstrip()}\n{folder.with_suffix('.errors').read_text()}"]
    result.kills += len(times)
    result.from_checkpoint += from_checkpoint * len(times)
    if found:
        after = " and ".join(f"{moment:.3f}" for moment in times)
        result.wrong.append(f"{result.name}: killed after {after} of {seconds:.3f} s, differs in {', '.join(found)}")
    else:
        result.same += len(times)


def main(arguments: list[str]) -> int:
    """Kill, compare, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setups", nargs="*", metavar="SETUP", help=f"of: {'; '.join(SETUPS)}; by default all")
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="kill so many times in all (200)")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), metavar="N", help="of the moments")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="set-ups at a time (all cores)")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.setups if name not in SETUPS]:
        parser.error(f"there is no set-up {unknown[0]!r}")
    names = options.setups or random.Random(options.seed).sample(list(SETUPS), len(SETUPS))
    shares = {name: options.kills // len(names) + (i < options.kills % len(names)) for i, name in enumerate(names)}
    import_torch_modules()
    print(f"moments from the seed {options.seed}")
    kills = same = from_checkpoint = 0
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.jobs, mp_context=fork) as pool:
        begun: list[Future[KilledRuns]] = [
            pool.submit(kill_runs, name, share, options.seed, Path(folder, str(number)))
            for number, (name, share) in enumerate(shares.items())
            if share
        ]
        for done in as_completed(begun):
            result = done.result()
            kills, same = kills + result.kills, same + result.same
            from_checkpoint += result.from_checkpoint
            print(f"{result.name:50}{result.same:3} of {result.kills:3}   {result.seconds:5.1f} s", flush=True)
            for line in result.wrong:
                print(f"  {line}", flush=True)
    print(f"{same} of {kills}; {from_checkpoint} of them went on from a checkpoint, the others from the start")
    return 0 if same == kills else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
