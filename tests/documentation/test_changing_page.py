"""docs/changing.md names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_path_on_the_page_about_changes_exists() -> None:
    page = (ROOT / "docs" / "changing.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:fsmtrain|tests)/[^`]*)`", page))
    assert len(paths) > 40
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
