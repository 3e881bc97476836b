"""`PredictionWriter`: the files of a whole run, of one that is stopped, and of one that is killed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, Machine, Trainer
from fsmtrain.callbacks import PredictionWriter
from fsmtrain.errors import CheckpointError, ModelError, UsageError
from tests.models import Linear, batches, same_bits

QUIET: dict[str, Any] = {"runs_dir": None, "quiet": True, "device": "cpu"}


class Model(Linear):
    """It predicts a dict."""

    def predict_step(self, batch: Any, batch_nb: int) -> Any:
        return {"y": self.layer(batch[0]), "nb": batch_nb}


class At(Callback):
    """Does something at batch 2 of the first loader."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def on_predict_batch_start(self, machine: Machine, batch: Any, batch_nb: int, dataloader_i: int) -> None:
        if batch_nb == 2:
            self.act(machine)


def test_each_batch_is_a_file_and_reading_gives_what_predict_returns(tmp_path: Path) -> None:
    writer, model = PredictionWriter(tmp_path / "out"), Model()
    loaders = [batches(6), batches(3)]
    assert Trainer(**QUIET, callbacks=[writer]).predict(model, loaders, return_predictions=False) is None
    names = ["0-000000.pt", "0-000001.pt", "0-000002.pt", "1-000000.pt", "1-000001.pt", "end.json"]
    assert sorted(os.listdir(tmp_path / "out")) == names
    assert json.loads((tmp_path / "out/end.json").read_text()) == {"complete": True, "batches": 5}
    predictions = Trainer(**QUIET).predict(model, loaders)
    assert predictions is not None
    assert same_bits(list(PredictionWriter.read(tmp_path / "out")), [*predictions[0], *predictions[1]])


def test_a_run_that_is_stopped_or_fails_keeps_what_it_has_and_says_so(tmp_path: Path) -> None:
    def fail(machine: Machine) -> None:
        raise RuntimeError("on purpose")

    stopped = PredictionWriter(tmp_path / "a")
    Trainer(**QUIET, callbacks=[stopped, At(lambda machine: machine.stop())]).predict(Model(), batches(9))
    assert json.loads((tmp_path / "a/end.json").read_text()) == {"complete": False, "batches": 3}
    with pytest.raises(RuntimeError, match="on purpose"):
        Trainer(**QUIET, callbacks=[PredictionWriter(tmp_path / "b"), At(fail)]).predict(Model(), batches(9))
    assert json.loads((tmp_path / "b/end.json").read_text()) == {"complete": False, "batches": 2}
    assert [output["nb"] for output in PredictionWriter.read(tmp_path / "b")] == [0, 1]


KILLED = """
import os, sys
from fsmtrain import Trainer
from fsmtrain.callbacks import PredictionWriter
from tests.callbacks.test_prediction_writer import QUIET, At, Model
from tests.models import batches
killing = At(lambda machine: os._exit(9))
Trainer(**QUIET, callbacks=[PredictionWriter(sys.argv[1]), killing]).predict(Model(), batches(9))
"""


@pytest.mark.slow
def test_after_a_kill_the_files_say_how_far_it_came(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False, timeout=120, env=found).returncode == 9
    assert [output["nb"] for output in PredictionWriter.read(out)] == [0, 1]
    assert not (out / "end.json").exists()


def test_earlier_predictions_are_an_error_or_are_removed(tmp_path: Path) -> None:
    Trainer(**QUIET, callbacks=[PredictionWriter(tmp_path)]).predict(Model(), batches(9))
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="it has predictions of an earlier run"):
        Trainer(**QUIET, callbacks=[PredictionWriter(tmp_path)]).predict(Model(), batches(2))
    writer = PredictionWriter(tmp_path, overwrite=True)
    Trainer(**QUIET, callbacks=[writer]).predict(Model(), batches(2))
    assert sorted(os.listdir(tmp_path)) == ["0-000000.pt", "end.json", "mine.txt"]
    Trainer(**QUIET, callbacks=[writer], max_nb_epochs=1).fit(Model(), batches(2))  # leaves them alone
    assert json.loads((tmp_path / "end.json").read_text())["complete"]
    assert copy.deepcopy(writer).overwrite


def test_what_cannot_be_written_or_read_is_an_error(tmp_path: Path) -> None:
    class Odd(Model):
        def predict_step(self, batch: Any, batch_nb: int) -> Any:
            return print

    with pytest.raises(ModelError, match="the output is a builtin_function_or_method"):
        Trainer(**QUIET, callbacks=[PredictionWriter(tmp_path / "a")]).predict(Odd(), batches(2))
    with pytest.raises(UsageError, match="there are no predictions"):
        PredictionWriter.read(tmp_path / "nowhere")
    Trainer(**QUIET, callbacks=[PredictionWriter(tmp_path / "b")]).predict(Model(), batches(2))
    (tmp_path / "b/0-000000.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        list(PredictionWriter.read(tmp_path / "b"))


def test_files_are_those_of_tensors_alone(tmp_path: Path) -> None:
    class Sliced(Model):
        def predict_step(self, batch: Any, batch_nb: int) -> Any:
            return torch.zeros(100_000)[:1]

    Trainer(**QUIET, callbacks=[PredictionWriter(tmp_path)]).predict(Sliced(), batches(2))
    assert (tmp_path / "0-000000.pt").stat().st_size < 10_000
