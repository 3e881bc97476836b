"""The length of the epoch that begins, and its interval between validations: both may differ from the first epoch's."""

from __future__ import annotations

from fsmtrain.core.fractions_to_batches import epoch_batches
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.errors import DataError
from fsmtrain.plurals import plural
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.data.restore_loader_position import ResumableLoader
from fsmtrain.user_warnings import warn


class EpochLengths:
    """Applies percentages and a fractional ``val_check_interval`` anew to the length of each epoch.

    Args:
        spec: The run's options and limits.
        loader: The train loader.

    Source: semantics, "Sizes".
    """

    def __init__(self, spec: LoopSpec, loader: ResumableLoader) -> None:
        self._spec, self._loader = spec, loader
        self._has_reported_interval = False

    def now(self) -> tuple[int, int]:
        """Return the train batches of the epoch that the loader has been told, and the batches from validation to validation.

        Raises:
            SizesError: The epoch has no batches, or the percentage of them rounds to none.
            DataError: The loader had a length and has none any more, or the other way round.
        """
        limits, loader = self._spec.limits, self._loader
        if (loader.length is None) != limits.train_is_stream:
            was, now = ("none", loader.length) if limits.train_is_stream else (self._spec.sizes.train, "none")
            raise DataError(f"{loader.name}: its length was {was} when the run was built, and is {now} now. Keep its __len__.")
        if loader.length is None or loader.length == self._spec.sizes.train:
            return limits.train_batches, limits.val_check_batches
        has_interval = limits.val_check_batches > 0
        train, interval = epoch_batches(self._spec.options, loader.length, validates=has_interval)
        if interval > train and not self._has_reported_interval and is_integer(self._spec.options.val_check_interval):
            self._has_reported_interval = True
            warn(
                f"val_check_interval={interval}: this epoch has {plural(train, 'batch')}, so it has no validation, and so has "
                f"no other epoch that is as short. Pass a fraction of the epoch, as in val_check_interval=1.0."
            )
        return train, interval
