"""Run the tests on every mutant of the core and print which no test notices: ``python -m tools.mutants``.

Each mutant is written into a copy of the project, and the tests that call the changed function are run there, the quickest
first, until one fails. Results are kept in ``build/mutants.jsonl``, so an interrupted run continues. docs/mutants.md has the
score.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import define, field

from tools.mutants.child_process import ROOT
from tools.mutants.mutations import Mutant, mutants
from tools.mutants.project_copy import ProjectCopy, copy_project
from tools.mutants.selection import CORE, FAR_TESTS, NEAR_TESTS, Selection, record_calls

PRELOADED = ("torch", "numpy", "transitions", "rich", "cyclopts")  # imported once, before processes are forked
RESULTS = ROOT / "build" / "mutants.jsonl"


@define
class Results:
    """The test that killed each mutant, by the mutant's key; None if it survived."""

    killers: dict[str, str | None] = field(factory=dict)

    @classmethod
    def read(cls) -> Results:
        """Return the results of earlier runs."""
        lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
        return cls({line["key"]: line["killer"] for line in map(json.loads, lines)})

    def add(self, mutant: Mutant, killer: str | None) -> None:
        """Add a result, in the file as well."""
        self.killers[key(mutant)] = killer
        with RESULTS.open("a") as file:
            line = {"key": key(mutant), "killer": killer, "mutant": str(mutant)}
            file.write(json.dumps(line) + "\n")


def key(mutant: Mutant) -> str:
    """Return the key of a mutant: a hash of its file with the change in it."""
    return hashlib.sha256(mutant.module.encode() + mutant.text).hexdigest()[:16]


def mutants_of(modules: Iterable[str], every: int) -> list[Mutant]:
    """Return every n-th mutant of each module."""
    return [m for name in modules for m in list(mutants(name, (ROOT / name).read_bytes()))[::every]]


def run_mutants(wanted: list[Mutant], folders: list[Path], selection: Selection) -> Iterator[tuple[Mutant, str | None]]:
    """Run the tests on the mutants, one process per copy; yields each with the test that killed it, as they finish."""
    free, busy, rest = [ProjectCopy(folder) for folder in folders], dict[int, ProjectCopy](), iter(wanted)
    while True:
        while free and (mutant := next(rest, None)) is not None:
            groups = selection.groups_for(mutant)
            if not groups:
                yield mutant, None
                continue
            copy = free.pop()
            busy[copy.begin(mutant, groups)] = copy
        if not busy:
            return
        pid, status = os.waitpid(-1, 0)
        copy = busy.pop(pid)
        killer = copy.killer(status)
        if killer is None and copy.groups:
            busy[copy.run_next_group()] = copy
            continue
        free.append(copy)
        mutant = copy.end()
        if killer is not None:
            selection.kills[mutant.module, killer] += 1
        yield mutant, killer


def print_report(wanted: list[Mutant], results: Results) -> None:
    """Print the score of each module and every mutant that survived."""
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for mutant in wanted:
        if key(mutant) in results.killers:
            killer = results.killers[key(mutant)]
            by_module[mutant.module]["killed" if killer else "survived"] += 1
            by_module[mutant.module]["endless"] += "(endless)" in (killer or "")
            survivors += [] if killer else [mutant]
    print("\nmodule                                   mutants  killed  (endless)  survived")
    for module, counts in [*by_module.items(), ("all", sum(by_module.values(), Counter()))]:
        killed, survived = counts["killed"], counts["survived"]
        print(f"{module:<40} {killed + survived:7} {killed:7} {counts['endless']:10} {survived:9}")
    print()
    print("\n".join(map(str, survivors)))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", help="files of fsmtrain/core; all of them, if none is given")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every n-th mutant of each file")
    parser.add_argument(
        "--tests", action="append", metavar="FILE", help="run only the tests of this file or folder; may be repeated"
    )
    parser.add_argument("--near", action="store_true", help="leave out the tests of other folders than the core")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="run so many mutants at a time")
    parser.add_argument("--again", action="store_true", help="run again, and only, the mutants that survived earlier runs")
    parser.add_argument("--report", action="store_true", help="only print what earlier runs found")
    arguments = parser.parse_args()
    modules = arguments.modules or [str(p.relative_to(ROOT)) for p in sorted((ROOT / CORE).rglob("*.py"))]
    wanted, results = mutants_of(modules, arguments.every), Results.read()
    if not arguments.report:
        survived = {name for name, killer in results.killers.items() if killer is None}
        todo = [m for m in wanted if (key(m) in survived if arguments.again else key(m) not in results.killers)]
        RESULTS.parent.mkdir(exist_ok=True)
        for name in PRELOADED:
            importlib.import_module(name)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            copies = [copy_project(Path(folder).resolve() / str(i)) for i in range(arguments.jobs)]
            names = tuple(arguments.tests) if arguments.tests else NEAR_TESTS if arguments.near else (*NEAR_TESTS, *FAR_TESTS)
            selection = record_calls(copies[0], names)
            for count, (mutant, killer) in enumerate(run_mutants(todo, copies, selection), 1):
                results.add(mutant, killer)
                if killer is None:
                    print(f"{count}/{len(todo)}  survived: {mutant}", flush=True)
    print_report(wanted, results)


if __name__ == "__main__":
    main()
