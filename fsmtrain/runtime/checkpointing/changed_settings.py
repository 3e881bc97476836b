"""Resume with other settings of optimizers and schedulers: which are taken, and what is said of it."""

from __future__ import annotations

from fsmtrain.runtime.optimization.optimizer_settings import OptimizerSettings, Settings, differences_text, is_taken_in_any_case
from fsmtrain.user_warnings import warn

_WAY_OUT = "new_settings=True (Trainer: resume_new_settings=True; command line: --resume_new_settings)"


def resume_settings(settings: OptimizerSettings, saved: Settings, *, take_new: bool) -> None:
    """Decide on the settings of optimizers and schedulers that have just been loaded, and warn of differences."""
    differences = settings.differences(saved)
    if take_new:
        if differences:
            settings.take_own(saved)
            warn(f"optimizers and schedulers are resumed with new settings: {differences_text(differences)}.")
        return
    longer = [type(config.scheduler).__name__ for config in settings.keep_saved(saved)]
    kept = [d for d in differences if not is_taken_in_any_case(d) and not (d.name == "total_steps" and longer)]
    taken = [d for d in differences if d not in kept]
    if kept:
        warn(
            f"optimizers and schedulers are resumed with the saved settings, not with this run's: {differences_text(kept)}. "
            f"To take those of this run, resume with {_WAY_OUT}."
        )
    if taken:
        warn(f"schedulers are resumed with new settings: {differences_text(taken)}.")
