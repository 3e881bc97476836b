"""The public names of the package: complete, typed, and imported when they are first used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import fsmtrain

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
from fsmtrain import Guards, Loop, Options, Sizes, every_n_batches
loop = Loop(Options(max_nb_epochs=1), Sizes(train=3), guards=Guards(step={0: every_n_batches(2)}))
print(loop.plan().global_step, len(list(loop)), loop.check().errors)
loop.draw(sys.argv[1])
"""


def test_options_core_and_diagrams_import_without_torch_and_numpy(tmp_path: object) -> None:
    drawing = f"{tmp_path}/loop.mmd"
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, drawing], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "2"), done.stderr


def test_every_public_name_is_there_and_has_a_module() -> None:
    tree = ast.parse(Path(fsmtrain.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == fsmtrain._MODULES, "what type checkers import is what is imported at run time"
    assert all(hasattr(fsmtrain, name) for name in fsmtrain.__all__)
    assert set(fsmtrain.__all__) <= set(dir(fsmtrain))
    assert not hasattr(fsmtrain, "no_such_name")
