"""Header of the report: the model, whether and why the run ended, and the main numbers."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Literal

from fsmtrain.views.number_format import duration
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.html import Markup, tag
from fsmtrain.views.recording.run_outcome import Outcome


def header_section(run: RunRecord, now: datetime) -> Markup:
    """Return the header. `now` is when the report is made."""
    badge_class, badge, sentence = run_outcome(run, now)
    last = run.last
    seconds = to_float(run.end.get("wall_seconds", last.get("time", math.nan)))
    epochs = run.options.get("max_nb_epochs")
    numbers = [
        ("time", duration(seconds) if math.isfinite(seconds) else "unknown"),
        ("epoch", f"{last['epoch'] + 1:,} of {epochs:,}" if "epoch" in last and isinstance(epochs, int) and epochs else ""),
    ]
    counts = (("batches", "batches"), ("steps", "step"), ("validations", "validations"))
    numbers += [(title, f"{last[name]:,}") for title, name in counts if isinstance(last.get(name), int)]
    return tag(
        "header",
        tag("p", tag("span", "run ", run.name), class_="run-name"),
        tag("h1", run.model_class),
        tag("p", tag("b", badge, class_=f"badge {badge_class}"), " ", sentence, class_="outcome"),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", number)) for name, number in numbers if number), class_="tiles"),
    )


def run_outcome(run: RunRecord, now: datetime) -> tuple[Literal["good", "bad", "open"], str, str]:
    """Return how the run ended: a CSS class, a word and a sentence."""
    outcome = run.outcome(now)
    if run.end:
        sentence = f"{_capitalized(str(run.end.get('sentence', '')))}."
        return "bad" if outcome is Outcome.FAILED else "good", outcome, sentence
    running = outcome is Outcome.RUNNING
    sentence = "The run is still running." if running else "The run has not ended by itself: its process was killed."
    written = run.status.get("written")
    if not written:
        return "open", outcome, f"{sentence} It has not recorded any progress."
    state = run.status.get("state", "?")
    return "open", outcome, f"{sentence} Last recorded progress: state {state}, {written}{_age(str(written), now)}."


def _capitalized(sentence: str) -> str:
    starts_with_error_name = re.match(r"\w*(?:Error|Exception)\b", sentence)
    return sentence if starts_with_error_name else sentence[:1].upper() + sentence[1:]


def _age(written: str, now: datetime) -> str:
    try:
        seconds = (now - datetime.fromisoformat(written)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return f" ({duration(seconds)} before this report)" if seconds >= 1 else ""
