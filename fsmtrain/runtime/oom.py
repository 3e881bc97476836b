"""Out of memory: an error that names the batch and a way out, and freeing everything that holds its memory.

An exception holds the frames it passed through, and these hold tensors; so do gradients. The memory is free for the caller that
catches the error only if all of them are released.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsmtrain.core.states import State
from fsmtrain.core.trace import where
from fsmtrain.errors import OutOfMemoryError
from fsmtrain.options import Options
from fsmtrain.plurals import a_type_of
from fsmtrain.runtime.nested_tensors import named_tensors
from fsmtrain.runtime.run_state import RunComponents, RunState

MAX_LISTED_TENSORS = 12  # tensors of a batch

# Messages of plain RuntimeErrors: from torch's CPU allocator, the libraries that it calls, the driver.
_OOM_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


class DeviceOutOfMemoryError(OutOfMemoryError, torch.OutOfMemoryError):
    """An `OutOfMemoryError` that is also torch's own, for code that catches that."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is out-of-memory, and not one of ours yet."""
    if isinstance(error, OutOfMemoryError):
        return False
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _OOM_MESSAGES)


def raise_if_oom(error: BaseException, state: State, batch: Any, components: RunComponents, run: RunState) -> None:
    """Raise our error for an out-of-memory error in this state and batch, with torch's memory statistics.

    Raises:
        OutOfMemoryError: The error is out-of-memory, and not one of ours yet.
    """
    if not is_out_of_memory(error):
        return
    reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    in_evaluation = state.info.eval_pass is not None
    place = where(run.counters)
    if run.counters.split_nb and not in_evaluation:
        place += f", split {run.counters.split_nb}"
    if in_evaluation:
        place += f", batch {run.counters.eval_nb} of the pass"
    shapes = f" The batch: {describe_shapes(batch)}." if batch is not None else ""
    kind = DeviceOutOfMemoryError if isinstance(error, torch.OutOfMemoryError) else OutOfMemoryError
    raise kind(
        f"out of memory in state {state}, {place}: {reason.removesuffix('.')}.{shapes} {_usage(components.device)}"
        f"{_way_out(components.spec.options, in_evaluation=in_evaluation)}"
    ) from error


def _usage(device: torch.device) -> str:
    """Describe how much of a GPU's memory torch has."""
    if device.type != "cuda":
        return ""
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    whole = torch.cuda.get_device_properties(device).total_memory
    return f"Of the {_gib(whole)} of {device}, torch had allocated {_gib(allocated)} and reserved {_gib(reserved)}. "


def _gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"


def _way_out(options: Options, *, in_evaluation: bool) -> str:
    if in_evaluation:
        return (
            "Use smaller batches in this loader. If the model has validation_end or test_end, the outputs of all batches are "
            "kept until then: return only what it needs."
        )
    ways = ["smaller batches with a larger accumulate_grad_batches (the same steps)"]
    if options.truncated_bptt_steps is not None:
        ways.append(f"truncated_bptt_steps below {options.truncated_bptt_steps}")
    if options.mixed_precision.autocast_dtype is None:
        ways.append("precision='bf16'")
    return f"Use {', or '.join(ways)}. The batch and all gradients have been freed."


def describe_shapes(batch: Any) -> str:
    """Describe the tensors in a batch by dtype and shape, with the keys of mappings.

    >>> describe_shapes({"x": torch.ones(2, 3), "lengths": [torch.ones(2, dtype=torch.int64)] * 2, "id": "a"})
    'x: float32 (2, 3), lengths[0]: int64 (2,), lengths[1]: int64 (2,)'
    """
    described = [_describe(name, tensor) for name, tensor in islice(named_tensors(batch), MAX_LISTED_TENSORS + 1)]
    described[MAX_LISTED_TENSORS:] = ["..."] * (len(described) > MAX_LISTED_TENSORS)
    return ", ".join(described) or f"no tensors, {a_type_of(batch)}"


def _describe(name: str, tensor: Tensor) -> str:
    shape = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    return f"{name}: {shape}" if name and not re.fullmatch(r"\[\d+\]", name) else shape


def free_batch(error: OutOfMemoryError, components: RunComponents, run: RunState) -> None:
    """Release the batch: graph, outputs, gradients, and everything in the frames that the error passed through."""
    run.loss = run.recent_loss = run.weight = run.closure_result = None
    run.splits, run.hiddens = [], [None] * len(run.hiddens)
    for slot in components.slots:
        for parameter in slot.parameters:
            parameter.grad = None
    for cause in _chain(error):
        traceback.clear_frames(cause.__traceback__)
    if components.device.type == "cuda":
        torch.cuda.empty_cache()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            pending += (link.__cause__, link.__context__)


def add_resume_note(error: OutOfMemoryError, path: Path | None) -> None:
    """Note on the error from which checkpoint the run can be resumed."""
    error.add_note(
        "this run cannot be resumed: no checkpoint was saved. ModelCheckpoint(every_n_batches=...) saves some."
        if path is None
        else f"the run can be resumed from {path}, its last checkpoint, by a new machine; the batches since then are repeated"
    )
