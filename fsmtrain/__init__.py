"""A PyTorch training loop that is an explicit finite-state machine.

>>> import torch
>>> from fsmtrain import Supervised, Trainer
>>> x = torch.randn(64, 3)
>>> model = Supervised(torch.nn.Linear(3, 1), loss=torch.nn.MSELoss(), optimizer=torch.optim.SGD)
>>> result = Trainer(max_nb_epochs=2, runs_dir=None, quiet=True).fit(model, [(x, x.sum(1, keepdim=True))])
>>> print(result.stop_reason)
all epochs are done; raise max_nb_epochs to train longer

Start with ``help(fsmtrain.Trainer)``, which has every flag with its meaning; ``help(fsmtrain.TrainingModule)`` has the
methods of a model. The README, docs/reference.md and the other pages of docs/ have the rest; ready-made callbacks are in
`fsmtrain.callbacks`, loggers in `fsmtrain.loggers`.

The public names are imported when they are first used, so that planning, checking and drawing a `Loop` need no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; the same names as in _PUBLIC, which a test compares
    from fsmtrain.core.custom_guards import Guards as Guards
    from fsmtrain.core.interval_guards import after_batches as after_batches
    from fsmtrain.core.interval_guards import after_steps as after_steps
    from fsmtrain.core.interval_guards import every_n_batches as every_n_batches
    from fsmtrain.core.interval_guards import every_n_steps_of as every_n_steps_of
    from fsmtrain.core.model_checkpoint import ModelCheckpoint as ModelCheckpoint
    from fsmtrain.core.sizes import Sizes as Sizes
    from fsmtrain.core.states import State as State
    from fsmtrain.core.transition_guards import Guard as Guard
    from fsmtrain.core.visit import Visit as Visit
    from fsmtrain.data_module import DataModule as DataModule
    from fsmtrain.early_stopping import EarlyStopping as EarlyStopping
    from fsmtrain.errors import CheckpointError as CheckpointError
    from fsmtrain.errors import CodecError as CodecError
    from fsmtrain.errors import FsmtrainError as FsmtrainError
    from fsmtrain.errors import FsmtrainWarning as FsmtrainWarning
    from fsmtrain.errors import OptionsError as OptionsError
    from fsmtrain.errors import ResumeError as ResumeError
    from fsmtrain.loop import Loop as Loop
    from fsmtrain.loop import check as check
    from fsmtrain.loop import draw as draw
    from fsmtrain.loop import plan as plan
    from fsmtrain.machine import Machine as Machine
    from fsmtrain.machine import build as build
    from fsmtrain.module import LightningModule as LightningModule
    from fsmtrain.module import TrainingModule as TrainingModule
    from fsmtrain.options import Options as Options
    from fsmtrain.recorded_checkpoints import best_checkpoint as best_checkpoint
    from fsmtrain.recorded_checkpoints import last_checkpoint as last_checkpoint
    from fsmtrain.runtime.data.seeded_loader import SeededDataLoader as SeededDataLoader
    from fsmtrain.runtime.hooks.callback import Callback as Callback
    from fsmtrain.runtime.model_files.lightning_checkpoints import import_checkpoint as import_checkpoint
    from fsmtrain.supervised import Supervised as Supervised
    from fsmtrain.trainer import Trainer as Trainer

__version__ = "0.1.0"

# The public names of each module.
_PUBLIC = {
    "recorded_checkpoints": ("best_checkpoint", "last_checkpoint"),
    "core.custom_guards": ("Guards",),
    "core.transition_guards": ("Guard",),
    "core.interval_guards": ("after_batches", "after_steps", "every_n_batches", "every_n_steps_of"),
    "core.model_checkpoint": ("ModelCheckpoint",),
    "core.sizes": ("Sizes",),
    "core.states": ("State",),
    "core.visit": ("Visit",),
    "data_module": ("DataModule",),
    "early_stopping": ("EarlyStopping",),
    "errors": ("CheckpointError", "CodecError", "FsmtrainError", "FsmtrainWarning", "OptionsError", "ResumeError"),
    "loop": ("Loop", "check", "draw", "plan"),
    "machine": ("Machine", "build"),
    "module": ("LightningModule", "TrainingModule"),
    "options": ("Options",),
    "runtime.data.seeded_loader": ("SeededDataLoader",),
    "runtime.hooks.callback": ("Callback",),
    "runtime.model_files.lightning_checkpoints": ("import_checkpoint",),
    "supervised": ("Supervised",),
    "trainer": ("Trainer",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_MODULES)

if not TYPE_CHECKING:  # a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
