"""Send signals to whole process groups: ``python -m tests.resuming.signal_matrix [--random N]``.

A run with two workers gets SIGINT, SIGTERM or SIGUSR1, its group and all. It must end with the signal's exit code, and go on
from where it was stopped to the same bits as the run to which nobody sends anything. Each signal is tried with workers that are
forked and that come from a fork server, between two visits, while a batch is being fetched, and while workers are being
started: 18 combinations. With ``--random N`` there are N more at random times.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.resuming.kill_and_resume import differences, empty_folder

ROOT = Path(__file__).parents[2]
SIGNALS = {"SIGINT": -signal.SIGINT, "SIGTERM": 143, "SIGUSR1": 138}  # Python ends itself by the first, which shells call 130
CONTEXTS = ("fork", "forkserver")
# Transitions; and starts of workers, two for each pass: 2 is the second of the sanity pass, 4 that of the epoch.
MOMENTS = {"between": (24, 16, 31), "fetched": (20, 40, 65), "starting": (4, 2, 6)}


@frozen
class Case:
    """A signal, how workers are started, and when it is sent."""

    name: str
    context: str
    when: str
    at: int

    def __str__(self) -> str:
        return f"{self.name}, {self.context}, {self.when} {self.at}"


def all_cases() -> list[Case]:
    """Return all combinations."""
    return [
        Case(name, context, when, ats[(number + row) % len(ats)])
        for when, ats in MOMENTS.items()
        for number, name in enumerate(SIGNALS)
        for row, context in enumerate(CONTEXTS)
    ]


def start_run(folder: Path, *how: str) -> tuple[int, str]:
    """Run in a process group of its own; returns the exit code and the output."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.resuming.signalled_run", *how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # Signals that are ignored here, as in what a shell runs in the background, would be ignored there.
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT,)}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def uninterrupted_outcome(folder: Path) -> Any:
    """Return the outcome of a run without a signal. It does not depend on how workers are started."""
    return _outcome(folder, "fork")


def _outcome(folder: Path, *how: str) -> Any:
    code, said = start_run(folder, *how)
    if code != 0:
        raise AssertionError(f"exit code {code}: {said}")
    return pickle.loads((folder / "outcome").read_bytes())


class TooLate(Exception):
    """The run ended before the signal was sent."""


def stop_and_resume(folder: Path, reference: Any, case: Case) -> list[str]:
    """Stop a run and resume it; returns what is wrong, in words.

    Raises:
        TooLate: The run had ended already.
    """
    code, said = start_run(folder, case.context, case.name, case.when, str(case.at))
    if code == 0 and case.when == "any":
        raise TooLate
    if code != SIGNALS[case.name]:
        return [f"exit code {code}: {said}"]
    where = next((line for line in said.splitlines() if line.startswith("in ")), "")
    state, after = where.split()[1], int(where.split()[3])
    if case.when == "fetched" and state not in ("fetch", "val_check"):
        return [f"the signal came in the state {state}"]
    resumed = _outcome(folder, case.context, "resume")
    found = differences(reference, resumed)
    lost = len(reference["events"]) - len(resumed["events"]) - after
    return found + ([f"{-lost} transitions were made again"] if lost < 0 else [])


def main(arguments: list[str]) -> int:
    """Run all combinations; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=0, metavar="N", help="so many more, at random times")
    parser.add_argument("--only", choices=tuple(MOMENTS), help="only this kind of moment")
    options = parser.parse_args(arguments)
    chosen = [case for case in all_cases() if options.only in (None, case.when)]
    same = made = 0
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        reference = uninterrupted_outcome(empty_folder(Path(name, "whole")))
        most = 1000 * (time.monotonic() - began)
        while made < len(chosen) + options.random:
            case = chosen[made] if made < len(chosen) else _at_random(most)
            try:
                wrong = stop_and_resume(empty_folder(Path(name, "run")), reference, case)
            except TooLate:
                continue
            made, same = made + 1, same + (not wrong)
            print(f"{case!s:34} {'; '.join(wrong) or 'the same bits'}", flush=True)
    print(f"{same} of {made}")
    return 0 if same == made else 1


def _at_random(most: float) -> Case:
    return Case(random.choice(list(SIGNALS)), random.choice(CONTEXTS), "any", round(random.uniform(0, most)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
