"""Owners of a run's state: a checkpoint without a key of theirs, or with one that nobody has, is refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import define

from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.errors import ResumeError
from fsmtrain.runtime.checkpointing.run_snapshot import load_run_snapshot, owners_of, take_run_snapshot
from fsmtrain.runtime.checkpointing.state_owners import REQUIRED, Owner, fields_of, listed, merged, on_device, owner_of
from tests.models import Linear, Validated, batches, machine_of


@define
class Counts:
    one: int = 1
    two: int = 2


def test_fields_are_saved_and_loaded_by_name() -> None:
    counts, other = Counts(3, 4), Counts()
    fields_of(other).load_state_dict(fields_of(counts).state_dict())
    assert other == counts
    assert fields_of(counts, ["two"]).state_dict() == {"two": 4}


def test_a_missing_field_is_an_error_that_names_it_unless_the_owner_has_a_default() -> None:
    counts = Counts(3, 4)
    with pytest.raises(ResumeError, match=r"lacks the key 'Counts\.two': an older fsmtrain"):
        fields_of(counts).load_state_dict({"one": 5})
    fields_of(counts, if_missing={"two": 7}).load_state_dict({"one": 5})
    assert counts == Counts(5, 7)


def test_a_key_that_no_owner_has_is_an_error_that_names_it() -> None:
    with pytest.raises(ResumeError, match=r"unknown key 'Counts\.three': a newer fsmtrain"):
        fields_of(Counts()).load_state_dict({"one": 1, "two": 2, "three": 3})


def test_lists_are_loaded_in_order() -> None:
    counts = [Counts(), Counts()]
    listed(map(fields_of, counts)).load_state_dict([{"one": 5, "two": 6}, {"one": 7, "two": 8}])
    assert counts == [Counts(5, 6), Counts(7, 8)]


def test_gpu_tensors_are_restored_to_the_run_s_device_and_others_stay() -> None:
    """On a device that holds no data, so that the law needs no GPU."""
    meta, state = torch.device("meta"), {"here": torch.ones(2, device="meta"), "host": torch.ones(2)}
    loaded: dict[str, Any] = {}
    owner = on_device(Owner(lambda: state, loaded.update), meta)
    saved = owner.state_dict()
    assert saved["is_on_device"] == [True, False]
    owner.load_state_dict({**saved, "state": {"here": torch.ones(2), "host": torch.ones(2)}})
    assert (loaded["here"].device.type, loaded["host"].device.type) == ("meta", "cpu")
    from_cpu = on_device(Owner(lambda: state, loaded.update), torch.device("cpu"))
    from_cpu.load_state_dict({"state": {"host": torch.ones(1)}, "is_on_device": [False]})
    assert loaded["host"].device.type == "cpu"


def test_an_object_with_torch_s_two_methods_is_its_own_owner() -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    owner_of(second).load_state_dict(owner_of(first).state_dict())
    assert torch.equal(first.weight, second.weight)


def test_missing_keys_take_their_defaults_in_the_order_of_the_owners() -> None:
    assert list(merged({"b": 1}, {"a": 0, "b": None}).items()) == [("a", 0), ("b", 1)]


def snapshot_of(machine: Any) -> dict[str, Any]:
    state, counters = machine.trace.last()
    at = ResumePoint(state=state, work_done=True, counters=counters, signals=machine.signals)
    return take_run_snapshot(machine._components, machine._run, machine._actions, at)


def test_a_checkpoint_without_one_of_its_keys_is_refused_by_name(tmp_path: Path) -> None:
    def machine() -> Any:
        return machine_of(Validated(), batches(4), batches(2), callbacks=[ModelCheckpoint(dirpath=tmp_path)], max_nb_epochs=2)

    run = machine()
    for _ in range(9):
        run.advance()
    tree = snapshot_of(run)
    owners = owners_of(run._components, run._run, run._actions)
    required = [name for name, owner in owners.items() if owner.if_missing is REQUIRED]
    assert {"counters", "signals", "loaders", "model"} <= {*required}
    for key in (*required, "rng", "state"):
        lacking = copy.deepcopy({name: value for name, value in tree.items() if name != key})
        other = machine()
        with pytest.raises(ResumeError, match=f"lacks the key '{key}'"):
            load_run_snapshot(lacking, other._components, other._run, other._actions, strict=True)
    other = machine()
    with pytest.raises(ResumeError, match="unknown key 'from_the_future'"):
        load_run_snapshot({**tree, "from_the_future": 1}, other._components, other._run, other._actions, strict=True)


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_sentence(tmp_path: Path) -> None:
    run = machine_of(Linear(), batches(4), callbacks=[ModelCheckpoint(dirpath=tmp_path)])
    run.advance()
    with pytest.raises(ResumeError, match=r"^its state has version 1 and this fsmtrain reads version 2"):
        load_run_snapshot({**snapshot_of(run), "version": 1}, run._components, run._run, run._actions, strict=True)


def test_resume_names_strict_for_its_earlier_argument() -> None:
    machine = machine_of(Linear(), batches(1))
    with pytest.raises(TypeError, match="strict=False"):
        machine.resume("nowhere", anyway=True)
