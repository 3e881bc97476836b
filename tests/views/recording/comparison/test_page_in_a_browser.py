"""The page about several runs in Chromium: it fits, marks a run everywhere, and sorts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsmtrain.views.recording.comparison.page import write_comparison
from tests.views.recording.comparison.compared_runs import table_of, write_run
from tests.views.recording.report.chromium import CHROMIUM, open_browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.mark.slow
def test_the_page_fits_marks_a_run_everywhere_and_sorts(tmp_path: Path) -> None:
    for n in range(20):
        write_run(tmp_path / "runs" / f"run{n:02}", lr=10.0 ** -(n % 7), losses=(2.0, 1.0 + n, 0.5 * n))
    page = tmp_path / "page.html"
    write_comparison(table_of(tmp_path / "runs"), page, damaged={})
    with open_browser(tmp_path) as browser:
        for width, dark in ((1280, False), (480, True)):
            browser.open(page, width=width, dark=dark)
            assert browser.evaluate("document.documentElement.scrollWidth") == width
            browser.evaluate("document.querySelector('tr[data-run=\"7\"]').click()")
            assert browser.evaluate("document.querySelectorAll('path.marked').length") == 1
            assert browser.evaluate("document.querySelector('path.marked').dataset.run") == "7"
            browser.evaluate("document.querySelectorAll('th[data-column]')[2].click()")
            column = browser.evaluate(
                "[...document.querySelectorAll('.runs tbody tr')].map((row) => +row.cells[2].textContent)"
            )
            assert column == sorted(column)
            assert browser.console_errors() == []
