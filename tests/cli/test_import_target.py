"""What ``MODULE:CLASS`` may be: files, files of packages, dotted names, classes in classes; and workers that are spawned."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsmtrain.cli.import_target import import_target
from fsmtrain.errors import UsageError

MODEL = """
import torch
from torch.utils.data import DataLoader, Dataset


class Data(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.ones(1)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_nb):
        return self.layer(batch).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        return DataLoader(Data(), batch_size=2, num_workers=1, multiprocessing_context="spawn")


class Outer:
    class Inner(Model):
        pass
"""

FILES = {
    "train.py": MODEL,
    "model.v2.py": MODEL,
    "std/random.py": MODEL,
    "my-model.py": MODEL,
    "sub/deep.py": "from neighbour import Model",
    "sub/neighbour.py": MODEL,
    "pkg/__init__.py": "from .base import Model as Exported",
    "pkg/base.py": MODEL,
    "pkg/train.py": "from .base import Model\nfrom . import base\n\nclass Mine(Model):\n    pass",
    "pkg/script.py": "from base import Model",
    "pkg/inner/__init__.py": "",
    "pkg/inner/train.py": "from ..base import Model",
    "pkg/inner/model.v2.py": MODEL,
    "loose/base.py": MODEL,
    "loose/train.py": "from .base import Model",
    "loose/fails.py": "import no_such_module",
}

TARGETS = [
    "train.py:Model",
    "./train.py:Model",
    "./train:Model",
    "train:Model",
    "sub/../train:Model",
    "train.py:Outer.Inner",
    "train:Outer.Inner",
    "model.v2.py:Model",
    "./model.v2:Model",
    "my-model.py:Model",
    "std/random.py:Model",
    "sub/deep.py:Model",
    "pkg:Exported",
    "./pkg:Exported",
    "pkg/__init__.py:Exported",
    "pkg/train.py:Mine",
    "pkg/train.py:base.Model",
    "pkg/train:Mine",
    "pkg.train:Mine",
    "pkg/script.py:Model",
    "pkg/inner/train.py:Model",
    "loose.train:Model",
]

REFUSED = [
    (":Model", "must be MODULE:CLASS"),
    ("train.py:", "must be MODULE:CLASS"),
    ("train.py:Outer..Inner", "must be MODULE:CLASS"),
    ("train.py:Outer.Iner", r"train.py:Outer.Iner: Outer has no Iner. Did you mean Inner\?"),
    ("train.py:Outer.Inner.x", "Inner has no x"),
    ("./trian:Model", "trian.py: there is no such file"),
    ("pkg/:Model", "has no Model. It has|__init__.py"),
    (".train:Model", r"cannot begin with a dot. For a file pass its path, as in ./train.py:Model"),
    ("..pkg.train:Model", "cannot begin with a dot"),
    ("train.sub:Model", "there is no module train.sub"),
    ("nothing.train:Model", "there is no module nothing"),
    ("loose/train.py:Model", r"relative import.*loose/__init__.py, or, in the folder above, pass loose.train:Model"),
    ("pkg/inner/model.v2.py:Model", "cannot have a dot in its name. Rename the file"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_a_class_that_its_module_has_under_its_name(folder: Path, target: str) -> None:
    found = import_target(target)
    assert found.__name__ in ("Model", "Mine", "Inner")
    inside: Any = sys.modules[found.__module__]
    for name in found.__qualname__.split("."):
        inside = getattr(inside, name)
    assert inside is found
    assert import_target(target) is found


@pytest.mark.parametrize(("target", "says"), REFUSED)
def test_a_target_that_is_none_is_refused_with_the_way_out(folder: Path, target: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        import_target(target)


def test_an_error_in_the_file_s_own_code_is_not_ours(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_target("loose/fails.py:Model")


def test_a_package_that_another_one_hides_is_not_taken_for_it(folder: Path) -> None:
    import_target("pkg/train.py:Mine")
    (folder / "elsewhere/pkg").mkdir(parents=True)
    for name in ("__init__.py", "train.py"):
        (folder / "elsewhere/pkg" / name).write_text("class Model: pass")
    with pytest.raises(UsageError, match=r"elsewhere/pkg/train.py: .*pkg/train.py is imported under its name already"):
        import_target("elsewhere/pkg/train.py:Model")


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", ["train.py:Outer.Inner", "./model.v2:Model", "std/random.py:Model", "pkg/train.py:Mine", "sub/deep.py:Model"]
)
def test_spawned_workers_find_the_module(folder: Path, target: str) -> None:
    words = ["fit", target, "--max_nb_epochs", "1", "--runs_dir", "none", "--quiet", "--json"]
    done = subprocess.run([sys.executable, "-m", "fsmtrain", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert '"global_step": 2' in done.stdout
