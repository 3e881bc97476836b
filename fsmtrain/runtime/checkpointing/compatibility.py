"""Facts stored with a checkpoint and compared on resume: options, guards, sizes, versions.

A difference that would change the rest of the training raises `ResumeError`; any other is reported as a warning.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from attrs import asdict, fields

from fsmtrain.core.decisions import decisions
from fsmtrain.core.effects import CountedEffect
from fsmtrain.core.folding import folded
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.transition_table import Table, full_table
from fsmtrain.errors import ResumeError
from fsmtrain.flags.metadata import OnResume, flag_info
from fsmtrain.mask_secrets import mask_values
from fsmtrain.options import Options
from fsmtrain.runtime.checkpointing.changed_limits import SavedLimits, replaced_decisions
from fsmtrain.runtime.run_state import RunComponents
from fsmtrain.user_warnings import warn

Facts = dict[str, str]  # by name; values are only compared and printed

_FLAGS = {f.name: flag_info(f).on_resume for f in fields(Options)}
_DEFAULTS = {f.name: repr(f.default) for f in fields(Options)}  # what a run had before there was such a flag

# A difference in one of these changes how the run continues or ends, but not what has been trained so far.
_MAY_DIFFER = frozenset(
    {
        "Guards(stop)", "Guards(save)", "val loaders", "test loaders", "device type", "torch threads", "python", "torch",
        "numpy", "the model's code", *(name for name, on_resume in _FLAGS.items() if on_resume is OnResume.WARN),
    }
)  # fmt: skip
_WAY_OUT = "pass strict=False"
_DIGESTS = frozenset({"the model's code"})  # only known to differ: its value says nothing
_REPLACEABLE = ("validate", "save", "stop")


def fingerprint(components: RunComponents) -> Facts:
    """Return the facts of a run that are stored and compared."""
    spec, guards = components.spec, components.spec.guards
    options = {n: getattr(spec.options, n) for n, on_resume in _FLAGS.items() if on_resume in (OnResume.REFUSE, OnResume.WARN)}
    replaced = {name: own for name in _REPLACEABLE if (own := getattr(guards, name)) is not None}
    return {
        **{name: repr(value) for name, value in options.items()},
        **{f"Guards(step={{{i}}})": guard_name(guard) for i, guard in sorted(guards.step.items())},
        **{f"Guards({name})": guard_name(own) for name, own in replaced.items()},
        "train batches": str(spec.sizes.train),
        "val loaders": str(spec.sizes.val),
        "test loaders": str(spec.sizes.test),
        "optimizers": ", ".join(type(optimizer).__name__ for optimizer in components.optimizers),
        "schedulers": ", ".join(type(scheduler).__name__ for scheduler in components.schedulers),
        "device type": components.device.type,
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "the model's code": _source_digest(cast("Any", type(components.model))),
    }


def check_compatible(saved: Facts, now: Facts, *, strict: bool) -> None:
    """Compare the facts of a checkpoint with those of the run that is to continue from it.

    Differences that are not refused are reported as a warning.

    Raises:
        ResumeError: A difference would change the rest of the training, and `strict` is true.
    """
    saved = {name: _DEFAULTS[name] for name in now if name in _DEFAULTS} | dict(saved)
    names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    harmful = [_difference(name, saved, now) for name in names if name not in _MAY_DIFFER]
    if harmful and strict:
        values = "value" if len(harmful) == 1 else "values"
        raise ResumeError(f"cannot resume: {'; '.join(harmful)}. Use the saved {values}, or {_WAY_OUT}.")
    if names:
        warn(f"the run is resumed with differences: {'; '.join(_difference(name, saved, now) for name in names)}.")


def warn_of_other_hparams(saved: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Warn of each hyperparameter that differs from the checkpoint's, with both values.

    A run that has none, and a checkpoint without any, are not compared: the model may set its hyperparameters only by now.
    """
    if not saved or not now:
        return
    names = [n for n in {**saved, **now} if n not in saved or n not in now or not _same_value(saved[n], now[n])]
    if names:
        shown, shown_saved = mask_values(now), mask_values(saved)
        listed = "; ".join(f"{n}={_shown(shown, n)}, checkpoint has {_shown(shown_saved, n)}" for n in names)
        warn(f"the model's hyperparameters differ from the checkpoint's: {listed}. The model was built with its own values.")


def _same_value(saved: Any, now: Any) -> bool:
    """Return whether two values of plain data are the same. Files may have made lists of tuples; NaN is the same as NaN."""
    if isinstance(saved, Mapping) and isinstance(now, Mapping):
        keys = {str(key) for key in saved}, {str(key) for key in now}
        return keys[0] == keys[1] and all(
            _same_value(a, b) for a, b in zip(_by_text(saved).values(), _by_text(now).values(), strict=True)
        )
    if isinstance(saved, (list, tuple)) and isinstance(now, (list, tuple)):
        return len(saved) == len(now) and all(map(_same_value, saved, now))
    return bool(saved == now) or (saved != saved and now != now)


def _by_text(values: Mapping[Any, Any]) -> dict[str, Any]:
    return dict(sorted((str(key), value) for key, value in values.items()))


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "none"


def with_way_out(error: ResumeError, way_out: str) -> ResumeError:
    """Return the error in the spelling of another caller than `Machine.resume`: `Trainer`, say."""
    return ResumeError(str(error).replace(_WAY_OUT, f"pass {way_out}"))


def _difference(name: str, saved: Facts, now: Facts) -> str:
    """Describe a difference: ``seed=2, checkpoint has 1``."""
    if name in _DIGESTS:
        return f"{name} has changed"
    return f"{name}{'=' if name in _FLAGS else ': '}{now.get(name) or 'none'}, checkpoint has {saved.get(name) or 'none'}"


# ---- the transition table


def saved_table(spec: LoopSpec) -> dict[str, Any]:
    """Return the rows of a run's own table, and what it was folded for: its limits, and which guards the user replaced.

    Rows that this configuration folds away are not in it, so that a later version may add such rows.
    """
    replaced = sorted(replaced_decisions(spec.guards))
    return {"rows": _rows(spec.table), "limits": asdict(spec.limits, recurse=False), "replaced": replaced}


def check_table(saved: dict[str, Any], spec: LoopSpec) -> None:
    """Fold today's table for the saved configuration, and compare its rows with the saved ones.

    Raises:
        ResumeError: They differ, so this version of fsmtrain would run another loop.
    """
    before = SavedLimits(saved)
    guards, limits = before.guards, before.applied_to(spec.limits)
    rows = _rows(folded(full_table(decisions(guards)), limits, guards), has_waiting_stops="longest_window" in before.values)
    if rows != saved["rows"]:
        changed = sorted({*rows}.symmetric_difference(saved["rows"]))
        raise ResumeError(
            f"cannot resume: the transition table has changed since the checkpoint was saved, for example in {changed[0]!r}. "
            f"Resume with the version of fsmtrain that saved it, or {_WAY_OUT}."
        )


def _rows(table: Table, *, has_waiting_stops: bool = True) -> list[str]:
    """Return the rows as text; without those of a stop that waits for open windows, which older tables do not have."""
    newer = set() if has_waiting_stops else {"stop_is_wanted"}
    rows = []
    for row in table:
        if row.when is not None and guard_name(row.when) in newer:
            continue
        when = guard_name(row.when) if row.when is not None else "else"
        # Effects that take over an epoch's lengths are not compared: all tables have them now, and none had them once.
        compared = (effect for effect in row.then if not (isinstance(effect, CountedEffect) and effect.once_an_epoch))
        unless = (name for name in map(guard_name, row.unless) if name not in newer)
        then = (effect.__name__ for effect in compared)
        rows.append(f"{row.source} -> {row.to} when {when} unless {', '.join(unless)} then {', '.join(then)}")
    return rows


@lru_cache(maxsize=16)  # it takes milliseconds, at each save
def _source_digest(kind: Any) -> str:
    try:
        return hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()[:16]
    except (OSError, TypeError):  # no source code is available
        return "unknown"
