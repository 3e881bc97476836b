"""The name of a model, in summaries, in run folders, and where a run is looked for."""

from __future__ import annotations

from typing import Any


def model_name(model: Any) -> str:
    """Return the name of a module's class, or the one that it gives itself in its ``repr``, as a wrapper may.

    >>> import torch
    >>> from fsmtrain import Supervised
    >>> model_name(torch.nn.Linear(1, 1)), model_name(Supervised(torch.nn.Linear(1, 1)))
    ('Linear', 'Supervised(Linear)')
    """
    name, kind = str(model._get_name()), type(model)
    return str(kind.__qualname__) if name == kind.__name__ else name
