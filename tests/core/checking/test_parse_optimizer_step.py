"""When a model's own ``optimizer_step`` steps, read from its source: as it is written, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fsmtrain.core.checking.parse_optimizer_step import parse_optimizer_step
from fsmtrain.core.guard_ast.expressions import Opaque
from fsmtrain.core.guard_ast.format import format_expression
from tests.models import Linear

Hook = Callable[..., Any]


def marked(hook: Hook) -> Hook:
    """A decorator that may do anything."""
    return hook


class Hooks:
    """Overrides that can be read."""

    def always(self, epoch: int, batch_nb: int, optimizer: Any, i: int, closure: Any = None) -> None:
        """As the default."""
        optimizer.step(closure)
        optimizer.zero_grad()

    def after_a_warm_up(self, epoch: int, batch_nb: int, optimizer: Any, i: int, closure: Any = None) -> None:
        if self.trainer.global_step < 500:  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["lr"] = 0.1
        optimizer.step()

    def by_turns(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        if i == 0:
            if batch % 2 == 0:
                opt.step()
            self.count = 1
        elif batch % 4 == 0:
            opt.step()

    def first_epoch(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> Any:
        with self.timer:  # type: ignore[attr-defined]
            print(opt.param_groups)
        if epoch < 1:
            return opt.step()
        return None

    def in_the_first_epochs(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        if epoch < 3:
            opt.step()

    def and_returns(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        opt.step()
        return

    def returns_the_step(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> Any:
        return opt.step(closure)

    def under_a_timer(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        with self.timer, self.other:  # type: ignore[attr-defined]
            opt.step()

    def takes_what_it_needs(self, epoch: int, batch: int, opt: Any) -> None:
        opt.step()

    def never(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        opt.zero_grad()

    def returns_early(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        if batch % 2 == 1:
            return
        opt.step()

    def returns_what_is_no_step(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> Any:
        return opt.zero_grad()

    def gives_it_away(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        print(opt)

    def hands_it_on(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        self.scaler.step(opt)  # type: ignore[attr-defined]

    def steps_another(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        self.trainer.optimizers[0].step()  # type: ignore[attr-defined]

    def asks_elsewhere(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        if self.ready:  # type: ignore[attr-defined]
            opt.step()

    def counts_otherwise(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        batch = batch + 1
        if batch % 2 == 0:
            opt.step()

    def tries(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        try:
            opt.step()
        finally:
            opt.zero_grad()

    def loops(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        for _ in range(batch):
            opt.step()

    def steps_in_a_with(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        with self.timer, opt.step():  # type: ignore[attr-defined]
            pass

    def returns_from_a_with(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> Any:
        with self.timer:  # type: ignore[attr-defined]
            return opt.step()

    def returns_from_a_branch(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> Any:
        if i == 0:
            return opt.step()
        opt.step()
        return None

    def forgets_it(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        del opt

    def takes_too_little(self, epoch: int, batch: int) -> None:
        pass

    @marked
    def in_a_decorator(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        opt.step()

    def takes_anything(self, *args: Any) -> None:
        args[2].step()


def of_nobody(epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
    """A hook that is no method."""
    if i == 1:
        opt.step()


class Calls(Linear):
    """An override that adds to the default."""

    def optimizer_step(self, epoch: int, batch: int, opt: Any, i: int, closure: Any = None) -> None:
        if batch % 2 == 1:
            super().optimizer_step(epoch, batch, opt, i, closure)


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (Hooks().always, "true"),
        (Hooks().after_a_warm_up, "true"),
        (Hooks().by_turns, "optimizer_i == 0 and batch_nb % 2 == 0 or optimizer_i != 0 and batch_nb % 4 == 0"),
        (Hooks().in_the_first_epochs, "current_epoch < 3"),
        (Hooks().and_returns, "true"),
        (Hooks().returns_the_step, "true"),
        (Hooks().under_a_timer, "true"),
        (Hooks().takes_what_it_needs, "true"),
        (of_nobody, "optimizer_i == 1"),
        (Hooks().never, "false"),
        (Calls().optimizer_step, "batch_nb % 2 == 1"),
    ],
)
def test_a_hook_is_formatted_from_its_source(hook: Hook, told: str) -> None:
    assert format_expression(parse_optimizer_step(hook)) == told


@pytest.mark.parametrize(
    "name",
    [
        "first_epoch",  # its last statement returns a value that could be anything
        "returns_early",
        "returns_what_is_no_step",
        "gives_it_away",
        "hands_it_on",
        "steps_another",
        "asks_elsewhere",
        "counts_otherwise",
        "tries",
        "loops",
        "steps_in_a_with",
        "returns_from_a_with",
        "returns_from_a_branch",
        "forgets_it",
        "takes_too_little",
        "in_a_decorator",
        "takes_anything",
    ],
)
def test_an_unreadable_hook_is_opaque_with_a_reason(name: str) -> None:
    read = parse_optimizer_step(getattr(Hooks(), name))
    assert isinstance(read, Opaque)
    assert read.reason


def test_what_is_no_plain_function_is_opaque() -> None:
    assert isinstance(parse_optimizer_step(print), Opaque)
    assert isinstance(parse_optimizer_step(lambda epoch, batch, opt, i, closure: opt.step()), Opaque)
