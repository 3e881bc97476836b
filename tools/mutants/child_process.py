"""Run tests in a child process over a copy of the project.

The process is forked from one that has imported torch and other packages, but nothing of the project: so a run of a few quick
tests takes a fraction of a second, and imports the copy.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).parent.parent.parent
MAX_EXAMPLES = 40
FEW_EXAMPLES: dict[str, Any] = {
    "max_examples": MAX_EXAMPLES,
    "derandomize": True,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}  # complete: a run of doctests alone loads no profile of the tests
EXTRA_BYTES = 2 << 30  # memory beyond what the process begins with
COLLECTION_SECONDS = 30.0  # before the first test
NOT_THE_COPY = 99  # exit code: the process imported another fsmtrain than the copy
KILLER = "killer"  # the file in the copy that names the test that is running


def fork(copy: Path, work: Callable[[], int]) -> int:
    """Run `work` in a child process, with the copy as the project; returns the process id.

    Args:
        copy: The folder of the copy.
        work: Returns the exit code.
    """
    sys.stdout.flush()
    gc.collect()
    gc.freeze()  # so that the child's garbage collector skips what exists now
    pid = os.fork()
    if pid:
        return pid
    status = NOT_THE_COPY
    try:
        _enter(copy)
        status = int(work())
        package = sys.modules.get("fsmtrain")
        if package is not None and not str(package.__file__).startswith(f"{copy}{os.sep}"):
            status = NOT_THE_COPY
    finally:
        os._exit(status)


def _enter(copy: Path) -> None:
    """Unload the project of the parent process, and write all output to a file."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for processes that a test starts
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "fsmtrain")]:
        del sys.modules[name]
    sys.path[:] = [str(copy), *(p for p in sys.path if p and Path(p).resolve() != ROOT.resolve())]
    sys.dont_write_bytecode = True  # two mutants of one second and one size would be confused
    silence = os.open(copy / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + EXTRA_BYTES, now + EXTRA_BYTES))


def run_tests(copy: Path, files: list[str], plugin: object) -> int:
    """Run the tests of these files."""
    left_out = ("cacheprovider", "xdist", "faulthandler", "unraisableexception", "threadexception")  # they take their time
    quick = ("-x", "-q", "--tb=short", "--no-header", *(f"-pno:{name}" for name in left_out))
    _few_examples()
    places = (
        f"--rootdir={copy}",
        f"--basetemp={copy / 'tmp'}",
        "-c",
        str(copy / "setup.cfg"),
    )  # no other run's folders to clear
    return pytest.main([*quick, *places, *files], plugins=[plugin])


def _few_examples() -> None:
    """Let Hypothesis make few examples, always the same, without shrinking, whatever a test sets."""
    original: Callable[..., None] = settings.__init__

    def init(self: settings, parent: settings | None = None, **asked: Any) -> None:
        if isinstance(asked.get("max_examples"), int):
            asked["max_examples"] = min(asked["max_examples"], MAX_EXAMPLES)
        original(self, parent, **asked)

    settings.__init__ = init  # type: ignore[method-assign]


def _load_profile() -> None:
    settings.register_profile("mutants", **FEW_EXAMPLES)
    settings.load_profile("mutants")


class SelectedTests:
    """A pytest plugin: run only the given tests, in their order, each with its own limit of CPU time."""

    def __init__(self, copy: Path, limits: Mapping[str, float]) -> None:
        self._killer, self._limits = copy / KILLER, dict(limits)

    def pytest_collection(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, COLLECTION_SECONDS)
        _load_profile()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {name: place for place, name in enumerate(self._limits)}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            os._exit(pytest.ExitCode.TESTS_FAILED)  # one is enough

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._killer.write_text(item.nodeid)  # the full id: a test may change the working directory
        signal.setitimer(signal.ITIMER_PROF, self._limits[item.nodeid])  # the signal kills what takes longer


class CallRecorder:
    """A pytest plugin: record which functions of a folder of the copy each test calls, and its CPU time."""

    def __init__(self, copy: Path, folder: str, into: Path) -> None:
        self._copy, self._folder, self._into = copy, str(copy / folder), into
        self._codes: dict[int, Any] = {}
        self._tests: dict[str, tuple[float, list[tuple[str, int]]]] = {}

    def pytest_collection(self) -> None:
        _load_profile()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # A file that is named is searched for tests, also one of the core with a guard whose name begins as a test's does.
        items[:] = [item for item in items if item.path.name.startswith("test_") or isinstance(item, pytest.DoctestItem)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        _clear_caches()
        self._codes.clear()
        sys.settrace(self._record)
        began = time.process_time()
        try:
            return (yield)
        finally:
            sys.settrace(None)
            took = time.process_time() - began
            codes = [c for c in self._codes.values() if c.co_filename.startswith(self._folder)]
            places = {(os.path.relpath(c.co_filename, self._copy), c.co_firstlineno) for c in codes}
            self._tests[item.nodeid] = took, sorted(places)

    def pytest_sessionfinish(self) -> None:
        self._into.write_text(json.dumps(self._tests))

    def _record(self, frame: FrameType, event: str, argument: object) -> None:
        self._codes[id(frame.f_code)] = frame.f_code


def _clear_caches() -> None:
    """Empty every cache of the project, so that each test calls what it needs."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("tests", "fsmtrain"):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()
