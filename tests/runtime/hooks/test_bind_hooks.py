"""Hooks are bound to the machine once, in their order; one under an earlier name is refused."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields

from fsmtrain.errors import OptionsError
from fsmtrain.runtime.hooks.bind_hooks import Hooks, PassHooks, bind_hooks
from fsmtrain.runtime.hooks.callback import Callback
from tests.models import Linear, batches, trained


class Log(Callback):
    """Logs its calls of two hooks."""

    def __init__(self, calls: list[Any], name: str) -> None:
        self.calls, self.name = calls, name

    def on_run_start(self, machine: Any) -> None:
        self.calls.append((self.name, machine))

    def on_run_end(self, machine: Any) -> None:
        self.calls.append((self.name, machine))
        raise RuntimeError(self.name)


def test_a_hook_without_implementations_is_none() -> None:
    hooks = bind_hooks(object(), [Log([], "a")], "machine")
    of_every_run = {"validation", "test", "predict", "epoch_may_log"}
    present = {f.name for f in fields(Hooks) if getattr(hooks, f.name) is not None} - of_every_run
    assert present == {"on_run_start", "on_run_end"}
    assert not hooks.epoch_may_log
    for of_pass in (hooks.validation, hooks.test):
        assert of_pass == PassHooks(
            whole=None, epoch=None, batch_start=None, batch_end=None, whole_can_resume=True, inner_can_resume=True
        )


def test_the_model_is_called_first_then_the_callbacks_in_their_order_with_the_machine() -> None:
    calls: list[Any] = []

    class Model:
        def on_run_start(self) -> None:
            calls.append("model")

    hooks = bind_hooks(Model(), [Log(calls, "a"), Log(calls, "b")], "machine")
    assert hooks.on_run_start is not None
    hooks.on_run_start()
    assert calls == ["model", ("a", "machine"), ("b", "machine")]


def test_on_run_end_is_called_for_all_also_after_one_that_raises() -> None:
    calls: list[Any] = []
    hooks = bind_hooks(object(), [Log(calls, "a"), Log(calls, "b")], "machine")
    assert hooks.on_run_end is not None
    with pytest.raises(RuntimeError, match="a"):
        hooks.on_run_end()
    assert [name for name, _ in calls] == ["a", "b"]


@pytest.mark.parametrize(("old", "new"), [("on_check_start", "on_validation_start"), ("on_check_end", "on_validation_end")])
@pytest.mark.parametrize("is_model", [False, True])
def test_a_hook_under_an_earlier_name_is_refused_with_the_new_one(old: str, new: str, is_model: bool) -> None:
    class Named(Callback):
        pass

    class Model(Linear):
        pass

    setattr(Model if is_model else Named, old, lambda *_: None)
    model, callbacks = (Model(), []) if is_model else (Linear(), [Named()])
    with pytest.raises(OptionsError, match=rf"\.{old}: this hook is called {new}"):
        trained(model, batches(1), callbacks=callbacks)
