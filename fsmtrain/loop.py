"""`Loop`: a training loop without a model, to plan, check, draw, or iterate over; and `plan`, `check`, `draw` in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from attrs import evolve, field, fields, frozen

from fsmtrain.core.accumulation_scaling import by_hand_notes
from fsmtrain.core.checking.check import check_loop
from fsmtrain.core.checking.findings import Report
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.guard_ast.expressions import Expression
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.planning.plan_values import Plan
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.transition_table import Table
from fsmtrain.core.visit import Visit
from fsmtrain.options import FLAG_HINTS, Options
from fsmtrain.unknown_arguments import explain_unknown_arguments
from fsmtrain.views.diagrams.tally import Counts

_SIZES = tuple(f.name for f in fields(Sizes))


@explain_unknown_arguments(hints=FLAG_HINTS)
@frozen
class Loop:
    """A training loop as a value: what will happen, given these options, sizes and guards.

    Args:
        options: The documented flags.
        sizes: The batches of each loader, the optimizers, the splits of a batch.
        guards: The decisions that the user replaces.
        hook: When the model's own ``optimizer_step`` steps, as the check has read it; None for the default one.
        has_model: Whether a machine trains a model by this loop. The check of any other loop notes what is left to the code
            that iterates over it.
        resumes_at: Where a resumed run continues; None for a fresh run.

    Raises:
        SizesError: The options do not fit the sizes.
        GuardError: A guard for an optimizer that does not exist.

    Example:
        >>> loop = Loop(Options(accumulate_grad_batches=2, max_nb_epochs=1), Sizes(train=3))
        >>> " ".join(visit.state.value for visit in loop)  # doctest: +NORMALIZE_WHITESPACE
        'start fetch train_batch backward accumulate round_end fetch train_batch backward step round_end
         fetch train_batch backward step round_end epoch_end early_stop'
    """

    options: Options
    sizes: Sizes
    guards: Guards = field(factory=Guards, kw_only=True)
    hook: Expression | None = field(default=None, kw_only=True, repr=False, eq=False)
    has_model: bool = field(default=False, kw_only=True, repr=False, eq=False)
    resumes_at: ResumePoint | None = field(default=None, kw_only=True, repr=False, eq=False)
    spec: LoopSpec = field(init=False, repr=False, eq=False)

    @spec.default
    def _make_spec(self) -> LoopSpec:
        return LoopSpec(self.options, self.sizes, guards=self.guards, hook=self.hook, resumes_at=self.resumes_at)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what the loop was made from."""
        return _make_loop, (self.options, self.sizes, self.guards, self.hook, self.resumes_at)

    @property
    def limits(self) -> Limits:
        """Options and sizes as whole numbers."""
        return self.spec.limits

    @property
    def table(self) -> Table:
        """The transitions that are possible in this configuration."""
        return self.spec.table

    def __iter__(self) -> Iterator[Visit]:
        """Iterate over the visits of a run: do the work of each, and write what it found to its signals."""
        return iter(self.spec)

    def plan(self) -> Plan:
        """Return the exact schedule of a run of this loop, without running anything.

        A train loader may change its length between epochs; the plan is about the length in the first one.

        Raises:
            SizesError: A loader has no length.

        Example:
            >>> print(Loop(Options(accumulate_grad_batches=4, max_nb_epochs=3), Sizes(train=9)).plan())
            sanity pass             none
            epochs                  3
            global_step at the end  9
            optimizer 0             9 steps
            validations             none
            epochs 0 to 2           9 batches; windows: 2 of 4, 1 of 1
        """
        return make_plan(self.spec)

    def check(self) -> Report:
        """Return what is wrong with this loop, or probably unintended, without running anything.

        Example:
            >>> from fsmtrain.early_stopping import EarlyStopping
            >>> options = Options(max_nb_epochs=2, early_stop_callback=EarlyStopping(patience=5))
            >>> [finding.about for finding in Loop(options, Sizes(train=9, val=[3])).check().findings]
            ['early_stop_callback: patience=5']
        """
        report = check_loop(self.spec)
        return report if self.has_model else evolve(report, notes=by_hand_notes(self.limits, self.guards))

    def draw(self, path: str | os.PathLike[str], *, counts: bool | Counts = False) -> None:
        """Draw the loop's state diagram into a file: ``.svg``, ``.png``, ``.mmd`` for Mermaid, ``.dot`` for Graphviz.

        Args:
            path: The file; its suffix selects the format. Pictures need ``pip install 'fsmtrain[draw]'``.
            counts: Whether to show how often each transition is taken and each state visited. True: the numbers of the plan.
                Or pass a plan, a trace, or ``machine.tally`` of this loop, which adds the times.

        Raises:
            OptionsError: No format has the file's suffix.
            MissingExtraError: The package that draws pictures is not installed.
            SizesError: A loader has no length, so there is no plan to take numbers from.
            UsageError: The counts are those of another loop.
        """
        from fsmtrain.views.diagrams import formats

        formats.write_diagram(self.spec, path, counts=formats.resolve_counts(counts, self.plan))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Return the diagram, for a notebook."""
        from fsmtrain.views.diagrams import formats

        return formats.mime_bundle(self.spec, repr(self))


def _make_loop(
    options: Options, sizes: Sizes, guards: Guards, hook: Expression | None, resumes_at: ResumePoint | None = None
) -> Loop:
    return Loop(options, sizes, guards=guards, hook=hook, resumes_at=resumes_at)


@explain_unknown_arguments(beside=_SIZES, hints=FLAG_HINTS)
def plan(options: Options, *, guards: Guards | None = None, **sizes: Any) -> Plan:
    """Return the exact schedule of a run: ``Loop(options, Sizes(**sizes), guards=guards).plan()``.

    >>> print(plan(Options(max_nb_epochs=2, accumulate_grad_batches=4), train=9, val=[3]).optimizer_steps)
    (6,)
    """
    return Loop(options, Sizes(**sizes), guards=guards or Guards()).plan()


@explain_unknown_arguments(beside=_SIZES, hints=FLAG_HINTS)
def check(options: Options, *, guards: Guards | None = None, **sizes: Any) -> Report:
    """Return what is wrong with a run, or probably unintended: ``Loop(options, Sizes(**sizes), guards=guards).check()``."""
    return Loop(options, Sizes(**sizes), guards=guards or Guards()).check()


@explain_unknown_arguments(beside=_SIZES, hints=FLAG_HINTS)
def draw(
    options: Options, path: str | os.PathLike[str], *, guards: Guards | None = None, counts: bool | Counts = False, **sizes: Any
) -> None:
    """Draw the state diagram of a run: ``Loop(options, Sizes(**sizes), guards=guards).draw(path, counts=counts)``."""
    Loop(options, Sizes(**sizes), guards=guards or Guards()).draw(path, counts=counts)
