"""The arrows between the modules, read from their import statements: each layer knows only of those below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fsmtrain"

# From the bottom up. A module imports from lower layers; within a folder of its own it imports what it likes.
FOLDERS = ("core", "runtime", "views", "adapters", "prove")
LAYERS = (
    ("errors", "predicates", "user_warnings", "wording", "atomic_write"),
    ("early_stopping",),
    ("options",),
    FOLDERS[:1],
    FOLDERS[1:],
)
TOP = len(LAYERS)  # the modules that users import: machine, module, trainer, ...


def name_of(path: Path) -> str:
    """A module's dotted name, without the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer(module: str) -> int:
    """How high a module stands; all that is not named in `LAYERS` stands on top."""
    return next((height for height, names in enumerate(LAYERS) if module.split(".")[0] in names), TOP)


def imports(source: str, module: str = "", *, is_package: bool = False, for_types: bool = True) -> Iterator[str]:
    """The full names of all that a module imports, inside of functions too: ``torch``, ``fsmtrain.core.states.State``.

    Without those that only a type checker follows, if `for_types` is False.
    """
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if for_types or ast.unparse(node).split("\n")[0] != "if TYPE_CHECKING:"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = ["fsmtrain", *module.split(".")] if module else ["fsmtrain"]
                base = parts[: len(parts) - node.level + is_package]
                origin = ".".join([*base, origin]) if origin else ".".join(base)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports_of(module: str, *, for_types: bool = True) -> list[str]:
    """What a module of the package imports."""
    path = MODULES[module]
    is_package = path.name == "__init__.py"
    return list(imports(path.read_text(encoding="utf-8"), module, is_package=is_package, for_types=for_types))


def of_ours(imported: list[str]) -> set[str]:
    """The package's own modules among them."""
    names = [name.removeprefix("fsmtrain").removeprefix(".") for name in imported if name.split(".")[0] == "fsmtrain"]
    return {max((m for m in MODULES if name == m or name.startswith(f"{m}.") or m == ""), key=len) for name in names}


def may_import(module: str, other: str) -> bool:
    """Whether the arrow points downwards, or stays in one folder or among the modules on top."""
    ours, folder, theirs = layer(module), module.split(".")[0], layer(other)
    return theirs < ours or (folder in FOLDERS and other.split(".")[0] == folder) or (ours == theirs == TOP)


def outsiders(imported: list[str]) -> set[str]:
    """The names of the other packages that are imported."""
    return {name.split(".")[0] for name in imported} - {"fsmtrain"}


def test_the_package_is_read() -> None:
    assert {"", "errors", "predicates", "early_stopping", "options", "core.table", "core.iteration"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    upwards = sorted(other for other in of_ours(imports_of(module)) if not may_import(module, other))
    assert not upwards, f"{module} imports {upwards}"


@pytest.mark.parametrize("module", MODULES)
def test_only_what_does_the_work_imports_torch(module: str) -> None:
    if module.split(".")[0] != "runtime" and layer(module) != TOP:
        assert not outsiders(imports_of(module)) & {"torch", "torchvision", "numpy"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_adapters_import_the_package_transitions(module: str) -> None:
    if not module.startswith("adapters."):
        assert "transitions" not in outsiders(imports_of(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] not in ("cli", "__main__")])
def test_nothing_but_the_command_line_imports_it_or_its_library(module: str) -> None:
    """Who imports fsmtrain in a script of their own does not wait for it."""
    imported = imports_of(module)
    assert not outsiders(imported) & {"cyclopts", "docstring_parser", "rich"}
    assert not {other for other in of_ours(imported) if other.split(".")[0] == "cli"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] == "core"])
def test_the_core_needs_nothing_but_the_standard_library_and_attrs(module: str) -> None:
    import sys

    assert outsiders(imports_of(module)) <= set(sys.stdlib_module_names) | {"attrs"}


def test_the_modules_of_the_core_do_not_import_each_other_in_a_circle() -> None:
    core = {module: imports_of(module, for_types=False) for module in MODULES if module.startswith("core.")}
    below = {module: {other for other in of_ours(names) if other.startswith("core.")} for module, names in core.items()}
    while below:
        free = {module for module, needs in below.items() if not needs}
        assert free, f"these import each other in a circle: {sorted(below)}"
        below = {module: needs - free for module, needs in below.items() if module not in free}


def test_the_guards_of_the_table_count_and_do_not_divide() -> None:
    """Only those that are made by ``every_n_...`` do, for users to pass; so the table's own stay linear."""
    dividing = {
        (name, outer)
        for name in ("core.guards", "core.decisions", "core.effects")
        for outer in ast.parse(MODULES[name].read_text(encoding="utf-8")).body
        for node in ast.walk(outer)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.FloorDiv, ast.Div, ast.Mult))
    }
    found = {outer.name for _, outer in dividing if isinstance(outer, ast.FunctionDef)}
    assert len(found) == len(dividing)
    assert all(name.startswith("every_n_") for name in found)
    assert "every_n_batches" in found


def test_these_tests_see_every_kind_of_import() -> None:
    """Each arrow below points upwards, or to what is not allowed."""
    assert list(imports("import torch.nn as nn")) == ["torch.nn"]
    assert list(imports("def f():\n    from torch import nn, optim")) == ["torch.nn", "torch.optim"]
    assert list(imports("from . import table", "core.iteration")) == ["fsmtrain.core.table"]
    assert list(imports("from ..runtime.engine import Engine", "core.iteration")) == ["fsmtrain.runtime.engine.Engine"]
    assert list(imports("from .states import State", "core", is_package=True)) == ["fsmtrain.core.states.State"]
    assert of_ours(["fsmtrain.core.states.State", "fsmtrain.options", "torch"]) == {"core.states", "options"}
    assert list(imports("if TYPE_CHECKING:\n    import torch")) == ["torch"]
    assert list(imports("if TYPE_CHECKING:\n    import torch", for_types=False)) == []
    assert of_ours(["fsmtrain.Trainer"]) == {""}
    assert not may_import("errors", "predicates")
    assert not may_import("options", "core.limits")
    assert not may_import("core.iteration", "runtime.engine")
    assert not may_import("core.iteration", "")
    assert not may_import("runtime.engine", "views.plan")
    assert not may_import("adapters.of_a_package", "runtime.engine")
    assert not may_import("views.plan", "trainer")
    assert may_import("core.iteration", "core.table")
    assert may_import("trainer", "runtime.engine")
    assert may_import("trainer", "machine")
