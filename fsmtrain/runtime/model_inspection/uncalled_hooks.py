"""Find methods of a model or a callback that look like hooks and that nothing calls: other trainers' ones, and misspelled.

A method that the user's own code calls is never reported, nor one that is another form of a hook which the class has as well
(``train_step`` beside ``training_step``), nor a method of a base class of torch. Submodules are not looked at: a part of a
model may be a model of its own elsewhere.
"""

from __future__ import annotations

import functools
import inspect
import re
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

from fsmtrain.runtime.model_inspection.hooks_of_other_trainers import ABSENT, OF_CALLBACKS, RENAMED
from fsmtrain.user_warnings import warn

# The methods of a model that a run calls, beside the hooks of `Callback`.
MODEL_METHODS = (
    *("training_step", "validation_step", "validation_end", "test_step", "test_end", "predict_step", "configure_optimizers"),
    *("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader", "optimizer_step"),
    *("tbptt_split_batch", "transfer_batch_to_device", "configure_gradient_clipping"),
)

# The methods of a data module.
DATA_MODULE_METHODS = (
    *("prepare_data", "setup", "teardown", "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader"),
    *("transfer_batch_to_device", "on_exception", "state_dict", "load_state_dict"),
)

# Whose methods are nobody's mistake.
_PACKAGES_OF_BASES = frozenset({"torch", "fsmtrain", "builtins", "abc", "typing", "lightning", "pytorch_lightning"})

STAGE_HOOKS = ("setup", "teardown")  # common names of other methods: they are hooks if they have a parameter ``stage``

# Names that may be meant otherwise -> a call as a hook, which the method must accept.
_CALLS: Mapping[str, tuple[Any, ...]] = {"setup": ("fit",), "teardown": ("fit",), "backward": (None,), "prepare_data": ()}


_HERE = "its name here is "
_reported: weakref.WeakSet[object] = weakref.WeakSet()  # models and callbacks, which may be part of several runs


def warn_of_uncalled_hooks(
    model: object,
    callbacks: Sequence[object],
    hooks: Sequence[str],
    *,
    has_loaders: Collection[str],
    about: str = "",
    data_module: object = None,
) -> None:
    """Warn once of each model, callback or data module with methods that look like hooks and that nothing calls.

    Args:
        model: The model.
        callbacks: The callbacks.
        hooks: The hooks that a run calls, of the model and of callbacks.
        has_loaders: Loaders that the run has already: a method with a similar name is then of no use to it.
        about: Only report names with this word: ``"test"`` in a run that only tests.
        data_module: The data module; None if there is none.
    """
    if data_module is not None and data_module is not model:
        found = uncalled_hooks(data_module, DATA_MODULE_METHODS, others=(model,), is_model=True)
        _report(data_module, {name: advice for name, advice in found.items() if name not in STAGE_HOOKS})
    for owner in (model, *callbacks):
        is_model = owner is model
        called = (*hooks, *MODEL_METHODS) if is_model else (*hooks, "state_dict", "load_state_dict")
        others = callbacks if is_model else (model,)
        found = uncalled_hooks(owner, called, others=others, is_model=is_model, has_loaders=has_loaders)
        _report(owner, {name: advice for name, advice in found.items() if not about or about in map(_stem, _words(name))})


def _report(owner: object, found: Mapping[str, str]) -> None:
    if found and not _is_reported(owner):
        methods = "its method" if len(found) == 1 else "its methods"
        listed = ", ".join(f"{name} ({advice})" for name, advice in found.items())
        warn(f"{type(owner).__name__}: nothing calls {methods} {listed}.")


def _is_reported(owner: object) -> bool:
    """Return whether an object has been reported before, and remember it."""
    try:
        if owner in _reported:
            return True
        _reported.add(owner)
    except TypeError:  # it has no hash, or no weak references
        pass
    return False


def uncalled_hooks(
    owner: object, called: Collection[str], *, others: Iterable[object] = (), is_model: bool, has_loaders: Collection[str] = ()
) -> dict[str, str]:
    """Return the methods that look like hooks and that nothing calls, each with its name here or the way out.

    Args:
        owner: The model, or a callback.
        called: The names that a run calls.
        others: Objects whose code may call the owner's methods.
        is_model: Whether the owner is the model.
        has_loaders: Loaders that the run has already: a method with a similar name is then of no use to it.
    """
    methods = {
        name: method
        for name, method in _own_methods(owner)
        if name not in called or (name in STAGE_HOOKS and not has_stage(method))
    }
    suspects = looks_like_hooks(methods, _own_names(owner), called, is_model=is_model)
    suspects = {
        name: advice
        for name, advice in suspects.items()
        if _fits(methods[name], name) and advice.removeprefix(_HERE) not in has_loaders
    }
    used = {name for code in _own_code((owner, *others), except_for=suspects) for name in _names_in(code)}
    return {name: advice for name, advice in suspects.items() if name not in used}


def looks_like_hooks(names: Iterable[str], own: Collection[str], called: Collection[str], *, is_model: bool) -> dict[str, str]:
    """Return those names that are hooks of other trainers, or close to a hook, each with the advice.

    Args:
        names: Names that no run calls.
        own: All names of the class. Another form of one of them may be a helper; a misspelling is none.
        called: The names that a run calls.
        is_model: Whether it is a model's class, or a callback's.

    >>> names = ["validation_epoch_end", "validation_steps", "train_step"]
    >>> looks_like_hooks(names, ["training_step"], MODEL_METHODS, is_model=True)
    {'validation_epoch_end': 'its name here is validation_end', 'validation_steps': 'its name here is validation_step'}
    """
    elsewhere = {**{name: _HERE + new for name, new in RENAMED.items()}, **ABSENT}
    elsewhere |= dict.fromkeys(STAGE_HOOKS, "it is the hook only if its parameter is called stage")
    if not is_model:
        elsewhere |= {name: _HERE + new for name, new in OF_CALLBACKS.items()}
    targets = {name: _HERE + name for name in called} | {n: advice for n, advice in elsewhere.items() if n.startswith("on_")}
    found: dict[str, str] = {}
    for name in names:
        if name.startswith("_"):
            continue
        if name in elsewhere:
            found[name] = elsewhere[name]
        elif (close := _closest(name, targets)) is not None and not (close in own and _is_another_form(name, close)):
            found[name] = targets[close]
    return found


def has_stage(method: Callable[..., Any]) -> bool:
    """Return whether a method named ``setup`` or ``teardown`` has the parameter of the hook."""
    try:
        return "stage" in inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


def _closest(name: str, targets: Iterable[str]) -> str | None:
    words, joined = _words(name), name.replace("_", "").lower()
    for target in targets:
        if joined == target.replace("_", "") or _are_close(words, _words(target)):
            return target
    return None


# ---- names

_SYNONYMS = {
    word: first
    for first, *more in (
        ("train", "training", "trains"),
        ("val", "valid", "validate", "validation", "validating", "eval", "evaluate", "evaluation"),
        ("test", "testing", "tests"),
        ("predict", "predicting", "prediction", "predictions"),
        ("start", "starts", "started", "begin", "begins", "began"),
        ("end", "ends", "ended", "finish", "finishes", "finished"),
        ("step", "steps"),
        ("batch", "batches"),
        ("epoch", "epochs"),
        ("optimizer", "optimizers", "optimiser", "optimisers", "optim"),
        ("configure", "config", "configures"),
        ("dataloader", "dataloaders", "loader", "loaders"),
    )
    for word in more
}


@functools.cache
def _words(name: str) -> tuple[str, ...]:
    """Return a name's words.

    >>> _words("onEpochEnds"), _words("val_data_loaders")
    (('on', 'epoch', 'ends'), ('val', 'dataloaders'))
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("data_loader", "dataloader")
    return tuple(word for word in snake.split("_") if word)


def _stem(word: str) -> str:
    return _SYNONYMS.get(word, word)


def _mean_the_same(word: str, other: str) -> bool:
    return _stem(word) == _stem(other)


def _is_another_form(name: str, other: str) -> bool:
    """Return whether two names have words of the same meaning: ``train_step`` and ``training_steps``."""
    pairs = zip(_words(name), _words(other), strict=False)
    return all(_mean_the_same(*pair) for pair in pairs)


def _are_close(words: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Return whether names have words of the same meaning, up to a misspelling of one of them."""
    if len(words) != len(others):
        return False
    different = [pair for pair in zip(words, others, strict=True) if not _mean_the_same(*pair)]
    return not different or (len(different) == 1 and is_misspelling(*different[0]))


def is_misspelling(word: str, right: str) -> bool:
    """Return whether a word is another one with a letter left out, added or swapped; a long one may have a wrong letter, too.

    >>> [is_misspelling(word, "epoch") for word in ("epcoh", "epoc", "epooch", "epock")]
    [True, True, True, False]
    >>> is_misspelling("optimzer", "optimizer"), is_misspelling("validaton", "validation"), is_misspelling("best", "test")
    (True, True, False)
    """
    if abs(len(word) - len(right)) > 1 or min(len(word), len(right)) < 3:
        return False
    start = next((i for i, pair in enumerate(zip(word, right, strict=False)) if pair[0] != pair[1]), min(len(word), len(right)))
    rest, right_rest = word[start:], right[start:]
    if len(word) != len(right):
        return rest[1:] == right_rest or rest == right_rest[1:]
    is_swapped = rest[:2] == right_rest[:2][::-1] and rest[2:] == right_rest[2:]
    return is_swapped or (len(right) > 5 and rest[1:] == right_rest[1:])


# ---- classes


def _own_classes(owner: object) -> list[type]:
    """Return the classes of an object, mixins included, that do not belong to torch, to us, or to another trainer."""
    return [cls for cls in type(owner).__mro__ if cls.__module__.split(".")[0] not in _PACKAGES_OF_BASES]


def _own_attributes(owner: object) -> Iterator[tuple[str, Any]]:
    yield from vars(owner).items() if hasattr(owner, "__dict__") else ()
    for cls in _own_classes(owner):
        yield from vars(cls).items()


def _own_names(owner: object) -> set[str]:
    return {name for name, value in _own_attributes(owner) if value is not None}


def _own_methods(owner: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the methods with their names, but for those that only are another name of a hook."""
    functions: dict[int, str] = {}
    for name, value in _own_attributes(owner):
        if inspect.isroutine(value) and functions.setdefault(id(value), name) == name:
            yield name, value


def _fits(method: Callable[..., Any], name: str) -> bool:
    """Return whether a method with a common name can be called as the hook."""
    if name not in _CALLS:
        return True
    try:
        inspect.signature(method).bind(None, *_CALLS[name])
    except (TypeError, ValueError):
        return False
    return True


def _own_code(owners: Iterable[object], except_for: Collection[str]) -> Iterator[CodeType]:
    """Yield the code of the owners' methods."""
    for owner in owners:
        for name, value in _own_attributes(owner):
            if name not in except_for:
                yield from _code_of(value)


def _code_of(value: Any) -> Iterator[CodeType]:
    """Yield the code of a method, a property, or a function that is wrapped or partial. Other values may be of any type."""
    parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
    for part in parts:
        if isinstance(part, (classmethod, staticmethod)) or inspect.ismethod(part):
            part = part.__func__
        elif isinstance(part, (functools.partial, functools.partialmethod, functools.cached_property)):
            part = part.func
        function = inspect.unwrap(part) if callable(part) else None
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            yield code


def _names_in(code: CodeType) -> Iterator[str]:
    """Yield the names and texts in a function and in those within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
        elif isinstance(constant, str):
            yield constant
