"""A headless Chromium on a leash: spoken to by pipes, in a profile of its own, for as long as a test needs it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
QUIET = (
    "--headless=new", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-default-apps", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--disable-gpu",
    "--hide-scrollbars", "--mute-audio", "--no-default-browser-check", "--disable-features=Translate,MediaRouter",
)  # fmt: skip

PIPES = 'in=$1 out=$2; shift 2; exec "$@" 3<&"$in" 4>&"$out"'
"""Chromium listens on descriptor 3 and answers on 4. For bash: dash knows no descriptors of two digits."""


def find() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """A tab, spoken to in the DevTools protocol."""

    to: int
    back: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def wait(self, event: str) -> None:
        while not any(e["method"] == event for e in self.events):
            self._next()

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + 120
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.back], [], [], max(end - time.monotonic(), 0))
            assert ready, "Chromium doesn't answer"
            data = os.read(self.back, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, file: Path, *, width: int, height: int, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        self.wait("Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """What a piece of script gives; it is ours, the page's policy doesn't hold for it."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)[
            "result"
        ].get("value")

    def requests(self) -> list[str]:
        """Of all that was asked for since the page was opened, the addresses."""
        self.ask("new Promise(done => setTimeout(done, 300))")
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if url]

    def picture(self, *, whole: bool = True) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def paper(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF")["data"])


def _pipe() -> tuple[int, int]:
    """With high numbers, so that none is in the way of 3 and 4."""
    low = os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in low]
    for fd in low:
        os.close(fd)
    return high[0], high[1]


@contextlib.contextmanager
def browsing(profile: Path, *more: str) -> Iterator[Page]:
    """A page in a Chromium of its own; it is ended when the block is left."""
    program = find()
    assert program
    (their_in, to), (back, their_out) = _pipe(), _pipe()
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [program, *QUIET, *sandbox, f"--user-data-dir={profile}", "--remote-debugging-pipe", *more, "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", PIPES, "bash", str(their_in), str(their_out), *command],
        pass_fds=(their_in, their_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": os.fspath(profile)},
    )  # fmt: skip
    os.close(their_in)
    os.close(their_out)
    page = Page(to, back)
    try:
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        yield page
    finally:
        process.kill()
        process.wait()
        os.close(to)
        os.close(back)
