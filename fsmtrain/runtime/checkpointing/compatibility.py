"""Facts stored with a checkpoint and compared on resume: options, guards, sizes, versions.

A difference that would change the rest of the training raises `ResumeError`; any other is reported as a warning.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections.abc import Callable, Iterator

import numpy as np
import torch
from attrs import fields

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.table import full_table
from fsmtrain.errors import ResumeError
from fsmtrain.flags.metadata import OnResume, flag_info
from fsmtrain.options import Options
from fsmtrain.runtime.run_state import RunComponents
from fsmtrain.user_warnings import warn

Facts = dict[str, str]  # by name; values are only compared and printed

_FLAGS = {f.name: flag_info(f).on_resume for f in fields(Options)}

# A difference in one of these changes how the run goes on or ends, but not what has been trained so far.
_MAY_DIFFER = frozenset(
    {
        "Guards(stop)", "Guards(save)", "val loaders", "test loaders", "device type", "torch threads", "python", "torch",
        "numpy", "the model's code", *(name for name, on_resume in _FLAGS.items() if on_resume is OnResume.WARN),
    }
)  # fmt: skip
_WAY_OUT = "pass strict=False"
_DIGESTS = frozenset({"the transition table", "the model's code"})  # only known to differ: their values say nothing


def fingerprint(parts: RunComponents) -> Facts:
    """Return the facts of a run that are stored and compared."""
    return dict(_facts(parts))


def check_compatible(saved: Facts, now: Facts, *, strict: bool) -> None:
    """Compare the facts of a checkpoint with those of the run that is to continue from it.

    Differences that are not refused are reported as a warning.

    Raises:
        ResumeError: A difference would change the rest of the training, and `strict` is true.
    """
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    harmful = [_difference(name, saved, now) for name in names if name not in _MAY_DIFFER]
    if harmful and strict:
        values = "value" if len(harmful) == 1 else "values"
        raise ResumeError(f"cannot resume: {'; '.join(harmful)}. Use the saved {values}, or {_WAY_OUT}.")
    if names:
        warn(f"the run is resumed with differences: {'; '.join(_difference(name, saved, now) for name in names)}.")


def with_way_out(error: ResumeError, way_out: str) -> ResumeError:
    """Return the error in the spelling of another caller than `Machine.resume`: `Trainer`, say."""
    return ResumeError(str(error).replace(_WAY_OUT, f"pass {way_out}"))


def _difference(name: str, saved: Facts, now: Facts) -> str:
    """Describe a difference: ``seed=2, checkpoint has 1``."""
    if name in _DIGESTS:
        return f"{name} has changed"
    return f"{name}{'=' if name in _FLAGS else ': '}{now.get(name, 'none')}, checkpoint has {saved.get(name, 'none')}"


def _facts(parts: RunComponents) -> Iterator[tuple[str, str]]:
    loop = parts.spec
    for name, on_resume in _FLAGS.items():
        if on_resume in (OnResume.REFUSE, OnResume.WARN):
            yield name, repr(getattr(loop.options, name))
    guards = loop.guards
    for i, guard in sorted(guards.step.items()):
        yield f"Guards(step={{{i}}})", guard_name(guard)
    for name in ("validate", "save", "stop"):
        own = getattr(guards, name)
        if own is not None:
            yield f"Guards({name})", guard_name(own)
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
    yield "the transition table", _digest(_rows)
    yield "the model's code", _digest(lambda: inspect.getsource(type(parts.model)))


def _rows() -> str:
    """Return the full table as text."""
    rows = [(r.source, r.when, r.unless, [e.__name__ for e in r.then], r.to) for r in full_table(decisions(Guards()))]
    named = [
        (source, when and guard_name(when), list(map(guard_name, unless)), then, to) for source, when, unless, then, to in rows
    ]
    return "\n".join(map(str, named))


def _digest(text: Callable[[], str]) -> str:
    try:
        return hashlib.sha256(text().encode()).hexdigest()[:16]
    except (OSError, TypeError):  # no source code is available
        return "unknown"
