"""Warnings of ours have a class of their own, and point at the user's line."""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define, field

import fsmtrain
from fsmtrain import EarlyStopping, FsmtrainWarning, ModelCheckpoint, Trainer, TrainingModule
from fsmtrain.user_warnings import warn
from tests.cli.conftest import MODEL
from tests.models import Linear, Plain, Validated, batches, machine_of

PACKAGE = Path(fsmtrain.__file__).parent


def line_of(function: Callable[..., Any], text: str) -> int:
    """Return the line of this file, within a function, that has a text."""
    lines = Path(__file__).read_text().splitlines()
    first = function.__code__.co_firstlineno
    return next(number for number, line in enumerate(lines, 1) if number > first and text in line)


def test_nothing_warns_but_through_the_one_function() -> None:
    calls = [path for path in PACKAGE.rglob("*.py") if re.search(r"warnings\.warn\(|import warn\b(?!.*user)", path.read_text())]
    assert {path.name for path in calls if "from fsmtrain.user_warnings import" not in path.read_text()} == {"user_warnings.py"}


def build_with_patience() -> None:
    machine_of_ours(Validated(), batches(2), batches(2), early_stop_callback=EarlyStopping(patience=9), max_nb_epochs=1)


def machine_of_ours(model: Any, train: Any, val: Any, **flags: Any) -> Any:
    return fsmtrain.build(
        fsmtrain.Options(quiet=True, runs_dir=None, **flags), model, train_dataloader=train, val_dataloaders=val
    )


def fit_twice() -> None:
    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, device="cpu")
    model = Linear()
    trainer.fit(model, batches(2))
    trainer.fit(model, batches(2))  # here


def fit_without_validation() -> None:
    Trainer(quiet=True, runs_dir=None, callbacks=[ModelCheckpoint(monitor="x")], max_nb_epochs=1).fit(Plain(), batches(2))


@pytest.mark.parametrize(
    ("warns", "text"),
    [(build_with_patience, "fsmtrain.build("), (fit_twice, "# here"), (fit_without_validation, ".fit(Plain()")],
)
def test_a_warning_has_our_class_and_points_at_the_user_s_line(warns: Callable[[], None], text: str, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path), pytest.warns(FsmtrainWarning) as caught:
        warns()
    function = machine_of_ours if warns is build_with_patience else warns
    for warning in caught:
        assert warning.category is FsmtrainWarning
        assert (warning.filename, warning.lineno) == (__file__, line_of(function, text))


@define
class _Generated:
    """Its constructor is generated, in no file."""

    value: int = field(validator=lambda *_: warn("in a validator"))


@contextlib.contextmanager
def _warning_at_exit() -> Iterator[None]:
    yield
    warn("at the exit")


def test_frames_of_libraries_and_of_generated_code_are_passed_over() -> None:
    class Forward(TrainingModule):
        def forward(self, x: Any) -> Any:
            return functools.reduce(add, [x, x])

    def add(a: Any, b: Any) -> Any:
        warn("in the user's function")
        return a + b

    def all_three() -> None:
        Forward()(torch.ones(1))
        _Generated(3)
        with _warning_at_exit():
            pass

    with pytest.warns(FsmtrainWarning) as caught:
        all_three()
    assert len(caught) == 3
    assert {warning.filename for warning in caught} == {__file__}


def test_a_thread_of_ours_warns_all_the_same() -> None:
    def in_a_thread() -> None:
        thread = threading.Thread(target=functools.partial(warn, "elsewhere"))
        thread.start()
        thread.join()

    with pytest.warns(FsmtrainWarning, match="elsewhere"):
        in_a_thread()


def test_a_filter_picks_our_warnings_alone() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", FsmtrainWarning)
        build_with_patience()
        warnings.warn("the user's own", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["the user's own"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FsmtrainWarning)
        with pytest.raises(FsmtrainWarning, match="patience=9"):
            machine_of(Validated(), batches(2), batches(2), early_stop_callback=EarlyStopping(patience=9), max_nb_epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize(("python", "code"), [([], 0), (["-W", "error::UserWarning"], 1)])
def test_in_the_shell_a_warning_is_one_line_and_can_be_made_an_error(tmp_path: Path, python: list[str], code: int) -> None:
    """By the class that Python has: it reads ``-W`` before it can import an installed package."""
    (tmp_path / "mine.py").write_text(MODEL)
    words = [
        "fit",
        "mine.py:Model",
        "--max_nb_epochs",
        "1",
        "--early_stop_callback.patience",
        "9",
        "--quiet",
        "--runs_dir",
        "none",
    ]
    run = [sys.executable, *python, "-m", "fsmtrain", *words]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    if code == 0:
        (line,) = done.stderr.splitlines()
        assert line.startswith("warning: early_stop_callback: patience=9")
        assert ".py" not in line
