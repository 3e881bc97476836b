"""The command ``import``: convert a checkpoint of another trainer to one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fsmtrain.cli.flag_parameters import INPUT
from fsmtrain.runtime.model_files.lightning_checkpoints import import_checkpoint
from fsmtrain.views.console.stderr import print_stderr


def import_file(
    file: Annotated[Path, Parameter(name="FILE", group=INPUT)],
    /,
    *,
    to: Annotated[Path | None, Parameter(group=INPUT, metavar="FOLDER")] = None,
) -> int:
    """Convert a checkpoint of another trainer to an fsmtrain checkpoint, and print its path.

    The file may be a Lightning checkpoint (.ckpt), or a state_dict written with torch.save, alone or with other data (.pt,
    .pth). No code in it is executed; a file that contains objects of other classes is refused.

    Weights, hyperparameters, and the states of optimizers and schedulers are imported. A new run can start with the weights;
    the other trainer's run cannot be continued, since the file does not say where in the data it stopped.

    For example:

        fsmtrain import last.ckpt --to imported

        fsmtrain fit train.py:Model --weights imported/000000

    Args:
        file: The file to convert.
        to: Folder of checkpoints to add it to (default: a folder beside the file, with the file's name).
    """
    checkpoint = import_checkpoint(file, to)
    print_stderr("\n".join(f"imported: {what}" for what in checkpoint.imported))
    if checkpoint.ignored:
        print_stderr(f"ignored: {', '.join(checkpoint.ignored)}")
    print_stderr("A new run can start with these weights: fit --weights. The other trainer's run cannot be continued.")
    print(checkpoint.path)
    return 0
