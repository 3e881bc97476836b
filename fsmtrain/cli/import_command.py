"""``import``, which is `import_file` here: a checkpoint of another trainer as one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fsmtrain.cli.option_flags import INPUT
from fsmtrain.runtime.model_files.importers import import_checkpoint
from fsmtrain.views.console.stderr import print_stderr


def import_file(
    file: Annotated[Path, Parameter(name="FILE", group=INPUT)],
    /,
    *,
    to: Annotated[Path | None, Parameter(group=INPUT, metavar="FOLDER")] = None,
) -> int:
    """Make a checkpoint of a file that another program wrote with torch.save, and print where it is.

    That is a Lightning checkpoint (.ckpt), or a state_dict, alone or beside other things (.pt, .pth). Nothing in the file is
    ever run: one that names a class is refused.

    Weights, hyperparameters, and the states of optimizers and schedulers are kept. No run can go on from it, since where the
    other one stood is not known; but one can begin with its weights.

    For example:

        fsmtrain import last.ckpt --to imported

        fsmtrain fit train.py:Model --weights imported/000000

    Args:
        file: The file.
        to: The folder of checkpoints in which it becomes the next one (default: one beside the file, named like it).
    """
    made = import_checkpoint(file, to)
    print_stderr("\n".join(f"kept: {what}" for what in made.imported))
    if made.ignored:
        print_stderr(f"left out: {', '.join(made.ignored)}")
    print_stderr("A run can begin with these weights, in its first epoch; none can go on from them.")
    print(made.path)
    return 0
