"""Files of predictions: what ``predict`` returned, as plain data, in the format of the file's suffix.

``.pt`` has the outputs as they are, one for each batch: ``torch.load(path, weights_only=True)``. ``.npz`` has one array
for each tensor of an output, of all batches together: ``numpy.load(path)``. ``.jsonl`` has a line of JSON for each sample. No
pickled objects are in any of them.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsmtrain.errors import ModelError, OptionsError
from fsmtrain.plurals import a_type_of
from fsmtrain.replace_file import replace_file
from fsmtrain.runtime.nested_tensors import is_record, record_items

ALONE = "predictions"  # the name of an output that has none
_OWN_OF_TORCH = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)  # numpy has no such type
_PT = "A .pt file has each batch's own."


def validate_predictions_path(path: Path) -> None:
    """Check that there is a format for a file, before the run.

    Raises:
        OptionsError: There is none for its suffix, or it is a folder.
    """
    if path.is_dir():
        raise OptionsError(f"{path}: is a folder. Pass the path of a file.")
    if path.suffix not in FORMATS:
        raise OptionsError(f"{path}: the suffix selects the format, so it must be one of {', '.join(FORMATS)}.")


def save_predictions(path: Path, loaders: Sequence[Sequence[Any]]) -> None:
    """Write predictions to a file, completely or not at all.

    Args:
        path: The file.
        loaders: For each loader the outputs of its batches.

    Raises:
        ModelError: The outputs are no plain data, or the format cannot hold them.
        OSError: The file cannot be written.
    """
    plain = [[plain_output(output) for output in outputs] for outputs in loaders]
    try:
        data = FORMATS[path.suffix](plain, path)
    except (TypeError, ValueError, RuntimeError) as error:  # of torch, numpy or json; a ModelError is a TypeError
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{path}: a {path.suffix} file cannot hold these predictions: {str(error).rstrip('.')}. {_PT}"
        ) from error
    replace_file(path, data)


def plain_output(output: Any, place: str = "the output") -> Any:
    """Return an output as tensors, numbers, texts and None, in lists, tuples and dicts.

    Raises:
        ModelError: It has another part.

    >>> plain_output((np.float32(0.5), {"label": "cat"}))
    (0.5, {'label': 'cat'})
    """
    if output is None or isinstance(output, (bool, int, float, str)):
        return output
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, np.generic):
        return plain_output(output.item(), place)
    if isinstance(output, np.ndarray) and output.dtype.kind in "US":
        return output.tolist()
    if isinstance(output, np.ndarray) and output.dtype.kind in "biufc":
        return torch.from_numpy(np.ascontiguousarray(output, output.dtype.newbyteorder("=")))
    if isinstance(output, Mapping):
        items = {str(key): plain_output(item, f"{place}[{key!r}]") for key, item in output.items()}
        if len(items) < len(output):
            raise ModelError(f"predict_step: {place} has two keys with the same text: {', '.join(map(repr, output))}.")
        return items
    if is_record(output):
        return {name: plain_output(item, f"{place}.{name}") for name, item in record_items(output).items()}
    if isinstance(output, (list, tuple)):
        parts = [plain_output(item, f"{place}[{nb}]") for nb, item in enumerate(output)]
        return parts if isinstance(output, list) else tuple(parts)
    raise ModelError(
        f"predict_step: {place} is {a_type_of(output)}, which no file of predictions holds. Return tensors, numbers and texts, "
        f"or lists, tuples and dicts of them."
    )


# ---- formats


def _pt(loaders: Sequence[list[Any]], path: Path) -> bytes:
    file = io.BytesIO()
    torch.save(loaders[0] if len(loaders) == 1 else loaders, file)
    return file.getvalue()


def _npz(loaders: Sequence[list[Any]], path: Path) -> bytes:
    arrays: dict[str, Any] = {}
    for loader_i, outputs in enumerate(loaders):
        prefix = f"{loader_i}/" if len(loaders) > 1 else ""
        rows = [_columns(output) for output in outputs]
        for name in dict.fromkeys(name for row in rows for name in row):
            lacking = [batch_nb for batch_nb, row in enumerate(rows) if name not in row]
            if lacking:  # its rows would stand beside those of other samples
                raise ModelError(
                    f"{path}: there is no {name} in batch {lacking[0]}, so one array of all batches would not say which sample "
                    f"a row is of. {_PT}"
                )
            values = [_array(row[name]) for row in rows]
            try:
                joined = np.concatenate(values) if values[0].ndim else np.stack(values)
            except ValueError as error:
                raise ModelError(
                    f"{path}: {name} has another shape in some batches, so there is no one array of it: {error}. {_PT}"
                ) from error
            arrays[prefix + name] = joined
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:  # as numpy.savez, of which some names are arguments
        for name, array in arrays.items():
            with members.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return file.getvalue()


def _jsonl(loaders: Sequence[list[Any]], path: Path) -> bytes:
    lines = []
    for loader_i, outputs in enumerate(loaders):
        place = {"loader": loader_i} if len(loaders) > 1 else {}
        for batch_nb, output in enumerate(outputs):
            columns = {
                name: _finite(_array(value).tolist() if isinstance(value, Tensor) else value)
                for name, value in _columns(output).items()
            }
            counts = {len(value) if isinstance(value, list) else None for value in columns.values()}
            if len(counts) != 1 or None in counts:  # not one value for each sample
                lines.append({**place, "batch": batch_nb, **columns})
                continue
            for sample in range(counts.pop() or 0):
                lines.append({**place, "batch": batch_nb, "sample": sample, **{n: v[sample] for n, v in columns.items()}})
    return "".join(f"{json.dumps(line, ensure_ascii=False, allow_nan=False)}\n" for line in lines).encode()


def _columns(output: Any) -> dict[str, Any]:
    """Return the tensors and single values of an output by name.

    Raises:
        ModelError: Two have the same name.
    """
    columns: dict[str, Any] = {}
    for name, value in _named_values(output):
        if name in columns:
            raise ModelError(f"predict_step: the output has two values with the name {name!r}. Rename one of them.")
        columns[name] = value
    return columns


def _named_values(output: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors and single values of an output with their names; a list of texts or numbers is one value."""
    if isinstance(output, dict):
        for key, item in output.items():
            yield from _named_values(item, f"{name}.{key}" if name else key)
    elif isinstance(output, tuple) or (isinstance(output, list) and any(isinstance(i, (Tensor, list, dict)) for i in output)):
        for nb, item in enumerate(output):
            yield from _named_values(item, f"{name}.{nb}" if name else str(nb))
    elif output is not None:
        yield name or ALONE, output


def _array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (value.float() if value.dtype in _OWN_OF_TORCH else value).cpu().numpy()
    return np.asarray(value)


def _finite(values: Any) -> Any:
    """Return numbers, or lists of them, with None for those that are not finite, since JSON has none."""
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


FORMATS: dict[str, Callable[[Sequence[list[Any]], Path], bytes]] = {".pt": _pt, ".npz": _npz, ".jsonl": _jsonl}
