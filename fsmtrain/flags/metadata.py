"""Metadata of a flag's field: its group on the help page, and what resuming with another value does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from attrs import Attribute, frozen

EVALUATIONS = ("test", "predict")  # runs without training that have a command of their own


class HelpGroup(Enum):
    """A heading of the command line's help page, in their order there."""

    TRAINING = "Training"
    VALIDATION = "Validation"
    STOPPING = "Stopping"
    DATA = "How much of the data"
    RUNNING = "Running"


class OnResume(Enum):
    """What happens if a run is resumed with another value of a flag than its checkpoint has."""

    REFUSE = "ResumeError, since the rest of the training would differ; with resume_strict=False a warning"
    WARN = "a warning: it changes the rest of the run, but not what has been trained so far"
    IGNORE = "nothing"
    DISPLAY_ONLY = 'nothing, and resume="auto" takes a command that differs only in this flag for the same command'


@frozen
class FlagInfo:
    """What is known of a flag besides its type, default and help text."""

    group: HelpGroup
    on_resume: OnResume
    acts_in: Collection[str] = ()  # the runs without training in which it changes anything


def flag(group: HelpGroup, on_resume: OnResume, *, acts_in: Collection[str] = ()) -> dict[str, Any]:
    """Return the metadata of a flag's field: ``field(default=..., metadata=flag(...))``."""
    return {"flag": FlagInfo(group, on_resume, acts_in)}


def flag_info(field: Attribute[Any]) -> FlagInfo:
    """Return what `flag` wrote into a field."""
    metadata: Mapping[str, FlagInfo] = field.metadata
    return metadata["flag"]
