"""Runs tests in a process of their own, over a copy of the project, and says what came of it.

The process is forked from one that has imported torch and the like, but nothing of the project: so a run of a few quick tests
takes a fraction of a second, and what is imported in it is the copy.
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
MOST_EXAMPLES = 40
FEW: dict[str, Any] = {
    "max_examples": MOST_EXAMPLES,
    "derandomize": True,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}  # all of it said here: where only examples in docstrings are run, no profile of the tests is there
MEMORY = 2 << 30  # bytes more than the process begins with
BEGINNING = 30.0  # seconds for what comes before the first test
NOT_THE_COPY = 99
KILLER = "killer"  # the file in the copy that names the test that is running


def forked(copy: Path, work: Callable[[], int]) -> int:
    """Do the work in a child process, with the copy as the project; the child's id."""
    sys.stdout.flush()
    gc.collect()
    gc.freeze()  # what is there now is no garbage, and the child need not look at it
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
    """Forget the project that this process came from, and be quiet."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for processes that a test starts
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "fsmtrain")]:
        del sys.modules[name]
    sys.path[:] = [str(copy), *(p for p in sys.path if p and Path(p).resolve() != ROOT.resolve())]
    sys.dont_write_bytecode = True  # two mutants of one second and one size would be taken for each other
    silence = os.open(copy / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))


def run(copy: Path, files: list[str], plugin: object) -> int:
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
    """Hypothesis makes few examples, always the same, and looks for no smaller ones, whatever a test asks for."""
    whole: Callable[..., None] = settings.__init__

    def init(self: settings, parent: settings | None = None, **asked: Any) -> None:
        if isinstance(asked.get("max_examples"), int):
            asked["max_examples"] = min(asked["max_examples"], MOST_EXAMPLES)
        whole(self, parent, **asked)

    settings.__init__ = init  # type: ignore[method-assign]


def _load_profile() -> None:
    settings.register_profile("mutants", **FEW)
    settings.load_profile("mutants")


class Chosen:
    """A pytest plugin: runs the chosen tests alone, in their order, each with a limit of its own for the processor's time."""

    def __init__(self, copy: Path, limits: Mapping[str, float]) -> None:
        self._killer, self._limits = copy / KILLER, dict(limits)

    def pytest_collection(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, BEGINNING)
        _load_profile()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        order = {name: place for place, name in enumerate(self._limits)}
        items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            os._exit(pytest.ExitCode.TESTS_FAILED)  # one is enough

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._killer.write_text(item.nodeid)  # named in full: tests may stand in another folder
        signal.setitimer(signal.ITIMER_PROF, self._limits[item.nodeid])  # what outlasts it is killed by the signal


class Listener:
    """A pytest plugin: writes down which functions of a folder of the copy each test calls, and how long it takes."""

    def __init__(self, copy: Path, folder: str, into: Path) -> None:
        self._copy, self._folder, self._into = copy, str(copy / folder), into
        self._heard: dict[int, Any] = {}
        self._tests: dict[str, tuple[float, list[tuple[str, int]]]] = {}

    def pytest_collection(self) -> None:
        _load_profile()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # A file that is named is searched for tests, also one of the core with a guard whose name begins as a test's does.
        items[:] = [item for item in items if item.path.name.startswith("test_") or isinstance(item, pytest.DoctestItem)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        _forget()
        self._heard.clear()
        sys.settrace(self._hear)
        began = time.process_time()
        try:
            return (yield)
        finally:
            sys.settrace(None)
            took = time.process_time() - began
            codes = [c for c in self._heard.values() if c.co_filename.startswith(self._folder)]
            places = {(os.path.relpath(c.co_filename, self._copy), c.co_firstlineno) for c in codes}
            self._tests[item.nodeid] = took, sorted(places)

    def pytest_sessionfinish(self) -> None:
        self._into.write_text(json.dumps(self._tests))

    def _hear(self, frame: FrameType, event: str, argument: object) -> None:
        self._heard[id(frame.f_code)] = frame.f_code


def _forget() -> None:
    """Empty every cache of the project, so that a test calls what it needs itself."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("tests", "fsmtrain"):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()
