"""Import directions between the folders, and no import cycle anywhere, type-only imports included."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fsmtrain"

# For each folder its files and subfolders in levels, from the bottom up: each imports from lower levels only. "..." stands for
# those that are not named; these may import each other, as long as there is no cycle. Where there is no "...", a new file
# needs a place here.
LEVELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "": (
        ("dummy_logger", "errors", "html_table", "mask_secrets", "model_name", "plain_files", "plurals", "predicates"),
        ("strict_json", "sync_files"),
        ("replace_file", "unknown_arguments"),
        ("copies", "early_stopping", "old_names", "user_warnings"),
        ("flags",),
        ("options",),
        ("core",),
        ("runtime", "views", "adapters", "prove"),
        ("...",),  # what users import: machine, module, trainer, ...; and the command line
    ),
    "core": (("...",), ("planning",), ("checking",)),
    "runtime": (
        ("model_inspection", "nested_tensors", "train_mode"),
        ("checkpoint_files", "device_timer", "metrics", "step_signature"),
        ("batch_size", "hooks", "rng", "run_clock"),
        ("data", "model_files", "optimization"),
        ("run_state", "result", "trainer_attribute"),
        ("feed_early_stopping", "oom"),
        ("training", "evaluation"),
        ("actions", "build"),
        ("checkpointing",),
    ),
    "runtime.data": (("...",), ("resume_strategies",), ("restore_loader_position",), ("loaders", "epoch_lengths")),
    "runtime.data.resume_strategies": (("resume_strategy", "skip_batches"), ("loader_state_dict", "replay"), ("fast_forward",)),
    "runtime.model_files": (
        ("hparams", "init_arguments", "pickle_scan"),
        ("safe_torch_load",),
        ("lightning_checkpoints",),
        ("weights",),
    ),
    "runtime.checkpoint_files": (("files", "tree_path"), ("checked_io",), ("tensors",), ("codec",), ("store",)),
    "views": (("...",), ("console",), ("diagrams",), ("recording",)),
    "views.recording": (("...",), ("report",), ("comparison",)),
}


def name_of(path: Path) -> str:
    """Return a module's dotted name, without the package's own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FOLDERS = [name for name, path in MODULES.items() if path.name == "__init__.py"]


ON_TOP = "adapters.lightning"  # a subfolder whose modules build machines, as users do


def entry(module: str, folder: str) -> str | None:
    """Return the file or subfolder of a folder to which a module belongs; None if it is the folder's own, or elsewhere."""
    if f"{module}.".startswith(f"{ON_TOP}.") and folder in ("", "adapters"):
        return ON_TOP if folder == "" else None
    prefix = f"{folder}." if folder else ""
    return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) and module != folder else None


def level(name: str, folder: str) -> int:
    """Return the level of a folder's file or subfolder, from 0; -1 if `LEVELS` has no place for it."""
    levels = LEVELS[folder]
    named = any(name in names for names in levels)
    return next((height for height, names in enumerate(levels) if (name if named else "...") in names), -1)


def is_on_top(module: str) -> bool:
    """Return whether a module is one that users import, or part of the command line."""
    name = entry(module, "")
    return name is None or level(name, "") == len(LEVELS[""]) - 1


def imports(source: str, module: str = "", *, is_package: bool = False) -> Iterator[str]:
    """Yield the full names of everything that a module imports: ``torch``, ``fsmtrain.core.states.State``.

    Imports inside of functions, and those below ``if TYPE_CHECKING``, count as well.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = ["fsmtrain", *module.split(".")] if module else ["fsmtrain"]
                base = parts[: len(parts) - node.level + is_package]
                origin = ".".join([*base, origin]) if origin else ".".join(base)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@functools.cache
def imports_of(module: str) -> tuple[str, ...]:
    """Return the full names of everything that a module of the package imports."""
    path = MODULES[module]
    return tuple(imports(path.read_text(encoding="utf-8"), module, is_package=path.name == "__init__.py"))


def of_ours(imported: Iterable[str]) -> set[str]:
    """Return the modules of the package among these names."""
    names = [name.removeprefix("fsmtrain").removeprefix(".") for name in imported if name.split(".")[0] == "fsmtrain"]
    return {max((m for m in MODULES if name == m or name.startswith(f"{m}.") or m == ""), key=len) for name in names}


def may_import(module: str, other: str) -> bool:
    """Return whether `LEVELS` allows this import: in each folder that has both, it points downwards or stays in one entry."""
    if not other:  # the package itself, which imports what is on top
        return is_on_top(module)
    for folder in LEVELS:
        ours, theirs = entry(module, folder), entry(other, folder)
        if ours and theirs and ours != theirs:
            height = level(ours, folder)
            free = height == level(theirs, folder) and LEVELS[folder][height] == ("...",)
            if not (level(theirs, folder) < height or free):
                return False
    return True


def outsiders(imported: Iterable[str]) -> set[str]:
    """Return the names of the other packages among these."""
    return {name.split(".")[0] for name in imported} - {"fsmtrain"}


def cycle_in(folder: str) -> list[str]:
    """Return a cycle of imports between the files and subfolders of a folder; empty if there is none."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if (ours := entry(module, folder)) is not None:
            theirs = {name for other in of_ours(imports_of(module)) if (name := entry(other, folder)) not in (None, ours)}
            graph.setdefault(ours, set()).update(name for name in theirs if name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_package_is_read() -> None:
    assert {"", "errors", "predicates", "early_stopping", "options", "core.transition_table", "core.iteration"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards_in_every_folder(module: str) -> None:
    upwards = sorted(other for other in of_ours(imports_of(module)) if not may_import(module, other))
    assert not upwards, f"{module} imports {upwards}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_import_cycle_between_the_files_and_subfolders_of_a_folder(folder: str) -> None:
    """It holds in every folder, so there is no cycle of modules anywhere, and none of folders."""
    assert not cycle_in(folder), " -> ".join(cycle_in(folder))


@pytest.mark.parametrize("folder", LEVELS)
def test_every_file_and_subfolder_has_a_level_and_every_level_names_what_is_there(folder: str) -> None:
    there = {name for module in MODULES if (name := entry(module, folder)) is not None}
    assert {name for names in LEVELS[folder] for name in names} - {"..."} <= there
    assert not {name for name in there if level(name, folder) == -1}, "these need a place in LEVELS"


@pytest.mark.parametrize("module", MODULES)
def test_only_what_does_the_work_imports_torch(module: str) -> None:
    if module.split(".")[0] != "runtime" and not is_on_top(module):
        assert not outsiders(imports_of(module)) & {"torch", "torchvision", "numpy"}


@pytest.mark.parametrize("module", MODULES)
def test_only_the_adapters_import_the_package_transitions(module: str) -> None:
    if not module.startswith("adapters."):
        assert "transitions" not in outsiders(imports_of(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] not in ("cli", "__main__")])
def test_nothing_but_the_command_line_imports_it_or_its_library(module: str) -> None:
    """A script that imports fsmtrain does not wait for the command line's packages."""
    imported = imports_of(module)
    assert not outsiders(imported) & {"cyclopts", "docstring_parser"}
    assert not {other for other in of_ours(imported) if other.split(".")[0] == "cli"}


def test_only_what_draws_live_lines_imports_rich() -> None:
    drawing = {f"views.console.{name}" for name in ("in_notebook", "notebook", "progress_bar", "terminal")}
    assert {m for m in MODULES if m.split(".")[0] != "cli" and "rich" in outsiders(imports_of(m))} == drawing


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] == "core"])
def test_the_core_needs_nothing_but_the_standard_library_and_attrs(module: str) -> None:
    assert outsiders(imports_of(module)) <= set(sys.stdlib_module_names) | {"attrs"}


def test_the_guards_of_the_table_count_and_do_not_divide() -> None:
    """Only the ready-made ``every_n_...`` guards divide, and no table has one by itself; so its own guards stay linear."""
    dividing = {
        name: [
            outer.name
            for outer in ast.parse(MODULES[name].read_text(encoding="utf-8")).body
            if isinstance(outer, ast.FunctionDef)
            for node in ast.walk(outer)
            if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.FloorDiv, ast.Div, ast.Mult))
        ]
        for name in ("core.transition_guards", "core.decisions", "core.effects", "core.interval_guards")
    }
    assert dividing.pop("core.interval_guards") == ["every_n_batches", "every_n_steps", "every_n_steps_of", "every_n_epochs"]
    assert not any(dividing.values())


def test_these_tests_see_every_kind_of_import() -> None:
    """Each arrow below points upwards, or to what is not allowed."""
    assert list(imports("import torch.nn as nn")) == ["torch.nn"]
    assert list(imports("def f():\n    from torch import nn, optim")) == ["torch.nn", "torch.optim"]
    assert list(imports("from . import transition_table", "core.iteration")) == ["fsmtrain.core.transition_table"]
    assert list(imports("from ..runtime.build import Loaders", "core.iteration")) == ["fsmtrain.runtime.build.Loaders"]
    assert list(imports("from .states import State", "core", is_package=True)) == ["fsmtrain.core.states.State"]
    assert of_ours(["fsmtrain.core.states.State", "fsmtrain.options", "torch"]) == {"core.states", "options"}
    assert list(imports("if TYPE_CHECKING:\n    import torch")) == ["torch"]
    assert of_ours(["fsmtrain.Trainer"]) == {""}
    for module, other in [
        ("errors", "predicates"),
        ("options", "core.limits"),
        ("core.iteration", "runtime.build"),
        ("core.iteration", ""),
        ("core.transition_table", "core.planning.plan_values"),
        ("core.planning.plan_values", "core.checking.check"),
        ("runtime.build", "views.plan"),
        ("runtime.data.loaders", "runtime.optimization.optimizers"),
        ("runtime.data.loaders", "runtime.run_state"),
        ("runtime.checkpoint_files.codec.decoding", "runtime.checkpoint_files.store.crash_safe_store"),
        ("views.console.progress_callback", "views.recording.report.page"),
        ("adapters.of_a_package", "runtime.build"),
        ("views.plan", "trainer"),
    ]:
        assert not may_import(module, other), (module, other)
    for module, other in [
        ("core.iteration", "core.transition_table"),
        ("core.transition_table", "core.transition_guards"),
        ("runtime.run_state", "runtime.data.loaders"),
        ("trainer", "runtime.build"),
        ("trainer", "machine"),
        ("cli.app", ""),
    ]:
        assert may_import(module, other), (module, other)
