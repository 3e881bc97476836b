"""Files of predictions: what each format has, and what it cannot hold."""

from __future__ import annotations

import json
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsmtrain.errors import ModelError, OptionsError
from fsmtrain.prediction_files import FORMATS, plain_output, save_predictions, validate_predictions_path
from tests.models import same_bits

Point = namedtuple("Point", "x y")


@dataclass
class Output:
    """What some models return."""

    logits: Any


TENSORS = st.lists(st.integers(1, 4), min_size=1, max_size=4)  # of each batch, how many samples


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=TENSORS, loaders=st.integers(1, 2))
def test_each_format_has_all_samples_in_their_order(tmp_path: Path, sizes: list[int], loaders: int) -> None:
    x = torch.arange(sum(sizes) * 2.0).reshape(-1, 2)
    outputs = [{"x": part, "sum": part.sum(1)} for part in torch.split(x, sizes)]
    for suffix in FORMATS:
        save_predictions(tmp_path / f"out{suffix}", [outputs] * loaders)
    pt = torch.load(tmp_path / "out.pt", weights_only=True)
    assert same_bits(pt, outputs if loaders == 1 else [outputs, outputs])
    with np.load(tmp_path / "out.npz") as arrays:
        names = [f"{prefix}{name}" for prefix in ([""] if loaders == 1 else ["0/", "1/"]) for name in ("x", "sum")]
        assert sorted(arrays) == sorted(names)
        assert all(np.array_equal(arrays[name], x if name.endswith("x") else x.sum(1)) for name in names)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["x"] for line in lines] == x.tolist() * loaders
    assert [line["sample"] for line in lines] == [i for n in sizes for i in range(n)] * loaders
    assert [line.get("loader", 0) for line in lines] == [i for i in range(loaders) for _ in range(sum(sizes))]


def test_a_batch_without_one_value_for_each_sample_is_one_line(tmp_path: Path) -> None:
    save_predictions(tmp_path / "o.jsonl", [[{"n": 3, "x": torch.tensor([float("nan"), 1.0])}, torch.tensor(2.0), None]])
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert lines == [{"batch": 0, "n": 3, "x": [None, 1.0]}, {"batch": 1, "predictions": 2.0}, {"batch": 2}]


def test_texts_of_each_sample_stand_beside_its_tensors(tmp_path: Path) -> None:
    outputs = [[{"label": ["cat", "dög"], "p": torch.tensor([0.5, 1.0], dtype=torch.bfloat16)}]]
    save_predictions(tmp_path / "o.jsonl", outputs)
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(line["label"], line["p"]) for line in lines] == [("cat", 0.5), ("dög", 1.0)]
    save_predictions(tmp_path / "o.npz", outputs)
    with np.load(tmp_path / "o.npz", allow_pickle=False) as arrays:
        assert arrays["label"].tolist() == ["cat", "dög"]
        assert arrays["p"].dtype == np.float32


def test_outputs_become_plain_data() -> None:
    x = torch.ones(2)
    output = OrderedDict(a=Output(x), b=Point(np.ones(2), np.int64(3)), c=np.array(["t"]))
    assert same_bits(plain_output(output), {"a": {"logits": x}, "b": (torch.ones(2, dtype=torch.float64), 3), "c": ["t"]})


def test_what_no_file_holds_is_an_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the output\['a'\]\[1\] is a function, .* Return tensors"):
        plain_output({"a": [1, plain_output]})
    with pytest.raises(ModelError, match=r"x has another shape in some batches.* A \.pt file"):
        save_predictions(tmp_path / "o.npz", [[{"x": torch.ones(2, 3)}, {"x": torch.ones(2, 4)}]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "says"), [("o.csv", "must be one of .pt, .npz, .jsonl"), ("", "is a folder")])
def test_a_path_is_validated_before_the_run(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        validate_predictions_path(tmp_path / name)
