"""Import what a ``MODULE:NAME`` on the command line names: a model's class, or guards.

Only this file imports code by a name that was typed. MODULE is the path of a ``.py`` file, or a dotted name that Python finds
from the current directory. NAME is a class or function that returns the object, or the object itself.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fsmtrain.core.custom_guards import Guards
from fsmtrain.errors import UsageError
from fsmtrain.runtime.model_files.hparams import HParams


def import_target(target: str) -> Any:
    """Return the object that ``MODULE:NAME`` names. Exceptions of the module's own code are not caught.

    Raises:
        UsageError: There is no such module, or no such name in it.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise UsageError(
            f"{target!r}: must be MODULE:CLASS, as in train.py:Model or package.models:Model. If it is the value of a switch, "
            f"write it with =, as in --progress_bar=false."
        )
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    if not hasattr(module, name):
        raise UsageError(f"{target}: {where} has no {name}. {_suggestion(name, module)}")
    return getattr(module, name)


def build_target(target: str, hparams: HParams | None) -> nn.Module:
    """Return the model that ``MODULE:CLASS`` names or builds.

    Args:
        target: A class, a function that returns a module, or a module.
        hparams: Passed as one argument if there is a parameter ``hparams``, else each by its name.

    Raises:
        UsageError: It is none of these, or cannot be called with these hyperparameters.
    """
    factory = import_target(target)
    if isinstance(factory, nn.Module) and hparams is None:
        return factory
    if not callable(factory) or isinstance(factory, nn.Module):
        raise UsageError(f"{target}: must be a class or a function that returns a torch.nn.Module, but is {factory!r}.")
    try:
        signature = inspect.signature(factory)
        as_one = hparams is not None and "hparams" in signature.parameters
        args, kwargs = ((hparams,), {}) if as_one else ((), vars(hparams or HParams()))
        signature.bind(*args, **kwargs)
    except TypeError as error:
        typed = "--hparams " + ",".join(f"{k}={v}" for k, v in vars(hparams).items()) if hparams else "no --hparams"
        raise UsageError(
            f"{target} cannot be called with {typed}: {error}. Its signature is {target.rpartition(':')[2]}{signature}; pass "
            f"values as in --hparams lr=0.1,hidden=32."
        ) from error
    model = factory(*args, **kwargs)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{target}: must return a torch.nn.Module, but returned {model!r}.")
    return model


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


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its own name, with its folder first in ``sys.path``, as for a script."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    imported = sys.modules.get(path.stem)
    if imported is not None and getattr(imported, "__file__", None) == str(path.resolve()):
        return imported
    name = path.stem if imported is None else f"{path.stem}_of_{path.resolve().parent.name}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: cannot be imported as a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # an import in the module's own code failed
        raise UsageError(f"{name}: there is no module {error.name}. For a file pass its path, as in train.py:Model.") from None


def _suggestion(name: str, module: ModuleType) -> str:
    """Return the similar name in a module, or else those of its models, or of its functions."""
    own = {n: v for n, v in vars(module).items() if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__}
    models = [n for n, v in own.items() if inspect.isclass(v) and issubclass(v, nn.Module)]
    names = models or [n for n, v in own.items() if callable(v)]
    similar = difflib.get_close_matches(name, names, n=1)
    if similar:
        return f"Did you mean {similar[0]}?"
    return f"It has {', '.join(names)}." if names else "It has no class and no function."
