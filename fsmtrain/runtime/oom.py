"""When memory runs out in a batch: an error that says of which one, and nothing of the batch that is kept.

An exception holds the frames through which it came, and these hold tensors; so do gradients. Whoever catches the error can have
the memory back only if all of them are let go.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsmtrain.core.states import State
from fsmtrain.core.trace import where
from fsmtrain.errors import OutOfMemoryError
from fsmtrain.options import Options
from fsmtrain.runtime.nested import named_tensors
from fsmtrain.runtime.run_state import RunComponents, RunState

MAX_LISTED_TENSORS = 12  # tensors of a batch

# What torch says where it raises a plain RuntimeError: the CPU's allocator, the libraries that it calls, the driver.
_OOM_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


class DeviceOutOfMemoryError(OutOfMemoryError, torch.OutOfMemoryError):
    """An `OutOfMemoryError` that is also torch's own, for those who catch that."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, and is not yet one of ours."""
    if isinstance(error, OutOfMemoryError):
        return False
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _OOM_MESSAGES)


def oom_error(error: BaseException, state: State, batch: Any, parts: RunComponents, memory: RunState) -> OutOfMemoryError:
    """The error for a batch in whose work this one came up. What torch knows of its memory is asked for here."""
    reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    in_evaluation = state in (State.SANITY_VAL, State.VAL_CHECK, State.TEST)
    place = where(memory.counters)
    if memory.counters.split_nb and not in_evaluation:
        place += f", split {memory.counters.split_nb}"
    if in_evaluation:
        place += f", batch {memory.counters.eval_nb} of the pass"
    shapes = f" on a batch of {describe_shapes(batch)}" if batch is not None else ""
    kind = DeviceOutOfMemoryError if isinstance(error, torch.OutOfMemoryError) else OutOfMemoryError
    return kind(
        f"memory ran out in the state {state}, {place}{shapes}: {reason} {_usage(parts.device)}"
        f"{_way_out(parts.spec.options, in_evaluation=in_evaluation)}"
    )


def _usage(device: torch.device) -> str:
    """What torch has of a GPU's memory."""
    if device.type != "cuda":
        return ""
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    whole = torch.cuda.get_device_properties(device).total_memory
    return f"torch had {_gib(allocated)} of {device} in use and {_gib(reserved)} reserved, of {_gib(whole)}. "


def _gib(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"


def _way_out(options: Options, *, in_evaluation: bool) -> str:
    if in_evaluation:
        return (
            "Pass a loader with smaller batches; with validation_end or test_end all outputs of a pass are kept, so return "
            "only what they need."
        )
    ways = ["take smaller batches, and a larger accumulate_grad_batches for the same steps"]
    if options.truncated_bptt_steps is not None:
        ways.append(f"truncated_bptt_steps below {options.truncated_bptt_steps}")
    if options.mixed_precision.autocast_dtype is None:
        ways.append("precision='bf16'")
    return f"A way out: {', or '.join(ways)}. The batch and all gradients have been let go."


def describe_shapes(batch: Any) -> str:
    """The tensors in a batch, by dtype and shape, with the keys of mappings.

    >>> describe_shapes({"x": torch.ones(2, 3), "lengths": [torch.ones(2, dtype=torch.int64)] * 2, "id": "a"})
    'x: float32 (2, 3), lengths[0]: int64 (2,), lengths[1]: int64 (2,)'
    """
    found = [_describe(name, tensor) for name, tensor in islice(named_tensors(batch), MAX_LISTED_TENSORS + 1)]
    return (
        ", ".join(found[:MAX_LISTED_TENSORS] + ["..."] * (len(found) > MAX_LISTED_TENSORS))
        or f"no tensors, a {type(batch).__name__}"
    )


def _describe(name: str, tensor: Tensor) -> str:
    shape = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    return f"{name}: {shape}" if name and not re.fullmatch(r"\[\d+\]", name) else shape


def free_batch(error: OutOfMemoryError, parts: RunComponents, memory: RunState) -> None:
    """Keep nothing of the batch: no graph, no output, no gradient, and nothing in the frames through which the error came."""
    memory.loss = memory.weight = memory.closure_result = None
    memory.splits, memory.hiddens = [], [None] * len(memory.hiddens)
    for turn in parts.slots:
        for parameter in turn.parameters:
            parameter.grad = None
    for one in _chain(error):
        traceback.clear_frames(one.__traceback__)
    if parts.device.type == "cuda":
        torch.cuda.empty_cache()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that led to it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += chain((one.__cause__, one.__context__))


def add_resume_note(error: OutOfMemoryError, path: Path | None) -> None:
    """Say from where the run can be taken up."""
    error.add_note(
        "no checkpoint was saved from which the run could be resumed; ModelCheckpoint(every_n_batches=...) saves some"
        if path is None
        else f"the run can be resumed from {path}, its last checkpoint, by a new machine; what came after it is done again"
    )
