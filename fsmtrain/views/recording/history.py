"""`History`: the record of a run as rows, and as a data frame of pandas or polars where one is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fsmtrain.errors import MissingExtraError
from fsmtrain.html_table import html_table
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.files.metrics_jsonl import FIXED_COLUMNS, column_name
from fsmtrain.views.recording.read_run_folder import read_run_folder

MAX_SHOWN_ROWS = 20  # at the beginning, and at the end, in a notebook


class History(list[Row]):
    """The rows of a run's record, in their order: dicts with the columns of ``metrics.csv`` that the row has.

    ``kind`` is ``"train"`` (one batch, or several), ``"epoch"``, ``"validation"``, ``"test"`` or ``"validate"``. Then come
    ``time``, ``epoch``, ``batch``, ``step``, ``batches``, ``lr`` (of several optimizers ``lr/0``, ``lr/1``, ...), and the
    metrics by their names.

    Example:
        >>> history = History(flat_rows([
        ...     {"kind": "train", "epoch": 0, "batch": 0, "step": 0, "batches": 1, "values": {"loss": 2.0}, "lr": [0.5]},
        ...     {"kind": "validation", "epoch": 0, "batch": 0, "step": 1, "values": {"val_loss": "NaN"}},
        ... ]))
        >>> history.of("train")
        [{'kind': 'train', 'epoch': 0, 'batch': 0, 'step': 0, 'batches': 1, 'lr': 0.5, 'loss': 2.0}]
        >>> [row.get("val_loss") for row in history]
        [None, nan]
    """

    def of(self, *kinds: str) -> History:
        """Return the rows of these kinds alone."""
        return History(row for row in self if row["kind"] in kinds)

    @property
    def columns(self) -> list[str]:
        """The names that any row has, those that every row has first."""
        named = dict.fromkeys(name for row in self for name in row)
        return [*(name for name in FIXED_COLUMNS if name in named), *(name for name in named if name not in FIXED_COLUMNS)]

    def _repr_html_(self) -> str:
        names, shown = self.columns, [*self[:MAX_SHOWN_ROWS], *self[max(MAX_SHOWN_ROWS, len(self) - MAX_SHOWN_ROWS) :]]
        note = f"<p>{len(self) - len(shown):,} rows between are not shown</p>" if len(shown) < len(self) else ""
        return html_table([[row.get(name) for name in names] for row in shown], names) + note

    def to_pandas(self) -> Any:
        """Return the rows as a pandas ``DataFrame``. What a row does not have is missing there.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return _package("pandas", "to_pandas").DataFrame(self, columns=self.columns)

    def to_polars(self) -> Any:
        """Return the rows as a polars ``DataFrame``. What a row does not have is null there.

        Raises:
            MissingExtraError: polars is not installed.
        """
        columns = {name: [row.get(name) for row in self] for name in self.columns}
        return _package("polars", "to_polars").DataFrame(columns, strict=False)


def _package(name: str, method: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"history.{method}(): {name} is not installed. Install it (pip install {name}), or use the rows, which are dicts."
        ) from error


def read_history(folder: Path) -> History:
    """Read the record of a run from its folder.

    Raises:
        UsageError: It is not a run folder, or has an unknown format.
    """
    return History(flat_rows(read_run_folder(folder).metrics))


def flat_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows of ``metrics.jsonl`` with their learning rates and metrics as columns of their own."""
    rows = list(rows)
    rates = max((len(row.get("lr", ())) for row in rows), default=0)
    rate_names = ["lr"] if rates == 1 else [f"lr/{index}" for index in range(rates)]
    columns: dict[str, str] = {}
    for row in rows:
        for name in row["values"]:
            if name not in columns:
                columns[name] = column_name(name, columns.values())
    flat = []
    for row in rows:
        cells = {name: row[name] for name in FIXED_COLUMNS if name in row}
        lr = zip(rate_names, row.get("lr", ()), strict=False)
        cells |= {name: to_float(rate) for name, rate in lr if rate is not None}
        flat.append(cells | {columns[name]: to_float(value) for name, value in row["values"].items()})
    return flat
