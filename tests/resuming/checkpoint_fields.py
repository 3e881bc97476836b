"""Drop each field of a checkpoint and see what changes: ``python -m tests.resuming.checkpoint_fields [SCENARIO ...]``.

A field is dropped by making it what it is in a run that has not begun. It is needed if some run that goes on from such a
checkpoint ends otherwise than the whole run, or is refused. Prints how many fields are, and names each that is not.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from fsmtrain import Machine
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.runtime.checkpoint_files.codec.codec import decode, encode_unnamed
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.snapshots import take_snapshot
from fsmtrain.runtime.checkpointing.run_snapshot import take_run_snapshot
from tests.models import TransitionRecorder, same_bits
from tests.resuming.kill_and_resume import differences, outcome
from tests.resuming.resume_scenarios import SCENARIOS, Scenario

WRAPPED = ("batch", "metrics", "epoch_metrics", "metric_objects", "eval_passes")
PARTS = [
    *[("counters",), ("signals",), ("early_stopping",), ("rng",), ("nonfinite",)],
    *[(wrapped,) for wrapped in ("windows", "sanity_pass", *WRAPPED)],
    *[(wrapped, "state") for wrapped in WRAPPED],
]
INFORMATIONAL = {
    *("version", "hparams", "fingerprint", "table"),  # for people, and to be compared
    *("early_stopping.monitor", "early_stopping.mode"),  # to be compared
    "evaluated_weights",  # for tests
    "settings",  # to be compared: where they differ, a warning says so
    *("rng.cuda", "windows.is_on_device", *(f"{wrapped}.is_on_device" for wrapped in WRAPPED)),  # of a GPU
    "work_done",  # False only where a fetch has failed after a request, or a pass begins again: see the tests of these
    *("signals.save_wanted", "signals.time_is_up"),  # by the clock, which is another one in each process
    "signals.stop_requested",  # taken back in any case
    *("signals.loss_is_none", "signals.step_skipped", "signals.nonfinite"),  # given and asked in one visit
    *("signals.own_steps", "signals.epoch_length", "signals.epoch_val_interval"),  # given and counted in one visit
    "counters.steps_made",  # written and added in one transition
    "rng.own",  # of loaders; theirs are in the positions
    *("eval_passes.state.sanity_val.averages", "eval_passes.state.sanity_val.fallbacks"),  # its metrics are thrown away
}

MOMENT_STEPS = {  # scenario: transitions from one moment that is tried to the next
    "weighted windows": 17,
    "manual optimization": 3,
    "forwards without a loss": 1,
    "two optimizers": 7,
    "truncated bptt": 3,
    "a stream": 23,
    "several validation loaders": 3,
    "averages of several loaders": 5,
    "metrics of an epoch": 5,
    "a metric beside an end hook": 5,
    "early stopping": 12,
    "a stop in mid-epoch": 99,
    "a stop that waits for windows": 17,
    "schedulers": 41,
    "fp16 with a scaler": 23,
    "random augmentation": 31,
    "thawing": 41,
    "a later parameter group": 41,
    "a stray parameter": 23,
    "a callback with a memory": 23,
    "what hooks keep": 3,
    "windows that are dropped": 7,
    "rollbacks": 13,
    "epochs of other lengths": 23,
}


def needed_fields(scenarios: Iterable[str] = MOMENT_STEPS) -> dict[str, bool]:
    """Of each field that came up, those declared informational aside, whether some run ended otherwise without it."""
    found: dict[str, bool] = defaultdict(bool)
    for name in scenarios:
        scenario = SCENARIOS[name]
        visits = TransitionRecorder()
        machine = scenario([visits])
        machine.run()
        whole = outcome(machine, visits)
        fresh = state_tree(_begun(scenario))
        for tree in state_trees(scenario, MOMENT_STEPS.get(name, 31)):
            for path in field_paths(tree):
                told = ".".join(map(str, path))
                dropped = field_at(fresh, path)
                if told in INFORMATIONAL:
                    continue
                if found[told] or same_bits(field_at(tree, path), dropped):
                    continue
                found[told] = _makes_a_difference(whole, scenario, with_field_replaced(tree, path, dropped))
    return dict(found)


def _makes_a_difference(whole: dict[str, Any], scenario: Scenario, tree: Any) -> bool:
    try:
        return bool(differences(whole, run_from(scenario, tree, most=2 * len(whole["events"]))))
    except Exception:  # refused, or without an end
        return True


class _Bounded(TransitionRecorder):
    """Records the transitions of a run that might never end, and ends it with an error after so many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def on_transition(self, machine: Any, transition: Any) -> None:
        super().on_transition(machine, transition)
        if len(self.seen) > self.most:
            raise RuntimeError(f"the run has not ended after {self.most} transitions")


def run_from(scenario: Scenario, tree: Any, most: int) -> dict[str, Any]:
    """The outcome of a run that goes on from this state; an error if it has not ended after `most` transitions."""
    Store("from").save(tree, {})
    visits = _Bounded(most)
    machine = scenario([visits])
    machine.resume("from")
    machine.run()
    return outcome(machine, visits)


def state_trees(scenario: Scenario, every: int) -> Iterator[Any]:
    """What a checkpoint would hold at every so many transitions of a run, and at the last one."""
    machine = scenario([])
    for number, _ in enumerate(machine):
        if number % every == every - 1 or machine.state.is_final:
            taken = take_snapshot(encode_unnamed({"tree": state_tree(machine)}), {})
            yield decode(taken.named())["tree"]


def state_tree(machine: Machine) -> Any:
    """What a checkpoint of this moment holds."""
    state, counters = machine.trace.last()
    at = ResumePoint(state=state, work_done=True, counters=counters, signals=machine.signals)
    return take_run_snapshot(machine._components, machine._run, machine._actions, at)


def _begun(scenario: Scenario) -> Machine:
    machine = scenario([])
    machine.advance()
    return machine


def field_paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of what is named in a tree: not those of single tensors, weights, or what others' state_dicts hold."""
    for name, value in tree.items():
        here = (*path, name)
        inside = here[:2] == ("eval_passes", "state") or here in PARTS
        if value is None:
            continue
        if isinstance(value, dict) and inside and name != "rng_before":
            yield from field_paths(value, here)
        else:
            yield here


def with_field_replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path."""
    other = copy.deepcopy(tree)
    part = other
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return other


def field_at(tree: Any, path: tuple[Any, ...]) -> Any:
    """What is at a path; None where there is nothing."""
    for name in path:
        tree = tree.get(name) if tree is not None else None
    return tree


def main(arguments: list[str]) -> int:
    """Drop each field; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of: {', '.join(SCENARIOS)}; by default {len(MOMENT_STEPS)}"
    )
    scenarios = parser.parse_args(arguments).scenarios or MOMENT_STEPS
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = needed_fields(scenarios)
        os.chdir("/")
    idle = sorted(name for name, is_needed in found.items() if not is_needed)
    print(f"{len(found) - len(idle)} of {len(found)} fields are needed; {len(INFORMATIONAL)} are declared informational")
    for name in idle:
        print(f"  not needed: {name}")
    return 1 if idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
