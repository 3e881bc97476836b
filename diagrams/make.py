"""Draw the diagrams in this folder: `python diagrams/make.py`, or with `--check` only compare them.

This file says which configurations are drawn; `fsmtrain.views.diagrams.formats` draws them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.interval_guards import after_steps, every_n_batches
from fsmtrain.core.sizes import Sizes
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.views.diagrams.formats import dot, mermaid, svg

FOLDER = Path(__file__).parent

DATA = Sizes(train=45, val=[12])

CONFIGURATIONS: dict[str, Loop] = {
    "plain": Loop(Options(max_nb_epochs=20), DATA),
    "accumulation": Loop(
        Options(max_nb_epochs=20, accumulate_grad_batches=4, val_check_interval=0.25, early_stop_callback=True), DATA
    ),
    "two_optimizers": Loop(
        Options(max_nb_epochs=20),
        Sizes(train=45, val=[12], optimizers=2),
        guards=Guards(step={0: every_n_batches(2), 1: every_n_batches(4)}),
    ),
    "tbptt": Loop(Options(max_nb_epochs=20, accumulate_grad_batches=2, truncated_bptt_steps=2), DATA),
    "everything": Loop(
        Options(
            accumulate_grad_batches={0: 2, 5: 4},
            truncated_bptt_steps=2,
            min_nb_epochs=3,
            max_nb_epochs=20,
            early_stop_callback=True,
            check_val_every_n_epoch=2,
            val_check_interval=0.25,
            precision="16",
        ),
        Sizes(train=45, val=[12], test=[30], optimizers=2),
        guards=Guards(step={1: every_n_batches(4)}, save=every_n_batches(15), stop=after_steps(10_000)),
    ),
}


def expected_files() -> dict[Path, str]:
    """Return each file that belongs in this folder, and its text."""
    formats = {".mmd": mermaid, ".dot": dot, ".svg": svg}
    return {
        FOLDER / f"{name}{suffix}": draw(loop.spec) for name, loop in CONFIGURATIONS.items() for suffix, draw in formats.items()
    }


def outdated_files() -> dict[Path, str]:
    """Return the files that are missing or differ, and their expected text."""
    return {
        path: text
        for path, text in expected_files().items()
        if not path.exists() or not shows_the_same(path.read_bytes(), text.encode())
    }


def shows_the_same(old: bytes, new: bytes) -> bool:
    """Return whether two files show the same. Positions in a picture do not count: other versions have another layout."""
    return old == new or (b"<svg" in old and b"<svg" in new and words_by_id(old) == words_by_id(new))


def words_by_id(picture: bytes) -> dict[str, str]:
    """Return the words of a picture, by the id of each state, edge and note."""
    groups = ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}g")
    return {group.attrib["id"]: " ".join(text_lines(group)) for group in groups}


def text_lines(group: ElementTree.Element) -> list[str]:
    """Return the lines of text in a group of a picture."""
    return [(text.text or "").strip() for text in group.findall("{http://www.w3.org/2000/svg}text")]


def main() -> int:
    """Write the files that differ, or with ``--check`` only print their names; return the exit status."""
    parser = argparse.ArgumentParser(description="Draw the diagrams in this folder.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a file is not up to date")
    check: bool = parser.parse_args().check
    files = outdated_files()
    for path, text in files.items():
        if check:
            print(f"{path.name} is not up to date: run python diagrams/make.py")
        else:
            path.write_bytes(text.encode())
            print(f"wrote {path.name}")
    return 1 if check and files else 0


if __name__ == "__main__":
    sys.exit(main())
