"""A copy of the project, into which one mutant at a time is written."""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import signal
from pathlib import Path

import pytest
from attrs import define, field

from tools.mutants.child_process import KILLER, ROOT, SelectedTests, fork, run_tests
from tools.mutants.mutations import Mutant
from tools.mutants.selection import file_of

COPIED = ("fsmtrain", "tests", "examples", "diagrams", "setup.cfg", "README.md", "docs", "Makefile")


def copy_project(into: Path) -> Path:
    """Copy the project into a new folder and compile it; returns the folder.

    The compiled files are checked by the hash of the source: two mutants may have one size and one second.
    """
    into.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, into / name)
        elif (ROOT / name).exists():
            shutil.copy2(ROOT / name, into / name)
    compileall.compile_dir(into / "fsmtrain", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return into


@define
class ProjectCopy:
    """A copy of the project, with at most one mutant in it.

    Attributes:
        root: Its folder.
        mutant: The mutant that is in it.
        original: The file without the change.
        groups: The groups of tests that are left to run, each with the seconds that a test may take.
    """

    root: Path
    mutant: Mutant | None = None
    original: bytes = b""
    groups: list[dict[str, float]] = field(factory=list)

    def begin(self, mutant: Mutant, groups: list[dict[str, float]]) -> int:
        """Write the mutant and start the first group of tests; returns the process id."""
        path = self.root / mutant.module
        self.mutant, self.groups, self.original = mutant, list(groups), path.read_bytes()
        path.write_bytes(mutant.text)
        return self.run_next_group()

    def run_next_group(self) -> int:
        """Start the next group of tests; returns the process id."""
        limits = self.groups.pop(0)
        (self.root / KILLER).write_text("import")
        files = list(dict.fromkeys(map(file_of, limits)))
        return fork(self.root, lambda: run_tests(self.root, files, SelectedTests(self.root, limits)))

    def killer(self, status: int) -> str | None:
        """Return the test that killed the mutant, None if none did.

        Args:
            status: The wait status of the process.

        Raises:
            RuntimeError: The tests did not run.
        """
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return None
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
            raise RuntimeError(f"{self.mutant}: the tests were not run ({status}): {(self.root / 'output').read_text()}")
        over_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
        return (self.root / KILLER).read_text() + (" (endless)" if over_time else "")

    def end(self) -> Mutant:
        """Restore the file; returns the mutant."""
        assert self.mutant is not None
        (self.root / self.mutant.module).write_bytes(self.original)
        return self.mutant
