"""Run a machine from the command line: stop on signals, choose the exit code, print the result."""

from __future__ import annotations

import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

from attrs import frozen
from torch import nn

from fsmtrain.cli.exit_codes import report_failure, report_stdout_error
from fsmtrain.cli.import_target import build_target, import_target, target_folder
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.core.states import State
from fsmtrain.core.trace import where
from fsmtrain.errors import CheckpointError, FsmtrainError, UsageError
from fsmtrain.machine import Machine
from fsmtrain.recorded_checkpoints import checkpoint_of_run, existing_weights, newest_run
from fsmtrain.runtime.checkpointing.checkpoint_folder import describe_checkpoint
from fsmtrain.runtime.model_files.hparams import HParams
from fsmtrain.runtime.model_files.weights import load_model_weights, load_weights
from fsmtrain.runtime.result import Result
from fsmtrain.signal_handlers import ReceivedSignal, stop_on_signals
from fsmtrain.views.console.stderr import print_stderr
from fsmtrain.views.number_format import metric
from fsmtrain.views.recording.list_runs import ListedRun, read_run
from fsmtrain.views.recording.program_folder import program_in
from fsmtrain.views.recording.read_run_folder import find_run_folder


@frozen(kw_only=True)
class Outcome:
    """How a run ended."""

    result: Result | None  # None if it failed
    exit_code: int
    stopped: str = ""  # where a signal stopped it


def find_weights(weights: str, run: str | None, target: str, runs: Path) -> SavedCheckpoint:
    """Return the checkpoint or file that ``--weights`` means, and print it if it is the checkpoint of a run.

    Args:
        weights: ``best``, ``last``, or a path.
        run: The run whose checkpoint it is: its folder, or its name or number in `runs`. None: the newest run of the model.
        target: The model, as typed.
        runs: The folder of all runs.

    Raises:
        UsageError: There is no such run, or none of its checkpoints has a rank.
        CheckpointError: The run has no checkpoint.
    """
    if weights not in ("best", "last"):
        if run is not None:
            raise UsageError(f"--run {run}: is the run whose best or last weights are taken. Pass --weights best with it.")
        return describe_checkpoint(Path(weights))
    found = read_run(find_run_folder(run, runs)) if run is not None else _newest_run(target, runs, weights)
    checkpoint = checkpoint_of_run(found, "best" if weights == "best" else "last")
    print_stderr(f"weights of {checkpoint}")
    return checkpoint


def _newest_run(target: str, runs: Path, weights: str) -> ListedRun:
    """Return the newest run with checkpoints that trained a model of this class; of a function, whatever class it returns."""
    made = import_target(target)
    name = made.__qualname__ if isinstance(made, type) else type(made).__qualname__ if isinstance(made, nn.Module) else None
    if (run := newest_run(runs, name)) is not None:
        return run
    of = f" of a {name}" if name else ""
    raise UsageError(
        f"--weights {weights}: {runs} has no run{of} with checkpoints. Train with --checkpoint, or pass --run FOLDER, or the "
        f"path of a file of weights."
    )


def build_model_with_weights(target: str, weights: Path | SavedCheckpoint, hparams: HParams | None) -> nn.Module:
    """Return the model with saved weights, built with `hparams` or else with the saved hyperparameters."""
    path = Path(weights)
    try:
        content = load_weights(existing_weights(path, f"--weights {path}", typed=True) if path.is_dir() else path, "cpu")
    except CheckpointError:
        raise
    except OSError as error:
        raise UsageError(f"--weights {path}: {error.strerror or error}.") from error
    saved = content.get("hparams")
    model = build_target(target, hparams) if hparams or not saved else build_target(target, HParams(**saved), saved=True)
    load_model_weights(model, content["state_dict"], content["written"])
    return model


def run_machine(machine: Machine, target: str, requeue_code: int | None = None) -> Outcome:
    """Run the machine of the model that ``MODULE:CLASS`` names to the end, or until a signal stops the run."""
    with program_in(target_folder(target)), stop_on_signals(machine.stop) as received:
        try:
            result = machine.run()
        except Exception as error:
            if received:  # the signal may be the reason: it has killed a DataLoader worker, for example
                lines = (f"stopped by {type(error).__name__}: {error}", *getattr(error, "__notes__", ()))
                return Outcome(result=None, exit_code=_exit_code(received, requeue_code), stopped="\n".join(lines))
            if not isinstance(error, FsmtrainError):
                raise
            return Outcome(result=None, exit_code=report_failure(error))
    if machine.state is not State.STOPPED or not received:
        return Outcome(result=result, exit_code=0)
    with program_in(target_folder(target)):
        hint = machine.resume_hint
    place = (
        f"stopped after {machine.last_state} ({where(machine.counters)}), at global_step {machine.counters.global_step}\n{hint}"
    )
    return Outcome(result=result, exit_code=_exit_code(received, requeue_code), stopped=place)


def print_outcome(outcome: Outcome, *, as_json: bool, quiet: bool, weights: SavedCheckpoint | None = None) -> int:
    """Print the result; returns the exit code.

    Args:
        outcome: How the run ended.
        as_json: Whether to print it as JSON.
        quiet: Whether to print nothing else.
        weights: What was tested, if nothing was trained: its epoch and step are those of the result.
    """
    if outcome.stopped:
        print_stderr(outcome.stopped)
    if outcome.result is None:
        return outcome.exit_code
    try:
        if as_json:
            print(json.dumps(_as_dict(outcome.result, weights), indent=2))
        elif not quiet:
            for name, value in outcome.result.metrics.items():
                print(metric(name, value))
        sys.stdout.flush()
    except OSError as error:
        return report_stdout_error(error, outcome.exit_code)
    return outcome.exit_code


def _exit_code(received: ReceivedSignal, requeue_code: int | None) -> int:
    return received.exit_code if requeue_code is None or received.signal == signal.SIGINT else requeue_code


def _as_dict(result: Result, weights: SavedCheckpoint | None) -> dict[str, Any]:
    """Return a result as JSON types. A metric that is not finite is None, since JSON has no such numbers."""
    return {
        "state": result.state.value,
        "stop_reason": result.stop_reason.name.lower(),
        "because": result.stop_reason.value,
        "epochs_done": result.counters.epochs_done,
        "current_epoch": result.counters.current_epoch if weights is None else weights.epoch,
        "global_step": result.counters.global_step if weights is None else weights.global_step,
        "tested": None if result.tested is None else str(result.tested.path),
        "metrics": {name: value if math.isfinite(value) else None for name, value in result.metrics.items()},
    }
