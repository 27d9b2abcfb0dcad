"""What to do after a crash: the shortest list that is true, what helps most first, each with its command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from kdump_pkg.model.crash import Advice, Crash, LoadedModule, Owner, Report
from kdump_pkg.model.dumps import Entry
from kdump_pkg.model.evidence import Change, Evidence
from kdump_pkg.plan import origin
from kdump_pkg.plan.advice_by_kind import for_kind, has_a_name
from kdump_pkg.report.words import and_so_on, clean

TRACKERS = (
    (("amdgpu", "radeon", "i915", "xe", "nouveau", "drm", "ttm"), "the drm trackers on freedesktop's GitLab"),
    (("btrfs",), "the mailing list linux-btrfs"),
    (("ext4", "jbd2"), "the mailing list linux-ext4"),
    (("xfs",), "the mailing list linux-xfs"),
    (("iwlwifi", "iwlmvm", "ath10k_core", "ath11k", "ath12k", "mt76", "rtw88_core", "rtw89_core", "mac80211"),
     "the mailing list linux-wireless"),
    (("bluetooth", "btusb"), "the mailing list linux-bluetooth"),
    (("nvme", "nvme_core"), "the mailing list linux-nvme"),
    (("kvm", "kvm_amd", "kvm_intel"), "the mailing list kvm"),
    (("usbcore", "xhci_hcd", "xhci_pci"), "the mailing list linux-usb"),
    (("snd", "snd_hda_intel", "snd_hda_codec", "snd_usb_audio", "snd_pcm"), "the mailing list linux-sound"),
)  # fmt: skip
"""Modules of the kernel's own tree, and who answers for them."""
OTHERS = {
    "nvidia": "NVIDIA's forum for Linux, with what nvidia-bug-report.sh writes",
    "zfs": "OpenZFS's issues on GitHub",
    "vboxdrv": "VirtualBox's bug tracker",
    "vmmon": "the forum of VMware Workstation",
}
"""Modules from elsewhere, by how their names begin."""


KASAN = 0xDFFFFC
"""How its shadow of a null pointer begins, which is no address but for one bit either."""


def add(report: Report, evidence: Evidence, entry: Entry, latest: Sequence[Change]) -> Report:
    """The report with its advice; LATEST is what was changed before this crash, the first since."""
    return replace(report, advice=tuple(_all(report, evidence, entry, latest)))


def _all(report: Report, evidence: Evidence, entry: Entry, latest: Sequence[Change]) -> Iterator[Advice]:
    name = shlex.quote(clean(entry.path if entry.maker == "unknown" else entry.id))
    if report.encrypted:
        yield Advice(
            "The dump is encrypted. Decrypt it with the private key; the report is then made of its log.",
            f"kdump-pkg decrypt {name} --identity KEY-FILE",
        )
        return
    if evidence.in_a_row > 1:
        yield Advice(
            f"The machine crashed {evidence.in_a_row} times in a short time. If it doesn't stop, choose another "
            "kernel in the boot menu, linux-lts for example, or leave out the module at fault as told below.",
        )
    yield from _about_the_dump(report, entry, name)
    if report.has_log:
        yield from for_kind(report.crash, name)
        yield from _memory(report.crash)
        yield from _upgrades(report, evidence, latest)
        yield from _at_fault(report)
    yield from _look_inside(report, entry, name)


def _about_the_dump(report: Report, entry: Entry, name: str) -> Iterator[Advice]:
    if report.verification is not None and not report.verification.good:
        yield Advice(
            "The dump is damaged: what is wrong stands under 'The dump itself'. The log may be whole all the same."
        )
    if not report.has_log and entry.vmcore:
        yield Advice(
            "There is no log beside the memory, and makedumpfile could not take it out of there: it has to be "
            "installed and new enough for this kernel, and the dump whole.",
            "pacman -S makedumpfile",
        )
    if not report.has_log and not entry.foreign:
        yield Advice(
            "No log was saved of the crashed kernel. Why not stands in what the capture said.",
            f"kdump-pkg info {name}",
        )


def _memory(crash: Crash) -> Iterator[Advice]:
    """Signs of memory that doesn't keep what is written to it."""
    if crash.kind == "mce":
        return
    if "B" in crash.taint or "bad page" in crash.words.lower() or _one_bit_off(crash):
        yield Advice(
            "This looks like a bit that changed by itself. Let memtest86+ run for a night, without an overclock or "
            "XMP/EXPO profile; it is an entry of the boot menu once it is installed.",
            "pacman -S memtest86+-efi",
        )


def _one_bit_off(crash: Crash) -> bool:
    """Whether the address is a null pointer, or one of the kernel's, but for a single bit."""
    address = crash.address
    if address is None or crash.architecture != "x86_64" or not 0 <= address < 1 << 64 or address >> 40 == KASAN:
        return False
    return (address.bit_count() == 1 and address > 0xFFFF) or (address >> 47).bit_count() == 16


# --- what was changed ---


def _upgrades(report: Report, evidence: Evidence, latest: Sequence[Change]) -> Iterator[Advice]:
    if report.crash.kind == "sysrq":
        return
    kernel = next((o for o in report.owners if not o.module), None)
    newer = origin.not_rebooted(kernel, report.time, evidence)
    if newer is not None:
        yield _not_rebooted(newer, report)
        return
    going_back = [c for c in latest if c.deed in ("upgraded", "downgraded") and c.before]
    if not going_back:
        return
    files = [_cached(change, evidence.cached) for change in going_back]
    told = and_so_on([f"{c.package} {c.before}" for c in going_back])
    if all(files):
        where, command = (
            f"pacman's cache has {'them' if files[1:] else 'it'}",
            f"pacman -U {' '.join(shlex.quote(f) for f in files)}",
        )
    else:
        where, command = "pacman's cache has not all of that any more; the Arch Linux Archive keeps old packages", ""
    yield Advice(
        f"To see whether the upgrade did it, go back to {told}; {where}. The headers (package linux-headers or alike) "
        "have to be of the same version if a module is built on this machine.",
        command,
    )


def _not_rebooted(newer: Change, report: Report) -> Advice:
    """The upgrade came while the older kernel ran, or that was booted in spite of it."""
    text = f"{newer.package} was upgraded to {newer.version} before the crash, "
    if report.crash.uptime is None:
        text += "but the older kernel ran."
    elif newer.time > report.time - report.crash.uptime:
        text += "without a reboot into it: the modules of the kernel that ran were gone from the disk."
    else:
        text += "and the older kernel was booted after that all the same: /boot may not have been mounted meanwhile."
    return Advice(f"{text} Boot the newer one, and see whether it does it, too.", "uname -r")


def _cached(change: Change, cached: Sequence[str]) -> str:
    """The package file of the version before, in pacman's cache."""
    wanted = re.compile(
        rf"{re.escape(change.package)}-{re.escape(change.before)}-[A-Za-z0-9_]+\.pkg\.tar(\.[a-z0-9]+)?"
    )
    return next((path for path in cached if wanted.fullmatch(path.rpartition("/")[2])), "")


# --- who answers for it ---


def _at_fault(report: Report) -> Iterator[Advice]:
    crash = report.crash
    if crash.kind in ("sysrq", "mce", "oom", "nmi", "unknown") or has_a_name(crash.panic):
        return
    modules = {module.name: module for module in origin.modules_of(crash)}
    name = crash.where.module if crash.where else ""
    name = name or next((f.module for f in crash.trace if f.module and f.reliable), "")
    owner = next((o for o in report.owners if o.module == name), None)
    module = modules.get(name) if name else None
    if module is not None and (origin.is_foreign(module) or bool(owner and owner.out_of_tree)):
        yield _foreign(module, owner)
    else:
        yield from _kernel_fault(report, name, owner)


def _foreign(module: LoadedModule, owner: Owner | None) -> Advice:
    whose = f"from the package {owner.package} {owner.version}" if owner else "from no package of this system"
    whom = next((text for begin, text in OTHERS.items() if module.name.startswith(begin)), "the project it comes from")
    return Advice(
        f"The crash went through {module.name}, {whose}: it is no part of the kernel, and kernel developers will not "
        f"look at it. Look for a newer version; report it to {whom}. To see whether it is at fault, boot once without "
        "it, by this word on the kernel's command line.",
        f"module_blacklist={clean(module.name)}",
    )


def _kernel_fault(report: Report, module: str, owner: Owner | None) -> Iterator[Advice]:
    kernel = owner or next((o for o in report.owners if not o.module), None)
    whom = next((text for names, text in TRACKERS if module in names), "")
    foreign = [m.name for m in report.crash.modules if origin.is_foreign(m)]
    if kernel is not None and kernel.package != "linux-lts":
        yield Advice(
            "See whether another kernel does it too: linux-lts for a regression, a newer one for what is mended "
            "already.",
            "pacman -S linux-lts linux-lts-headers" if foreign else "pacman -S linux-lts",
        )
    what = f"{kernel.package} {kernel.version}" if kernel else f"kernel {report.crash.release}".strip()
    where = "Arch's issue tracker of that package first" if kernel else "the distribution's bug tracker first"
    text = f"Report it as a bug of {what}"
    text += f", in the module {module}" if module else ""
    text += f": {where}{f', then {whom}' if whom else ', which sends on what belongs to the kernel itself'}. "
    text += "Put the report and the lines of the crash into it."
    if foreign:
        text += f" Before that, see that it happens without {and_so_on(foreign[:4])}, too."
    yield Advice(text)


# --- the dump ---


def _look_inside(report: Report, entry: Entry, name: str) -> Iterator[Advice]:
    if entry.vmcore and not entry.encrypted:
        yield Advice("Look into the memory of the crashed kernel.", f"kdump-pkg debug {name}")
        if report.vmcore is not None and report.vmcore.missing.startswith("drgn is not installed"):
            yield Advice("With drgn installed, the report tells of tasks and memory, too.", "pacman -S drgn")
    if report.crash.kind != "sysrq":
        secrets = "The dump holds the machine's memory, and so passwords and keys: only to whom you trust with these."
        yield Advice(
            f"Hand it to somebody. {secrets}" if entry.vmcore else "Hand it to somebody, the log and this report.",
            f"kdump-pkg export {name} {shlex.quote(clean(entry.id))}.tar.zst",
        )
    if not entry.foreign and not entry.pinned:
        yield Advice("Keep this dump, whatever the rules of retention say.", f"kdump-pkg pin {name}")
