"""Which methods are known never to return None. What is not certain is unknown."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fsmtrain.core.guard_ast.never_none import never_returns_none


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


def names(kind: type, without: type) -> list[str]:
    return [name for name in vars(kind) if not name.startswith("_") and name not in vars(without)]


@pytest.mark.parametrize("name", names(Known, object))
def test_a_method_that_returns_a_value_on_every_path_is_known(name: str) -> None:
    assert never_returns_none(getattr(Known(), name))


@pytest.mark.parametrize("name", names(Unknown, Known))
def test_a_method_that_may_return_none_is_not(name: str) -> None:
    assert not never_returns_none(getattr(Unknown(), name))


def test_a_method_that_a_subclass_replaces_is_looked_up_in_the_object() -> None:
    class Replaced(Known):
        def loss(self, batch: Any) -> Any:
            return None

    assert never_returns_none(Known().a_method)
    assert not never_returns_none(Replaced().a_method)


@pytest.mark.parametrize("callable_object", [print, functools.partial(Known().loss, None), None, nn.Linear(1, 1)])
def test_what_is_no_plain_method_is_unknown(callable_object: Any) -> None:
    assert not never_returns_none(callable_object)
