"""Import what a ``MODULE:NAME`` on the command line names: the class of a model or a data module, or guards.

Only this file imports code by a name that was typed. MODULE is the path of a ``.py`` file, or a dotted name that Python finds
from the current directory. NAME is a class or function that returns the object, or the object itself; ``Outer.Inner`` is one
inside a class. A file inside a package is imported as its module, so relative imports work, and spawned workers find every
module by its name.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fsmtrain.cli import user_files
from fsmtrain.core.custom_guards import Guards
from fsmtrain.errors import UsageError
from fsmtrain.mask_secrets import mask_values
from fsmtrain.runtime.data.data_modules import LOADER_METHODS, is_data_module
from fsmtrain.runtime.model_files.hparams import HParams, match_hparams, warn_of_unused_hparams


def import_target(target: str) -> Any:
    """Return the object that ``MODULE:NAME`` names. Exceptions of the module's own code are not caught.

    Raises:
        UsageError: There is no such module, or no such name in it.
    """
    where, colon, name = target.rpartition(":")
    names = name.split(".")
    if not colon or not where or not all(map(str.isidentifier, names)):
        raise UsageError(
            f"{target!r}: must be MODULE:CLASS, as in train.py:Model or package.models:Model. If it is the value of a switch, "
            f"write it with =, as in --progress_bar=false."
        )
    found: Any = _import_file(_file_of(where), name) if _is_path(where) else _import_module(where)
    outer = where
    for inner in names:
        if not hasattr(found, inner):
            raise UsageError(f"{target}: {outer} has no {inner}. {_suggestion(inner, found)}")
        found, outer = getattr(found, inner), inner
    return found


def target_folder(target: str) -> Path:
    """Return the folder of the file that the MODULE of an imported ``MODULE:NAME`` is."""
    where = target.rpartition(":")[0]
    file = _file_of(where) if _is_path(where) else getattr(sys.modules.get(where), "__file__", None)
    return Path.cwd() if file is None else Path(file).resolve().parent


def build_target(target: str, hparams: HParams | None, *, saved: bool = False) -> nn.Module:
    """Return the model that ``MODULE:CLASS`` names or builds.

    Args:
        target: A class, a function that returns a module, or a module.
        hparams: The hyperparameters, passed as `match_hparams` says. Each that was typed must be used.
        saved: Whether they are those of a file of weights. Then those without a parameter are a warning.

    Raises:
        UsageError: It is none of these, or cannot be called with these hyperparameters.
    """
    factory = import_target(target)
    if isinstance(factory, nn.Module) and hparams is None:
        return factory
    if not callable(factory) or isinstance(factory, nn.Module):
        raise UsageError(f"{target}: must be a class or a function that returns a torch.nn.Module, but is {factory!r}.")
    model = _call(factory, target, hparams, "hparams", saved=saved)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{target}: must return a torch.nn.Module, but returned {model!r}.")
    return model


def build_data_module(target: str | None, hparams: HParams | None) -> Any:
    """Return the data module that ``MODULE:CLASS`` names or builds, with typed hyperparameters; None for None.

    Raises:
        UsageError: It is no data module, or cannot be called with these hyperparameters.
    """
    if target is None:
        if hparams:
            raise UsageError("--data_hparams: there is no data module to build with them. Pass --data MODULE:CLASS.")
        return None
    factory = import_target(target)
    if inspect.isroutine(factory) or isinstance(factory, type):
        data_module = _call(factory, target, hparams, "data_hparams")
    elif hparams:
        raise UsageError(f"--data {target}: --data_hparams are for a class or a function, and this is {factory!r}.")
    else:
        data_module = factory
    if not is_data_module(data_module):
        raise UsageError(
            f"--data {target}: must be, or return, an object with at least one of the methods {', '.join(LOADER_METHODS)}, but "
            f"is {data_module!r}."
        )
    return data_module


def _call(factory: Any, target: str, hparams: HParams | None, flag: str, *, saved: bool = False) -> Any:
    """Call a class or function with hyperparameters, those of a flag or those of a file.

    Raises:
        UsageError: It cannot be called with them.
    """
    try:
        signature = inspect.signature(factory)
        args, kwargs = match_hparams(factory, hparams, {}, uses_all=not saved)
        signature.bind(*args, **kwargs)
    except TypeError as error:
        by = "the saved hyperparameters" if saved else f"--{flag}"
        typed = f"{by} {','.join(f'{k}={v}' for k, v in mask_values(hparams).items())}" if hparams else f"no --{flag}"
        raise UsageError(
            f"{target} cannot be called with {typed}: {error}. Its signature is {target.rpartition(':')[2]}{signature}; pass "
            f"values as in --{flag} lr=0.1,hidden=32."
        ) from error
    if saved and hparams and not args:
        warn_of_unused_hparams(factory, hparams, kwargs)
    return factory(*args, **kwargs)


def import_guards(target: str | None) -> Guards:
    """Return the guards that ``MODULE:NAME`` names, or returns if called; the built-in ones for None.

    Raises:
        UsageError: It is something else.
    """
    if target is None:
        return Guards()
    imported = import_target(target)
    guards = imported() if callable(imported) and not isinstance(imported, Guards) else imported
    if not isinstance(guards, Guards):
        raise UsageError(f"--guards {target}: must be Guards(...) or a function that returns it, but is {guards!r}.")
    return guards


def _is_path(where: str) -> bool:
    return where.endswith(".py") or "/" in where or os.sep in where


def _file_of(where: str) -> Path:
    """Return the file that a path names, with or without its suffix; for the folder of a package its ``__init__.py``."""
    path = Path(where)
    candidates = (path,) if where.endswith(".py") else (path.with_name(f"{path.name}.py"), path / "__init__.py")
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UsageError(f"{candidates[0]}: there is no such file.")
    return file.resolve()


def _import_file(path: Path, name: str) -> ModuleType:
    """Import a file: one of a package by its dotted name, any other as a module of its own, as for a script."""
    root, names = path.parent, [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file() and root.name:
        root, names = root.parent, [root.name, *names]
    if not all(map(str.isidentifier, names[:-1])):  # a folder that no import statement can name
        root, names = path.parent, [path.stem]
    if len(names) == 1 and path.stem != "__init__":
        return _import_script(path, name)
    if "." in path.stem:
        raise UsageError(f"{path}: a module of a package cannot have a dot in its name. Rename the file.")
    _search_first(root)
    _search_last(path.parent)  # for files that import their neighbours without naming the package
    return _require_file(importlib.import_module(".".join(names)), path)


def _import_script(path: Path, target: str) -> ModuleType:
    """Import a file that is in no package, with its folder first in ``sys.path``."""
    name, imported = path.stem, sys.modules.get(path.stem)
    if imported is not None and getattr(imported, "__file__", None) == str(path):
        return imported
    if imported is not None or "." in name or name in sys.stdlib_module_names:
        _search_last(path.parent)  # nothing else may find this file under the name
        return _require_file(importlib.import_module(user_files.module_name(path)), path)
    _search_first(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: cannot be imported as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError) and _is_relative_import(error, path):
            raise UsageError(
                f"{path}: {error}. A relative import needs a package: make {path.parent.name} one with an empty "
                f"{path.parent / '__init__.py'}, or, in the folder above, pass {path.parent.name}.{name}:{target}."
            ) from None
        raise
    return module


def _is_relative_import(error: ImportError, path: Path) -> bool:
    """Return whether the error is that of a relative import in this file, which is in no package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_code.co_filename if trace is not None else ""
    return raised_in == str(path) and "relative import" in str(error)


def _search_first(folder: Path) -> None:
    """Let imports find the modules of a folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _search_last(folder: Path) -> None:
    """Let imports find the modules of a folder that no other folder has."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _require_file(module: ModuleType, path: Path) -> ModuleType:
    """Return the module; raise an error if it is that of another file."""
    file = getattr(module, "__file__", None)
    if file is None or Path(file).resolve() != path:
        raise UsageError(f"{path}: {file} is imported under its name already. Rename the file or its package.")
    return module


def _import_module(name: str) -> ModuleType:
    if name.startswith("."):
        raise UsageError(f"{name}: a module's name cannot begin with a dot. For a file pass its path, as in ./train.py:Model.")
    if "" not in sys.path:
        _search_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # an import in the module's own code failed
        raise UsageError(f"{name}: there is no module {error.name}. For a file pass its path, as in train.py:Model.") from None


def _suggestion(name: str, outer: Any) -> str:
    """Return the similar name in a module or class, or else those of its models, or of its functions."""
    module = outer.__name__ if isinstance(outer, ModuleType) else getattr(outer, "__module__", "")
    members = getattr(outer, "__dict__", {}).items()
    own = {n: v for n, v in members if not n.startswith("_") and getattr(v, "__module__", "") == module}
    models = [n for n, v in own.items() if inspect.isclass(v) and issubclass(v, nn.Module)]
    names = models or [n for n, v in own.items() if callable(v)]
    similar = difflib.get_close_matches(name, names, n=1)
    if similar:
        return f"Did you mean {similar[0]}?"
    return f"It has {', '.join(names)}." if names else "It has no class and no function."
