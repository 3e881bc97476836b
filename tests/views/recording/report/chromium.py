"""Headless Chromium, driven over two pipes: screenshots, console messages and network requests of a page."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

# The browser reads from file 3 and writes to file 4.
AT_ITS_PLACES = """
import fcntl, os, sys
into, out = (fcntl.fcntl(int(file), fcntl.F_DUPFD, 10) for file in sys.argv[1:3])
os.dup2(into, 3)
os.dup2(out, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page. `events` are all that was told of it."""

    def __init__(self, process: subprocess.Popen[bytes], into: int, out: int) -> None:
        self._process, self._into, self._out = process, into, out
        self._rest, self._calls = b"", 0
        self.events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the page for something, and wait for the answer."""
        return self._call(method, self._session, **parameters)

    def open(self, page: Path, *, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Open a file, and wait until all of it is there."""
        self.events.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Page.navigate", url=page.as_uri())
        self._wait(lambda: bool(self.events_of("Page.loadEventFired")))

    def events_of(self, method: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event["params"] for event in self.events if event["method"] == method]

    def evaluate(self, expression: str) -> Any:
        """The value of a script's expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as a PNG file."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def console_errors(self) -> list[dict[str, Any]]:
        """Whatever the console was told, and exceptions."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for kind in kinds for event in self.events_of(kind)]

    def requests(self) -> list[str]:
        """The addresses that were asked for, without those that lie in the page itself."""
        asked = [event["request"]["url"] for event in self.events_of("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith("data:")]

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        number, answers = self._calls, list[dict[str, Any]]()
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._into, json.dumps(message).encode() + b"\0")
        self._wait(lambda: bool(answers), answers, number)
        assert "error" not in answers[0], answers[0]
        result: dict[str, Any] = answers[0]["result"]
        return result

    def _wait(self, is_over: Callable[[], bool], answers: list[dict[str, Any]] | None = None, number: int = 0) -> None:
        while not is_over():
            while b"\0" not in self._rest:
                read = os.read(self._out, 1 << 16)
                assert read, "the browser has gone"
                self._rest += read
            text, self._rest = self._rest.split(b"\0", 1)
            message = json.loads(text)
            if "method" in message:
                self.events.append(message)
            elif answers is not None and message["id"] == number:
                answers.append(message)


@contextmanager
def open_browser(home: Path) -> Iterator[Browser]:
    """A browser that keeps all that it writes in one folder."""
    assert CHROMIUM is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    place = [f"--user-data-dir={home / 'profile'}"]
    command = [sys.executable, "-c", AT_ITS_PLACES, str(theirs_in), str(theirs_out), CHROMIUM, *FLAGS, *place]
    own = {**os.environ, "HOME": str(home)}
    with (home / "chromium.log").open("wb") as log:
        given: dict[str, Any] = {"pass_fds": (theirs_in, theirs_out), "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(command, env=own, **given)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(process, ours_out, ours_in)
    finally:
        os.close(ours_out)  # which ends it
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_in)
