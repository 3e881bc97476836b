"""Weights that sum to 0: warned of at once, or when they have arrived from the device."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fsmtrain.runtime.metrics import zero_weights
from fsmtrain.runtime.metrics.host_transfer import HostTransfer
from fsmtrain.runtime.metrics.zero_weights import ZeroWeights


class SlowCopy:
    """A copy that has not arrived until a test says so."""

    has_arrived = False

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors

    def arrived(self) -> bool:
        return SlowCopy.has_arrived

    def values(self) -> list[float]:
        assert SlowCopy.has_arrived
        return [float(tensor) for tensor in self._tensors]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is warned of; the CPU is taken for a device."""
    monkeypatch.setattr(SlowCopy, "has_arrived", False)
    monkeypatch.setattr(zero_weights, "HostTransfer", lambda: HostTransfer({"cpu": SlowCopy}))
    return []


def test_weights_on_the_host_are_warned_of_at_once(said: list[str]) -> None:
    ZeroWeights("test_step", said.append).find({"a": 0.0, "b": 3.0, "c": 0.0})
    assert said == ["test_step: a, c are NaN: all their batches have the weight 0."]


def test_weights_on_a_device_are_warned_of_when_they_have_arrived(said: list[str]) -> None:
    weights = ZeroWeights("validation_step", said.append)
    weights.find({"a": torch.tensor(0.0), "b": torch.tensor(1.0)})
    weights.find_arrived()
    assert said == []
    SlowCopy.has_arrived = True
    weights.find_arrived()
    weights.finish()
    assert said == ["validation_step: a is NaN, because every batch that gave it has the weight 0."]


def test_the_end_of_a_run_waits_for_the_last_weights_unless_an_error_has_ended_it(said: list[str]) -> None:
    weights = ZeroWeights("validation_step", said.append)
    weights.find({"a": torch.tensor(0.0)})
    try:
        raise RuntimeError("the device is lost")
    except RuntimeError:
        weights.finish()
    assert said == []
    weights.find({"a": torch.tensor(0.0)})
    weights.finish()
    assert len(said) == 1
