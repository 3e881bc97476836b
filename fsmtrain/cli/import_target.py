"""``MODULE:NAME``: the one place where code is found by a name, which the person who runs the command has typed.

MODULE is a dotted name, looked up as Python does from the current directory, or the path of a ``.py`` file. NAME is a class or
a function that makes what is wanted, or the thing itself.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fsmtrain.core.guards import Guards
from fsmtrain.errors import UsageError
from fsmtrain.runtime.model_files.hparams import HParams


def import_target(target: str) -> Any:
    """What ``MODULE:NAME`` names. Errors of the module's own code come through.

    Raises:
        UsageError: There is no such module, or no such name in it.
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name.isidentifier():
        raise UsageError(
            f"{target!r}: MODULE:CLASS is needed here, as in train.py:Model or package.models:Model. A value of a switch "
            f"is written with =, as in --progress_bar=false."
        )
    module = _file(Path(where)) if where.endswith(".py") else _module(where)
    if not hasattr(module, name):
        raise UsageError(f"{target}: {where} has no {name}. {_way_out(name, _offered(module))}")
    return getattr(module, name)


def model_of(target: str, hparams: HParams | None) -> nn.Module:
    """The module that ``MODULE:CLASS`` makes.

    It is given the hyperparameters whole where it has a parameter of the name ``hparams``, else each by its name.

    Raises:
        UsageError: It cannot be called with these.
    """
    made = import_target(target)
    if isinstance(made, nn.Module) and hparams is None:
        return made
    if not callable(made) or isinstance(made, nn.Module):
        raise UsageError(f"{target}: a class or a function that makes a module is needed, and this is {made!r}.")
    try:
        signature = inspect.signature(made)
        whole = hparams is not None and "hparams" in signature.parameters
        args, named = ((hparams,), {}) if whole else ((), vars(hparams or HParams()))
        signature.bind(*args, **named)
    except TypeError as error:
        given = "--hparams " + ",".join(f"{k}={v}" for k, v in vars(hparams).items()) if hparams else "no --hparams"
        raise UsageError(
            f"{target} cannot be called with {given}: {error}. What it takes is {target.rpartition(':')[2]}{signature}; type "
            f"values as in --hparams lr=0.1,hidden=32."
        ) from error
    model = made(*args, **named)
    if not isinstance(model, nn.Module):
        raise UsageError(f"{target}: it made {model!r}, and a torch.nn.Module is needed.")
    return model


def guards_of(target: str | None) -> Guards:
    """The guards that ``MODULE:NAME`` names, or makes; None are the built-in ones.

    Raises:
        UsageError: It is something else.
    """
    if target is None:
        return Guards()
    made = import_target(target)
    guards = made() if callable(made) and not isinstance(made, Guards) else made
    if not isinstance(guards, Guards):
        raise UsageError(f"--guards {target}: Guards(...) or a function that returns it is needed, and this is {guards!r}.")
    return guards


def _file(path: Path) -> ModuleType:
    """The file as a module of its own name, with its folder first among those that are searched, as for a script."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    name = path.stem if known is None else f"{path.stem}_of_{path.resolve().parent.name}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: it cannot be read as a module of Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # an import in the module's own code
        raise UsageError(f"{name}: there is no module {error.name}. For a file type its path, as in train.py:Model.") from None


def _offered(module: ModuleType) -> list[str]:
    """The classes of modules that are there, and the functions."""
    own = {n: v for n, v in vars(module).items() if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__}
    classes = [n for n, v in own.items() if inspect.isclass(v) and issubclass(v, nn.Module)]
    return classes or [n for n, v in own.items() if callable(v)]


def _way_out(name: str, offered: Iterable[str]) -> str:
    names = list(offered)
    alike = difflib.get_close_matches(name, names, n=1)
    if alike:
        return f"Was {alike[0]} meant?"
    return f"It has {', '.join(names)}." if names else "It has no class and no function."
