"""The loaders of a Lightning program: asked of where they were passed, and prepared, in the order in which Lightning does."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch

from fsmtrain.adapters.lightning.packages import part_of
from fsmtrain.errors import ModelError
from fsmtrain.runtime.rng import get_rng_state, set_rng_state

Lengths = list[float]


def train_loader(trainer: Any) -> tuple[Any, Lengths]:
    """Ask for the train loader; return it with its length. Several loaders are one that yields batches of all."""
    loop = trainer.fit_loop
    loaders, lengths = _prepared(trainer, loop, "fit", "train", "max_size_cycle")
    combined = loop._combined_loader
    counts = [_count(trainer, "train", n) for n in lengths]
    combined.limits = counts
    if combined._mode == "sequential":
        raise ModelError("train_dataloader: a CombinedLoader with mode='sequential' cannot train in Lightning either.")
    batches = _length_of_all(combined, counts)
    loop.max_batches = batches
    loop._last_train_dl_reload_epoch = trainer.current_epoch
    _set_val_check_batch(trainer, batches)
    is_single = len(loaders) == 1 and combined._iterables is loaders[0]
    return (loaders[0], lengths) if is_single else (_Together(combined, batches), [batches])


class _Together:
    """Several train loaders as one: an iterator of batches of all of them."""

    def __init__(self, combined: Any, batches: float) -> None:
        self._combined, self._batches = combined, batches

    def __len__(self) -> int:
        return int(self._batches)

    def __iter__(self) -> Any:
        for n, (batch, _, _) in enumerate(self._combined):
            if n == self._batches:
                return
            yield batch


def _length_of_all(combined: Any, counts: Lengths) -> float:
    if len(counts) == 1:
        return counts[0]
    if math.inf in counts:
        raise ModelError("train_dataloader: one of several loaders has no length. Give each a length, or pass one loader.")
    return {"max_size_cycle": max, "max_size": max, "min_size": min}[combined._mode](counts)


def val_loaders(trainer: Any, loop: Any, fn: str) -> tuple[list[Any], Lengths]:
    """Ask for the val or test loaders of a loop; return them with their lengths."""
    kind = "test" if trainer.testing else "val"
    loaders, lengths = _prepared(trainer, loop, fn, kind, "sequential")
    if loop._combined_loader._mode != "sequential":
        raise ModelError(f"{kind}_dataloader: CombinedLoader(mode={loop._combined_loader._mode!r}): pass a list of loaders.")
    loop._max_batches = [_count(trainer, kind, n) for n in lengths]
    loop._seen_batches_per_dataloader = defaultdict(int)
    return loaders, lengths


def predict_loaders(trainer: Any) -> tuple[list[Any], Lengths]:
    """Ask for the loaders to predict on; return them with their lengths."""
    loop = trainer.predict_loop
    loop.setup_data()
    loop._data_fetcher = part_of(trainer.package, "loops.fetchers")._PrefetchDataFetcher()
    loaders = list(loop._combined_loader.flattened)
    return loaders, [_length(trainer, loader) for loader in loaders]


def fit_loaders(trainer: Any) -> tuple[Any, list[Any], dict[str, Lengths]]:
    """Ask for the loaders of a fit; return the train loader, the val loaders, and the lengths of both kinds.

    With a sanity pass those of validation come first, and random numbers that they draw leave no trace.
    """
    val_loop = trainer.fit_loop.epoch_loop.val_loop
    val: list[Any] = []
    lengths: dict[str, Lengths] = {"val": []}
    if trainer.enable_validation and trainer.num_sanity_val_steps > 0:
        before = get_rng_state()
        val, lengths["val"] = val_loaders(trainer, val_loop, "fit")
        set_rng_state(before)
    train, lengths["train"] = train_loader(trainer)
    if trainer.enable_validation and not val:
        val, lengths["val"] = val_loaders(trainer, val_loop, "fit")
    return train, val, lengths


def _prepared(trainer: Any, loop: Any, fn: str, kind: str, mode: str) -> tuple[list[Any], Lengths]:
    """Ask for loaders, and let Lightning prepare each; the loop knows them from then on."""
    data = part_of(trainer.package, "trainer.connectors.data_connector")
    states = part_of(trainer.package, "trainer.states")
    stage = {
        "train": states.RunningStage.TRAINING, "val": states.RunningStage.VALIDATING, "test": states.RunningStage.TESTING,
    }[kind]  # fmt: skip
    source = loop._data_source
    found = data._request_dataloader(source)
    combined_loader = part_of(trainer.package, "utilities.combined_loader").CombinedLoader
    combined = found if isinstance(found, combined_loader) else combined_loader(found, mode)
    if fn == "fit" and trainer.overfit_batches > 0:
        data._resolve_overfit_batches(combined, mode=stage)
    function = states.TrainerFn(fn)
    prepared = []
    for loader in combined.flattened:
        if not isinstance(loader, torch.utils.data.DataLoader) and not hasattr(loader, "__iter__"):
            raise ModelError(f"{kind}_dataloader: {loader!r} is no loader: it cannot be iterated over.")
        prepared.append(data._process_dataloader(trainer, function, stage, loader))
    combined.flattened = prepared
    loop._combined_loader = combined
    return prepared, [_length(trainer, loader) for loader in prepared]


def _length(trainer: Any, loader: Any) -> float:
    has_len = part_of(trainer.package, "utilities.data").has_len_all_ranks
    return len(loader) if has_len(loader, trainer.strategy, True) else math.inf


def _count(trainer: Any, kind: str, length: float) -> float:
    """Return the batches of one loader, by Lightning's rule for its limit."""
    data = part_of(trainer.package, "trainer.connectors.data_connector")
    stage = part_of(trainer.package, "trainer.states").RunningStage
    stages = {"train": stage.TRAINING, "val": stage.VALIDATING, "test": stage.TESTING}
    count: float = data._parse_num_batches(stages[kind], length, getattr(trainer, f"limit_{kind}_batches"))
    return count


def _set_val_check_batch(trainer: Any, batches: float) -> None:
    """Set the train batches from one validation to the next, as Lightning computes them."""
    interval = trainer.val_check_interval
    if isinstance(interval, int):
        trainer.val_check_batch = interval
    elif batches == math.inf:
        trainer.val_check_batch = math.inf
        if interval != 1.0 and trainer.enable_validation:
            raise ModelError(
                f"val_check_interval={interval}: the train loader has no length, so there is no fraction of an epoch. Pass a "
                f"number of batches, or 1.0."
            )
    else:
        trainer.val_check_batch = max(1, int(batches * interval))
