"""The mode in which a fit begins: which parts of a model train, and which stay in eval mode."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from torch import nn

from fsmtrain.user_warnings import warn

MAX_NAMED_PARTS = 5


def enter_train_mode(model: nn.Module) -> None:
    """Put a model that is in eval mode into train mode; leave one in train mode as the user has set it up.

    A part that the user put into eval mode, such as a frozen backbone, stays there: its batch statistics do not move and its
    dropout is off. Both cases are reported, with the names of the parts.

    Source: semantics, "Validation".
    """
    if model.training:
        resting = list(_outermost(model, lambda module: not module.training))
        if resting:
            warn(
                f"fit: these parts of {type(model).__name__} are in eval mode and stay in it: {_list(resting)}. If that is not "
                f"intended, call model.train() before fit."
            )
        return
    model.train()
    frozen = list(_outermost(model, _is_frozen))
    if frozen:
        warn(
            f"fit: {type(model).__name__} was in eval mode, so model.train() was called, also for parts in which no parameter "
            f"requires grad: {_list(frozen)}. To keep a part in eval mode, call model.train() and then eval() of that part "
            f"before fit."
        )


def _is_frozen(module: nn.Module) -> bool:
    """Return whether a part has parameters, and none of them requires grad."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _outermost(model: nn.Module, holds: Callable[[nn.Module], bool]) -> Iterator[str]:
    """Yield the shortest names of the parts of which this holds, without what is inside of them."""
    waiting, seen = deque(model.named_children()), {model}
    while waiting:
        path, part = waiting.popleft()
        if part in seen:  # a part may be in several places
            continue
        seen.add(part)
        if holds(part):
            seen.update(part.modules())
            yield path
        else:
            waiting.extend((f"{path}.{name}", child) for name, child in part.named_children())


def _list(names: list[str]) -> str:
    rest = len(names) - MAX_NAMED_PARTS
    return ", ".join(map(repr, names[:MAX_NAMED_PARTS])) + (f" and {rest} more" if rest > 0 else "")
