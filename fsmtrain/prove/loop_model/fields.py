"""The fields that a proof can speak of, their sorts, and names of items: limits, counters, signals, ghost state and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import fields

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.guard_ast.expressions import Field
from fsmtrain.core.limits import Limits
from fsmtrain.prove.loop_model.ghost_state import GhostState, Inputs

Sort = Literal["int", "bool"]

RECORDS: Mapping[str, type] = {
    "limits": Limits, "counters": Counters, "signals": Signals, "ghost": GhostState, "inputs": Inputs,
}  # fmt: skip
_SORT_OF_TYPE: Mapping[str, Sort] = {"int": "int", "bool": "bool", "list[int]": "int"}

# A list stands for its item of the watched optimizer. Fields of other types, such as `Limits.windows`, are left out.
SORTS: Mapping[Field, Sort] = {
    Field(record, field.name): _SORT_OF_TYPE[str(field.type)]
    for record, cls in RECORDS.items()
    for field in fields(cls)
    if str(field.type) in _SORT_OF_TYPE
}


# ---- names of items and calls


def index_of(name: str) -> tuple[str, str | int] | None:
    """Return the list and the index in the name of an item; None for a plain field.

    Example:
        >>> index_of("gathered_by[optimizer_i]"), index_of("gathered_by[0]"), index_of("gathered")
        (('gathered_by', 'optimizer_i'), ('gathered_by', 0), None)
    """
    if not name.endswith("]"):
        return None
    list_name, index = name[:-1].split("[")
    return list_name, int(index) if index.isdigit() else index


def argument_of(name: str) -> str | None:
    """Return the argument in the name of a call, such as ``window_of(current_epoch)``; None for a plain field."""
    return name[:-1].split("(")[1] if name.endswith(")") else None
