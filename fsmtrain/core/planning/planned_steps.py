"""`PlannedSteps`: the number of steps that a run will make, for the schedules that ``configure_optimizers`` makes."""

from __future__ import annotations

from attrs import define, evolve, field

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.guard_ast.expressions import fields_in, is_opaque
from fsmtrain.core.guard_ast.parse import guard_as_written, parse_guard
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.compute_plan import make_plan
from fsmtrain.core.sizes import Sizes
from fsmtrain.errors import SizesError, UsageError
from fsmtrain.options import Options
from fsmtrain.predicates import is_integer

_BY_OPTIMIZER = ("optimizer_steps", "stepped_in", "gathered_by", "left_out")
_OF_ALL = ("global_step", "open_windows", "steps_skipped")


@define
class PlannedSteps:
    """Plans the steps of a run before its optimizers are known.

    Its sizes come from the loaders. How many optimizers there will be is assumed from the question and from the guards; once
    there are, `verify` compares, and from then on the plan of the run itself answers.
    """

    _loop: tuple[Options, Sizes, Guards] | None = None
    _built: LoopSpec | None = None  # the run, once all its optimizers are known
    _answers: dict[int, int] = field(factory=dict)

    def prepare(self, options: Options, sizes: Sizes, guards: Guards) -> None:
        """Take over what a run is known to be before ``configure_optimizers`` is called."""
        self._loop, self._built, self._answers = (options, sizes, guards), None, {}

    def of(self, optimizer_i: int = 0) -> int:
        """Return the steps of an optimizer, from 0, in a run that is not stopped early.

        Raises:
            UsageError: No run is being built, or the index is none.
            SizesError: The number cannot be known beforehand. The message says why.
        """
        if self._loop is None:
            raise UsageError(
                "trainer.total_steps: no run has been built yet, so its steps are not known. Read it in configure_optimizers, "
                "or later."
            )
        if not is_integer(optimizer_i) or optimizer_i < 0:
            raise UsageError(f"trainer.planned_steps({optimizer_i!r}): optimizers count from 0, so it must be an int >= 0.")
        if optimizer_i not in self._answers:
            self._answers[optimizer_i] = self._plan(optimizer_i, *self._loop)
        return self._answers[optimizer_i]

    def _plan(self, optimizer_i: int, options: Options, sizes: Sizes, guards: Guards) -> int:
        call = "trainer.total_steps" if optimizer_i == 0 else f"trainer.planned_steps({optimizer_i})"
        guard = guards.step.get(optimizer_i)
        if sizes.manual_optimization:
            raise SizesError(
                f"{call}: with automatic_optimization=False training_step decides when to step, so the steps cannot be counted "
                f"beforehand. Write down the number that you expect."
            )
        if sizes.train is None:
            if options.max_steps is not None and options.max_nb_epochs is None and guard is None:
                return options.max_steps
            raise SizesError(
                f"{call}: the train loader has no length, so its steps cannot be counted beforehand. Pass max_steps to the "
                f"trainer, without max_nb_epochs; or write down the number that you expect."
            )
        if options.truncated_bptt_steps is not None:
            raise SizesError(
                f"{call}: under truncated_bptt_steps each batch has splits of its own, so the steps cannot be counted "
                f"beforehand. Write down the number that you expect, or count epochs: 'interval': 'epoch'."
            )
        if self._built is not None:
            steps = make_plan(self._built).optimizer_steps
            if optimizer_i >= len(steps):
                raise SizesError(f"{call}: there is no optimizer {optimizer_i}.")
            return steps[optimizer_i]
        if guard is not None:
            asked = {f.name for f in fields_in(parse_guard(guard)) if f.record == "counters"}
            about_itself = {f"{name}[{optimizer_i}]" for name in _BY_OPTIMIZER}
            others = sorted(name for name in asked - about_itself if name.partition("[")[0] in (*_BY_OPTIMIZER, *_OF_ALL))
            reason = f"asks about other optimizers ({', '.join(others)})" if others else ""
            if is_opaque(parse_guard(guard)):
                reason = "cannot be read"
            if reason:
                raise SizesError(
                    f"{call}: the guard {guard_as_written(guard)} in Guards(step={{{optimizer_i}: ...}}) {reason}, so the "
                    f"steps of this optimizer are not known before all optimizers are. Use a guard that counts batches, as "
                    f"every_n_batches(n) does; or take the number from fsmtrain.plan(...).optimizer_steps[{optimizer_i}]."
                )
        known = max(optimizer_i, *guards.step, 0) + 1
        return make_plan(LoopSpec(options, evolve(sizes, optimizers=known), guards=guards)).optimizer_steps[optimizer_i]

    def verify(self, loop: LoopSpec) -> None:
        """Compare the answers with the plan of the run, whose optimizers are known now.

        Raises:
            SizesError: An optimizer makes another number of steps: with ``max_steps`` the other optimizers matter, too.
        """
        self._built = None if loop.hook is not None else loop
        if not self._answers or loop.limits.train_is_stream or loop.hook is not None:
            return
        steps = make_plan(loop).optimizer_steps
        for optimizer_i, answer in self._answers.items():
            if optimizer_i >= len(steps):
                raise SizesError(f"trainer.planned_steps({optimizer_i}): there is no optimizer {optimizer_i}.")
            if steps[optimizer_i] != answer:
                raise SizesError(
                    f"configure_optimizers asked for the steps of optimizer {optimizer_i} and got {answer:,}, but together "
                    f"with the others it makes {steps[optimizer_i]:,}, since max_steps={loop.limits.max_steps:,} counts rounds "
                    f"in which any of them steps. Pass max_nb_epochs in place of max_steps."
                )
