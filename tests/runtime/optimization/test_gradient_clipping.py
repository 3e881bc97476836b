"""Clipping by norm or by value, of each optimizer by itself, and by a hook of the model: as a loop by hand does."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD

from fsmtrain import Trainer
from fsmtrain.errors import ModelError
from tests.models import Linear, Smooth, batches, machine_of, same_bits, trained, weights


def by_hand(model: Smooth, clip: Any) -> list[torch.Tensor]:
    optimizer = SGD(model.parameters(), lr=0.1)
    for batch in batches(4):
        optimizer.zero_grad()
        model.loss(batch).backward()
        clip(model.parameters())
        optimizer.step()
    return weights(model)


@given(st.sampled_from(["norm", "value"]), st.sampled_from([1e-3, 0.1, 1e6]))
def test_gradients_are_clipped_as_a_loop_by_hand_does(algorithm: Literal["norm", "value"], limit: float) -> None:
    torch.manual_seed(0)
    model = Smooth()
    torch.manual_seed(0)
    clip = torch.nn.utils.clip_grad_norm_ if algorithm == "norm" else torch.nn.utils.clip_grad_value_
    hand = by_hand(Smooth(), lambda parameters: clip(parameters, limit))
    trained(model, batches(4), max_nb_epochs=1, gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
    assert same_bits(weights(model), hand)


class Clipping(Linear):
    """Clips each optimizer's gradients by itself, and records how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any) -> None:  # type: ignore[override]
        self.calls.append((optimizer, gradient_clip_val, gradient_clip_algorithm))
        self.clip_gradients(optimizer, 1e-4, "value")


@pytest.mark.parametrize("flags", [{}, {"gradient_clip_val": 2.0, "gradient_clip_algorithm": "value"}])
def test_configure_gradient_clipping_replaces_clipping_before_every_step_also_without_the_flag(flags: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Clipping()
    before = [weight.clone() for weight in weights(model)]
    machine = trained(model, batches(8), max_nb_epochs=1, accumulate_grad_batches=2, **flags)
    expected = (machine.optimizers[0], flags.get("gradient_clip_val", 0), flags.get("gradient_clip_algorithm", "norm"))
    assert model.calls == [expected] * 2
    changes = [(now - was).abs().max() for now, was in zip(weights(model), before, strict=True)]
    assert 0 < max(changes) < 1e-4


def test_an_override_that_calls_super_clips_as_the_flags_say() -> None:
    class Passing(Smooth):
        def configure_gradient_clipping(self, optimizer: Any, *args: Any, **flags: Any) -> None:
            super().configure_gradient_clipping(optimizer, *args, **flags)

    torch.manual_seed(0)
    passing = Passing()
    torch.manual_seed(0)
    plain = Smooth()
    for model in (passing, plain):
        trained(model, batches(4), max_nb_epochs=1, gradient_clip_val=0.01, gradient_clip_algorithm="value")
    assert same_bits(weights(passing), weights(plain))


def test_an_override_that_cannot_be_called_is_refused_at_build() -> None:
    class Wrong(Linear):
        def configure_gradient_clipping(self, optimizer: Any) -> None:  # type: ignore[override]
            pass

    with pytest.raises(ModelError, match=r"configure_gradient_clipping\(optimizer: .*it is called as"):
        machine_of(Wrong(), batches(2))


def test_a_hook_of_a_model_finds_its_optimizer_by_the_trainer() -> None:
    class First(Clipping):
        def configure_gradient_clipping(self, optimizer: Any, **flags: Any) -> None:  # type: ignore[override]
            self.calls.append(self.trainer.machine.optimizers.index(optimizer))

    model = First()
    Trainer(max_nb_epochs=1, quiet=True, progress_bar=False, runs_dir=None).fit(model, batches(2))
    assert model.calls == [0]
