"""The scenarios that are compared in turns: one for each way to train, with all contestants that support it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.compare import Contestant, Scenario
from benchmarks.harness.timed_loaders import FEATURES, data_loader, in_memory, make_batches, val_batches
from benchmarks.measurements import recording
from benchmarks.trainings import by_hand, piece_by_piece
from benchmarks.trainings.models import SEQUENCE_LENGTH, SPLIT_LENGTH, LoggedLoss, Recurrent, TwoLayers, Validated, WeightedLoss
from benchmarks.trainings.with_fsmtrain import LOGGING_NAME, bare_and_defaults, train_bare, train_with_defaults
from benchmarks.trainings.with_other_trainers import Peers
from fsmtrain import Callback, ModelCheckpoint


class BatchEndHook(Callback):
    """A callback with an empty hook for each batch."""

    def on_batch_end(self, machine: Any) -> None:
        """Do nothing."""


class TransitionHook(Callback):
    """A callback with an empty hook for each transition."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        """Do nothing."""


def features(folder: Path) -> list[Contestant]:
    """Return bare machines with one more feature each, which make the same steps as a plain loop."""
    hourly = ModelCheckpoint(dirpath=folder / "checkpoints", every_n_seconds=3600)
    return [
        Contestant("bare", train_bare()),
        Contestant("... logging a metric", train_bare(LoggedLoss)),
        Contestant("... with weighted losses", train_bare(WeightedLoss)),
        Contestant("... with on_batch_end", train_bare(callbacks=[BatchEndHook()])),
        Contestant("... with on_transition", train_bare(callbacks=[TransitionHook()])),
        Contestant("... saving once an hour", train_bare(callbacks=[hourly])),
        *recording.contestants(folder),
    ]


NAMES = ("plain", "pieces", "defaults", "loader", "windows", "optimizers", "splits", "validation", "clipping", "features")


def scenarios(peers: Peers, folder: Path) -> dict[str, Scenario]:
    """Return all scenarios by their `NAMES`, which are parts of the command line."""
    val_loader = val_batches()
    validation = {"val": val_loader, "val_check_interval": by_hand.VALIDATION_INTERVAL}
    sequences = partial(make_batches, shape=(SEQUENCE_LENGTH, FEATURES))
    every, two, windows = (
        f"{len(val_loader)} val batches every {by_hand.VALIDATION_INTERVAL}",
        "two optimizers",
        f"windows of {by_hand.WINDOW}",
    )
    plain = [Contestant("... without zero_grad", by_hand.without_zero_grad), *bare_and_defaults()[:1], *peers["plain"]]
    logging = Contestant(LOGGING_NAME, train_with_defaults(LoggedLoss), draws=True)
    return {
        "plain": Scenario("a step for each batch", by_hand.plain, plain, make_batches, in_memory),
        "pieces": Scenario("piece by piece", by_hand.plain, piece_by_piece.contestants(), make_batches, in_memory),
        "defaults": Scenario(
            "a step for each batch, all defaults",
            by_hand.plain,
            [*bare_and_defaults(), logging, *peers["by default"]],
            make_batches,
            in_memory,
            times=2,
        ),
        "loader": Scenario("a step for each batch, from a DataLoader", by_hand.plain, plain, make_batches, data_loader),
        "windows": Scenario(
            windows,
            by_hand.accumulated,
            [*bare_and_defaults(accumulate_grad_batches=by_hand.WINDOW), *peers["accumulated"]],
            make_batches,
            in_memory,
        ),
        "optimizers": Scenario(
            two, by_hand.two_optimizers, [*bare_and_defaults(TwoLayers), *peers["two optimizers"]], make_batches, in_memory
        ),
        "splits": Scenario(
            f"truncated BPTT, {-(-SEQUENCE_LENGTH // SPLIT_LENGTH)} splits a batch",
            by_hand.truncated,
            bare_and_defaults(Recurrent, truncated_bptt_steps=SPLIT_LENGTH),
            sequences,
            in_memory,
            times=0.25,
        ),
        "validation": Scenario(
            every,
            partial(by_hand.validated, val_loader=val_loader),
            [*bare_and_defaults(Validated, **validation), *peers["validated"]],
            make_batches,
            in_memory,
        ),
        "clipping": Scenario(
            "gradient clipping",
            by_hand.clipped,
            bare_and_defaults(gradient_clip_val=by_hand.MAX_GRAD_NORM),
            make_batches,
            in_memory,
        ),
        "features": Scenario("one more feature at a time", by_hand.plain, features(folder), make_batches, in_memory, times=2),
    }
