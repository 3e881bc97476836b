"""The `ModelCheckpoint`s of a run, each with its ranking, its guard and its folder; which of them ask for a checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, fields, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.model_checkpoint import FOLDER, ModelCheckpoint
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import OptionsError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import RetentionPolicy
from fsmtrain.runtime.checkpointing.save_top_k import MetricRanking, retention_policy

FOLDERS = "folders"  # the key in a checkpoint's metadata of those that it was saved to, in a run with several rules
RULES = "rules"  # the key of what saves to each folder in the run's folder, likewise
_FOLDER_NAME = re.compile(rf"{FOLDER}(-[\w.=+-]+)?")


@frozen(eq=False)
class SaveRule:
    """One `ModelCheckpoint` of a run.

    Attributes:
        asked: It, as the user passed it.
        ranking: The metric of each checkpoint; None if it monitors none.
        guard: Whether it asks for a checkpoint.
        policy: Which checkpoints are kept in its folder; None for all.
        folder_name: The name of its folder in the run's folder.
    """

    asked: ModelCheckpoint
    ranking: MetricRanking | None
    guard: Guard
    policy: RetentionPolicy | None
    folder_name: str

    @property
    def only_newest(self) -> bool:
        """Whether a checkpoint is of no use any more once there is a newer one."""
        return self.ranking is None and self.asked.save_top_k == 1

    @property
    def key(self) -> str:
        """How checkpoints name its folder: by `dirpath`, or by its name in the run's folder, which may be moved."""
        return self.folder_name if self.asked.dirpath is None else os.fspath(self.asked.dirpath)

    @property
    def subject(self) -> str:
        """What it saves by: its metric, or its intervals. A resumed run finds its folder again by this."""
        return self.asked.monitor or self.asked.name

    def folder(self, beside: Path) -> Path:
        """Return its folder: that of `dirpath`, or one in the folder `beside`."""
        return beside / self.folder_name if self.asked.dirpath is None else Path(self.asked.dirpath)


def split_callbacks(callbacks: Iterable[object], guards: Guards) -> tuple[tuple[object, ...], tuple[SaveRule, ...]]:
    """Separate the rules for checkpoints from the other callbacks.

    Raises:
        OptionsError: Two of them have one folder, or there is a save guard beside them.
    """
    callbacks = tuple(callbacks)
    asked = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    if asked and guards.save is not None:
        raise OptionsError("callbacks: a ModelCheckpoint and Guards(save=...) both decide when to save. Pass one of them.")
    rules = tuple(_rule(one, guards, FOLDER if i == 0 else f"{FOLDER}-{one.name}") for i, one in enumerate(asked))
    require_own_folders(rules)
    return tuple(callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)), rules


def _rule(asked: ModelCheckpoint, guards: Guards, folder_name: str) -> SaveRule:
    ranking = MetricRanking(asked, asked.monitor) if asked.monitor is not None else None
    return SaveRule(asked, ranking, asked.guard(guards), retention_policy(asked, ranking), folder_name)


def folders_by_subject(rules: Sequence[SaveRule]) -> dict[str, str]:
    """Return what saves to each folder in the run's folder, for a checkpoint's metadata."""
    return {rule.folder_name: rule.subject for rule in rules if rule.asked.dirpath is None}


def with_saved_folders(rules: Sequence[SaveRule], metadata: Mapping[str, Any], rankings: Sequence[str]) -> tuple[SaveRule, ...]:
    """Return the rules of a resumed run, each with the folder that it had, whatever is listed before it now.

    Otherwise a rule would delete what another one has kept there.

    Args:
        rules: The rules, with the folders of a new run.
        metadata: That of the checkpoint.
        rankings: The metrics that ranked its run's checkpoints.

    Raises:
        OptionsError: Two of them have one folder then.
    """
    left = _saved_folders(metadata, rankings)
    names: dict[int, str] = {}
    for i, rule in enumerate(rules):
        own = (folder for folder, subject in left.items() if subject == rule.subject or not (subject or rule.ranking))
        if rule.asked.dirpath is None and (folder := next(own, None)) is not None:
            names[i] = folder
            del left[folder]
    for i, rule in enumerate(rules):
        if rule.asked.dirpath is None and i not in names:
            names[i] = rule.folder_name if rule.folder_name not in names.values() else f"{FOLDER}-{rule.asked.name}"
    changed = tuple(evolve(rule, folder_name=names.get(i, rule.folder_name)) for i, rule in enumerate(rules))
    require_own_folders(changed)
    return changed


def _saved_folders(metadata: Mapping[str, Any], rankings: Sequence[str]) -> dict[str, str]:
    """Return the subject of each folder of a saved run; empty for that of its only rule if it has no metric."""
    saved = metadata.get(RULES)
    if isinstance(saved, Mapping):
        return {name: subject for name, subject in saved.items() if _FOLDER_NAME.fullmatch(name) and isinstance(subject, str)}
    return {} if FOLDERS in metadata else {FOLDER: rankings[0] if rankings else ""}


def require_own_folders(rules: Sequence[SaveRule], beside: Path | None = None) -> None:
    """Raise an `OptionsError` if two rules have one folder: each would delete what the other keeps.

    Args:
        rules: The rules.
        beside: The run's folder; None before it is known.
    """
    taken: dict[str, SaveRule] = {}
    for rule in rules:
        known = rule.asked.dirpath is not None or beside is not None
        folder = os.path.realpath(rule.folder(beside or Path())) if known else rule.folder_name
        if (other := taken.setdefault(folder, rule)) is not rule:
            raise OptionsError(
                f"callbacks: {_shown(other.asked)} and {_shown(rule.asked)} both save to {folder!r}, where each would delete "
                f"what the other keeps. Give one of them a folder of its own, as in ModelCheckpoint(dirpath='best'), or make "
                f"one rule of both."
            )


def _shown(asked: ModelCheckpoint) -> str:
    """Return a rule as its user may have written it: without what is the default."""
    own = {f.name: value for f in fields(ModelCheckpoint) if (value := getattr(asked, f.name)) != f.default}
    return f"ModelCheckpoint({', '.join(f'{name}={value!r}' for name, value in own.items())})"


def rules_due(
    rules: Sequence[SaveRule], limits: Limits, counters: Counters, signals: Signals, *, timed: Sequence[bool]
) -> list[int]:
    """Return the indices of the rules that ask for the checkpoint which is saved now; the first where none does.

    Args:
        rules: The rules.
        limits: The limits, by which the guards are asked again.
        counters: The counters.
        signals: The signals; `save_wanted` is of all rules together.
        timed: For each rule, whether its clock asks.
    """
    if len(rules) < 2:
        return [0]
    of_rules = (evolve(signals, save_wanted=asks) for asks in timed)
    due = [i for i, (rule, own) in enumerate(zip(rules, of_rules, strict=True)) if rule.guard(limits, counters, own)]
    return due or [0]


def due_in(metadata: Mapping[str, Any]) -> list[str]:
    """Return the keys of the folders that a checkpoint was saved to; none in a run with one rule."""
    keys = metadata.get(FOLDERS)
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
