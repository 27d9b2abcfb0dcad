"""The page in a real headless Chromium: nothing leaves it, nothing sticks out of it, it follows light and dark."""

from __future__ import annotations

import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg.report import page
from tests.pages.browser import Page, browsing, find
from tests.reports_made import rich
from tests.unit.test_report_stored import poisoned

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(find() is None, reason="chromium is not installed: the page is not looked at in a browser"),
]


class Ear:
    """A listener that hears whoever asks for anything."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.heard: list[bytes] = []
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        while True:
            try:
                one, _ = self.socket.accept()
            except OSError:
                return
            with one:
                one.settimeout(2)
                try:
                    self.heard.append(one.recv(4096))
                    one.sendall(b"HTTP/1.0 204 No Content\r\n\r\n")
                except OSError:
                    self.heard.append(b"")

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)


@pytest.fixture
def ear() -> Iterator[Ear]:
    one = Ear()
    yield one
    one.close()


@pytest.fixture
def chromium(tmp_path: Path, ear: Ear) -> Iterator[Page]:
    """All that it asks of any other machine goes to the ear."""
    proxy = (f"--proxy-server=127.0.0.1:{ear.port}", "--proxy-bypass-list=<-loopback>")
    with browsing(tmp_path / "profile", *proxy) as page:
        yield page


def asking(port: int) -> str:
    """Markup that would ask, in each way that a page has."""
    where = f"http://127.0.0.1:{port}/asked"
    return (
        f'"><img src="{where}-img"><script src="{where}-script"></script><link rel="stylesheet" href="{where}-css">'
        f'<iframe src="{where}-frame"></iframe><style>@import url({where}-import)</style>'
        f'<video poster="{where}-poster"></video><meta http-equiv="refresh" content="0;url={where}-refresh">'
    )


def hostile(port: int) -> str:
    """A page of a report with that in every place that text of a dump comes to."""
    evil = asking(port)
    crash = rich().crash
    crash = replace(
        crash, cause=evil, words=evil, panic=evil, release=evil, process=evil, cmdline=evil, hardware=evil,
        before=(evil,), lines=(evil, "x" * 2000), taint="P", modules=(replace(crash.modules[0], name=evil),),
    )  # fmt: skip
    report = replace(rich(), id=evil, sentence=evil, crash=crash, first_since=evil, seen=(evil,))
    return page.render(report)


def opened(chromium: Page, file: Path, html: str, *, width: int = 390, dark: bool = False) -> None:
    file.write_text(html, encoding="utf-8")
    chromium.open(file, width=width, height=844, dark=dark)


def test_no_request_leaves_it(chromium: Page, ear: Ear, tmp_path: Path) -> None:
    for html in (page.render(rich()), page.render(poisoned(rich())), hostile(ear.port)):
        opened(chromium, tmp_path / "page.html", html)
        assert chromium.requests() == [(tmp_path / "page.html").as_uri()]
        assert chromium.ask("document.scripts.length + document.images.length") == 0
    assert [words for words in ear.heard if b"/asked" in words] == []


def test_the_ear_would_have_heard(chromium: Page, ear: Ear, tmp_path: Path) -> None:
    """The same markup, unescaped and with no policy against it, does ask: the test above can fail."""
    opened(chromium, tmp_path / "page.html", f"<!DOCTYPE html><title>x</title>{asking(ear.port)}")
    assert len(chromium.requests()) > 1
    assert [words for words in ear.heard if b"/asked" in words]


def test_the_policy_holds_by_itself(chromium: Page, ear: Ear, tmp_path: Path) -> None:
    """Even if something were not escaped one day: nothing but a change of place gets past the policy."""
    evil = asking(ear.port).split("<meta")[0]
    opened(chromium, tmp_path / "page.html", page.render(rich()).replace("<main>", f'<main><p title="{evil}</p>'))
    assert chromium.ask("document.images.length") == 1
    chromium.requests()
    assert [words for words in ear.heard if b"/asked" in words] == []


OVERFLOW = """
[...document.querySelectorAll("body *")].filter(e => !e.closest("pre, .scroll, details:not([open]), thead"))
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 200))
"""
WIDTHS = "[document.documentElement.scrollWidth, visualViewport.width]"


@pytest.mark.parametrize("what", ["rich", "poisoned", "hostile"])
def test_nothing_sticks_out(chromium: Page, ear: Ear, tmp_path: Path, what: str) -> None:
    """Of a phone's screen or a desktop's, also when all is unfolded."""
    html = {"rich": page.render(rich()), "poisoned": page.render(poisoned(rich())), "hostile": hostile(ear.port)}[what]
    for width in (360, 390, 768, 1440):
        opened(chromium, tmp_path / "page.html", html, width=width)
        assert chromium.ask(WIDTHS) == [width, width]
        assert chromium.ask(OVERFLOW) == []
        chromium.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert chromium.ask(WIDTHS) == [width, width]


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and the first pixel of a PNG, which is the paper."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert (depth, kind) in ((8, 2), (8, 6))
    data, at = b"", 8
    while at < len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += 12 + size
    return width, height, zlib.decompress(data)[1:4]


def test_light_and_dark(chromium: Page, tmp_path: Path) -> None:
    """The paper is the one of the scheme, and it is as wide as the screen and no wider."""
    for dark, paper in ((False, b"\xfa\xf9\xf6"), (True, b"\x16\x18\x1b")):
        opened(chromium, tmp_path / "page.html", page.render(rich()), dark=dark)
        width, height, first = pixels(chromium.picture())
        assert (width, first) == (390, paper)
        assert height > 2000


def test_the_sentence_comes_first_and_what_to_do_next(chromium: Page, tmp_path: Path) -> None:
    """On the first screen of a desktop, and in this order on a phone."""
    opened(chromium, tmp_path / "page.html", page.render(rich()), width=1440)
    top = "document.querySelector('{}').getBoundingClientRect().top"
    tops = [chromium.ask(top.format(name)) for name in ("h1", ".notes", "header dl", ".steps", "table")]
    assert tops == sorted(tops)
    assert tops[3] < 844


def test_on_paper_everything_is_open(chromium: Page, tmp_path: Path) -> None:
    """It can be printed; what is folded on the screen is on the paper."""
    marked = "FoldedLinesOfTheCrash"
    report = replace(rich(), crash=replace(rich().crash, lines=(marked,)))
    opened(chromium, tmp_path / "page.html", page.render(report), width=1440)
    assert chromium.paper().startswith(b"%PDF")
    seen = (
        "document.evaluate(\"//details//pre[contains(., '%s')]\", document, null, 9).singleNodeValue.checkVisibility()"
    )
    options = "{contentVisibilityAuto: true}"
    seen = (seen % marked).replace("checkVisibility()", f"checkVisibility({options})")
    assert chromium.ask(seen) is False
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.ask(seen) is True


def test_nothing_is_complained_about(chromium: Page, tmp_path: Path) -> None:
    opened(chromium, tmp_path / "page.html", page.render(rich()))
    chromium.requests()
    assert [event for event in chromium.events if event["method"] == "Log.entryAdded"] == []
