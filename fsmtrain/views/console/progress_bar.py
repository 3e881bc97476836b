"""The progress bar of a terminal: one line, redrawn by a thread that looks at the run ten times a second at most.

The thread that trains does nothing for it. Imported only where a bar is drawn, and with it tqdm, which draws.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

from attrs import evolve
from tqdm import tqdm
from tqdm.utils import disp_trim

from fsmtrain.core.states import State
from fsmtrain.views.console.progress_text import ProgressSnapshot, Rates, Run, metric, rate, snapshot, wait_briefly
from fsmtrain.views.console.terminal import MARGIN, LastLine, columns_of

INTERVAL = 0.1  # seconds from one look to the next
LONG = 2.0  # seconds after which it is said how long a visit has taken
WIDE, NARROW = 10, 2  # the least columns of the bar itself
STATE_WIDTH = max(len(state.value) for state in State if not state.is_final)


class Bar:
    """A run's bar, from now to `close`."""

    def __init__(self, run: Run, stream: TextIO, clock: Callable[[], float]) -> None:
        self._run, self._clock = run, clock
        self._ascii_only = not _can_say("█▏", stream)
        self._rates = Rates()
        self._metrics: dict[str, float] = {}
        self._arriving = run.progress_bar_metrics_async()
        self._seen_at: object = None  # where the run stood at the last look
        self._since = clock()  # when it was first seen there
        self._line = LastLine(stream, self._position)
        self._line.open()
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="fsmtrain progress bar", daemon=True)
        self._thread.start()

    def epoch_ended(self) -> None:
        """Nothing: the thread sees for itself."""

    def close(self, ending: str) -> None:
        """Leave the bar as it is now, with a last sentence below it, and give the terminal back."""
        self._over.set()
        texts = [ending]
        try:
            self._thread.join()
            texts.insert(0, self._last_text())
            if self._failure is not None:
                texts.append(f"(the bar was given up: {self._failure!r})")
        finally:
            self._line.close(*texts)

    def _watch(self) -> None:
        try:
            self.look()
            while not self._over.wait(INTERVAL):
                self.look()
        except Exception as failure:  # such as that of a device, of which the run itself will have more to say
            self._failure = failure
            self._line.clear()

    def look(self) -> None:
        """Draw the run as it is now."""
        position, now = self._position(), self._clock()
        if position != self._seen_at:
            self._seen_at, self._since = position, now
        self._line.draw(self._text(now - self._since), position)

    def _position(self) -> object:
        counters = self._run.counters
        return self._run.state, counters.batches_begun, counters.split_nb, counters.optimizer_i, counters.eval_nb

    def _text(self, stood: float) -> str:
        if self._arriving.arrived:
            self._arriving = self._run.progress_bar_metrics_async()
        self._metrics |= self._arriving.values()
        return self._laid_out(stood)

    def _last_text(self) -> str:
        """The line that stays, with the last metrics if they come in time."""
        if self._failure is None:
            try:
                self._arriving = self._run.progress_bar_metrics_async()
                wait_briefly(self._arriving)
                self._metrics |= self._arriving.values()
            except Exception as failure:
                self._failure = failure
        return self._laid_out(stood=0.0)

    def _laid_out(self, stood: float) -> str:
        at, width = snapshot(self._run), self._line.columns - MARGIN
        self._rates.note(self._run.times)
        if stood >= LONG:
            at = evolve(at, what=f"{at.what} ({stood:.0f} s)")
        return lay_out(at, self._rates.of(self._run.state), self._metrics, width, ascii_only=self._ascii_only)


def lay_out(at: ProgressSnapshot, batches: float, metrics: Mapping[str, float], width: int, *, ascii_only: bool = False) -> str:
    """The line for a moment of a run, in so many columns.

    What does not fit is left out: metrics from the last to the first, words, the rate, the bar.

    Args:
        at: Where the run stands.
        batches: Batches a second; 0 is not known.
        metrics: What the model wants to be shown, the first before all others.
        width: The columns that there are.
        ascii_only: Whether the terminal has no block characters.

    >>> at = Standing(epoch="epoch 3/20", batch="17/45", what="backward", done=16, total=45)
    >>> print(lay_out(at, 212.0, {"loss": 0.25, "acc": 0.9}, 84, ascii_only=True))
    epoch 3/20, batch 17/45 |###9       | backward     212 batches/s  loss=0.25  acc=0.9
    >>> print(lay_out(at, 212.0, {"loss": 0.25, "acc": 0.9}, 37, ascii_only=True))
    epoch 3/20 17/45|7 |backward    212/s
    """
    for left, right, least in _candidates(at, batches, [metric(name, value) for name, value in metrics.items()]):
        if not (at.total and least):
            if columns_of(text := f"{left.strip()} {right.strip()}".strip()) <= width:
                return text
        elif columns_of(left + right) + least + 2 <= width:
            form = f"{_escaped(left)}|{{bar}}|{_escaped(right)}"
            done = min(at.done, at.total)  # of two counters that were not read at the same time
            return tqdm.format_meter(done, at.total, 0, ncols=width, ascii=ascii_only, bar_format=form).rstrip()
    return disp_trim(f"{at.epoch} {at.what}".strip(), max(0, width))


def _candidates(at: ProgressSnapshot, batches: float, metrics: list[str]) -> Iterator[tuple[str, str, int]]:
    """What stands left and right of the bar, and the bar's least columns (0: no bar), from the widest to the narrowest."""
    left = f"{at.epoch}, batch {at.batch} " if at.epoch else f"{at.what} "
    what = f"{at.what:{STATE_WIDTH}}" if at.epoch else ""
    for shown in range(len(metrics), -1, -1):
        yield left, " " + "  ".join(filter(None, (what, rate(batches), *metrics[:shown]))), WIDE
    left = f"{at.epoch} {at.batch}" if at.epoch else at.what
    for least in (NARROW, 0):
        yield left, f"{what} {rate(batches, short=True)}", least
        yield left, what, least


def _escaped(text: str) -> str:
    """The text as ``str.format`` gives it back."""
    return text.replace("{", "{{").replace("}", "}}")


def _can_say(text: str, stream: TextIO) -> bool:
    """Whether a stream's encoding has these characters."""
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
