"""What the corpus can't show one by one: prefixes, parts, single lines, and what is read besides the cause."""

from __future__ import annotations

import pytest

from kdump_pkg import crashlog
from kdump_pkg.crashlog import frames, lines, pstore, signature
from kdump_pkg.model.crash import Frame, LoadedModule
from tests.unit.test_crashlog_corpus import log

TEXT = "BUG: kernel NULL pointer dereference, address: 0000000000000008"

PREFIXES = {
    "none": ("", None, ""),
    "dmesg": ("[ 2471.042131] ", 2471.042131, ""),
    "makedumpfile with caller": ("[ 2471.042131] [   T1406] ", 2471.042131, "T1406"),
    "console with caller": ("[ 2471.042131][ T1406] ", 2471.042131, "T1406"),
    "on a CPU": ("[ 2471.042131][    C11] ", 2471.042131, "C11"),
    "caller without time": ("[    C3] ", None, "C3"),
    "pstore": ("<4>[ 2471.042131] ", 2471.042131, ""),
    "pstore with caller": ("<1>[ 2471.042131][  T1406] ", 2471.042131, "T1406"),
    "raw dmesg": ("<6>", None, ""),
    "journalctl": ("Nov 23 07:46:11 wren kernel: ", None, ""),
    "journalctl with year": ("Mon Nov 23 07:46:11 2026 wren kernel: ", None, ""),
    "journalctl in another language": ("2月 03 07:46:11 wren kernel: ", None, ""),
    "journalctl -o short-iso": ("2026-11-23T07:46:11+0100 wren kernel: ", None, ""),
    "journalctl -o short-monotonic": ("[ 2471.042131] wren kernel: ", 2471.042131, ""),
    "rsyslog": ("2026-11-23T07:46:11.123456+01:00 wren kernel: [ 2471.042131] ", 2471.042131, ""),
    "old syslog": ("Nov 23 07:46:11 wren kernel: [ 2471.042131] ", 2471.042131, ""),
    "to all terminals": (" kernel:[ 2471.042131] ", 2471.042131, ""),
    "OpenWrt": ("Mon Nov 23 07:46:11 2026 kern.alert kernel: [ 2471.042131] ", 2471.042131, ""),
    "dmesg -T": ("[Mon Nov 23 07:46:11 2026] ", None, ""),
    "dmesg -d": ("[ 2471.042131 <    0.000012>] ", 2471.042131, ""),
    "dmesg -x": ("kern  :alert : [ 2471.042131] ", 2471.042131, ""),
    "dmesg --time-format iso": ("2026-11-23T07:46:11,123456+01:00 ", None, ""),
    "/dev/kmsg": ("1,812,2471042131,-;", 2471.042131, ""),
    "/dev/kmsg with caller": ("1,812,2471042131,-,caller=T1406;", 2471.042131, "T1406"),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes(name: str) -> None:
    prefix, time, caller = PREFIXES[name]
    (line,) = lines.split(f"{prefix}{TEXT}\n".encode())
    assert (line.text, line.time, line.caller) == (TEXT, time, caller)
    crash = crashlog.read(f"{prefix}{TEXT}\n".encode())
    assert (crash.kind, crash.words, crash.address, crash.uptime) == ("oops", TEXT, 8, time)


def test_what_looks_like_a_prefix_stays() -> None:
    texts = ["Kernel panic - not syncing: kernel: panic_on_warn set ...", "audit: kernel: x", "BUG: kernel NULL"]
    assert [line.text for line in lines.split("\n".join(texts).encode())] == texts


def test_lines_that_the_console_joined() -> None:
    found = lines.split(b"[    1.000000][ T1] one[    2.500000][ C3] two[    3.000000] three\n")
    assert [(line.text, line.time, line.caller) for line in found] == [
        ("one", 1.0, "T1"),
        ("two", 2.5, "C3"),
        ("three", 3.0, ""),
    ]
    assert found[0].shown == "[    1.000000][ T1] one"


CLEAN = {
    b"plain": "plain",
    b"tab\there": "tab here",
    b"bell\x07": "bell\ufffd",
    b"\x1b[1;31mred\x1b[0m": "red",
    b"\x1b]0;title\x07after": "after",
    b"\xff\xfe": "\ufffd\ufffd",
    "\u202ertl\u200b\ufeff".encode(): "\ufffdrtl\ufffd\ufffd",
    "\u2028\x85\xa0".encode(): " " * 3,
    "ünï∂".encode(): "ünï∂",
    b"a\r\nb\0c": "a\n\nb\nc",
    b"\xed\xa0\x80": "\ufffd\ufffd\ufffd",
}


@pytest.mark.parametrize("data", CLEAN)
def test_clean(data: bytes) -> None:
    assert lines.clean(data) == CLEAN[data]


def ordered(*texts: str) -> list[str]:
    return [line.text for line in pstore.ordered(lines.split("\n".join(texts).encode()))]


def test_parts_come_in_the_order_of_the_log() -> None:
    assert ordered("Panic#1 Part1", "c", "Panic#1 Part2", "b", "Panic#1 Part3", "a") == ["a", "b", "c"]
    assert ordered("Panic#1 Part10", "a", "Panic#1 Part9", "b") == ["a", "b"]
    assert ordered("before", "Oops#1 Part1", "a", "Panic#2 Part2", "b", "Panic#2 Part1", "c") == [
        "before",
        "a",
        "b",
        "c",
    ]
    assert ordered("Panic#1 Part1", "old", "Panic#1 Part1", "new") == ["old", "new"]
    assert ordered("no", "parts") == ["no", "parts"]


def test_what_two_dumps_share_stands_once() -> None:
    one = ["Oops#1 Part1", "[    1.000000] a", "[    2.000000] b"]
    two = ["Panic#2 Part1", "[    2.000000] b", "[    3.000000] c"]
    assert ordered(*two, *one) == ["a", "b", "c"]


FRAMES = {
    "fn+0x1d/0x70": Frame("fn", 0x1D, 0x70),
    "? fn+0x1d/0x70 [nouveau]": Frame("fn", 0x1D, 0x70, "nouveau", reliable=False),
    "fn.constprop.0.isra.0+0x1/0x2": Frame("fn", 1, 2),
    "fn.cold+0x1/0x2 [snd-hda]": Frame("fn", 1, 2, "snd-hda"),
    "fn+0x1/0x2 [m 3b53b4f0a1c2d3e4f5061728394a5b6c7d8e9f00]": Frame("fn", 1, 2, "m"),
    "fn+0x1/0x2 [m] (P)": Frame("fn", 1, 2, "m"),
    "fn+0x1/0x2 (PL)": Frame("fn", 1, 2),
    "[<ffffffff81067767>] ? fn+0x1/0x2": Frame("fn", 1, 2, reliable=False),
    "_RNvCs1234_4core3fmt+0x1/0x2": Frame("_RNvCs1234_4core3fmt", 1, 2),
    "0xffffffffc0a12345": Frame(""),
    "? 0xffffffffc0a12345": Frame("", reliable=False),
    "0xffffffc000c81e2c [netatop@000000006b7888f1+0x12000]": Frame("", module="netatop"),
    "lr : fn+0x1/0x2": None,
    "RIP: 0010:fn+0x1/0x2": None,
    "fn+0x1/0x2 and more": None,
    "fn": None,
    "": None,
}


@pytest.mark.parametrize("text", FRAMES)
def test_frames(text: str) -> None:
    assert frames.frame(text) == FRAMES[text]


def test_frames_stand_in_their_contexts() -> None:
    crash = crashlog.read(log("null-softirq-6.9"))
    assert crash.where is not None
    assert crash.where.context == "IRQ"
    contexts = {frame.function: frame.context for frame in crash.trace}
    assert contexts["net_rx_action"] == "IRQ"
    assert contexts["do_idle"] == contexts["cpuidle_enter_state"] == ""


def test_what_a_processor_ran_is_not_in_the_nmi_that_looked() -> None:
    crash = crashlog.read(log("nmi-iock-6.1"))
    assert crash.where is not None
    assert crash.where.context == ""
    assert [frame.function for frame in crash.trace[:2]] == ["copy_user_enhanced_fast_string", "copyout"]


def test_no_machinery_in_the_trace() -> None:
    crash = crashlog.read(log("null-xfs-write-6.1"))
    assert [frame.function for frame in crash.trace[:2]] == ["xfs_inode_item_format", "xlog_cil_insert_format_items"]
    crash = crashlog.read(log("softlockup-6.1"))
    assert [frame.function for frame in crash.trace[:2]] == [
        "native_queued_spin_lock_slowpath",
        "_raw_spin_lock_irqsave",
    ]
    crash = crashlog.read(log("hung-nfs-6.6"))
    assert crash.trace[0].function == "folio_wait_bit_common"


def test_lines_of_others_in_a_trace_without_marks() -> None:
    """Of arm64, and without callers: only that a few are no frames says that they don't belong there."""
    head = "Internal error: Oops: 96000004 [#1] SMP\npc : f+0x1/0x2\nCall trace:\n f+0x1/0x2\n"
    noise, rest = "usb 1-1: new device\n" * 3, " g+0x1/0x2\n ret_from_fork+0x1/0x2\nCode: 1 2 3 4 (5)\n"
    crash = crashlog.read((head + noise + rest).encode())
    assert [frame.function for frame in crash.trace] == ["f", "g", "ret_from_fork"]
    later = " ?" + " h+0x1/0x2\n"
    crash = crashlog.read((head + rest + noise * 9 + later).encode())
    assert [frame.function for frame in crash.trace] == ["f", "g", "ret_from_fork"]


def test_machine() -> None:
    crash = crashlog.read(log("null-nouveau-6.17"))
    assert crash.hardware == "LENOVO 21CF0031GE/21CF0031GE"
    assert crash.firmware == "BIOS R23ET70W (1.40 ) 03/21/2024"
    assert crash.microcode == "0x00000125"
    assert crash.version == "#1 SMP PREEMPT_DYNAMIC Fri, 14 Nov 2025 06:54:20 +0000"
    assert crash.cmdline.startswith("BOOT_IMAGE=/boot/vmlinuz root=UUID=")
    assert crash.workqueue == "events nouveau_fence_work [nouveau]"
    assert crash.uptime == pytest.approx(187422.1)
    assert crash.address == 0x38
    assert LoadedModule("nouveau", "+") in crash.modules
    assert "wlan0" in "".join(crash.before)


def test_hardware_without_firmware() -> None:
    crash = crashlog.read(log("arm64-null-brcmfmac-6.1"))
    assert (crash.hardware, crash.firmware) == ("Raspberry Pi 4 Model B Rev 1.5 (DT)", "")


def test_module_list_over_two_records() -> None:
    crash = crashlog.read(log("long-module-list-6.17"))
    assert [module.name for module in crash.modules] == [f"snd_part_{number:03}" for number in range(60)]


def test_command_line_over_several_lines() -> None:
    """As 6.19 and later print a long one."""
    text = (
        "Linux version 6.19.0 (a@b) #1 SMP\n"
        "Command line: root=/dev/a quiet\n"
        "Kernel command line: root=/dev/a \\\n"
        "Kernel command line: quiet\n"
        "Kernel panic - not syncing: over\n"
    )
    assert crashlog.read(text.encode()).cmdline == "root=/dev/a quiet"


G = "CPU: 1 UID: 0 PID: 9 Comm: "
CPU_LINES = {
    "CPU: 3 PID: 812 Comm: wpa Tainted: G         C O      6.1.21-v8+ #1": (3, 812, "wpa", "CO", "6.1.21-v8+"),
    f"{G}a Not tainted 6.17.8-arch1-1 #1 PREEMPT(full)  0123456789abcdef0123": (1, 9, "a", "", "6.17.8-arch1-1"),
    f"{G}a b  c Kdump: loaded Not tainted 6.12.0 #1": (1, 9, "a b  c", "", "6.12.0"),
    f"{G}x Not tainted x Tainted: P           OE      6.6.1 #1": (1, 9, "x Not tainted x", "POE", "6.6.1"),
    f"{G}(sd-pam) Kdump: loaded Tainted: G S  M    W    L     6.1.0 #2": (1, 9, "(sd-pam)", "SMWL", "6.1.0"),
    "CPU: 0 PID: 77 Comm: kworker/u8:1": (0, 77, "kworker/u8:1", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("text", CPU_LINES)
def test_processor_lines(text: str) -> None:
    crash = crashlog.read(f"Kernel panic - not syncing: over\n{text}\nCall Trace:\n f+0x1/0x2\n".encode())
    assert (crash.cpu, crash.pid, crash.process, crash.taint, crash.release) == CPU_LINES[text]


PANICS = {
    "Attempted to kill init! exitcode=0x0000000b": ("panic", "the end of init by signal 11"),
    "Attempted to kill init! exitcode=0x00000100": ("panic", "the end of init with status 1"),
    "Attempted to kill the idle task!": ("panic", "the end of an idle task"),
    "Aiee, killing interrupt handler!": ("panic", "the end of a task in an interrupt"),
    "Fatal exception in interrupt": ("oops", "a fatal exception in an interrupt"),
    "Fatal local machine check": ("mce", "a machine check (a hardware error)"),
    "Machine check from unknown source": ("mce", "a machine check (a hardware error)"),
    "Fatal Machine check": ("mce", "a machine check (a hardware error)"),
    "Timeout: Not all CPUs entered broadcast exception handler": ("mce", "a machine check that not all CPUs answered"),
    "Fatal hardware error!": ("mce", "a hardware error that the firmware reported"),
    "Out of memory: system-wide panic_on_oom is enabled": ("oom", "a lack of memory (panic_on_oom)"),
    "System is deadlocked on memory": ("oom", "a lack of memory with no process left to kill"),
    "NMI: Not continuing": ("nmi", "an NMI"),
    "NMI IOCK error: Not continuing": ("nmi", "an NMI for an I/O check"),
    "Asynchronous SError Interrupt": ("panic", "an asynchronous SError (a bus or hardware error)"),
    "No working init found.": ("panic", "an init that could not be started"),
    "Requested init /bin/x failed (error -2).": ("panic", "an init that could not be started"),
    "corrupted stack end detected inside scheduler": ("stack overflow", "a kernel stack overflow"),
    "something else": ("panic", "a panic (something else)"),
    "": ("panic", "a panic"),
}


@pytest.mark.parametrize("text", PANICS)
def test_a_panic_alone(text: str) -> None:
    crash = crashlog.read(f"[    5.000000] Kernel panic - not syncing: {text}\n".encode())
    assert (crash.kind, crash.cause, crash.panic) == (*PANICS[text], text)


REPORTS = {
    "BUG: KASAN: global-out-of-bounds in f+0x1/0x2": "an out-of-bounds access (KASAN)",
    "BUG: KASAN: double-free in f+0x1/0x2": "a double free (KASAN)",
    "BUG: KASAN: vmalloc-out-of-bounds in f+0x1/0x2": "an out-of-bounds access (KASAN)",
    "BUG: KASAN: something-new in f+0x1/0x2": "a report of KASAN (something-new)",
    "BUG: KFENCE: out-of-bounds read in f+0x1/0x2": "an out-of-bounds access (KFENCE)",
    "BUG: KFENCE: memory corruption in f+0x1/0x2": "a write past the end of an object (KFENCE)",
    "BUG: KMSAN: uninit-value in f+0x1/0x2": "a use of memory that was never written (KMSAN)",
    "UBSAN: shift-out-of-bounds in a/b.c:12:3": "a shift out of bounds (UBSAN)",
}


@pytest.mark.parametrize("text", REPORTS)
def test_reports_of_checkers(text: str) -> None:
    crash = crashlog.read(
        f"{text}\nKernel panic - not syncing: {text.split(': ')[0]}: panic_on_warn set ...\n".encode()
    )
    assert crash.kind == "bug"
    assert crash.cause == REPORTS[text]


def test_what_went_wrong_before_is_no_cause() -> None:
    oops = f"[    1.000000] {TEXT}\n[    1.000001] Oops: 0000 [#1] SMP\n"
    lockup = "[   50.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [a:1]\n"
    warning = "[   51.000000] WARNING: CPU: 1 PID: 2 at a.c:3 f+0x1/0x2\n"
    panic = "[   90.000000] Kernel panic - not syncing: {}\n"
    before = oops + lockup + warning
    assert crashlog.read((before + panic.format("VFS: Unable to mount root fs on x")).encode()).kind == "panic"
    assert crashlog.read((before + panic.format("Fatal exception")).encode()).kind == "oops"
    assert crashlog.read((before + panic.format("softlockup: hung tasks")).encode()).kind == "soft lockup"
    assert crashlog.read((before + panic.format("kernel: panic_on_warn set ...")).encode()).kind == "warning"
    assert crashlog.read((before + panic.format("Attempted to kill init! exitcode=0x9")).encode()).kind == "panic"


def test_without_a_panic_a_late_report_counts_and_an_early_one_does_not() -> None:
    warning = "WARNING: CPU: 1 PID: 2 at a.c:3 f+0x1/0x2\n"
    assert crashlog.read(warning.encode()).kind == "warning"
    assert crashlog.read((warning + "usb 1-1: new device\n" * 500).encode()).kind == "unknown"


def test_of_several_boots_the_last_that_crashed() -> None:
    boot = "Linux version 6.{}.0 (a@b) #1 SMP\n"
    panic = "Kernel panic - not syncing: {}\n"
    log = boot.format(1) + panic.format("one") + boot.format(2) + panic.format("two") + boot.format(3) + "saving\n"
    crash = crashlog.read(log.encode())
    assert (crash.release, crash.panic) == ("6.2.0", "two")


def test_signature() -> None:
    one, two = Frame("a", 1, 2, "m"), Frame("b", 3, 4)
    whole = signature.make("oops", "words", one, (one, two))
    assert len(whole) == 16
    assert whole == signature.make("oops", "others", Frame("a", 9, 9, "m"), (Frame("a", 9, 9, "m"), Frame("b")))
    assert whole == signature.make("oops", "words", one, (one, Frame("c", reliable=False), two))
    assert whole == signature.make("oops", "words", one, (one, one, one, two))
    assert whole != signature.make("bug", "words", one, (one, two))
    assert whole != signature.make("oops", "words", Frame("a"), (Frame("a"), two))
    assert whole != signature.make("oops", "words", one, (one,))


def test_signature_of_words() -> None:
    first = signature.make("panic", 'VFS: Unable to mount root fs on "/dev/sda2" or unknown-block(0,0)', None, ())
    assert first == signature.make(
        "panic", 'VFS: Unable to mount root fs on "/dev/vda" or unknown-block(8,2)', None, ()
    )
    assert first != signature.make("panic", "No working init found.", None, ())
    assert signature.make("unknown", "", None, ()) == ""


def test_signature_recipe_is_kept() -> None:
    """Reports are found again by it: another recipe must be meant."""
    assert crashlog.read(log("null-nouveau-6.17")).signature == "2921bfe2abb67785"


def test_nothing() -> None:
    for data in (b"", b"\n", b"\0" * 100):
        crash = crashlog.read(data)
        assert (crash.kind, crash.cause, crash.signature, crash.truncated) == ("unknown", "", "", False)
