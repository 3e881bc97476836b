"""The layout of the tests: a test file mirrors a module or folder of the package, or stands in a topic folder of README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
README = (TESTS / "README.md").read_text(encoding="utf-8")
TOPICS = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
FILES = [path.relative_to(TESTS) for path in sorted(TESTS.rglob("test_*.py"))]


def mirrored_folder(folder: Path) -> Path:
    """Return the folder that a folder of tests mirrors."""
    return ROOT / folder if folder.parts[:1] == ("tools",) else ROOT / "fsmtrain" / folder


def names_in(folder: Path) -> set[str]:
    """Return the names of the modules and subfolders of a folder."""
    return {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}


@pytest.mark.parametrize("file", [file for file in FILES if file.parts[0] not in TOPICS], ids=str)
def test_a_test_file_is_named_after_a_module_or_folder_at_the_same_path(file: Path) -> None:
    topic = file.stem.removeprefix("test_")
    known = names_in(mirrored_folder(file.parent))
    assert any(topic == name or topic.startswith(f"{name}_") for name in known), f"no module for {file}; {sorted(known)}"


def test_the_topic_folders_of_the_readme_are_there_and_mirror_nothing() -> None:
    assert len(TOPICS) == len(set(TOPICS)) >= 6
    for topic in TOPICS:
        assert list((TESTS / topic).glob("test_*.py")), topic
        assert not mirrored_folder(Path(topic)).exists(), topic


def test_every_folder_of_tests_is_a_package() -> None:
    """So two test files may have one name."""
    assert not {file.parent for file in FILES if not (TESTS / file.parent / "__init__.py").exists()}


def test_the_paths_and_commands_of_the_readme_exist() -> None:
    for name in re.findall(r"`([\w/]+\.(?:py|jsonl?))`", README):
        assert any((base / name).exists() for base in (TESTS, ROOT)), name
    for module in re.findall(r"python -m (tests[\w.]+)", README):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
