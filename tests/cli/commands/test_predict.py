"""The command ``predict``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fsmtrain.callbacks import PredictionWriter
from tests.cli.conftest import Run

PREDICTING = """

class Predicting(Model):
    def predict_step(self, batch, batch_nb):
        return self.layer(batch[0])

    def predict_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(5, 2)), batch_size=2)


class Data:
    def __init__(self, n=3):
        self.n = n

    def predict_dataloader(self):
        return [[torch.ones(1, 2)]] * self.n


class Odd(Predicting):
    def predict_step(self, batch, batch_nb):
        return print


class Unfed(Predicting):
    predict_dataloader = None


class Ragged(Predicting):
    def predict_step(self, batch, batch_nb):
        return torch.ones(2, batch_nb)


class Interrupted(Predicting):
    def predict_step(self, batch, batch_nb):
        import signal
        if batch_nb == 1:
            signal.raise_signal(signal.SIGINT)
        return self.layer(batch[0])
"""


@pytest.fixture
def weights(run: Run, folder: Path) -> str:
    """A file of weights."""
    with Path("mine.py").open("a") as file:
        file.write(PREDICTING)
    assert run("fit mine.py:Predicting --max_nb_epochs 1 --quiet --save w.pt").code == 0
    return "--weights w.pt"


def test_outputs_are_written_to_a_file_of_each_format(run: Run, weights: str) -> None:
    for suffix in ("pt", "npz", "jsonl"):
        result = run(f"predict mine.py:Predicting {weights} --out out.{suffix} --no-progress_bar")
        assert (result.code, result.out, result.err.splitlines()[-1]) == (0, "", f"predictions of 3 batches: out.{suffix}")
    pt = torch.cat(torch.load("out.pt", weights_only=True))
    with np.load("out.npz") as arrays:
        assert arrays["predictions"].tolist() == pt.tolist()
    assert [json.loads(line)["predictions"] for line in Path("out.jsonl").read_text().splitlines()] == pt.tolist()


def test_a_path_without_suffix_is_a_folder_and_data_modules_and_limits_act(run: Run, weights: str) -> None:
    typed = (
        f"predict mine.py:Predicting {weights} --data mine.py:Data --data_hparams n=4 --limit_predict_batches 2 --out made/out"
    )
    result = run(typed)
    assert result.code == 0
    assert "predictions of 2 batches: made/out" in result.err
    assert len(list(PredictionWriter.read("made/out"))) == 2
    assert "it has predictions of an earlier run" in run(typed).err
    assert run(f"{typed} --overwrite --quiet") == type(result)(0, "", "")


def test_ctrl_c_leaves_what_there_is_in_a_file_that_says_so(run: Run, weights: str) -> None:
    result = run(f"predict mine.py:Interrupted {weights} --out out.pt")
    assert result.code == 130
    assert "out.partial.pt" in result.err
    assert len(torch.load("out.partial.pt", weights_only=True)) == 2
    assert not Path("out.pt").exists()


def test_what_no_file_or_not_this_format_can_hold_costs_no_predictions(run: Run, weights: str) -> None:
    result = run(f"predict mine.py:Odd {weights} --out o.pt")
    assert (result.code, "which no file of predictions holds" in result.err, "batch 0" in result.err) == (1, True, True)
    kept = Path("w.pt").read_bytes()
    result = run(f"predict mine.py:Ragged {weights} --out w.npz")
    assert (result.code, "They were written to w.npz.pt." in result.err) == (2, True)
    assert len(torch.load("w.npz.pt", weights_only=True)) == 3
    assert Path("w.pt").read_bytes() == kept, "the weights are not the predictions"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("mine.py:Predicting --out o.csv", "the suffix selects the format"),
        ("mine.py:Predicting --out nowhere/o.pt", "there is no folder nowhere"),
        ("mine.py:Predicting --out w.pt", "exists already"),
        ("mine.py:Model --out o.pt", "Model has no method predict_step, and no forward"),
        ("mine.py:Unfed --out o.pt", "there is no loader. Give Unfed a method predict_dataloader"),
        ("mine.py:Predicting --out o.pt --data mine.py:number", "must be, or return, an object with at least one of"),
        ("mine.py:Predicting --out o.pt --data_hparams n=1", "there is no data module to build with them"),
    ],
)
def test_what_cannot_be_predicted_is_one_message(run: Run, weights: str, typed: str, says: str) -> None:
    result = run(f"predict {weights} --quiet {typed}")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert not Path("o.pt").exists()
