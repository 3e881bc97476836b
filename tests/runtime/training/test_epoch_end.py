"""The end of an epoch: a stream that turned out to be too short for a validation."""

from __future__ import annotations

import warnings

import pytest

from fsmtrain import Guards, every_n_batches
from fsmtrain.errors import FsmtrainWarning
from tests.models import Validated, batches, stream, trained


@pytest.mark.parametrize("every", [1, 2])
def test_a_stream_that_is_shorter_than_val_check_interval_is_named_once(every: int) -> None:
    with pytest.warns(FsmtrainWarning) as caught:
        trained(
            Validated(), stream(6), batches(2), max_nb_epochs=4, val_check_interval=5, check_val_every_n_epoch=every,
        )  # fmt: skip
    [text] = [str(warning.message) for warning in caught if "val_check_interval" in str(warning.message)]
    assert text.startswith("val_check_interval=5: the train loader had 3 batches in this epoch, so it had no validation")


def test_a_stream_that_is_long_enough_or_has_a_guard_is_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FsmtrainWarning)
        trained(Validated(), stream(6), batches(2), max_nb_epochs=2, val_check_interval=3)
        guards = Guards(validate=every_n_batches(3))
        trained(Validated(), stream(6), batches(2), max_nb_epochs=2, val_check_interval=5, guards=guards)
