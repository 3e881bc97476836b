"""The fields that a proof can speak of, and their sorts: limits, counters, signals, ghost state and inputs."""

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
