"""What a run is made of that a checkpoint does not bring back, saved beside it, and compared when it is resumed.

What would make the rest of the run another one is refused with both values. All else that differs is told.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections.abc import Callable, Iterator

import numpy as np
import torch
from attrs import fields

from fsmtrain.core.decisions import decisions
from fsmtrain.core.guard_ast.parse import name_of
from fsmtrain.core.guards import Guards
from fsmtrain.core.table import full_table
from fsmtrain.errors import ResumeError
from fsmtrain.options import Options
from fsmtrain.runtime.run_state import RunComponents
from fsmtrain.user_warnings import warn

Facts = dict[str, str]  # each by its name; a value is only compared, and shown

# Of these another value changes when the run ends, or what is seen of it, and nothing of what has been trained so far.
MAY_DIFFER = frozenset(
    {
        "max_nb_epochs", "min_nb_epochs", "early_stop_callback", "test_percent_check", "nb_sanity_val_steps", "device",
        "on_nonfinite", "max_nb_rollbacks", "distributed_backend", "Guards(stop)", "Guards(save)", "val loaders",
        "test loaders", "device type", "torch threads", "python", "torch", "numpy", "the model's code",
    }
)  # fmt: skip
IGNORED = frozenset({"progress_bar", "quiet", "runs_dir", "run_name", "logger"})  # not worth a word


def fingerprint(parts: RunComponents) -> Facts:
    """What is compared of a run."""
    return dict(_facts(parts))


def check_compatible(saved: Facts, now: Facts, *, strict: bool) -> None:
    """Tell what differs.

    Raises:
        ResumeError: Something that would make the rest of the run another one, if `strict`.
    """
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    told = {name: f"{name}: {now.get(name, 'nothing')}, and {saved.get(name, 'nothing')} when it was saved" for name in names}
    harmful = [told[name] for name in names if name not in MAY_DIFFER]
    if harmful and strict:
        raise ResumeError(
            f"the rest of the run would be another one: {'; '.join(harmful)}. Make them what they were, or insist with "
            f"resume(..., strict=False)."
        )
    if told:
        warn(f"the run is resumed with differences: {'; '.join(told.values())}.")


def _facts(parts: RunComponents) -> Iterator[tuple[str, str]]:
    loop = parts.loop
    for f in fields(Options):
        if f.name not in IGNORED:
            yield f.name, repr(getattr(loop.options, f.name))
    guards = loop.guards
    for i, guard in sorted(guards.step.items()):
        yield f"Guards(step={{{i}}})", name_of(guard)
    for name in ("validate", "save", "stop"):
        own = getattr(guards, name)
        if own is not None:
            yield f"Guards({name})", name_of(own)
    yield "train batches", str(loop.sizes.train)
    yield "val loaders", str(loop.sizes.val)
    yield "test loaders", str(loop.sizes.test)
    yield "optimizers", ", ".join(type(optimizer).__name__ for optimizer in parts.optimizers)
    yield "schedulers", ", ".join(type(scheduler).__name__ for scheduler in parts.schedulers)
    yield "device type", parts.device.type
    yield "torch threads", str(torch.get_num_threads())
    yield "python", platform.python_version()
    yield "torch", str(torch.__version__)
    yield "numpy", np.__version__
    yield "the table of fsmtrain", _digest(_rows)
    yield "the model's code", _digest(lambda: inspect.getsource(type(parts.model)))


def _rows() -> str:
    """The full table, as text."""
    rows = [(r.source, r.when, r.unless, [e.__name__ for e in r.then], r.to) for r in full_table(decisions(Guards()))]
    named = [(source, when and name_of(when), list(map(name_of, unless)), then, to) for source, when, unless, then, to in rows]
    return "\n".join(map(str, named))


def _digest(text: Callable[[], str]) -> str:
    try:
        return hashlib.sha256(text().encode()).hexdigest()[:16]
    except (OSError, TypeError):  # there is no source to be had
        return "unknown"
