"""What is told of a run as a whole: before it begins, while it stands somewhere, and when it has ended. All plain data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.guard_ast.parse import name_of
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.states import State
from fsmtrain.flags.metadata import OnResume, flag_info
from fsmtrain.options import Options
from fsmtrain.views.console.cheap_plan import cheap_plan
from fsmtrain.views.console.run_header import model_size
from fsmtrain.views.diagrams.edge_labels import labels
from fsmtrain.views.non_defaults import non_defaults
from fsmtrain.views.recording.git_commit import commit_at
from fsmtrain.views.recording.json_csv import plain
from fsmtrain.views.run_view import RunView

FORMAT = 1  # of the whole folder; what is only added does not raise it

PACKAGES = ("fsmtrain", "torch", "numpy", "attrs")


# ---- before


# Arguments that begin so say only whether to resume, and what to print: with or without them it is the same command.
_DISPLAY_FLAGS = [f.name for f in attrs.fields(Options) if flag_info(f).on_resume is OnResume.DISPLAY_ONLY]
_IGNORED_ARGUMENTS = ("--resume", "--json", *(f"--{no}{name}" for name in _DISPLAY_FLAGS for no in ("", "no-")))


def begun_by(command: Sequence[str]) -> list[str]:
    """What a command line says of a run: the program's name and its arguments, but for those that are no matter.

    >>> begun_by(["/usr/bin/fsmtrain", "fit", "train.py:Model", "--seed", "3", "--resume", "--quiet"])
    ['fsmtrain', 'fit', 'train.py:Model', '--seed', '3']
    """
    program, *words = [*command] or [""]
    name = Path(program).name
    if name == "ipykernel_launcher.py":  # a notebook, whose arguments are others each time that it is opened
        words = []
    return [name, *(word for word in words if not word.startswith(_IGNORED_ARGUMENTS))]


def run_facts(run: RunView, name: str) -> dict[str, Any]:
    """What ``run.json`` holds."""
    loop = run.spec
    return {
        "format": FORMAT,
        "name": name,
        "started": now(),
        "command": list(sys.argv),
        "folder": os.getcwd(),
        "process": os.getpid(),
        "commit": commit_at(_program()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "versions": {package: version for package in PACKAGES if (version := _version(package)) is not None},
        "device": str(run.device),
        "model": {"class": type(run.model).__qualname__, **model_size(run.model)},
        "optimizers": [type(optimizer).__name__ for optimizer in run.optimizers],
        "options": {f.name: plain(getattr(loop.options, f.name)) for f in attrs.fields(type(loop.options))},
        "sizes": plain(loop.sizes),
        "guards": _guards(loop),
        "summary": list(non_defaults(loop)),
        "plan": _plan(loop),
    }


def table_facts(loop: LoopSpec) -> dict[str, Any]:
    """What ``table.json`` holds: the rows in their order, with guards by name and in words."""
    rows = [
        {
            "row": index,
            "source": row.source.value,
            "to": row.to.value,
            "label": label,
            "when": None if row.when is None else name_of(row.when),
            "unless": [name_of(guard) for guard in row.unless],
            "then": [name_of(effect) for effect in row.then],
        }
        for index, (row, label) in enumerate(zip(loop.table, labels(loop), strict=True))
    ]
    return {"format": FORMAT, "states": [state.value for state in loop.table.states], "rows": rows}


def _program() -> Path:
    program = Path(sys.argv[0]) if sys.argv else Path()
    return program.resolve().parent if program.is_file() else Path.cwd()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _guards(loop: LoopSpec) -> dict[str, Any]:
    guards = loop.guards
    own = {name: name_of(guard) for name in ("validate", "save", "stop") if (guard := getattr(guards, name)) is not None}
    return {"step": {str(index): name_of(guard) for index, guard in sorted(guards.step.items())}, **own}


def _plan(loop: LoopSpec) -> dict[str, Any] | None:
    plan = cheap_plan(loop)
    if plan is None:
        return None
    return {"global_step": plan.global_step, "optimizer_steps": list(plan.optimizer_steps), "validations": plan.validations}


# ---- meanwhile


def status_facts(run: RunView, seconds: float) -> dict[str, Any]:
    """Where a run stands, and all that has been spent so far: a line of ``timeline.jsonl``, and most of ``status.json``."""
    counters, notes, loading = run.counters, run.metric_queue, run.data_wait
    return {
        "time": round(seconds, 6),
        "state": run.state.value,
        "epoch": counters.current_epoch,
        "batch": counters.batch_nb,
        "step": counters.global_step,
        "batches": counters.batches_begun,
        "validations": counters.validations_done,
        "optimizer_steps": list(counters.optimizer_steps),
        "steps_skipped": counters.steps_skipped,
        "rollbacks": len(run.rollbacks),
        "windows": [_lengths(lengths) for lengths in notes.windows] if notes is not None else [],
        "states": _times(run.times),
        "data_wait": _spent(loading),
        **({"device_states": _times(device)} if (device := run.device_times) else {}),
    }


def spent_facts(run: RunView, seconds: float) -> dict[str, Any]:
    """The same, with how often each row of the table was taken so far."""
    return {**status_facts(run, seconds), "taken": list(run.trace.taken)}


def _lengths(lengths: dict[int, int]) -> dict[str, int]:
    """How many windows there were of each length, from a dict that the run goes on writing to."""
    return {str(length): count for length, count in sorted(lengths.copy().items())}


def _times(times: Mapping[State, Timing]) -> dict[str, Any]:
    return {state.value: _spent(spent) for state, spent in times.items()}


def _spent(spent: Timing) -> list[float]:
    """Visits and seconds."""
    return [spent.count, round(spent.seconds, 6)]


# ---- after


def end_facts(
    run: RunView, spent: Mapping[str, Any], metrics: Mapping[str, float], error: BaseException | None, lost: int
) -> dict[str, Any]:
    """What ``end.json`` holds. `spent` is all that has been spent, as in `spent_facts`."""
    reason = run.stop_reason
    return {
        "format": FORMAT,
        "ended": now(),
        "reason": reason.name.lower() if reason else "error",
        "sentence": str(reason) if reason else f"{type(error).__name__} in the state {run.state}",
        "error": None if reason or error is None else _error(error),
        "wall_seconds": spent["time"],
        "metrics": {name: plain(float(value)) for name, value in metrics.items()},
        "lost_notes": lost,
        **spent,
    }


def _error(error: BaseException) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "notes": list(getattr(error, "__notes__", ())),
        "traceback": traced(error),
    }


def traced(error: BaseException) -> str:
    """An error as Python prints it, its notes included."""
    return "".join(traceback.format_exception(error)).rstrip()


def now() -> str:
    """The time, to the second, with the zone that it is told in."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
