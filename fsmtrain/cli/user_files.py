"""A package of the user's files whose own names cannot be imported: ``model.v2.py``, or a ``random.py`` beside Python's.

``fsmtrain.cli.user_files.model%2Ev2`` is ``model.v2.py`` in the last folder of ``sys.path`` that has it. A spawned worker of a
loader gets ``sys.path`` from its parent and imports the module by this name, to find a data set's class in it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

__path__: list[str] = []  # makes this module a package; its modules are found by `_UserFiles` alone


def module_name(path: Path) -> str:
    """Return the name under which a file is imported.

    >>> module_name(Path("model.v2.py"))
    'fsmtrain.cli.user_files.model%2Ev2'
    """
    return f"{__name__}.{path.stem.replace('%', '%25').replace('.', '%2E')}"


class _UserFiles(MetaPathFinder):
    """Finds the modules of this package."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != __name__:
            return None
        files = (Path(folder, f"{unquote(name)}.py") for folder in reversed(sys.path))
        file = next((file for file in files if file.is_file()), None)
        return None if file is None else importlib.util.spec_from_file_location(fullname, file.resolve())


sys.meta_path.append(_UserFiles())
