"""`ResumeStrategy`: the interface of all ways to bring a new loader to a saved position."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from attrs import define, frozen

from fsmtrain.runtime.data.loader_rng import get_loader_rng_state, set_loader_rng_state
from fsmtrain.runtime.rng import GlobalStates, get_global_states, set_global_states, to_plain


@frozen(eq=False)
class PassStart:
    """The random states just before a pass over a loader began."""

    process: GlobalStates
    loader: list[Any]

    @classmethod
    def now(cls, loader: object) -> PassStart:
        """Return the present states. They are made plain only if a checkpoint needs them."""
        return cls(get_global_states(), get_loader_rng_state(loader))

    def restore(self, loader: object, name: str) -> None:
        """Set the states."""
        set_global_states(self.process)
        set_loader_rng_state(loader, self.loader, name)

    def state_dict(self) -> dict[str, Any]:
        """Return the states as plain data."""
        return {"process": to_plain(self.process), "loader": self.loader}


@define
class LoaderProgress:
    """How far a run has come in a loader."""

    yielded: int = 0  # batches yielded in this pass
    fetched: int = 0  # batches fetched in all passes
    start: PassStart | None = None  # of the last pass that began
    first_start: PassStart | None = None  # of the first pass
    is_exhausted: bool = False  # whether the last pass reached the loader's end


class ResumeStrategy(ABC):
    """The passes over one loader, and how a new loader of its kind is brought to a saved position.

    Args:
        loader: Anything that can be iterated over.
        name: The loader's name in errors and warnings.
    """

    kind: ClassVar[str]  # its name in checkpoints
    loaders: ClassVar[str]  # which loaders it is for, in errors

    def __init__(self, loader: Any, name: str) -> None:
        self.loader, self.name = loader, name
        self.iterator: Any = None  # of the pass under way

    @classmethod
    @abstractmethod
    def supports(cls, loader: object) -> bool:
        """Return whether this strategy can resume such a loader."""

    @abstractmethod
    def resume_pass(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Begin the saved pass again, after the batches that it has yielded.

        The caller restores the global generators.
        """

    @abstractmethod
    def restore_between_passes(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Bring the loader to where it was between two passes. The caller restores its own generators."""

    def rewind(self, progress: LoaderProgress) -> None:
        """Set every generator to its state just before the last pass began."""
        assert progress.start is not None
        progress.start.restore(self.loader, self.name)

    def begin(self, progress: LoaderProgress) -> None:
        """Begin a pass, as a ``for`` loop does."""
        self.iterator = iter(self.loader)

    def fetch(self, progress: LoaderProgress) -> Any:
        """Return the next batch.

        Raises:
            StopIteration: There is none.
        """
        return next(self.iterator)

    def end(self) -> None:
        """Drop the pass under way."""
        self.iterator = None

    def state_before_look_ahead(self) -> dict[str, Any] | None:
        """Return what to save in place of `state_dict` until the batch fetched next is yielded, if needed."""
        return None

    def state_dict(self, *, has_begun: bool, is_under_way: bool) -> dict[str, Any]:
        """Return what this strategy adds to a saved position, as plain data.

        Args:
            has_begun: Whether any pass has begun.
            is_under_way: Whether a pass has begun and has not ended.
        """
        return {}
