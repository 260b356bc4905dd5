"""A headless Chromium for tests, spoken to by its DevTools protocol over a pipe; `conftest.py` has the fixture."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium here (Debian: apt-get install chromium), and RLEXP_CHROMIUM names none"
PATIENCE = 60.0  # seconds for an answer
PROBLEMS = ("Log.entryAdded", "Runtime.exceptionThrown")


def find() -> str | None:
    """The program: RLEXP_CHROMIUM, else the first of `NAMES` on the PATH; None if there is none."""
    named = os.environ.get("RLEXP_CHROMIUM")
    return shutil.which(named) if named else next((path for name in NAMES if (path := shutil.which(name))), None)


def program() -> str:
    """As `find`; where there is none, skip the test, or fail it if RLEXP_BROWSER=required."""
    found = find()
    if found is not None:
        return found
    if os.environ.get("RLEXP_BROWSER") == "required":
        pytest.fail(f"RLEXP_BROWSER=required, but there is {MISSING}")
    pytest.skip(MISSING)


class Chromium:
    """A browser process with a profile of its own.

    Args:
        program: path of Chromium.
        profile: an empty folder.
    """

    def __init__(self, program: str, profile: Path) -> None:
        (read_commands, self._write), (self._read, write_answers) = os.pipe(), os.pipe()
        os.set_inheritable(read_commands, True)
        os.set_inheritable(write_answers, True)

        def descriptors() -> None:  # the protocol's own are 3 and 4
            commands, answers = os.dup(read_commands), os.dup(write_answers)
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        self._process = subprocess.Popen(
            [program, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=descriptors,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """The answer to a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str, session: str) -> None:
        """Wait for an event of a page."""
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._receive())

    def _receive(self) -> Any:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], PATIENCE)[0], f"Chromium said nothing for {PATIENCE:g} s"
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "Chromium is gone"
            self._buffer += chunk
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)


class Browser:
    """A page in a browser context of its own: no cookies, cache or events of another test.

    Args:
        chromium: the process.
    """

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._context = chromium.call("Target.createBrowserContext")["browserContextId"]
        target = chromium.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The answer to a command of the protocol."""
        return self._chromium.call(method, self._session, **params)

    def open(self, url: str, width: int = 1200, height: int = 800, script: bool = True) -> None:
        """Open an address and wait until it is loaded; `script`: whether its scripts run."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self._chromium.events.clear()
        self.call("Page.navigate", url=url)
        self._chromium.wait("Page.loadEventFired", self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it resolves to."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 30.0) -> Any:
        """The first true value of an expression, for pages that load in parts."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"after {seconds:g} s still not: {expression}"
            time.sleep(0.1)
        return value

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click on the middle of an element, which is scrolled into view."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, text: str = "") -> None:
        """Press a key, such as `ArrowRight` or `Tab`; `text` is what it types."""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key if len(key) > 1 else "Space", text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key if len(key) > 1 else "Space")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    @property
    def requests(self) -> list[str]:
        """The addresses that the page has asked for."""
        return [e["params"]["request"]["url"] for e in self._events("Network.requestWillBeSent")]

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What a user would see in the console: entries of the log, exceptions, calls of `console`."""
        return self._events(*PROBLEMS, "Runtime.consoleAPICalled")

    def _events(self, *methods: str) -> list[dict[str, Any]]:
        return [e for e in self._chromium.events if e.get("method") in methods and e.get("sessionId") == self._session]

    def close(self) -> None:
        """Close the page and forget its context."""
        self._chromium.call("Target.disposeBrowserContext", browserContextId=self._context)
