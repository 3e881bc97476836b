"""The tree of exceptions. Every error that fsmtrain itself raises is an `FsmtrainError`.

Each class also inherits the builtin that a caller would expect, so that ``except ValueError`` goes on working.
"""

from __future__ import annotations


class FsmtrainError(Exception):
    """The base of every error that fsmtrain raises itself."""


class OptionsError(FsmtrainError, ValueError):
    """A flag, or two flags together, that no run could honour."""


class SizesError(FsmtrainError, ValueError):
    """Options that do not fit the data: an empty loader, a percentage that rounds to no batch."""


class DataError(FsmtrainError, RuntimeError):
    """A loader or a batch that is not what it promised to be, found while the run was under way."""


class ModelError(FsmtrainError, TypeError):
    """A model without a method that the run needs, or a hook that returned what it must not."""


class MetricError(FsmtrainError, LookupError):
    """A monitored metric that the check did not return."""


class GuardError(FsmtrainError, RuntimeError):
    """A guard that raised, returned no bool or changed its arguments; or not exactly one guard that holds."""


class NonFiniteError(FsmtrainError, FloatingPointError):
    """A loss or a gradient that was inf or NaN, where ``on_nonfinite`` makes it an error or found no way around it."""


class OutOfMemoryError(FsmtrainError, MemoryError, RuntimeError):
    """A batch for which there was not enough memory, on the device or on the host.

    Where torch raised its own `torch.OutOfMemoryError` this is one as well.
    """


class UsageError(FsmtrainError, RuntimeError):
    """A call that makes no sense now, such as a test before there is a model."""


class RenamedError(FsmtrainError, AttributeError, TypeError):
    """An old name of this package, as an attribute or a keyword. The message has the new name."""


class MissingExtraError(FsmtrainError, ImportError):
    """Something that only an extra of the package installs."""


class CodecError(FsmtrainError, ValueError):
    """A value that no checkpoint can hold, or a checkpoint's content that no codec wrote. The message begins with its path."""


class CheckpointError(FsmtrainError, OSError):
    """A checkpoint that could not be written, or that cannot be read."""


class ResumeError(FsmtrainError, ValueError):
    """A checkpoint that is not one of a run like this, so that going on from it would give something else."""


class PositionError(FsmtrainError, ValueError):
    """A saved position in the data that does not fit the loader it is to be restored in."""
