"""A real headless browser, spoken to over its debugging pipe: no driver, no port, nothing else to install."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
_SWITCHES = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
# The protocol's pipes are descriptors 3 and 4, whichever they were here.
_LAUNCH = """
import fcntl, os, sys
high = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3]]
for low, one in enumerate(high, 3):
    os.dup2(one, low)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def path() -> str | None:
    """Of the first browser on the PATH."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page. `events` are what the browser has told of it so far: console, log and network."""

    def __init__(self, to: IO[bytes], of: IO[bytes]) -> None:
        self._to, self._of, self._asked, self._session = to, of, 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """What a command of the DevTools protocol answers."""
        self._asked += 1
        call = {"id": self._asked, "method": method, "params": params}
        self._to.write(json.dumps(call | ({"sessionId": self._session} if self._session else {})).encode() + b"\0")
        self._to.flush()
        while (told := self._next()).get("id") != self._asked:
            self.events.append(told)
        assert "error" not in told, told
        return dict(told["result"])

    def open(self, file: Path, width: int, dark: bool = False) -> None:
        """Load a file in a window of this many CSS pixels, and wait until all of it is there."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.ask("Page.navigate", url=file.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def shoot(self, file: Path) -> None:
        """The whole page as PNG."""
        told = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(b64decode(told["data"]))

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._of.read(1)) != b"\0":
            assert byte, "the browser has ended"
            message += byte
        return dict(json.loads(message))


@contextmanager
def tab() -> Iterator[Tab]:
    """A tab of a browser that is started for it, and ended."""
    browser = path()
    assert browser is not None
    (read, to), (of, write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        switches = [*_SWITCHES, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        launch = [sys.executable, "-c", _LAUNCH, str(read), str(write), browser, *switches]
        process = subprocess.Popen(launch, pass_fds=(read, write), stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        try:
            with open(to, "wb") as into, open(of, "rb") as out:
                yield Tab(into, out)
        finally:
            process.terminate()
            process.wait(20)
