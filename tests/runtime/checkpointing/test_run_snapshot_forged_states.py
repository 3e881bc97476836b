"""A checkpoint that was read without an error, whose state no run has saved: an error of ours, and no crash."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsmtrain import EarlyStopping, Machine, ModelCheckpoint
from fsmtrain.errors import FsmtrainError, ModelError, ResumeError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.model_files.weights import build_model, load_model_weights, load_weights
from fsmtrain.runtime.rng import expect_position
from tests.bounded import bounded
from tests.models import batches, machine_of
from tests.runtime.model_files.test_lightning_checkpoints import Small

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.slow]


def machine(folder: Path) -> Machine:
    return machine_of(
        Small(5),
        batches(4),
        val=batches(2),
        max_nb_epochs=2,
        accumulate_grad_batches=2,
        early_stop_callback=EarlyStopping(monitor="loss"),
        callbacks=[ModelCheckpoint(dirpath=folder, every_n_batches=1, save_top_k=-1)],
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("forged")
    machine(folder).run()
    return Store(folder).load(2)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from nodes(inner)


forged_values = st.sampled_from(
    [None, True, -1, 2**62, 1.5, "", "x", [], [0, 0, 0], {}, {"state": 1}, {1: 2}, (), (1, 2), b"x", torch.ones(3), np.ones(2)]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_one_value_of_a_state_that_is_another_is_taken_or_refused(saved: Any, tmp_path: Path, data: st.DataObject) -> None:
    tree = copy.deepcopy(saved.tree)
    holder, key = data.draw(st.sampled_from(list(nodes(tree))))
    if data.draw(st.booleans()):
        holder[key] = data.draw(forged_values)
    elif isinstance(holder, dict):
        del holder[key]
    folder = tmp_path / "checkpoints"
    path = Store(folder).save(tree, saved.metadata)
    with bounded(2**20):
        with contextlib.suppress(FsmtrainError):
            machine(folder).resume(path)
        with contextlib.suppress(FsmtrainError):
            load_model_weights(Small(5), load_weights(path)["state_dict"])


@pytest.mark.parametrize("tree", [None, 5, [], {}, "text", {"version": 2}, {"imported": 5}, {"model": 5, "hparams": 6}])
def test_a_state_that_is_none_is_refused(tmp_path: Path, tree: Any) -> None:
    path = Store(tmp_path / "checkpoints").save(tree, {})
    with pytest.raises(ResumeError):
        machine(tmp_path / "checkpoints").resume(path)
    with pytest.raises(FsmtrainError):
        load_weights(path)


@pytest.mark.parametrize("position", [-1, 625, 2**31 - 1, "x", None])
def test_a_position_beyond_the_numbers_of_a_random_generator_is_refused(saved: Any, tmp_path: Path, position: Any) -> None:
    """NumPy would read memory beyond them, or crash."""
    tree = copy.deepcopy(saved.tree)
    kind, keys, _, *rest = tree["rng"]["numpy"]
    tree["rng"]["numpy"] = (kind, keys, position, *rest)
    path = Store(tmp_path / "checkpoints").save(tree, saved.metadata)
    with pytest.raises(ResumeError, match="cannot be taken over"):
        machine(tmp_path / "checkpoints").resume(path)


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.PCG64, np.random.SFC64])
def test_the_positions_of_all_generators_of_numpy_are_known(kind: Any) -> None:
    generator = kind(0)
    for _ in range(700):
        generator.random_raw()
        expect_position(generator.state)
    state = generator.state
    for holder, name in ((state, "buffer_pos"), (state["state"], "pos")):
        if name in holder:
            holder[name] = 10**6
            with pytest.raises(ValueError, match="is not in"):
                expect_position(state)


def test_a_counter_of_another_type_names_both_values(saved: Any, tmp_path: Path) -> None:
    tree = copy.deepcopy(saved.tree)
    tree["counters"]["global_step"] = "many"
    path = Store(tmp_path / "checkpoints").save(tree, saved.metadata)
    with pytest.raises(ResumeError, match=r"Counters.global_step is 'many', and this run has 0"):
        machine(tmp_path / "checkpoints").resume(path)


@pytest.mark.parametrize(("current_epoch", "epochs_done"), [(0, 2), (2, 1), (-1, 1), (2**40, 1)])
def test_a_current_epoch_that_is_neither_under_way_nor_the_last_done_is_refused(
    saved: Any, tmp_path: Path, current_epoch: int, epochs_done: int
) -> None:
    """A run with one would never end: the guards would wait for an epoch that has passed."""
    tree = copy.deepcopy(saved.tree)
    tree["counters"].update(current_epoch=current_epoch, epochs_done=epochs_done)
    path = Store(tmp_path / "checkpoints").save(tree, saved.metadata)
    with pytest.raises(ResumeError, match=f"current_epoch={current_epoch} and epochs_done={epochs_done}"):
        machine(tmp_path / "checkpoints").resume(path)


@pytest.mark.parametrize("versions", [5, {"": 5}, {"": {"version": "x"}}])
def test_versions_of_modules_that_are_none_are_an_error_of_ours(versions: Any) -> None:
    weights = torch.nn.BatchNorm1d(2).state_dict()
    weights._metadata = versions  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="the weights do not fit"):
        build_model(torch.nn.BatchNorm1d, {"num_features": 2}, weights)
