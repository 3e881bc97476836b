"""``fit --test`` with a monitor, and ``test --weights best`` and ``last``: which checkpoint of which run is tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Run
from tests.models import same_bits

# The loss falls, so by the largest the first checkpoint is the best.
RANKED = "--max_nb_epochs 3 --seed 1 --checkpoint.monitor val_loss --checkpoint.mode max --checkpoint.save_top_k 2"


def sums(result: Any) -> float:
    return float(json.loads(result.out)["metrics"]["test_sum"])


def test_fit_with_test_tests_the_best_weights_and_saves_the_last(run: Run, folder: Path) -> None:
    plain = run("fit mine.py:Model --max_nb_epochs 3 --seed 1 --test --json --save plain.pt")
    best = run(f"fit mine.py:Model {RANKED} --test --json --save ranked.pt")
    path = folder / "runs/1/checkpoints/000000"
    assert json.loads(best.out)["tested"] == str(path)
    assert f"test with the weights of {path} (the best by val_loss: " in best.err
    assert json.loads(plain.out)["tested"] is None
    assert sums(best) != sums(plain)
    assert sums(best) == sums(run("test mine.py:Model --weights runs/1/checkpoints/000000 --json"))
    one, two = (torch.load(name, weights_only=True)["state_dict"] for name in ("plain.pt", "ranked.pt"))
    assert same_bits(one, two)
    end = json.loads(Path("runs/1/end.json").read_text())
    assert end["tested"]["path"] == end["best_checkpoint"]["path"] == "checkpoints/000000"
    assert (end["best_checkpoint"]["monitor"], end["last_checkpoint"]["path"]) == ("val_loss", "checkpoints/000003")


def test_the_best_and_the_last_weights_of_a_recorded_run_are_tested(run: Run, folder: Path) -> None:
    fitted = run(f"fit mine.py:Model {RANKED} --test --json")
    run("fit mine.py:Model --max_nb_epochs 1")  # saves none
    run("fit mine.py:Whole --max_nb_epochs 1 --hparams lr=0.1 --checkpoint")  # of another class
    for which in ("best", "best --run 0", "best --run runs/0"):
        assert sums(run(f"test mine.py:Model --weights {which} --json")) == sums(fitted)
    last = sums(run("test mine.py:Model --weights last --json"))
    assert last == sums(run("fit mine.py:Model --max_nb_epochs 3 --seed 1 --test --json")) != sums(fitted)
    result = run("test mine.py:Model --weights best")
    assert "weights of runs/0/checkpoints/000000 (the best by val_loss: " in result.err
    # A run that was killed has no end.json: the ranking in its newest checkpoint counts.
    Path("runs/0/end.json").unlink()
    assert sums(run("test mine.py:Model --weights best --json")) == sums(fitted)
    # Nothing that end.json names is loaded unless it is a checkpoint of the run.
    shutil.copytree("runs/0/checkpoints/000003", "elsewhere/000000")
    best = {"path": str(folder / "elsewhere/000000"), "monitor": "val_loss", "score": 9.0}
    Path("runs/0/end.json").write_text(json.dumps({"best_checkpoint": best}))
    assert sums(run("test mine.py:Model --weights best --json")) == sums(fitted)


def test_a_run_that_is_resumed_from_its_end_tests_its_best_weights_again(run: Run, folder: Path) -> None:
    command = f"fit mine.py:Model {RANKED} --test --json"
    fitted = run(command)
    resumed = run(f"{command} --resume")
    assert "resumed from" in resumed.err
    assert json.loads(resumed.out)["tested"] == json.loads(fitted.out)["tested"] is not None
    assert sums(resumed) == sums(fitted)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("best", "runs has no run of a Model with checkpoints. Train with --checkpoint, or pass --run FOLDER"),
        ("best --run 7", "there is no run 7"),
        ("best --run 0", "none of its checkpoints has a rank"),
        ("kept.pt --run 0", "--run 0: is the run whose best or last weights are taken"),
    ],
)
def test_what_cannot_be_found_is_an_error_with_a_way_out(run: Run, folder: Path, typed: str, says: str) -> None:
    if typed == "best --run 0":
        run("fit mine.py:Model --max_nb_epochs 1 --checkpoint")
    result = run(f"test mine.py:Model --weights {typed}")
    assert result.code != 0
    assert says in result.err.replace("\n", " ")


def test_a_test_as_json_names_the_weights_and_their_step(run: Run, folder: Path) -> None:
    run(f"fit mine.py:Model {RANKED}")
    for which, number, step in (("best", 0, 8), ("last", 3, 27)):
        found = json.loads(run(f"test mine.py:Model --weights {which} --json").out)
        assert Path(found["tested"]) == Path(f"runs/0/checkpoints/{number:06d}")
        assert found["global_step"] == step


def test_a_folder_of_a_run_is_answered_with_the_way_to_one_checkpoint(run: Run, folder: Path) -> None:
    run(f"fit mine.py:Model {RANKED}")
    for typed, way in (
        ("runs/0", "--weights best --run runs/0"),
        ("runs/0/checkpoints", "--weights best --run runs/0"),
        ("runs", "--runs_dir runs"),
    ):
        result = run(f"test mine.py:Model --weights {typed}")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert way in result.err


def test_a_misspelled_required_flag_is_named_alone(run: Run, folder: Path) -> None:
    assert run("test mine.py:Model --weight best").err == "error: --weight: there is no such flag. Did you mean --weights?\n"
    assert "--weights requires an argument" in run("test mine.py:Model --weights").err
