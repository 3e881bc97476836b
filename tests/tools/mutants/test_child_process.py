"""The runner on a project of two functions: which tests call them, and that only a failing test kills a mutant."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.mutants.child_process import ROOT, CallRecorder, fork, run_tests
from tools.mutants.mutations import Mutant, mutants
from tools.mutants.project_copy import ProjectCopy
from tools.mutants.selection import FAR_TESTS, HELPERS, NEAR_TESTS, Selection

CORE = "fsmtrain/core"
SMALL = f"{CORE}/small.py"
FILES = {
    "setup.cfg": "[tool:pytest]\naddopts = --doctest-modules\n",
    "fsmtrain/__init__.py": "",
    "fsmtrain/core/__init__.py": "",
    SMALL: (
        "def half(n):\n"
        '    """Half of it.\n\n    >>> half(6)\n    3\n    """\n'
        "    return n // 2\n\n\n"
        "def is_none(n):\n"
        "    return n < 1\n"
    ),
    "tests/__init__.py": "",
    # As in the project: tests run in another folder, doctests do not.
    "tests/conftest.py": (
        "import os\nimport pytest\n\n\n"
        "@pytest.fixture(scope='session', autouse=True)\n"
        "def elsewhere(tmp_path_factory):\n"
        "    os.chdir(tmp_path_factory.mktemp('elsewhere'))\n"
    ),
    "tests/test_small.py": (
        "from fsmtrain.core.small import is_none\n\n\n"
        "def test_one_is_more_than_none():\n    assert not is_none(1)\n\n\n"
        "def test_nothing():\n    pass\n"
    ),
}
EXAMPLE, TEST = f"{SMALL}::fsmtrain.core.small.half", "tests/test_small.py::test_one_is_more_than_none"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture(autouse=True)
def whole_memory() -> Iterator[None]:
    """Undo `gc.freeze` of the forks."""
    yield
    gc.unfreeze()


def status_of(project: Path, work: Callable[[], int]) -> int:
    return os.waitpid(fork(project, work), 0)[1]


def recorded_calls(project: Path) -> dict[str, Any]:
    """Return what each test calls."""
    into = project / "calls.json"
    files = [SMALL, "tests/test_small.py"]
    status = status_of(project, lambda: run_tests(project, files, CallRecorder(project, CORE, into)))
    assert status == 0, (project / "output").read_text()
    found: dict[str, Any] = json.loads(into.read_text())
    return found


def killer(project: Path, mutant: Mutant, groups: list[dict[str, float]]) -> str | None:
    place = ProjectCopy(project)
    pid = place.begin(mutant, groups)
    try:
        return place.killer(os.waitpid(pid, 0)[1])
    finally:
        place.end()


def test_the_functions_that_a_test_calls_are_named_by_their_files_in_the_project(project: Path) -> None:
    """In whatever folder the test runs."""
    called = {test: places for test, (_, places) in recorded_calls(project).items()}
    assert [SMALL, 10] in called[TEST]
    assert [SMALL, 1] in called[EXAMPLE]
    assert called["tests/test_small.py::test_nothing"] == []


def test_each_mutant_is_killed_by_the_test_that_notices_it_or_by_none(project: Path) -> None:
    """The test may be a doctest. A mutant that no test calls survives."""
    selection = Selection(recorded_calls(project))
    found = {
        mutant.after: killer(project, mutant, selection.groups_for(mutant))
        for mutant in mutants(SMALL, (project / SMALL).read_bytes())
    }
    assert found == {"(n * 2)": EXAMPLE, "3": EXAMPLE, "1": EXAMPLE, "(n <= 1)": TEST, "2": TEST, "0": None}


def test_a_run_that_no_test_ended_kills_nothing(project: Path) -> None:
    """Here the test file does not exist."""
    mutant = next(mutants(SMALL, (project / SMALL).read_bytes()))
    with pytest.raises(RuntimeError, match="the tests were not run"):
        killer(project, mutant, [{"tests/test_gone.py::test_gone": 3.0}])


def test_the_tests_and_helpers_that_are_named_exist() -> None:
    names = [*NEAR_TESTS, *FAR_TESTS, *(f"tests/{name}" for name in HELPERS)]
    assert [name for name in names if not (ROOT / name).exists()] == []
