"""What is read from the console of a rehearsal, and that nothing on it can do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.plan import console
from tests.rehearsals import CAPTURE, CRASH, FIRST, GOOD, READ, SAVED, said


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"[    1.0] plain\r", "[    1.0] plain"),
        (b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS", "SeaBIOS"),
        (b"\x1b]0;evil title\x07text", "text"),
        (b"\x1b]52;c;cm0gLXJm\x1b\\text", "text"),
        (b"\x1bP1$r0m\x1b\\x", "x"),
        (b"a\x00b\x07c\x08d\x9b31me", "a b c d�31me"),
        ("right\u202eleft \u200bhidden".encode(), "right left  hidden"),
        ("a\u009b31mb".encode(), "a 31mb"),
        (b"\xff\xfe", "��"),
        (b"\x1b", ""),
        (b"x" * 1000, "x" * 400 + " …"),
        ("Umlaut ä".encode(), "Umlaut ä"),
    ],
)
def test_a_console_line_can_be_shown(raw: bytes, wanted: str) -> None:
    assert console.clean(raw) == wanted


@given(st.binary(max_size=300))
def test_nothing_gets_through_to_a_terminal(raw: bytes) -> None:
    assert console.clean(raw).isprintable()


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([t.encode() for t in GOOD])), max_size=20))
def test_any_console_can_be_read(raw: list[bytes]) -> None:
    console.read(console.lines(enumerate(map(bytes, raw))))


@pytest.mark.parametrize(
    ("lines", "stage_"),
    [
        ([], "nothing"),
        (["Linux version 6.12.1"], "system"),
        (FIRST[:2], "first stage"),
        (FIRST[:3], "loaded"),
        (FIRST[:4], "panicked"),
        ([*FIRST, "[    0.000000] some line of the crash"], "panicked"),
        ([*FIRST, CAPTURE[0]], "capture"),
        ([*FIRST, *CAPTURE], "saving"),
        ([*FIRST, *CAPTURE, *SAVED], "saved"),
        (GOOD, "ended"),
    ],
)
def test_how_far_it_came(lines: list[str], stage_: str) -> None:
    assert said(*lines).stage == stage_


def test_a_good_console_gives_its_figures() -> None:
    found = said("kdump-rehearsal: there 1 old one", "kdump-rehearsal: keys A B", *GOOD)
    assert (found.reserved, found.method, found.least_kib, found.result) == (268435456, "-s", 4321, "complete")
    assert found.keys == ("A", "B")
    assert found.there == {(1, "old one")}
    assert found.crash == console.Line(6.0, CRASH)
    assert found.final == console.Line(11.0, "kdump-save: final reboot")
    assert found.trouble is None and found.refused is None


TROUBLE = [
    (
        "[ 1.9] Kernel panic - not syncing: System is deadlocked on memory",
        "the capture ran out of memory; reserve more",
    ),
    ("[ 1.9] Out of memory: Killed process 159 (makedumpfile)", "the capture ran out of memory; reserve more"),
    ("[ 1.9] sh invoked oom-killer: gfp_mask=0x1", "the capture ran out of memory; reserve more"),
    ("Initramfs unpacking failed: write error", "the image did not fit into the memory; reserve more"),
    ("Initramfs unpacking failed: junk", "the capture kernel could not unpack the image: junk"),
    ("BUG: unable to handle page fault for address: 0", "the capture kernel crashed: BUG: unable to handle page fault"),
    ("Kernel panic - not syncing: VFS: Unable", "the capture kernel panicked: VFS: Unable"),
    ("kdump-save: step target failed exit=1: UUID=x did not appear", "target failed exit=1: UUID=x did not appear"),
    ("kdump-save: not done after 600 s, rebooting", "kdump-save was not done after 600 s, rebooting"),
    ("kdump-init: /run can't be mounted", "the image's init said: /run can't be mounted"),
    ("[ 6.0] dracut: FATAL: No or empty root=", "the image gave up: FATAL: No or empty root="),
    ("You are in emergency mode. After logging in", "the image gave up: You are in emergency mode"),
]


@pytest.mark.parametrize(("line", "reason"), TROUBLE)
def test_the_reason_is_found_with_its_line(line: str, reason: str) -> None:
    noise = "kdump-init: /usr/lib/modules/x/xen-blkfront.ko can't be loaded"
    found = said(*FIRST, CAPTURE[0], noise, line)
    assert (found.trouble or "").startswith(reason)
    assert found.trouble_line == line


def test_the_cause_counts_not_what_followed() -> None:
    found = said(*FIRST, *CAPTURE, "kdump-save: step vmcore failed exit=137: killed", "Out of memory: Killed process 1")
    assert found.trouble_line == "Out of memory: Killed process 1"
    found = said(
        *FIRST, CAPTURE[0], "BUG: page fault", " try_to_free_pages+0xf2/0x220", "Kernel panic - not syncing: Attempted"
    )
    assert found.trouble_line == "try_to_free_pages+0xf2/0x220"


def test_a_panic_that_starts_nothing_is_told_from_a_capture_that_dies() -> None:
    found = said(*FIRST, f"---[ end {CRASH} ]---")
    assert found.stage == "panicked"
    assert found.trouble == "the panic did not start the capture kernel"


def test_what_came_before_the_crash_is_no_trouble_of_the_capture() -> None:
    assert said("Out of memory: Killed process 1", *GOOD).trouble is None


@pytest.mark.parametrize(
    ("line", "over"),
    [(b"kdump-save: final halt", True), (b"kdump-save: final shell\r", True), (b"kdump-save: final reboot", False)],
)
def test_some_ends_never_come(line: bytes, over: bool) -> None:
    assert console.ends(line) is over


def lines(*texts: str) -> tuple[console.Line, ...]:
    return console.lines(enumerate(text.encode() for text in texts))


def test_what_the_reader_of_the_disks_says() -> None:
    said_ = lines(*READ[:3], "[3] kdump-rehearsal: unsound 2: Dirty bit is set", READ[3])
    assert console.checked(said_) == ((1, None), (2, "Dirty bit is set"))
    assert console.uncopied(said_) is None


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ((), "nothing came from the virtual machine"),
        ((READ[0], "kdump-rehearsal: failed: mdadm: no superblock", "Resetting"), "mdadm: no superblock"),
        ((READ[0],), "kdump-rehearsal: start read"),
    ],
)
def test_why_nothing_could_be_copied(texts: tuple[str, ...], words: str) -> None:
    assert console.uncopied(lines(*texts)) == f"the disks can't be read back: {words}"
