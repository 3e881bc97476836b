"""A PyTorch training loop that is an explicit finite-state machine."""

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
