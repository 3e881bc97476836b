"""Which tests are run for which mutant: those that call the changed function, the quick ones first."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from attrs import define, field

from tools.mutants.child_process import ROOT, CallRecorder, fork, run_tests
from tools.mutants.mutations import Mutant

CORE = "fsmtrain/core"
NEAR_TESTS = (
    CORE,
    "tests/core",
    "tests/laws/test_schedule.py",
    "tests/laws/test_small_grids.py",
    "tests/misuse/test_planted_mistakes.py",
)
FAR_TESTS = (  # run for mutants that survive those
    "tests/laws/test_conformance.py",
    "tests/documentation/test_documented_flags.py",
    "tests/cli/commands/test_plan_check_draw.py",
    "tests/runtime/optimization/test_window_weights.py",
)
HELPERS = ("strategies.py", "reference.py", "models.py", "laws/exhaustive_search.py", "conftest.py")  # in tests/, used by many
QUICK_SECONDS = 0.3  # what a test may take to be run before the others
FIRST_FILES = 2  # test files that are run before all others: to collect them all takes longer than to run a few
CALLS = ROOT / "build" / "mutants-tests.json"


@define
class Selection:
    """The tests, with what each of them calls.

    Attributes:
        tests: The seconds that each test takes, and the functions that it calls: (file, first line).
        kills: How many mutants of a file each test has killed: (file, test) -> count.
    """

    tests: dict[str, tuple[float, list[list[Any]]]]
    kills: Counter[tuple[str, str]] = field(factory=Counter)

    def groups_for(self, mutant: Mutant) -> list[dict[str, float]]:
        """Return groups of tests to run one after the other, with the seconds that each test may take.

        Within a group, tests that are quick and kill often come first.
        """
        whole_file = mutant.function is None or mutant.is_read
        called = {
            name: took
            for name, (took, places) in self.tests.items()
            if any(file == mutant.module and (whole_file or line == mutant.function) for file, line in places)
        }
        found = called or {name: took for name, (took, places) in self.tests.items() if mutant.module in dict(places)}
        order = sorted(found, key=lambda name: found[name] / (1 + self.kills[mutant.module, name]))
        quick = [name for name in order if found[name] <= QUICK_SECONDS and not name.startswith(FAR_TESTS)]
        first_files = list(dict.fromkeys(map(file_of, quick)))[:FIRST_FILES]
        first = [name for name in quick if file_of(name) in first_files]
        second = [name for name in order if name not in first and not name.startswith(FAR_TESTS)]
        third = [name for name in order if name.startswith(FAR_TESTS)]
        return [{name: 3 + 5 * found[name] for name in group} for group in (first, second, third) if group]


def file_of(test: str) -> str:
    """Return the file of a test's id."""
    return test.split("::")[0]


def record_calls(copy: Path, names: tuple[str, ...]) -> Selection:
    """Run the tests without a mutant and record which functions each calls; returns the selection.

    Only tests that have changed since the last time are run.
    """
    known = json.loads(CALLS.read_text()) if CALLS.exists() else {}
    common = _hash(*sorted((ROOT / CORE).rglob("*.py")), *(ROOT / "tests" / name for name in HELPERS))
    paths = [path for name in names for path in _tests_at(ROOT / name)]
    hashes = {str(path.relative_to(ROOT)): common + _hash(path) for path in paths}
    new = [name for name, now in hashes.items() if known.get(name, {}).get("hash") != now]
    if new:
        print("recording what the tests call ...", flush=True)
        into = copy / "calls.json"
        _, status = os.waitpid(fork(copy, lambda: run_tests(copy, new, CallRecorder(copy, CORE, into))), 0)
        if status:
            raise RuntimeError(f"the tests fail without a mutant: {(copy / 'output').read_text()[-3000:]}")
        recorded = json.loads(into.read_text())
        for name in new:
            tests = {test: record for test, record in recorded.items() if file_of(test) == name}
            known[name] = {"hash": hashes[name], "tests": tests}
        CALLS.write_text(json.dumps(known))
    return Selection({test: record for name in hashes for test, record in known[name]["tests"].items()})


def _tests_at(path: Path) -> list[Path]:
    """Return the files with tests or doctests."""
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*.py")) if file.name.startswith("test_") or ">>>" in file.read_text()]


def _hash(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
