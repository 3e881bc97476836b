"""Contents of ``run.json``, ``table.json``, ``status.json`` and ``end.json`` in the run folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.core.states import State
from fsmtrain.flags.metadata import OnResume, flag_info
from fsmtrain.mask_secrets import mask_secrets, mask_values
from fsmtrain.model_name import model_name
from fsmtrain.options import Options
from fsmtrain.views.console.cheap_plan import cheap_plan
from fsmtrain.views.console.run_header import model_size
from fsmtrain.views.diagrams.edge_labels import edge_labels
from fsmtrain.views.loader_workers import LoaderWorkers
from fsmtrain.views.non_defaults import non_defaults
from fsmtrain.views.recording.files.json_values import json_number, to_json_value
from fsmtrain.views.recording.git_commit import read_git_commit
from fsmtrain.views.recording.list_runs import next_sequence
from fsmtrain.views.recording.program_folder import program_folder
from fsmtrain.views.run_view import RunView

FORMAT = 1  # of the whole run folder; added fields do not raise it

RECORDED_PACKAGES = ("fsmtrain", "torch", "numpy", "attrs")


# ---- at the start


# Arguments that may differ when a command is run again to resume: whether it resumes, and what it prints.
_DISPLAY_FLAGS = [f.name for f in attrs.fields(Options) if flag_info(f).on_resume is OnResume.DISPLAY_ONLY]
_IGNORED_ARGUMENTS = ("--resume", "--json", *(f"--{no}{name}" for name in _DISPLAY_FLAGS for no in ("", "no-")))


def comparable_command(command: Iterable[str]) -> list[str]:
    """Return program name and arguments without those that may differ when the run is resumed, and without secrets.

    >>> comparable_command(["/usr/bin/fsmtrain", "fit", "train.py:Model", "--seed", "3", "--resume", "--quiet"])
    ['fsmtrain', 'fit', 'train.py:Model', '--seed', '3']
    """
    program, *words = mask_secrets(command) or [""]
    name = os.path.basename(program)
    if name == "ipykernel_launcher.py":  # a notebook: its arguments change each time it is opened
        words = []
    return [name, *(word for word in words if not word.startswith(_IGNORED_ARGUMENTS))]


def run_json(run: RunView, folder: Path) -> dict[str, Any]:
    """Return the contents of ``run.json`` in the folder of a run."""
    loop = run.spec
    return {
        "format": FORMAT,
        "name": folder.name,
        "id": secrets.token_hex(16),
        "sequence": next_sequence(folder.parent),
        "checkpoint_folders": [_listed(path, folder) for path in run.checkpoint_folders(folder)],
        "started": timestamp(),
        "command": mask_secrets(sys.argv),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "git_commit": read_git_commit(program_folder()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "versions": {package: version for package in RECORDED_PACKAGES if (version := _version(package)) is not None},
        "device": str(run.device),
        "model": {"class": model_name(run.model), **model_size(run.model)},
        "hparams": to_json_value(mask_values(run.hparams)),
        "loader_workers": attrs.asdict(LoaderWorkers.of(run.loaders)),
        "optimizers": [type(optimizer).__name__ for optimizer in run.optimizers],
        "options": {f.name: to_json_value(getattr(loop.options, f.name)) for f in attrs.fields(type(loop.options))},
        "sizes": to_json_value(loop.sizes),
        "guards": _own_guards(loop),
        "non_defaults": list(non_defaults(loop)),
        "plan": _planned_totals(loop),
    }


def _listed(checkpoints: Path, folder: Path) -> str:
    """Return a folder of checkpoints as ``run.json`` lists it: relative if it is in the run's folder, which may be moved."""
    return checkpoints.relative_to(folder).as_posix() if checkpoints.is_relative_to(folder) else str(checkpoints.absolute())


def table_json(loop: LoopSpec) -> dict[str, Any]:
    """Return the contents of ``table.json``: the rows in order, their guards by name and in words."""
    rows = [
        {
            "row": index,
            "source": row.source.value,
            "to": row.to.value,
            "label": label,
            "when": None if row.when is None else guard_name(row.when),
            "unless": [guard_name(guard) for guard in row.unless],
            "then": [guard_name(effect) for effect in row.then],
        }
        for index, (row, label) in enumerate(zip(loop.table, edge_labels(loop), strict=True))
    ]
    return {"format": FORMAT, "states": [state.value for state in loop.table.states], "rows": rows}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _own_guards(loop: LoopSpec) -> dict[str, Any]:
    guards = loop.guards
    own = {name: guard_name(guard) for name in ("validate", "save", "stop") if (guard := getattr(guards, name)) is not None}
    return {"step": {str(index): guard_name(guard) for index, guard in sorted(guards.step.items())}, **own}


def _planned_totals(loop: LoopSpec) -> dict[str, Any] | None:
    plan = cheap_plan(loop)
    if plan is None:
        return None
    return {"global_step": plan.global_step, "optimizer_steps": list(plan.optimizer_steps), "validations": plan.validations}


# ---- during the run


def status_totals(run: RunView) -> dict[str, Any]:
    """Return the run's position and its totals so far: a line of ``timeline.jsonl``, and how often each row was taken."""
    counters, queue = run.counters, run.metric_queue
    return {
        "time": round(run.wall_seconds, 6),
        "state": run.state.value,
        "epoch": counters.current_epoch,
        "batch": counters.batch_nb,
        "step": counters.global_step,
        "batches": counters.batches_begun,
        "validations": counters.validations_done,
        "optimizer_steps": list(counters.optimizer_steps),
        "steps_skipped": counters.steps_skipped,
        "rollbacks": len(run.rollbacks),
        "windows": [_window_counts(counts) for counts in queue.windows] if queue is not None else [],
        "states": _state_times(run.times),
        "data_wait": _timing(run.data_wait),
        **({"device_states": _state_times(device)} if (device := run.device_times) else {}),
        "row_counts": list(run.trace.taken),
    }


def _window_counts(counts: dict[int, int]) -> dict[str, int]:
    """Return the windows of each length. The training thread keeps writing to `counts`, hence the copy."""
    return {str(length): count for length, count in sorted(counts.copy().items())}


def _state_times(times: Mapping[State, Timing]) -> dict[str, Any]:
    return {state.value: _timing(timing) for state, timing in times.items()}


def _timing(timing: Timing) -> list[float]:
    return [timing.count, round(timing.seconds, 6)]


# ---- at the end


def end_json(
    run: RunView, folder: Path, totals: Mapping[str, Any], metrics: Mapping[str, float], error: BaseException | None
) -> dict[str, Any]:
    """Return the contents of ``end.json``.

    Args:
        run: The run.
        folder: Its folder.
        totals: Its totals, as of `status_totals`.
        metrics: The last value of each metric.
        error: The error that ended the run, if one did.
    """
    reason = run.stop_reason
    return {
        "format": FORMAT,
        "ended": timestamp(),
        "reason": reason.name.lower() if reason else "error",
        "sentence": str(reason) if reason else f"{type(error).__name__} in the state {run.state}",
        "error": None if reason or error is None else _error(error),
        "wall_seconds": totals["time"],
        "metrics": {name: json_number(float(value)) for name, value in metrics.items()},
        "best_checkpoint": checkpoint_json(run.best_checkpoint, folder),
        "last_checkpoint": checkpoint_json(run.last_checkpoint, folder),
        **({} if run.tested is None else {"tested": checkpoint_json(run.tested, folder)}),
        **totals,
    }


def checkpoint_json(checkpoint: SavedCheckpoint | None, folder: Path) -> dict[str, Any] | None:
    """Return a checkpoint as ``end.json`` names it: its path, relative if it is in the run's folder, and its score."""
    if checkpoint is None:
        return None
    content = {**attrs.asdict(checkpoint), "path": _listed(checkpoint.path.absolute(), folder)}
    return {name: to_json_value(value) for name, value in content.items() if value is not None}


def _error(error: BaseException) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "notes": list(getattr(error, "__notes__", ())),
        "traceback": format_error(error),
    }


def format_error(error: BaseException) -> str:
    """Return an error with its traceback and notes, as Python prints it."""
    return "".join(traceback.format_exception(error)).rstrip()


def timestamp() -> str:
    """Return the current local time to the second, with its UTC offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
