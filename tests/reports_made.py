"""Crashes and what a machine knows of them, by hand: for the tests of the report, and to look at."""

from __future__ import annotations

from dataclasses import replace

from kdump_pkg.model.crash import (
    Check,
    Crash,
    Frame,
    LoadedModule,
    Report,
    TaskFacts,
    Verification,
    VmcoreFacts,
)
from kdump_pkg.model.dumps import Entry
from kdump_pkg.model.evidence import Change, Evidence, Source
from kdump_pkg.plan import report as planning

TIME = 1_795_420_014  # 2026-11-23 07:46:54 UTC
ID = "2026-11-23T07-46-54Z-6.17.8-arch1-1"

CRASH = Crash(
    kind="oops",
    cause="a null pointer access",
    words="BUG: kernel NULL pointer dereference, address: 0000000000000018",
    panic="Fatal exception in interrupt",
    release="6.17.8-arch1-1",
    version="#1 SMP PREEMPT_DYNAMIC Fri, 14 Nov 2025 06:54:20 +0000",
    architecture="x86_64",
    cpu=3,
    pid=48211,
    process="kworker/3:1",
    workqueue="events nouveau_fence_work [nouveau]",
    where=Frame("nouveau_fence_update", 0x1D, 0x70, "nouveau"),
    address=0x18,
    trace=(
        Frame("nouveau_fence_update", 0x1D, 0x70, "nouveau"),
        Frame("nouveau_fence_done", 0x2E, 0xB0, "nouveau"),
        Frame("__wake_up_common", 0x78, 0xA0, "", reliable=False),
        Frame("dma_fence_is_signaled", 0x1B, 0x60, ""),
        Frame("nv_drm_fence_wait", 0x9, 0x88, "nvidia_drm"),
        Frame("process_one_work", 0x18B, 0x340, ""),
        Frame("worker_thread", 0x256, 0x3A0, ""),
        Frame("kthread", 0xFA, 0x240, ""),
        Frame("ret_from_fork_asm", 0x1A, 0x30, ""),
    ),
    taint="POE",
    modules=(
        LoadedModule("nvidia_drm", "POE"),
        LoadedModule("nvidia", "POE"),
        LoadedModule("nouveau"),
        LoadedModule("ext4"),
        LoadedModule("btusb"),
    ),
    hardware="LENOVO 21CB000HGE/21CB000HGE",
    firmware="BIOS N3AET82W (1.47 ) 10/11/2025",
    microcode="0x0a50000d",
    cmdline="BOOT_IMAGE=/vmlinuz-linux root=UUID=0f0e0d0c-1111-2222-3333-444455556666 rw quiet crashkernel=256M",
    uptime=187_520.0,
    before=(
        "[187501.102934] nouveau 0000:01:00.0: fifo: fault 00 [READ] at 0000000000a01000 engine 00 [gr] client 0f",
        "[187501.102951] nouveau 0000:01:00.0: fifo: channel 3: killed",
        "[187512.440021] usb 1-4: USB disconnect, device number 7",
    ),
    lines=(
        "[187520.204561] BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "[187520.204566] #PF: supervisor read access in kernel mode",
        "[187520.204567] #PF: error_code(0x0000) - not-present page",
        "[187520.204570] Oops: Oops: 0000 [#1] SMP NOPTI",
        "[187520.204573] CPU: 3 UID: 0 PID: 48211 Comm: kworker/3:1 Tainted: P  OE  6.17.8-arch1-1 #1 PREEMPT(full)",
        "[187520.204575] Hardware name: LENOVO 21CB000HGE/21CB000HGE, BIOS N3AET82W (1.47 ) 10/11/2025",
        "[187520.204577] Workqueue: events nouveau_fence_work [nouveau]",
        "[187520.204612] RIP: 0010:nouveau_fence_update+0x1d/0x70 [nouveau]",
        "[187520.204640] Call Trace:",
        "[187520.204641]  <TASK>",
        "[187520.204643]  nouveau_fence_done+0x2e/0xb0 [nouveau]",
    ),
    signature="3f9a07c1d2e45b68",
)

ENTRY = Entry(
    id=ID,
    path=f"/var/crash/{ID}",
    maker="kdump-pkg",
    time=TIME,
    release=CRASH.release,
    state="complete",
    size=180 << 20,
    vmcore=f"/var/crash/{ID}/vmcore",
    log=f"/var/crash/{ID}/dmesg.txt",
    signature=CRASH.signature,
)

UPGRADED = TIME - 188_000 - 6840
CHANGES = (
    Change("firefox", "upgraded", "145.0.1-1", "145.0-1", TIME - 3600),
    Change("nvidia-dkms", "upgraded", "580.105.08-2", "580.105.08-1", UPGRADED + 40),
    Change("linux", "upgraded", "6.17.8.arch1-1", "6.17.7.arch1-2", UPGRADED),
    Change("linux", "upgraded", "6.17.7.arch1-2", "6.17.7.arch1-1", UPGRADED - 500_000),
)

EVIDENCE = Evidence(
    sources={
        "": Source("linux", "6.17.8.arch1-1"),
        "nouveau": Source("linux", "6.17.8.arch1-1"),
        "nvidia": Source("nvidia-dkms", "580.105.08-3", out_of_tree=True),
        "nvidia_drm": Source("nvidia-dkms", "580.105.08-3", out_of_tree=True),
    },
    changes=CHANGES,
    others=(
        replace(ENTRY, id="2026-11-24T19-01-10Z-6.17.8-arch1-1", time=TIME + 126_856),
        replace(ENTRY, id="2026-11-23T22-12-55Z-6.17.8-arch1-1", time=TIME + 51_961),
        replace(ENTRY, id="2026-07-01T03-12-55Z-6.15.8-arch1-1", time=TIME - 12_500_000, signature="0000000000000000"),
    ),
    cached=("/var/cache/pacman/pkg/linux-6.17.7.arch1-2-x86_64.pkg.tar.zst",
            "/var/cache/pacman/pkg/nvidia-dkms-580.105.08-1-x86_64.pkg.tar.zst"),
    machine=(
        ("machine", "LENOVO 21CB000HGE"),
        ("processor", "AMD Ryzen 7 PRO 6850U with Radeon Graphics"),
        ("microcode", "0xa50000d"),
    ),
)  # fmt: skip

VERIFICATION = Verification(
    checks=(
        Check("sums", "ok", "4 files are what they were when they were collected"),
        Check("structure", "ok", "a compressed dump of 16 GiB of memory, all of its pages are there"),
        Check("makedumpfile", "bad", "made by makedumpfile 1.7.9, which damages dumps of Linux 7.1 and later"),
        Check("tasks", "skipped", "drgn is not installed: pacman -S drgn"),
    ),
    time=TIME + 70,
)

VMCORE = VmcoreFacts(
    tasks=412,
    running=(
        TaskFacts(0, "swapper/0", "R", 0, ("default_idle", "do_idle", "cpu_startup_entry")),
        TaskFacts(48211, "kworker/3:1", "R", 3, ("nouveau_fence_update", "process_one_work", "kthread")),
    ),
    blocked=(TaskFacts(771, "jbd2/nvme0n1p2-8", "D", 1, ("io_schedule", "bit_wait_io", "jbd2_journal_commit")),),
    memory=(("MemTotal", 15_700_000), ("MemFree", 402_000), ("Slab", 1_402_000), ("Cached", 7_900_000)),
)


def rich() -> Report:
    """A report in which nothing is missing."""
    return planning.make(ENTRY, CRASH, EVIDENCE, VERIFICATION, VMCORE)
