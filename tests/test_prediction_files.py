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


def test_an_array_lacks_no_batch(tmp_path: Path) -> None:
    """The labels of batch 2 would stand beside the scores of batch 1."""
    x = torch.ones(2)
    with pytest.raises(ModelError, match=r"there is no label in batch 1, .* A \.pt file"):
        save_predictions(tmp_path / "o.npz", [[{"score": x, "label": x}, {"score": x}, {"score": x, "label": x}]])
    with pytest.raises(ModelError, match="there is no predictions in batch 1"):
        save_predictions(tmp_path / "o.npz", [[x, None]])


def test_two_values_with_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="two keys with the same text: 0, '0'"):
        plain_output({0: 1.0, "0": 2.0})
    for suffix in (".npz", ".jsonl"):
        with pytest.raises(ModelError, match=r"two values with the name 'a\.b'"):
            save_predictions(tmp_path / f"o{suffix}", [[{"a.b": 1.0, "a": {"b": 2.0}}]])


def test_arrays_may_have_the_names_of_numpy_s_arguments(tmp_path: Path) -> None:
    save_predictions(tmp_path / "o.npz", [[{"file": torch.ones(2), "allow_pickle": torch.zeros(2), "arr_0": 3}]])
    with np.load(tmp_path / "o.npz") as arrays:
        assert {name: arrays[name].tolist() for name in arrays} == {"file": [1, 1], "allow_pickle": [0, 0], "arr_0": [3]}


def test_each_line_is_json_also_with_numbers_that_are_not_finite(tmp_path: Path) -> None:
    save_predictions(tmp_path / "o.jsonl", [[{"a": float("nan"), "b": [1.0, float("inf")], "c": np.float32("-inf")}]])
    assert (tmp_path / "o.jsonl").read_text() == '{"batch": 0, "a": null, "b": [1.0, null], "c": null}\n'


@pytest.mark.parametrize(
    ("suffix", "output"),
    [
        (".jsonl", torch.ones(2, dtype=torch.complex64)),
        (".npz", ["a", None]),
        (".npz", [(1, 2), (3,)]),
        (".npz", 2**80),
        (".npz", torch.eye(2).to_sparse()),
        (".jsonl", torch.eye(2).to_sparse()),
        (".pt", np.array(["2020-01-01"], dtype="datetime64[D]")),
    ],
)
def test_what_a_format_cannot_hold_is_a_model_error_so_that_the_command_writes_another(
    tmp_path: Path, suffix: str, output: Any
) -> None:
    with pytest.raises(ModelError):
        save_predictions(tmp_path / f"o{suffix}", [[output]])


def test_types_that_numpy_or_torch_lacks_keep_their_values(tmp_path: Path) -> None:
    save_predictions(tmp_path / "o.npz", [[{"a": torch.ones(2).to(torch.float8_e5m2), "b": np.arange(2, dtype=">i4")}]])
    with np.load(tmp_path / "o.npz") as arrays:
        assert (arrays["a"].tolist(), arrays["b"].tolist()) == ([1, 1], [0, 1])


@pytest.mark.parametrize(("name", "says"), [("o.csv", "must be one of .pt, .npz, .jsonl"), ("", "is a folder")])
def test_a_path_is_validated_before_the_run(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        validate_predictions_path(tmp_path / name)
