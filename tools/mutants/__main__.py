"""Makes every mutant of the core, one at a time, and says which of them no test notices: ``python -m tools.mutants``.

Each mutant is written into a copy of the project, and the tests that call the function in which it is are run there, the
quickest first, until one fails. What was found is kept in ``build/mutants.jsonl``, so that a run that was broken off goes on
where it was. docs/mutants.md says what came out.
"""

from __future__ import annotations

import argparse
import compileall
import hashlib
import importlib
import json
import os
import py_compile
import shutil
import signal
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from tools.mutants.child_process import KILLER, ROOT, Chosen, Listener, forked, run
from tools.mutants.mutations import Mutant, mutants

CORE = "fsmtrain/core"
NEAR = (
    CORE,
    "tests/core",
    "tests/laws/test_schedule.py",
    "tests/laws/test_small_grids.py",
    "tests/misuse/test_planted_mistakes.py",
)
FAR = (  # asked of what survives those
    "tests/laws/test_conformance.py",
    "tests/documentation/test_documented_flags.py",
    "tests/cli/test_plan_commands.py",
    "tests/runtime/optimization/test_accumulation.py",
)
QUICK = 0.3  # seconds that a test may take to be run before the others
FIRST = 2  # files with tests that are run before all others: to collect them all takes longer than to run a few
HELPERS = (
    "strategies.py",
    "reference.py",
    "models.py",
    "laws/exhaustive_search.py",
    "conftest.py",
)  # files of tests/ that many tests use
NEEDED = ("torch", "numpy", "transitions", "rich", "cyclopts")  # imported once, for all
COPIED = ("fsmtrain", "tests", "examples", "diagrams", "setup.cfg", "README.md", "docs", "Makefile")
RESULTS = ROOT / "build" / "mutants.jsonl"
HEARD = ROOT / "build" / "mutants-tests.json"


@define
class Choice:
    """Which tests to run for which mutant.

    Attributes:
        tests: How long each test takes, and the functions that it calls: files and their first lines.
        kills: How many mutants of a file each test has killed.
    """

    tests: dict[str, tuple[float, list[list[Any]]]]
    kills: Counter[tuple[str, str]] = field(factory=Counter)

    def of(self, mutant: Mutant) -> list[dict[str, float]]:
        """The tests in groups, one to be run after the other, with the seconds that each test may take.

        Within a group those come first that are quick and kill often.
        """
        whole_file = mutant.function is None or mutant.is_read
        called = {
            name: took
            for name, (took, places) in self.tests.items()
            if any(file == mutant.module and (whole_file or line == mutant.function) for file, line in places)
        }
        found = called or {name: took for name, (took, places) in self.tests.items() if mutant.module in dict(places)}
        order = sorted(found, key=lambda name: found[name] / (1 + self.kills[mutant.module, name]))
        quick = [name for name in order if found[name] <= QUICK and not name.startswith(FAR)]
        first_files = list(dict.fromkeys(map(_file_of, quick)))[:FIRST]
        first = [name for name in quick if _file_of(name) in first_files]
        second = [name for name in order if name not in first and not name.startswith(FAR)]
        third = [name for name in order if name.startswith(FAR)]
        return [{name: 3 + 5 * found[name] for name in group} for group in (first, second, third) if group]


def _file_of(test: str) -> str:
    return test.split("::")[0]


@define
class Workplace:
    """A copy of the project, for one mutant at a time."""

    root: Path
    mutant: Mutant | None = None
    whole: bytes = b""
    groups: list[dict[str, float]] = field(factory=list)

    def begin(self, mutant: Mutant, groups: list[dict[str, float]]) -> int:
        """Run the first group of tests on the mutant; the id of the process."""
        path = self.root / mutant.module
        self.mutant, self.groups, self.whole = mutant, list(groups), path.read_bytes()
        path.write_bytes(mutant.text)
        return self.go_on()

    def go_on(self) -> int:
        """Run the next group of tests; the id of the process."""
        limits = self.groups.pop(0)
        (self.root / KILLER).write_text("import")
        files = list(dict.fromkeys(map(_file_of, limits)))
        return forked(self.root, lambda: run(self.root, files, Chosen(self.root, limits)))

    def killer(self, status: int) -> str | None:
        """Which test killed the mutant, as the status of the process says; None if none did."""
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return None
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            raise RuntimeError(f"{self.mutant}: the tests were not run ({status}): {(self.root / 'output').read_text()}")
        over_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        return (self.root / KILLER).read_text() + (" (endless)" if over_time else "")

    def end(self) -> Mutant:
        """Take the mutant back."""
        assert self.mutant is not None
        (self.root / self.mutant.module).write_bytes(self.whole)
        return self.mutant


@define
class Found:
    """What is known of each mutant: the test that killed it, or None."""

    killers: dict[str, str | None] = field(factory=dict)
    whose: dict[str, Mutant] = field(factory=dict)

    @classmethod
    def read(cls) -> Found:
        """What earlier runs have found."""
        lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
        return cls({line["key"]: line["killer"] for line in map(json.loads, lines)})

    def add(self, mutant: Mutant, killer: str | None) -> None:
        """Write it down."""
        self.killers[key(mutant)] = killer
        with RESULTS.open("a") as file:
            said = {"key": key(mutant), "killer": killer, "mutant": str(mutant)}
            file.write(json.dumps(said) + "\n")


def key(mutant: Mutant) -> str:
    """The mutant's name: the same as long as its file is."""
    return hashlib.sha256(mutant.module.encode() + mutant.text).hexdigest()[:16]


def made(modules: Iterable[str], every: int) -> list[Mutant]:
    """Every n-th mutant of these modules, of each module by itself."""
    return [m for name in modules for m in list(mutants(name, (ROOT / name).read_bytes()))[::every]]


def copied(into: Path) -> Path:
    """A copy of the project, compiled; what was compiled is looked at by the text of each file, and not by its time."""
    into.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, into / name)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, into / name)
    compileall.compile_dir(into / "fsmtrain", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return into


def chosen(place: Path, names: tuple[str, ...]) -> Choice:
    """Run the tests as they are, and hear which functions each of them calls; those that have changed since the last time."""
    known = json.loads(HEARD.read_text()) if HEARD.exists() else {}
    common = _hash(*sorted((ROOT / CORE).rglob("*.py")), *(ROOT / "tests" / name for name in HELPERS))
    paths = [path for name in names for path in _tests_at(ROOT / name)]
    hashes = {str(path.relative_to(ROOT)): common + _hash(path) for path in paths}
    new = [name for name, now in hashes.items() if known.get(name, {}).get("hash") != now]
    if new:
        print("listening to the tests ...", flush=True)
        into = place / "heard.json"
        _, status = os.waitpid(forked(place, lambda: run(place, new, Listener(place, CORE, into))), 0)
        if status:
            raise RuntimeError(f"the tests fail as they are: {(place / 'output').read_text()[-3000:]}")
        heard = json.loads(into.read_text())
        for name in new:
            tests = {test: said for test, said in heard.items() if _file_of(test) == name}
            known[name] = {"hash": hashes[name], "tests": tests}
        HEARD.write_text(json.dumps(known))
    return Choice({test: said for name in hashes for test, said in known[name]["tests"].items()})


def _tests_at(path: Path) -> list[Path]:
    """The files with tests, or with examples."""
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*.py")) if file.name.startswith("test_") or ">>>" in file.read_text()]


def _hash(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def judged(wanted: list[Mutant], places: list[Path], choice: Choice) -> Iterator[tuple[Mutant, str | None]]:
    """Which test kills each of them, in the order in which they are done."""
    free, busy, rest = [Workplace(place) for place in places], dict[int, Workplace](), iter(wanted)
    while True:
        while free and (mutant := next(rest, None)) is not None:
            groups = choice.of(mutant)
            if not groups:
                yield mutant, None
                continue
            place = free.pop()
            busy[place.begin(mutant, groups)] = place
        if not busy:
            return
        pid, status = os.waitpid(-1, 0)
        place = busy.pop(pid)
        killer = place.killer(status)
        if killer is None and place.groups:
            busy[place.go_on()] = place
            continue
        free.append(place)
        mutant = place.end()
        if killer is not None:
            choice.kills[mutant.module, killer] += 1
        yield mutant, killer


def report(wanted: list[Mutant], found: Found) -> None:
    """The score of each module, and every mutant that survived."""
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for mutant in wanted:
        if key(mutant) in found.killers:
            killer = found.killers[key(mutant)]
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
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", help="files of fsmtrain/core; all of them, if none is given")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every n-th mutant of each file")
    parser.add_argument(
        "--tests", action="append", metavar="FILE", help="ask only the tests of this file or folder; may be repeated"
    )
    parser.add_argument("--near", action="store_true", help="leave out the tests that are far from the core")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants at a time")
    parser.add_argument("--again", action="store_true", help="ask anew for those that survived earlier runs, and only those")
    parser.add_argument("--report", action="store_true", help="only say what earlier runs found")
    asked = parser.parse_args()
    modules = asked.modules or [str(p.relative_to(ROOT)) for p in sorted((ROOT / CORE).rglob("*.py"))]
    wanted, found = made(modules, asked.every), Found.read()
    if not asked.report:
        survived = {name for name, killer in found.killers.items() if killer is None}
        todo = [m for m in wanted if (key(m) in survived if asked.again else key(m) not in found.killers)]
        HEARD.parent.mkdir(exist_ok=True)
        for name in NEEDED:
            importlib.import_module(name)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            places = [copied(Path(folder).resolve() / str(i)) for i in range(asked.jobs)]
            names = tuple(asked.tests) if asked.tests else NEAR if asked.near else (*NEAR, *FAR)
            choice = chosen(places[0], names)
            for count, (mutant, killer) in enumerate(judged(todo, places, choice), 1):
                found.add(mutant, killer)
                if killer is None:
                    print(f"{count}/{len(todo)}  survived: {mutant}", flush=True)
    report(wanted, found)


if __name__ == "__main__":
    main()
