"""What is trained in turns: a scenario for each way to train, with everybody who can do it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import by_hand, pieces, recording
from benchmarks.batches import FEATURES, batches_of, data_loader, in_memory, val_batches
from benchmarks.models import SPLIT, TIME, Logging, Pair, Recurrent, Validated, Weighted
from benchmarks.ours import LOGGING_NAME, both, trains, trains_by_default
from benchmarks.peers import Peers
from benchmarks.turns import Contestant, Scenario
from fsmtrain import Callback, ModelCheckpoint


class Ends(Callback):
    """A callback with a hook for each batch that does nothing."""

    def on_batch_end(self, machine: Any) -> None:
        """Nothing."""


class Watches(Callback):
    """A callback that is told of each transition, and does nothing."""

    def on_transition(self, machine: Any, transition: Any) -> None:
        """Nothing."""


def features(folder: Path) -> list[Contestant]:
    """Bare machines with one thing more, each doing the same steps as a plain loop."""
    hourly = ModelCheckpoint(dirpath=folder / "checkpoints", every_n_seconds=3600)
    return [
        Contestant("bare", trains()),
        Contestant("... that logs a metric", trains(Logging)),
        Contestant("... with weighted losses", trains(Weighted)),
        Contestant("... with on_batch_end", trains(callbacks=[Ends()])),
        Contestant("... with on_transition", trains(callbacks=[Watches()])),
        Contestant("... that saves once an hour", trains(callbacks=[hourly])),
        *recording.contestants(folder),
    ]


NAMES = ("plain", "pieces", "defaults", "loader", "windows", "optimizers", "splits", "checks", "clipping", "features")


def scenarios(peers: Peers, folder: Path) -> dict[str, Scenario]:
    """All of them, by their `NAMES`, which the command line knows."""
    checks = val_batches()
    checked = {"val": checks, "val_check_interval": by_hand.EVERY}
    sequences = partial(batches_of, shape=(TIME, FEATURES))
    every, two, windows = f"{len(checks)} val batches every {by_hand.EVERY}", "two optimizers", f"windows of {by_hand.WINDOW}"
    plain = [Contestant("... without zero_grad", by_hand.without_zero_grad), *both()[:1], *peers["plain"]]
    logging = Contestant(LOGGING_NAME, trains_by_default(Logging), draws=True)
    return {
        "plain": Scenario("a step for each batch", by_hand.plain, plain, batches_of, in_memory),
        "pieces": Scenario("where it goes", by_hand.plain, pieces.contestants(), batches_of, in_memory),
        "defaults": Scenario(
            "the same with all defaults",
            by_hand.plain,
            [*both(), logging, *peers["by default"]],
            batches_of,
            in_memory,
            times=2,
        ),
        "loader": Scenario("the same, from a DataLoader", by_hand.plain, plain, batches_of, data_loader),
        "windows": Scenario(
            windows,
            by_hand.accumulated,
            [*both(accumulate_grad_batches=by_hand.WINDOW), *peers["accumulated"]],
            batches_of,
            in_memory,
        ),
        "optimizers": Scenario(two, by_hand.two_optimizers, [*both(Pair), *peers["two optimizers"]], batches_of, in_memory),
        "splits": Scenario(
            f"truncated BPTT, {-(-TIME // SPLIT)} splits a batch",
            by_hand.truncated,
            both(Recurrent, truncated_bptt_steps=SPLIT),
            sequences,
            in_memory,
            times=0.25,
        ),
        "checks": Scenario(
            every,
            partial(by_hand.validated, val_loader=checks),
            [*both(Validated, **checked), *peers["validated"]],
            batches_of,
            in_memory,
        ),
        "clipping": Scenario("gradients clipped", by_hand.clipped, both(gradient_clip_val=by_hand.CLIP), batches_of, in_memory),
        "features": Scenario("one thing more", by_hand.plain, features(folder), batches_of, in_memory, times=2),
    }
