"""Work out the plan of a run without training: how many steps, validations and epochs it will have, and when.

The loop's own table is run without actions (`simulation`), epoch by epoch, and repetitions are skipped (docs/planning.md).
"""

from __future__ import annotations

from functools import partial

from attrs import evolve

from fsmtrain.core.counters import Counters
from fsmtrain.core.dispatcher import Dispatcher, nodes_of
from fsmtrain.core.effects import bind
from fsmtrain.core.guard_ast.expressions import is_opaque
from fsmtrain.core.guard_ast.parse import parse_guard
from fsmtrain.core.limits import NO_LIMIT
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning.epoch_builder import EpochBuilder
from fsmtrain.core.planning.guard_copies import refuse_random_guards, with_guard_copies
from fsmtrain.core.planning.plan_values import EarliestEnd, Plan, Totals
from fsmtrain.core.planning.repetitions import RepetitionFinder, Skip, skip_repetitions
from fsmtrain.core.planning.simulation import RECORDED, Simulation
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import Table
from fsmtrain.early_stopping import is_of_validation
from fsmtrain.errors import SizesError

MIN_SKIPPED_BATCHES = 32  # fewer are run faster than they are skipped


def make_plan(loop: LoopSpec) -> Plan:
    """Work out the plan of a loop.

    Raises:
        SizesError: A loader has no length, so its batches cannot be counted.
        GuardError: A guard raises, or cannot be planned: it can be neither read nor copied, or draws random numbers.
    """
    limits = loop.limits
    if limits.train_is_stream or limits.evaluates_stream:
        raise SizesError(
            "cannot plan: a loader has no length, so its batches cannot be counted. "
            "Plan with the number of batches that you expect, such as Sizes(train=1000)."
        )
    loop = with_guard_copies(loop)  # kept, and never called: each simulation calls copies of these
    run = simulate(loop)
    if run.counters.epochs_done >= NO_LIMIT:
        raise SizesError(
            "cannot plan: max_nb_epochs=None, and only max_time, early stopping or a guard that never holds would end the run, "
            "so its length is not known. Plan with the epochs or steps that you expect, as in max_steps=10_000."
        )
    most = least = _totals(loop, run)
    rule, earliest_end = loop.options.early_stopping, None
    if rule is not None and limits.stops_early:  # the shortest run is the one whose metric never improves
        begun = loop.beginning
        left = max(1, rule.patience) - begun.validations_waited
        epochs = None if is_of_validation(rule.monitor) else begun.counters.epochs_done + left
        shortest = simulate(loop, begun.counters.validations_done + left, epochs)
        end = shortest.counters
        least = _totals(loop, shortest)
        earliest_end = EarliestEnd(current_epoch=end.current_epoch, batch_nb=end.batch_nb, global_step=end.global_step)
    if limits.manual_optimization:
        least = evolve(_without_steps(loop, least), global_step=0)
    elif limits.skips_steps or loop.hook_is_opaque:
        least = _without_steps(loop, least)
    return Plan(
        sanity_batches=run.sanity_batches,
        stretches=tuple(run.epochs),
        test_batches=run.test_batches,
        optimizer_steps=most.optimizer_steps,
        global_step=most.global_step,
        validations=most.validations,
        validation_batches=limits.val_batches if limits.validates else 0,
        scheduler_steps=most.scheduler_steps,
        at_least=least,
        earliest_end=earliest_end,
        steps_may_be_skipped=limits.skips_steps,
        max_rollbacks=loop.options.max_nb_rollbacks if limits.rolls_back else 0,
        loop=loop,
    )


def _totals(loop: LoopSpec, run: Simulation) -> Totals:
    """Return the totals of a simulated run."""
    counters = run.counters
    validated: list[range] = []
    first = epochs = loop.beginning.counters.epochs_done
    for count, stretch in run.epochs:
        end = epochs + count * len(stretch)
        validated += [
            range(epochs + i, end, len(stretch))
            for i, epoch in enumerate(stretch)
            if epoch.validations and not epoch.ended_early
        ]
        epochs = end
    return Totals(
        epochs=epochs - first,
        global_step=counters.global_step,
        optimizer_steps=tuple(counters.optimizer_steps),
        validations=counters.validations_done,
        scheduler_steps=tuple(
            schedule.steps(counters.optimizer_steps, counters.epochs_done, validated, counters.validations_done)
            for schedule in loop.sizes.schedulers
        ),
    )


def _without_steps(loop: LoopSpec, totals: Totals) -> Totals:
    """Return the totals of a run in which every step is skipped. Its rounds still count in ``global_step``."""
    schedulers = zip(loop.sizes.schedulers, totals.scheduler_steps, strict=True)
    return evolve(
        totals,
        optimizer_steps=(0,) * len(totals.optimizer_steps),
        scheduler_steps=tuple(0 if schedule.interval == "step" else steps for schedule, steps in schedulers),
    )


# ---- the simulated run


def simulate(
    loop: LoopSpec, exhausted_after: int | None = None, exhausted_after_epochs: int | None = None, *, skip: bool = True
) -> Simulation:
    """Run a loop's table without actions up to its end.

    Args:
        loop: The loop.
        exhausted_after: The number of validations after which patience is exhausted; None for never.
        exhausted_after_epochs: See `Simulation`.
        skip: Whether to skip repetitions. The result is the same without. If a guard cannot be read, none are skipped:
            it may have a memory, and a copy of it is called at each of its moments.

    Raises:
        GuardError: A guard cannot be read, and cannot be copied, or draws random numbers.
    """
    loop = with_guard_copies(loop)
    beginning = loop.beginning
    counters, signals = beginning.counters.copy(), beginning.signals.copy()
    counted = loop.limits.begin_signals(loop.splits)
    start = nodes_of(loop.table, {}, partial(bind, signals=counted))[beginning.state]
    if start.later is not None and counters.batch_nb > 0 and beginning.is_within_epoch:
        start = start.later
    patience = exhausted_after, exhausted_after_epochs
    run = Simulation(loop.limits, start, counters, signals, *patience, steps_made=loop.steps_made, counted=counted)
    run.epoch = EpochBuilder(counters, beginning.batches_done)
    if not skip or _has_opaque_guard(loop.table):
        actions = {state: partial(run.record, state) for state in RECORDED} | {State.FETCH: run.close_epoch}
        with refuse_random_guards():
            run.counted, signals.splits = signals, loop.splits  # here the effects count those of the run
            Dispatcher(loop.table, loop.limits, counters, signals, actions, state=beginning.state).run()
        run.close_epoch()
        return run
    run.run_batch()
    stretch: list[Skip | None] = []
    lengths: list[int] = []  # of the stretch, for each epoch
    finder = RepetitionFinder()
    while not run.node.is_final:
        epoch = _run_epoch(run)
        stretch += epoch
        lengths.append(len(epoch))
        repeated = finder.feed(run.epochs[-1], run.counters)
        if repeated is not None and not run.node.is_final:
            period, before = repeated
            if skip_repetitions(run, stretch[-sum(lengths[-period:]) :], before) is not None:
                finder = RepetitionFinder()
    return run


def _run_epoch(run: Simulation) -> list[Skip | None]:
    """Run to the end of the epoch, and return how it went."""
    stretch: list[Skip | None] = []
    epochs = len(run.epochs)
    near, far = RepetitionFinder(), RepetitionFinder()  # batches since the last skip; all batches, and the skips between
    while True:
        rows = run.run_batch()
        stretch.append(None)
        if len(run.epochs) > epochs:
            return stretch
        repeated, repeated_far = near.feed(rows, run.counters), far.feed(rows, run.counters)
        if repeated is not None:
            skipped = _skip(run, stretch, repeated)
            if skipped:
                near = RepetitionFinder()
                repeated_far = far.feed(("skip", repeated[0], skipped), run.counters)
        if repeated_far is not None and _skip(run, stretch, repeated_far):
            near, far = RepetitionFinder(), RepetitionFinder()


def _skip(run: Simulation, stretch: list[Skip | None], repeated: tuple[int, Counters]) -> int:
    """Skip the repetitions of the end of a stretch, if there are enough; return how many."""
    period, before = repeated
    skip = skip_repetitions(run, tuple(stretch[-period:]), before, -(-MIN_SKIPPED_BATCHES // period))
    if skip is None:
        return 0
    stretch.append(skip)
    return skip.count


def _has_opaque_guard(table: Table) -> bool:
    return any(is_opaque(parse_guard(guard)) for row in table for guard in (row.when, *row.unless) if guard is not None)
