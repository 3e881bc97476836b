"""The README: its code runs, its picture is the current drawing, its commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_code_of_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    code = blocks("python")
    assert len(code) == 6
    script = tmp_path / "readme.py"
    script.write_text("\n".join(code))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'test_error': " in done.stdout
    assert "fetch -> train_batch (epoch 0, batch 2, optimizer 0)" in done.stdout
    assert (tmp_path / "machine.mmd").read_text().startswith("---\n")


def test_the_picture_of_the_readme_is_a_drawing_of_the_configuration_that_it_names() -> None:
    """The drawing itself is compared with the machine's where all of `diagrams/` is."""
    [picture] = re.findall(r"^!\[.+\]\((.+)\)$", README, flags=re.MULTILINE)
    [flags] = re.findall(r"^This is the machine of `Options\((.+)\)`$", README, flags=re.MULTILINE)
    drawn = (ROOT / picture).read_text(encoding="utf-8")
    assert all(flag in drawn for flag in flags.split(", "))


def test_the_commands_of_the_readme_are_those_of_the_makefile() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    commands = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE)
    assert commands == ["demo", "test"]
    assert set(commands) <= set(targets)


def test_the_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists()
    for folder in re.findall(r"^(\w+(?:/\w+)*)/ ", README, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir()
