"""Which methods are known never to return None. What is not certain is unknown."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fsmtrain.core.guard_ast import never_none
from fsmtrain.core.guard_ast.never_none import never_returns_none
from fsmtrain.errors import ModelError
from tests.models import machine_of


def keeps(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Known:
    """Every path returns a value that cannot be None."""

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return F.mse_loss(x, y)

    def a_functional(self, batch: Any, batch_nb: int) -> Any:
        return nn.functional.cross_entropy(*batch)

    def a_reduction(self, batch: Any, batch_nb: int) -> Any:
        return F.mse_loss(batch, batch, reduction="none").mean()

    def a_dict(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": batch}

    def a_method(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch)

    def a_name(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)
        if batch_nb:
            loss = loss * 2
        return loss

    def arithmetic(self, batch: Any, batch_nb: int) -> Any:
        return batch * 2

    def branches(self, batch: Any, batch_nb: int) -> Any:
        if batch_nb:
            return self.loss(batch)
        else:  # noqa: RET505 - the form is what is tested
            raise ValueError

    def under_torch(self, batch: Any, batch_nb: int) -> Any:
        with torch.no_grad():
            return self.loss(batch)


class Unknown(Known):
    """Some path returns None, or may."""

    def a_none(self, batch: Any, batch_nb: int) -> Any:
        return None if batch_nb == 2 else self.loss(batch)

    def a_bare_return(self, batch: Any, batch_nb: int) -> Any:
        if batch_nb == 2:
            return  # noqa: RET502
        return self.loss(batch)

    def the_end(self, batch: Any, batch_nb: int) -> Any:  # noqa: RET503
        if batch_nb != 2:
            return self.loss(batch)

    def an_argument(self, batch: Any, batch_nb: int) -> Any:
        return batch

    def a_name_that_began_as_none(self, batch: Any, batch_nb: int) -> Any:
        loss = None
        for part in batch:
            loss = self.loss(part)
        return loss

    def unpacked(self, batch: Any, batch_nb: int) -> Any:
        _, loss = batch
        return loss

    def a_loop_variable(self, batch: Any, batch_nb: int) -> Any:
        for loss in batch:  # noqa: B007
            pass
        return loss

    def bound_within(self, batch: Any, batch_nb: int) -> Any:
        loss = self.loss(batch)

        def forget() -> None:
            nonlocal loss
            loss = None

        forget()
        return loss

    def a_swallowed_error(self, batch: Any, batch_nb: int) -> Any:
        try:
            return self.loss(batch)
        except ValueError:
            pass

    def endless(self, batch: Any, batch_nb: int) -> Any:
        return self.endless(batch, batch_nb)

    def another_call(self, batch: Any, batch_nb: int) -> Any:
        return print(batch)

    @keeps
    def decorated(self, batch: Any, batch_nb: int) -> Any:
        return self.loss(batch)


class Head(nn.Module):
    """A module of the user's whose forward is known."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.layer(x))


class ReturnsNone(Head):
    def forward(self, x: Any) -> Any:
        return None


class Called(Head):
    def __call__(self, x: Any) -> Any:
        return None


class Model(nn.Module):
    """Holds layers and criterions, as typical models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.criterion, self.function = nn.Linear(2, 2), nn.CrossEntropyLoss(), F.mse_loss
        self.head, self.net = Head(), nn.Sequential(nn.Linear(2, 2), Head())
        self.nothing, self.input, self.empty, self.called = ReturnsNone(), nn.Identity(), nn.Sequential(), Called()
        self.ends_in_nothing = nn.Sequential(nn.Linear(2, 2), ReturnsNone())
        self.replaced, self.patched = nn.Linear(2, 2), nn.Linear(2, 2)
        vars(self.patched)["forward"] = lambda x: None
        self.own = print

    def forward(self, x: Any) -> Any:
        return self.net(x)

    @property
    def made(self) -> nn.Module:
        raise AssertionError("nothing is executed")


class KnownOfModules(Model):
    def a_criterion(self, batch: Any, batch_nb: int) -> Any:
        return self.criterion(self(batch[0]), batch[1])

    def a_layer(self, batch: Any, batch_nb: int) -> Any:
        return self.layer(batch).mean()

    def a_layer_in_a_module(self, batch: Any, batch_nb: int) -> Any:
        return self.head.layer(batch).pow(2).sum(-1).mean()

    def a_function_it_holds(self, batch: Any, batch_nb: int) -> Any:
        loss = self.function(self.head(batch), batch)
        self.log = loss.detach()
        return loss

    def itself(self, batch: Any, batch_nb: int) -> Any:
        return self(batch).logsumexp(0).mean()

    def its_forward(self, batch: Any, batch_nb: int) -> Any:
        return self.forward(batch)

    def of_torch(self, batch: Any, batch_nb: int) -> Any:
        return torch.stack([self.layer(batch)]).mean()

    def a_builtin_of_functional(self, batch: Any, batch_nb: int) -> Any:
        return F.gelu(batch)

    def of_linalg(self, batch: Any, batch_nb: int) -> Any:
        return torch.linalg.norm(batch)

    def einsum(self, batch: Any, batch_nb: int) -> Any:
        return torch.einsum("ij->", batch)


class UnknownOfModules(KnownOfModules):
    def a_module_that_returns_none(self, batch: Any, batch_nb: int) -> Any:
        return self.nothing(batch)

    def its_input(self, batch: Any, batch_nb: int) -> Any:
        return self.input(batch)

    def its_input_by_an_empty_sequence(self, batch: Any, batch_nb: int) -> Any:
        return self.empty(batch)

    def the_last_of_a_sequence(self, batch: Any, batch_nb: int) -> Any:
        return self.ends_in_nothing(batch)

    def a_call_of_its_own(self, batch: Any, batch_nb: int) -> Any:
        return self.called(batch)

    def replaced_here(self, batch: Any, batch_nb: int) -> Any:
        self.replaced: Any = self.nothing
        return self.replaced(batch)

    def a_replaced_forward(self, batch: Any, batch_nb: int) -> Any:
        return self.patched(batch)

    def another_function_it_holds(self, batch: Any, batch_nb: int) -> Any:
        return self.own(batch)

    def a_property(self, batch: Any, batch_nb: int) -> Any:
        return self.made(batch)

    def nothing_of_this_name(self, batch: Any, batch_nb: int) -> Any:
        return self.missing(batch)  # type: ignore[operator]

    def a_batchs_method(self, batch: Any, batch_nb: int) -> Any:
        return batch.mean()

    def a_function_of_torch_without_a_value(self, batch: Any, batch_nb: int) -> Any:
        return torch.set_num_threads(1)

    def a_private_function_of_torch(self, batch: Any, batch_nb: int) -> Any:
        return torch._foreach_add_([batch], 1)

    def a_list_that_is_sorted(self, batch: Any, batch_nb: int) -> Any:
        return [batch].sort()

    def what_a_dict_has(self, batch: Any, batch_nb: int) -> Any:
        return {"loss": batch}.get("other")


def names(kind: type, without: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_") and name not in vars(without)]


@pytest.mark.parametrize("name", names(Known, object))
def test_a_method_that_returns_a_value_on_every_path_is_known(name: str) -> None:
    assert never_returns_none(getattr(Known(), name))


@pytest.mark.parametrize("name", names(Unknown, Known))
def test_a_method_that_may_return_none_is_not(name: str) -> None:
    assert not never_returns_none(getattr(Unknown(), name))


@pytest.mark.parametrize("name", names(KnownOfModules, Model))
def test_calls_of_torch_and_of_layers_are_known(name: str) -> None:
    assert never_returns_none(getattr(KnownOfModules(), name))


@pytest.mark.parametrize("name", names(UnknownOfModules, KnownOfModules))
def test_calls_that_may_return_none_are_not(name: str) -> None:
    assert not never_returns_none(getattr(UnknownOfModules(), name))


def test_a_run_whose_step_returns_none_where_its_source_did_not_show_it_is_an_error() -> None:
    class Step(KnownOfModules):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.layer(batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    model = Step()
    run = machine_of(model, [torch.ones(1, 2)], max_nb_epochs=1)
    assert not run.spec.limits.may_return_none
    model.layer = ReturnsNone()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="returned None, which its source ruled out when the run was built"):
        run.run()


def test_public_functions_of_torch_that_return_none_are_listed() -> None:
    """By the declarations that this torch comes with."""
    declared = (Path(torch.__file__).parent / "_C" / "_VariableFunctions.pyi").read_text()
    found = set(re.findall(r"def ([a-z]\w*)\((?:[^()]|\([^()]*\))*\) -> None", declared))
    assert "set_num_threads" in found
    assert found <= never_none._NO_VALUE


def test_no_list_dict_or_text_has_a_method_that_is_taken_for_a_tensors() -> None:
    assert not {name for name in never_none._TENSOR_METHODS for kind in (list, dict, str, tuple, set) if hasattr(kind, name)}
    assert all(hasattr(torch.Tensor, name) for name in never_none._TENSOR_METHODS)


def test_a_method_that_a_subclass_replaces_is_looked_up_in_the_object() -> None:
    class Replaced(Known):
        def loss(self, batch: Any) -> Any:
            return None

    assert never_returns_none(Known().a_method)
    assert not never_returns_none(Replaced().a_method)


@pytest.mark.parametrize("callable_object", [print, functools.partial(Known().loss, None), None, nn.Linear(1, 1)])
def test_what_is_no_plain_method_is_unknown(callable_object: Any) -> None:
    assert not never_returns_none(callable_object)
