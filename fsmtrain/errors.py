"""The exceptions. Every error that fsmtrain itself raises is an `FsmtrainError`, every warning an `FsmtrainWarning`.

Each class also inherits the builtin exception that a caller would expect, so that ``except ValueError`` catches it, too.
"""

from __future__ import annotations

import os

_PACKAGE = os.path.dirname(__file__) + os.sep


class FsmtrainWarning(UserWarning):
    """Category of every warning that fsmtrain itself gives: ``warnings.simplefilter("error", FsmtrainWarning)``.

    In the shell ``python -W error::UserWarning``: Python reads ``-W`` before it can import the class of an installed package.
    """


class FsmtrainError(Exception):
    """Base class of every error that fsmtrain itself raises."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the lines of the user's own code, then the message and the notes."""
        return users_traceback(self)


def users_traceback(error: BaseException) -> list[str]:
    """Return the lines of the user's own code of a traceback, then the message, its cause and the notes."""
    import traceback  # only here: the error is shown in a notebook

    stack = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in stack if not frame.filename.startswith((_PACKAGE, "<attrs generated"))]
    users = [frame for frame in users if f"{os.sep}IPython{os.sep}" not in frame.filename]
    where = ["Traceback (only your own code):", *map(str.rstrip, traceback.format_list(users))] if users else []
    cause = [] if error.__cause__ is None else [f"caused by {type(error.__cause__).__name__}: {error.__cause__}"]
    return [*where, f"{type(error).__name__}: {error}", *cause, *getattr(error, "__notes__", ())]


class OptionsError(FsmtrainError, ValueError):
    """A flag has an illegal value, does not exist, or contradicts another flag."""


class SizesError(FsmtrainError, ValueError):
    """The options do not fit the sizes of the data: an empty loader, a percentage of no batch at all."""


class DataError(FsmtrainError, RuntimeError):
    """A loader or a batch is not what it promised to be: a loader that is shorter than its length, say."""


class ModelError(FsmtrainError, TypeError):
    """The model lacks a method that the run needs, or a method or hook returned something illegal."""


class MetricError(FsmtrainError, LookupError):
    """The validation did not return a metric that is monitored."""


class GuardError(FsmtrainError, RuntimeError):
    """A guard raised, did not return a bool, or changed its arguments; or not exactly one row applies."""


class NonFiniteError(FsmtrainError, FloatingPointError):
    """A loss or gradient is inf or NaN, and ``on_nonfinite`` is "raise", or its policy has failed."""


class OutOfMemoryError(FsmtrainError, MemoryError, RuntimeError):
    """There is not enough memory for a batch, on the device or on the host.

    If torch raised its own `torch.OutOfMemoryError`, this error is also an instance of that class.
    """


class UsageError(FsmtrainError, RuntimeError):
    """A call that is not possible now, such as a test before there is a model; or a wrong argument."""


class CopyError(FsmtrainError, TypeError):
    """A value cannot be copied or pickled: it is a run, or it holds a function that no other process finds by its name."""


class ArgumentError(FsmtrainError, TypeError):
    """A call has a keyword that there is not, or flags without their names. The message has the way out."""


class RenamedError(FsmtrainError, AttributeError, TypeError):
    """A name of another version or trainer, as an attribute or a keyword. The message has the name here."""


class MissingExtraError(FsmtrainError, ImportError):
    """A package is missing that an extra of fsmtrain installs."""


class CodecError(FsmtrainError, ValueError):
    """A value cannot be saved in a checkpoint, or a checkpoint's content was not written by fsmtrain.

    The message begins with the path of the value inside the checkpoint.
    """


class CheckpointError(FsmtrainError, OSError):
    """A checkpoint cannot be written, or cannot be read."""


class ResumeError(FsmtrainError, ValueError):
    """A checkpoint does not fit the run that is to continue from it."""


class PositionError(FsmtrainError, ValueError):
    """The saved position in the data does not fit the loader."""


# What Python and torch raise for a state that no part of a run has saved. Where one is loaded, these become errors of ours.
DAMAGED_STATE = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
