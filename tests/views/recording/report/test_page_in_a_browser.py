"""The report in Chromium: in both colour schemes, on a phone and on a wide screen, on paper, and without scripts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsmtrain.views.recording.report.page import write_report
from tests.views.recording.recorded_runs import read_json
from tests.views.recording.report.chromium import CHROMIUM, Browser, open_browser
from tests.views.recording.report.reported_runs import metrics_row, record_run, write_million_batch_folder, write_run_folder

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

LOOKS = pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False), (380, True)])

# The least contrast of a text with what it stands on, over all elements with text of their own that are to be seen.
CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => color.slice(0, 3)
    .map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = rgb(getComputedStyle(each).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  let least = [99, ""];
  for (const element of document.querySelectorAll("main *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("svg") || !element.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(under(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < least[0]) least = [contrast, element.outerHTML.slice(0, 80)];
  }
  return least;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all of these tests."""
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a short run with everything in it."""
    runs = tmp_path_factory.mktemp("runs")
    machine = record_run(runs, train=9, test=3, accumulate_grad_batches=2, max_nb_epochs=3)
    machine.run()
    machine.report(runs / "report.html")
    return runs / "report.html"


def check_silence(browser: Browser, page: Path) -> None:
    """Assert that the console is empty, and that nothing but the page was requested."""
    assert browser.console_errors() == []
    assert browser.requests() == [page.as_uri()]


@LOOKS
def test_the_page_opens_without_messages_and_fits_the_screen(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    check_silence(browser, page)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    seen = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (int(re.findall(r"\d+", seen)[0]) < 64) == dark
    contrast, element = browser.evaluate(CONTRAST)
    assert contrast >= 4.5, element
    assert browser.picture().startswith(b"\x89PNG")


def test_the_curves_end_at_the_metrics_of_the_run(browser: Browser, page: Path) -> None:
    browser.open(page)
    end = read_json(page.parent / "0" / "end.json")["metrics"]
    for name in ("loss", "twice", "val_loss"):
        key = f"[...document.querySelectorAll('.legend > span')].find((key) => key.children[1].textContent === '{name}')"
        assert float(browser.evaluate(f"{key}.querySelector('b').textContent")) == pytest.approx(end[name], rel=1e-3)
    place = browser.evaluate(
        """(() => {
          const path = document.querySelector(".chart svg.curves .lin path.line.line0");
          const end = path.getPointAtLength(path.getTotalLength()), chart = JSON.parse(numbers.textContent).charts[0];
          return chart.lin[1] - (end.y / 1000) * (chart.lin[1] - chart.lin[0]);
        })()"""
    )
    assert place == pytest.approx(end["loss"], abs=0.02)


def test_hovering_shows_the_numbers_below_the_pointer(browser: Browser, page: Path) -> None:
    browser.open(page)
    x, y, width = browser.evaluate(
        "(() => { const plot = document.querySelector('.plot'); plot.scrollIntoView();"
        " const box = plot.getBoundingClientRect(); return [box.left, box.top + 20, box.width]; })()"
    )
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 1, y=y)
    value = "document.querySelector('.chart .legend b').textContent"
    assert browser.evaluate(value) == "0"
    assert browser.evaluate("document.querySelector('.readout').textContent") == "step 0, epoch 1"  # people count epochs from 1
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + width - 1, y=y)
    assert browser.evaluate(value) == "8"
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert browser.evaluate("document.querySelector('.readout').textContent") == ""


def test_dragging_zooms_in_and_the_button_resets_the_zoom(browser: Browser, page: Path) -> None:
    browser.open(page)
    x, y, width = browser.evaluate(
        "(() => { const plot = document.querySelector('.plot'); plot.scrollIntoView();"
        " const box = plot.getBoundingClientRect(); return [box.left, box.top + 20, box.width]; })()"
    )
    boxes = "[...document.querySelectorAll('svg.curves')].map((svg) => svg.getAttribute('viewBox').split(' ').map(Number))"
    before = browser.evaluate(boxes)
    for kind, share in (("mousePressed", 0.5), ("mouseMoved", 0.7), ("mouseReleased", 1.0)):
        place = {"x": x + share * width, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        browser.call("Input.dispatchMouseEvent", type=kind, **place)
    closer = browser.evaluate(boxes)
    for box in closer[:3]:  # all charts over the steps together
        assert box[0] == pytest.approx(5000, abs=30)
        assert box[2] == pytest.approx(5000, abs=30)
    assert closer[3] == before[3]  # the timeline by itself
    ticks = browser.evaluate("[...document.querySelectorAll('.frame')][0].querySelector('.ticks.x').textContent")
    assert "0" not in re.findall(r"\d+", ticks)[:1]
    browser.evaluate("document.querySelector('button.reset').click()")
    assert browser.evaluate(boxes) == before
    assert browser.console_errors() == []


def test_ticks_are_equal_whether_the_page_or_its_script_made_them(browser: Browser, tmp_path: Path) -> None:
    rows = [metrics_row(step * 700, {"loss": math.exp(-step / 9), "acc": step / 99, "big": 1e5 * step}) for step in range(100)]
    write_report(write_run_folder(tmp_path / "0", rows), tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    place = "parseFloat(tick.style.top || tick.style.left).toFixed(1)"
    tick_labels = (
        "[...document.querySelectorAll('.ticks')].filter((side) => side.checkVisibility())"
        f".map((side) => [...side.children].map((tick) => tick.textContent + ' ' + {place}).sort())"
    )
    before = browser.evaluate(tick_labels)
    assert len(before) == 8
    assert before[0][0].startswith("0.")
    browser.evaluate("document.querySelector('button.reset').click()")  # which draws them anew
    assert browser.evaluate(tick_labels) == before


def test_without_scripts_the_page_is_complete(browser: Browser, page: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        check_silence(browser, page)
        heights = "[...document.querySelectorAll('.plot svg.curves')].map((svg) => svg.getBoundingClientRect().height)"
        assert all(height > 100 for height in browser.evaluate(heights))
        assert browser.evaluate("[...document.querySelectorAll('button')].some((button) => button.checkVisibility())") is False
        assert browser.evaluate("document.querySelectorAll('.ticks.x span').length") > 8
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_page_can_be_printed(browser: Browser, page: Path) -> None:
    browser.open(page, dark=True)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", printed)) <= 8
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.call("Emulation.setEmulatedMedia", media="print", features=[dark])
    seen = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert int(re.findall(r"\d+", seen)[0]) > 200  # no dark paper


def test_a_hostile_name_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
    folder = write_run_folder(tmp_path / "0", [metrics_row(step, {name: 1.0}) for step in range(5)], model={"class": name})
    write_report(folder, tmp_path / "report.html")
    browser.open(tmp_path / "report.html")
    check_silence(browser, tmp_path / "report.html")
    assert browser.events_of("Page.javascriptDialogOpening") == []
    assert browser.evaluate("document.querySelector('h1').textContent") == name
    assert browser.evaluate("document.querySelectorAll('img').length") == 0


@pytest.mark.slow
def test_a_run_of_a_million_batches_opens_too(browser: Browser, tmp_path: Path) -> None:
    write_report(write_million_batch_folder(tmp_path / "0"), tmp_path / "report.html")
    browser.open(tmp_path / "report.html", width=390)
    check_silence(browser, tmp_path / "report.html")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
