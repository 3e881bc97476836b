"""Methods that look like hooks and that nothing calls are reported once at build, and helpers that resemble them are not."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from fsmtrain import Callback, Options, Trainer, TrainingModule, build
from fsmtrain.errors import OptionsError
from fsmtrain.runtime.hooks.callback import HOOKS
from fsmtrain.runtime.model_inspection.hooks_of_other_trainers import ABSENT, OF_CALLBACKS, RENAMED
from fsmtrain.runtime.model_inspection.uncalled_hooks import MODEL_METHODS, is_misspelling, looks_like_hooks
from tests.models import Linear, Validated, batches, trained

CALLED = (*HOOKS, *MODEL_METHODS)


def another(self: Any) -> None:
    """Another method."""


def with_methods(*names: str, base: type = Linear, **more: Any) -> Any:
    """A new class with these methods."""
    return type("Own", (base,), {name: lambda self, *args: None for name in names} | more)


def built(model: nn.Module, callbacks: Sequence[object] = (), **loaders: Any) -> list[str]:
    """Build a run, without running it; return the warnings about methods that nothing calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = Options(max_nb_epochs=1, runs_dir=None, quiet=True, progress_bar=False)
        build(options, model, **({"train_dataloader": batches(2)} | loaders), callbacks=callbacks)
    return [str(w.message) for w in caught if "nothing calls" in str(w.message)]


# ---- laws


@given(st.sampled_from(CALLED), st.data())
def test_a_letter_left_out_or_swapped_is_found(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 2))
    assume("_" not in name[at : at + 2])
    words = name[:at].count("_")
    assume(len(name.split("_")[words]) > 3)  # "on", "val" and "end" are too short to tell a misspelling from another word
    wrong = name[:at] + data.draw(st.sampled_from([name[at + 1], name[at + 1] + name[at]])) + name[at + 2 :]
    assume(wrong not in CALLED)
    assert "its name here is" in looks_like_hooks([wrong], [], CALLED, is_model=True)[wrong]


@given(st.text("abcdefghij_", min_size=1, max_size=20))
def test_other_names_are_not_found(name: str) -> None:
    assert looks_like_hooks([name], [], CALLED, is_model=True) == {}


@given(st.sampled_from(sorted({*RENAMED, *ABSENT})))
def test_what_a_table_says_of_a_hook_is_no_hook_here(name: str) -> None:
    assert name not in CALLED
    assert RENAMED.get(name, HOOKS[0]) in CALLED


@given(st.text("abc", max_size=6))
def test_a_word_is_no_misspelling_of_itself_twice(word: str) -> None:
    assert not is_misspelling(word, word + word + "a")


# ---- what is found


@pytest.mark.parametrize("name", sorted({*RENAMED, *ABSENT} - {"tng_dataloader"}))
def test_each_hook_of_another_trainer_is_reported_once_with_what_to_do(name: str) -> None:
    model = with_methods(name)()
    (text,) = built(model)
    assert text.startswith(f"Own: nothing calls its method {name} (")
    assert RENAMED.get(name, ABSENT.get(name, "")) in text
    assert built(model) == [], "once, although it is built twice"


@pytest.mark.parametrize("name", sorted({*RENAMED, *OF_CALLBACKS} - {"tng_dataloader"}))
def test_each_hook_of_another_trainer_s_callback_is_reported(name: str) -> None:
    (text,) = built(Linear(), [with_methods(name, base=Callback)()])
    assert f"its method {name} (its name here is" in text


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("validation_steps", "validation_step"),
        ("trainning_step", "training_step"),
        ("validaton_step", "validation_step"),
        ("validationStep", "validation_step"),
        ("confgure_optimizers", "configure_optimizers"),
        ("on_epoch_ends", "on_epoch_end"),
        ("on_epoch_finished", "on_epoch_end"),
        ("on_epcoh_end", "on_epoch_end"),
        ("onEpochEnd", "on_epoch_end"),
        ("on_train_begin", "on_train_start"),
        ("on_train_epoch_ends", "on_train_epoch_end"),
        ("val_step", "validation_step"),
        ("test_steps", "test_step"),
        ("val_dataloaders", "val_dataloader"),
        ("val_data_loader", "val_dataloader"),
        ("optimizer_steps", "optimizer_step"),
    ],
)
def test_a_misspelled_hook_is_reported_with_the_right_name(name: str, right: str) -> None:
    (text,) = built(with_methods(name)())
    assert text == f"Own: nothing calls its method {name} (its name here is {right})."


def test_several_are_reported_together_also_of_mixins_and_of_instances() -> None:
    class Mixin:
        def training_epoch_end(self) -> None: ...

    model = type("Both", (Mixin, Linear), {"setup": lambda self, name: None})()
    model.training_step_end = functools.partial(print)  # a partial is no method
    model.on_epoch_ends = lambda: None
    (text,) = built(model)
    assert "its methods on_epoch_ends (" in text
    assert "setup (it is the hook only if its parameter is called stage)" in text
    assert "training_epoch_end (its name here is on_train_epoch_end)" in text


def test_a_run_that_only_tests_reports_hooks_of_the_test() -> None:
    class Tested(Linear):
        def test_step(self, batch: Any, batch_nb: int) -> Any: ...
        def test_epoch_end(self) -> None: ...
        def training_epoch_end(self) -> None: ...

    with pytest.warns(UserWarning, match=r"nothing calls its method test_epoch_end \(its name here is test_end\)\.$"):
        Trainer(runs_dir=None, quiet=True, progress_bar=False).test(Tested(), batches(2))


def test_a_callback_with_only_foreign_hooks_is_refused_with_their_names_here() -> None:
    with pytest.raises(OptionsError, match=r"has no hook\. It has training_epoch_end: its name here is on_train_epoch_end"):
        built(Linear(), [with_methods("training_epoch_end", base=object)()])


# ---- what is not


def calling(name: str) -> Any:
    """A method that calls another one, which it names only as an attribute, in a comprehension."""
    code = compile(f"def method(self, *args):\n    return [self.{name}() for _ in range(2)]", "a test", "exec")
    return types.FunctionType(next(part for part in code.co_consts if isinstance(part, types.CodeType)), {"range": range})


@pytest.mark.parametrize("name", ["setup", "val_step", "training_epoch_end", "backward", "training_step_end"])
def test_a_method_that_the_model_or_a_callback_calls_is_not_reported(name: str) -> None:
    assert built(with_methods(name)()) != []
    helpers: list[Any] = [calling(name), property(calling(name)), staticmethod(calling(name)), classmethod(calling(name))]
    for helper in helpers:
        assert built(with_methods(name, helper=helper)()) == []
    callback = type("Calls", (Callback,), {"on_epoch_end": calling(name)})()
    assert built(with_methods(name)(), [callback]) == []


@pytest.mark.parametrize("name", ["setup", "val_step", "training_epoch_end"])
def test_a_method_that_only_calls_its_own_base_is_reported(name: str) -> None:
    assert len(built(with_methods(**{name: calling(name)})())) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("train_step",),  # beside training_step, which the model has
        ("training_step_discriminator", "training_step_a", "get_optimizers", "make_train_dataloader", "compute_validation"),
        ("best_step", "text_step", "next_step", "reset_step", "encode", "on_click", "on_device", "step", "epoch", "batches"),
        ("_validation_step", "_setup", "__on_epoch_ends"),
        ("train_loader",),  # a train loader has been passed
        ("optimizer_step_size", "num_training_steps", "val_loss", "test_accuracy", "trainable_parameters"),
    ],
)
def test_helpers_that_resemble_a_hook_are_not_reported(names: tuple[str, ...]) -> None:
    assert built(with_methods(*names)()) == []


def test_attributes_of_any_type_are_no_methods() -> None:
    """Tensors and arrays have no truth value, and some objects have every attribute that is asked of them."""

    class Anything:
        def __bool__(self) -> bool:
            raise TypeError

        def __getattr__(self, name: str) -> Any:
            return self

    class Holds:
        """A data module, or a callback."""

        def __init__(self) -> None:
            self.tensor, self.array, self.anything = torch.zeros(3), np.zeros(3), Anything()

        def train_dataloader(self) -> Any:
            return batches(2)

        def on_run_end(self, machine: Any) -> None:
            """A hook, so that it is a callback."""

        on_epoch_begin = another  # so that methods are looked up that may call it

    model = with_methods("validation_epoch_end")()
    vars(model).update(vars(Holds()))
    assert "validation_epoch_end" in built(model)[0]
    holds = Holds()
    assert "on_epoch_begin" in built(Linear(), [holds], train_dataloader=None, datamodule=holds)[0]


def test_what_cannot_be_called_as_the_hook_is_not_reported() -> None:
    assert built(with_methods(setup=another, prepare_data=lambda self, path: None)()) == []


def test_another_name_of_a_hook_is_not_reported() -> None:
    def end(self: Any) -> None: ...

    assert built(with_methods(on_epoch_end=end, training_epoch_end=end)()) == []


def test_hooks_of_submodules_and_of_torch_s_classes_are_not_reported() -> None:
    class Part(TrainingModule):
        def training_epoch_end(self) -> None: ...

    model = Linear()
    model.part = Part()
    assert built(model) == []


def test_a_passed_val_loader_needs_no_method_of_a_similar_name() -> None:
    model = with_methods("val_loader", validation_step=lambda self, batch, batch_nb: None)()
    assert built(model, val_dataloaders=batches(2)) == []


# ---- hooks with other arguments


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_cannot_be_called_with_its_arguments_is_refused_at_build(name: str) -> None:
    method = lambda self, a, b, c, d, e, stage: None  # noqa: E731
    model, callback = type("Own", (Linear,), {name: method})(), type("Own", (Callback,), {name: method})()
    with pytest.raises(OptionsError, match=rf"Own\.{name}\(a, b, c, d, e, stage\): it is called as {name}\("):
        built(model)
    with pytest.raises(OptionsError, match=rf"Own\.{name}\(a, b, c, d, e, stage\): it is called as {name}\(machine"):
        built(Linear(), [callback])


def test_metrics_and_dataloader_i_may_be_left_out() -> None:
    calls: list[Any] = []

    class Short(Validated):
        def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            calls.append(batch_idx)

        def on_validation_end(self) -> None:
            calls.append("end")

    class Notes(Callback):
        def on_validation_end(self, machine: Any) -> None:  # type: ignore[override]
            calls.append(machine)

    machine = trained(Short(), batches(2), batches(4), max_nb_epochs=1, nb_sanity_val_steps=0, callbacks=[Notes()])
    assert calls == [0, 1, "end", machine]


def test_a_callback_with_the_arguments_of_another_trainer_is_refused() -> None:
    class Notes(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None: ...

    with pytest.raises(OptionsError, match=r"on_validation_end\(machine, metrics\)\."):
        built(Linear(), [Notes()])
