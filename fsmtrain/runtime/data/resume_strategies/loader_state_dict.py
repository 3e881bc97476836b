"""Resume a loader from its ``state_dict``: `SeededDataLoader`, torchdata's ``StatefulDataLoader``."""

from __future__ import annotations

import copy
from typing import Any

from fsmtrain.predicates import is_stateful
from fsmtrain.runtime.data.resume_strategies.resume_strategy import LoaderProgress, ResumeStrategy
from fsmtrain.runtime.rng import get_global_states, set_global_states, to_plain
from fsmtrain.user_warnings import warn


class StateDictStrategy(ResumeStrategy):
    """For loaders with ``state_dict`` and ``load_state_dict``."""

    kind = "state_dict"
    loaders = "a loader with state_dict and load_state_dict"

    @classmethod
    def supports(cls, loader: object) -> bool:
        """Return whether the loader has both methods."""
        return is_stateful(loader)

    def state_before_look_ahead(self) -> dict[str, Any]:
        """Return the states of the loader, which cannot take back a batch, and of the global generators."""
        return {"loader": copy.deepcopy(self.loader.state_dict()), "process": to_plain(get_global_states())}

    def state_dict(self, *, has_begun: bool, is_under_way: bool) -> dict[str, Any]:
        """Return the loader's state."""
        return {"loader": self.loader.state_dict() if has_begun else None, "process": None}

    def resume_pass(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Load the loader's state, and begin."""
        self._warn_of_samplers()
        self._load(progress, state)
        self.iterator = iter(self.loader)
        if state["process"] is not None:
            set_global_states(state["process"])

    def restore_between_passes(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Load the loader's state."""
        self._load(progress, state)
        if progress.is_exhausted:
            self.loader.state_dict()  # torchdata's applies a loaded state only when it is next called
        else:
            iter(self.loader)  # the pass that was left early; the next call begins another

    def _load(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        self.rewind(progress)
        self.loader.load_state_dict(state["loader"])

    def _warn_of_samplers(self) -> None:
        """Warn of a sampler without a state, which the loader can only begin again."""
        for sampler in (getattr(self.loader, "sampler", None), getattr(self.loader, "batch_sampler", None)):
            package = type(sampler).__module__.split(".")[0]
            if sampler is not None and package not in ("torch", "torchdata", "fsmtrain") and not is_stateful(sampler):
                name = type(sampler).__name__
                warn(
                    f"{self.name}: {name} has no state_dict and load_state_dict, so {type(self.loader).__name__} begins it "
                    f"again. The order is the same only if {name} does not draw from a global generator."
                )
