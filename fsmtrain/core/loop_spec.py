"""`LoopSpec`: a configured training loop as one value: options, sizes and guards, and the limits and table that follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import field, frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.folding import folded, may_stop_early
from fsmtrain.core.guard_ast.evaluate import Evaluator, compile_expression
from fsmtrain.core.guard_ast.expressions import Expression, is_opaque
from fsmtrain.core.iteration import visits
from fsmtrain.core.limits import Limits, longest_k, resolve
from fsmtrain.core.manual_optimization import refuse_flags
from fsmtrain.core.resume_point import ResumePoint, limits_from
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.step_windows import step_windows
from fsmtrain.core.transition_table import Table, full_table
from fsmtrain.core.visit import Visit
from fsmtrain.errors import GuardError, OptionsError
from fsmtrain.options import Options


def limits_of(options: Options, sizes: Sizes, guards: Guards, *, has_own_step: bool = False) -> Limits:
    """Return the limits of a run with these guards. Arguments and errors are those of `limits.resolve`."""
    return resolve(
        options,
        sizes,
        has_validation_guard=guards.validate is not None,
        has_own_step=has_own_step,
        saves_end=guards.save_at_end,
        step_windows=step_windows(guards, longest_k(options)),
    )


@frozen
class LoopSpec:
    """A configured training loop. Planning, checking, drawing and the runtime all start from it.

    Args:
        options: The documented flags.
        sizes: The batches of each loader, the optimizers, the splits of a batch.
        guards: The decisions that the user replaces.
        hook: When the model's own ``optimizer_step`` steps, as `parse_optimizer_step` reads it; None for the default one.
            Check and plan use it.
        resumes_at: Where the run continues; None if it begins at its beginning.

    Attributes:
        limits: Options and sizes as whole numbers.
        table: The transitions that are possible in this configuration.

    Raises:
        SizesError: The options do not fit the sizes.
        GuardError: A guard for an optimizer that does not exist.
        OptionsError: ``max_nb_epochs=None`` without another limit, or a flag that manual optimization leaves without meaning.
    """

    options: Options
    sizes: Sizes
    guards: Guards = field(factory=Guards, kw_only=True)
    hook: Expression | None = field(default=None, kw_only=True, repr=False, eq=False)
    resumes_at: ResumePoint | None = field(default=None, kw_only=True, repr=False, eq=False)
    limits: Limits = field(init=False, repr=False, eq=False)
    table: Table = field(init=False, repr=False, eq=False)

    @limits.default
    def _resolve(self) -> Limits:
        limits = limits_of(self.options, self.sizes, self.guards, has_own_step=self.hook is not None)
        return limits if self.resumes_at is None else limits_from(limits, self.resumes_at)

    @table.default
    def _fold(self) -> Table:
        return folded(full_table(decisions(self.guards)), self.limits, self.guards)

    def __attrs_post_init__(self) -> None:
        if self.limits.manual_optimization:
            refuse_flags(self.options, self.guards)
        for index in self.guards.step:
            if index >= self.limits.optimizers and self.limits.epochs > 0:
                raise GuardError(
                    f"Guards(step={{{index}: ...}}): there is no optimizer {index}; they count from 0, "
                    f"and there {'is' if self.limits.optimizers == 1 else 'are'} {self.limits.optimizers}."
                )
        if not self.limits.has_max_epochs and not may_stop_early(self.limits, self.guards):
            raise OptionsError(
                "max_nb_epochs=None: nothing would end the run. Pass max_nb_epochs=20, max_steps=10_000, max_time='8:00:00', "
                "early_stop_callback=True or Guards(stop=...)."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what the spec was made from; limits and table follow from it."""
        return _make_spec, (self.options, self.sizes, self.guards, self.hook, self.resumes_at)

    @property
    def splits(self) -> int:
        """The splits of each batch; 1 without truncated BPTT."""
        return self.sizes.splits if self.limits.splits_batches else 1

    @property
    def hook_is_opaque(self) -> bool:
        """Whether the model has an ``optimizer_step`` of its own that cannot be read."""
        return self.hook is not None and is_opaque(self.hook)

    @property
    def steps_made(self) -> Evaluator | None:
        """How many steps the model's own ``optimizer_step`` makes when it is called; None for one, or if it cannot be read."""
        if self.hook is None or is_opaque(self.hook):
            return None
        steps = compile_expression(self.hook)
        return lambda limits, counters, signals: 1 if steps(limits, counters, signals) else 0

    def __iter__(self) -> Iterator[Visit]:
        """Return an iterator over the visits from the beginning of the run on, or from where it resumes."""
        return visits(self.table, self.limits, self.guards, self.beginning, steps_made=self.steps_made)

    @property
    def beginning(self) -> ResumePoint:
        """Where the run begins: in `start`, or where it resumes."""
        if self.resumes_at is not None:
            return self.resumes_at
        counters, signals = Counters.begin(self.limits.optimizers), self.limits.begin_signals(self.splits)
        return ResumePoint(state=State.START, work_done=False, counters=counters, signals=signals)


def _make_spec(
    options: Options, sizes: Sizes, guards: Guards, hook: Expression | None, resumes_at: ResumePoint | None = None
) -> LoopSpec:
    return LoopSpec(options, sizes, guards=guards, hook=hook, resumes_at=resumes_at)
