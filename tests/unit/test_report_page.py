"""The page asks nobody for anything and shows nothing as markup, whatever a dump holds."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kdump_pkg.model.crash import Crash, Report
from kdump_pkg.report import page, text
from kdump_pkg.report.style import STYLE
from kdump_pkg.report.words import clean
from tests.reports_made import rich
from tests.unit.test_report_stored import poisoned

VOID = {"meta", "br", "link", "img", "input", "hr", "base"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "div", "p", "h1", "h2",
    "ul", "ol", "li", "dl", "dt", "dd", "pre", "code", "table", "caption", "thead", "tbody", "tr", "th", "td",
    "details", "summary",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "role", "scope", "tabindex", "aria-label", "data-head",
}  # fmt: skip


class Reader(HTMLParser):
    """Elements as a browser sees them; anything that doesn't close in its turn is an error."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.declarations: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


REPORTS = {
    "rich": rich(),
    "poor": Report("", 0, "", Crash()),
    "hostile": poisoned(rich()),
    "truncated": replace(rich(), crash=replace(rich().crash, truncated=True)),
}


@pytest.mark.parametrize("name", REPORTS)
def test_it_is_well_formed_and_has_only_what_it_needs(name: str) -> None:
    reader = read(page.render(REPORTS[name]))
    assert reader.declarations == ["DOCTYPE html"]
    assert {tag for tag, _ in reader.tags} <= ALLOWED
    assert {attribute for _, attributes in reader.tags for attribute in attributes} <= ATTRIBUTES
    assert [tag for tag, _ in reader.tags].count("h1") == 1


@pytest.mark.parametrize("name", REPORTS)
def test_it_asks_nobody(name: str) -> None:
    """No script, no address, no style but its own; and a policy that would forbid all that."""
    html = page.render(REPORTS[name])
    metas = [attributes for tag, attributes in read(html).tags if tag == "meta"]
    policy = next(m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert html.count("<style>") == 1 and STYLE in html
    assert not re.search(r"https?:|//|\bwww\.|@import|url\(|javascript:|data:", html)
    assert not re.search(r"@import|url\(|expression|</", STYLE)


def test_the_policy_comes_before_all_that_it_is_for() -> None:
    html = page.render(rich())
    assert html.index("Content-Security-Policy") < html.index("<title>") < html.index("<style>")


def test_an_address_in_the_log_stays_text() -> None:
    crash = replace(rich().crash, before=("see https://bugs.example/1",), words='<img src="https://evil.example/x">')
    reader = read(page.render(replace(rich(), crash=crash)))
    assert "see https://bugs.example/1" in "".join(reader.words)
    assert not [tag for tag, _ in reader.tags if tag in ("img", "a")]


def test_markup_is_shown_as_it_was_written() -> None:
    reader = read(page.render(REPORTS["hostile"]))
    words = "".join(reader.words)
    assert "<script>alert(1)</script>" in words
    assert "&\"'" in words
    assert not [tag for tag, _ in reader.tags if tag == "script"]


HOSTILE = (
    "</style>",
    "</title>",
    "</code></pre>",
    "-->",
    "]]>",
    "<!--",
    '" onmouseover="x',
    "' x='",
    "\x00",
    "</main>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_breaks_out(text: str) -> None:
    report = replace(rich(), id=text, sentence=text, seen=(text,), machine=((text, text),), first_since=text)
    crash = replace(report.crash, release=text, lines=(text,), words=text, process=text, cmdline=text, taint=text)
    assert clean(text) in "".join(read(page.render(replace(report, crash=crash))).words)


def test_the_page_says_what_the_text_says() -> None:
    """Word for word: nobody who reads the one misses what stands in the other."""
    words = " ".join(" ".join(read(page.render(rich())).words).replace("\N{NO-BREAK SPACE}", " ").split())
    missing = [word for word in set(text.render(rich()).split()) if word.strip(".:,") not in words]
    own = {line.upper() for line in words.split()}
    assert [word for word in missing if word not in own and not re.fullmatch(r"\d+\.", word)] == []


def test_headings_come_in_their_order() -> None:
    tags = [tag for tag, _ in read(page.render(rich())).tags]
    assert tags.index("h1") < tags.index("h2") < tags.index("ol") < tags.index("table")


def test_tables_have_captions_and_heads() -> None:
    tags = [tag for tag, _ in read(page.render(rich())).tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead") == 5


def test_long_lines_can_be_reached_by_the_keyboard() -> None:
    html = page.render(rich())
    for found in re.findall(r"<pre[^>]*>", html):
        assert found == '<pre class="wrap">' or ('tabindex="0"' in found and "aria-label" in found)


# --- contrast, by the formula of WCAG 2 ---


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("block", [0, 1])
def test_contrast_is_enough(block: int) -> None:
    """4.5 to 1 is what AA asks of text."""
    colours = dict(
        re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})", STYLE.split("@media print")[0].split(":root")[block + 1])
    )
    for ink in ("ink", "soft", "mark", "bad", "good"):
        for paper in ("paper", "sheet", "code"):
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    assert contrast(colours["mark"], colours["paper"]) >= 4.5  # the numbers of the steps
