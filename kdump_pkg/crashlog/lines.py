"""A log as lines: bounded, of printable characters, without what printk, dmesg and syslog put before."""

from __future__ import annotations

import re
from typing import NamedTuple

BYTES = 8 << 20
"""Of a longer log the end counts: that is where the crash is."""
WIDTH = 4096
COUNT = 200_000
"""Lines, the last ones; more are of no real log of that many bytes."""

PLAIN = bytes([0x0A, *range(0x20, 0x7F)])
ESCAPES = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,256}\x07|[@-Z\\-_])")
BREAKS = {"\r": "\n", "\0": "\n", "\t": " ", "\x0b": " ", "\x0c": " "}

DATE = r"(?:\S{1,12}+ ){1,2}[ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?(?: \d{4})?"  # in any language
ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.,:+Z-]{0,20}"
OUTER = re.compile(
    rf"(?:\[?(?:{DATE}|{ISO})\]? +)?"  # journalctl, syslog, dmesg -T
    r" ?(?:(?:[^\s\[<:]{1,64}+ ){0,2}kernel(?:\[0\])?: ?)?"
    r"(?:(?:kern|user|daemon|syslog) {0,3}:[a-z]{3,6} {0,3}: )?"  # dmesg -x
    r"(?:<\d{1,3}>)?"
)
STAMP = re.compile(r"\[ {0,7}(\d{1,10}\.\d{1,9})(?: <[ \d.+]{1,20}>)?\] ?(?:\[ {0,12}([TC]\d{1,10})\] ?)?")
CALLER = re.compile(r"\[ {0,12}([TC]\d{1,10})\] ")
HOST = re.compile(r"[\w.-]{1,64}+ kernel: ")  # journalctl -o short-monotonic
RECORD = re.compile(r"\d{1,3},\d{1,20},(\d{1,20}),[^;]{1,64};")  # /dev/kmsg, netconsole
RECORD_CALLER = re.compile(r"caller=([TC]\d{1,10})")
MIDDLE = re.compile(r"(?<=.)\[ {0,7}\d{1,7}\.\d{6}\][ \[]")


class Line(NamedTuple):
    text: str
    """What was printed, without prefixes and blanks around."""
    stamp: str
    """Seconds since boot as printed; empty where they weren't."""
    caller: str
    """T123, C3: the task or CPU that printed it (CONFIG_PRINTK_CALLER); empty where that is not known."""
    shown: str
    """With the time, as dmesg shows it."""

    @property
    def time(self) -> float | None:
        return float(self.stamp) if self.stamp else None


def split(log: bytes) -> list[Line]:
    """The last lines of LOG, those that are empty left out."""
    tail = bytes(log[-BYTES:])
    if len(tail) < len(log):
        tail = tail.partition(b"\n")[2] or tail
    found: list[Line] = []
    for raw in clean(tail).rstrip("\n").split("\n")[-COUNT:]:
        if raw and not raw.isspace():
            _add(found, raw[:WIDTH])
    return found[-COUNT:]


def clean(data: bytes) -> str:
    """DATA as text that can command no terminal: escape sequences gone, other unprintable characters replaced."""
    if not data.translate(None, PLAIN):
        return data.decode("ascii")
    text = data.decode("utf-8", "replace")
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    odd = {char for char in set(text) if not char.isprintable() and char != "\n"}
    return text.translate({ord(char): BREAKS.get(char, " " if char.isspace() else "\ufffd") for char in odd})


def _add(found: list[Line], raw: str) -> None:
    """RAW as one line; as several where the console let CPUs into each other's lines."""
    line = _line(raw)
    inner = MIDDLE.search(line.text) if "[" in line.text else None
    while inner is not None:
        if head := line.text[: inner.start()].rstrip():
            found.append(Line(head, line.stamp, line.caller, line.shown[: -len(line.text) + inner.start()].rstrip()))
        line = _line(line.text[inner.start() :])
        inner = MIDDLE.search(line.text)
    if line.text:
        found.append(line)


def _line(raw: str) -> Line:
    start = 0
    if raw[0] != "[" or not (match := STAMP.match(raw)):
        if raw[0].isdigit() and (record := RECORD.match(raw)):
            return _record(raw, record)
        outer = OUTER.match(raw)
        start = outer.end() if outer else 0
        match = STAMP.match(raw, start)
    if match is not None:
        if host := HOST.match(raw, match.end()):
            return Line(raw[host.end() :].strip(), match[1], "", raw[start : match.end()] + raw[host.end() :].rstrip())
        return Line(raw[match.end() :].strip(), match[1], match[2] or "", raw[start:].rstrip())
    if caller := CALLER.match(raw, start):
        return Line(raw[caller.end() :].strip(), "", caller[1], raw[start:].rstrip())
    return Line(raw[start:].strip(), "", "", raw[start:].rstrip())


def _record(raw: str, match: re.Match[str]) -> Line:
    micro = int(match[1])
    stamp = f"{micro // 1_000_000}.{micro % 1_000_000:06}"
    caller = RECORD_CALLER.search(raw, 0, match.end())
    text = raw[match.end() :].strip()
    return Line(text, stamp, caller[1] if caller else "", f"[{stamp:>12}] {text}")
