"""A PyTorch training loop that is an explicit finite-state machine.

The public names are imported when they are first used, so that planning, checking and drawing a `Loop` need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsmtrain.core.custom_guards import Guards
    from fsmtrain.core.guards import Guard
    from fsmtrain.core.interval_guards import after_batches, after_steps, every_n_batches, every_n_steps_of
    from fsmtrain.core.model_checkpoint import ModelCheckpoint
    from fsmtrain.core.sizes import Sizes
    from fsmtrain.core.states import State
    from fsmtrain.early_stopping import EarlyStopping
    from fsmtrain.errors import CheckpointError, CodecError, FsmtrainError, OptionsError, ResumeError
    from fsmtrain.loop import Loop, check, draw, plan
    from fsmtrain.machine import Machine, build
    from fsmtrain.module import LightningModule, TrainingModule
    from fsmtrain.options import Options
    from fsmtrain.runtime.data.seeded_loader import SeededDataLoader
    from fsmtrain.runtime.hooks import Callback
    from fsmtrain.runtime.model_files.importers import import_checkpoint
    from fsmtrain.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Callback",
    "CheckpointError",
    "CodecError",
    "EarlyStopping",
    "FsmtrainError",
    "Guard",
    "Guards",
    "LightningModule",
    "Loop",
    "Machine",
    "ModelCheckpoint",
    "Options",
    "OptionsError",
    "ResumeError",
    "SeededDataLoader",
    "Sizes",
    "State",
    "Trainer",
    "TrainingModule",
    "after_batches",
    "after_steps",
    "build",
    "check",
    "draw",
    "every_n_batches",
    "every_n_steps_of",
    "import_checkpoint",
    "plan",
]

# The module of each public name.
_MODULES = {
    "Callback": "fsmtrain.runtime.hooks",
    "CheckpointError": "fsmtrain.errors",
    "CodecError": "fsmtrain.errors",
    "EarlyStopping": "fsmtrain.early_stopping",
    "FsmtrainError": "fsmtrain.errors",
    "Guard": "fsmtrain.core.guards",
    "Guards": "fsmtrain.core.custom_guards",
    "LightningModule": "fsmtrain.module",
    "Loop": "fsmtrain.loop",
    "Machine": "fsmtrain.machine",
    "ModelCheckpoint": "fsmtrain.core.model_checkpoint",
    "Options": "fsmtrain.options",
    "OptionsError": "fsmtrain.errors",
    "ResumeError": "fsmtrain.errors",
    "SeededDataLoader": "fsmtrain.runtime.data.seeded_loader",
    "Sizes": "fsmtrain.core.sizes",
    "State": "fsmtrain.core.states",
    "Trainer": "fsmtrain.trainer",
    "TrainingModule": "fsmtrain.module",
    "after_batches": "fsmtrain.core.interval_guards",
    "after_steps": "fsmtrain.core.interval_guards",
    "build": "fsmtrain.machine",
    "check": "fsmtrain.loop",
    "draw": "fsmtrain.loop",
    "every_n_batches": "fsmtrain.core.interval_guards",
    "every_n_steps_of": "fsmtrain.core.interval_guards",
    "import_checkpoint": "fsmtrain.runtime.model_files.importers",
    "plan": "fsmtrain.loop",
}

if not TYPE_CHECKING:  # a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
