"""How much memory a capture needs, pure: a sum of what can be read on this machine and of a few constants.

Two moments decide. When the kernel unpacks the image, it holds it twice, packed and unpacked. When the dump is saved,
the packed one is gone and there are makedumpfile, the user land of the flavour and, where a passphrase is typed,
Argon2 with its memory. What both have in common is counted once; of the rest the larger counts.

The constants were fitted to real captures in small virtual machines (`make least`): three kernels, both generators, all
flavours, LUKS with a key and with a passphrase. Not in them, because such a machine has none of it: drivers of real
controllers with their queues and firmware, tables of an IOMMU, the run-time mappings of EFI, bounce buffers (swiotlb)
where a reservation lies above 4 GiB. For these is the margin alone; on a machine with much hardware only a real crash
(`kdump-pkg test`) shows whether it does. A screen is counted by its size, though no such machine had one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdump_pkg.model import Capture, Facts, Flavour, ImageState
from kdump_pkg.model.estimate import Estimate, Part
from kdump_pkg.plan import targets

if TYPE_CHECKING:
    from kdump_pkg.model.health import Rehearsed

MIB = 1 << 20
STEP = 4  # MiB; what is proposed is a multiple of it

KERNEL = 60.0
"""MiB; where the header can't be read: what a distribution's kernel of these years asks for."""
TABLES = 6.0
"""MiB that any kernel takes besides itself, in so little memory: hash tables, per-CPU data, slabs, watermarks."""
TABLES_SHARE = 0.23
"""Of the kernel's size: what its built-in drivers and file systems allocate when they start."""
DRIVER = 0.045
"""MiB: the same for each of them, where they are known: linux-kdump has everything built in, and starts it while the
image is being unpacked."""
PAGE_SHARE = 1 / 64
"""Of all memory: struct page, 64 bytes for each 4 KiB (include/linux/mm_types.h)."""
ROOTFS = 1.05
"""The unpacked image lies in a tmpfs: files end in the middle of a page, and each has an inode."""
PACKED_RATIO = 2.7
"""Unpacked to packed by gzip, where the former isn't known; 2.2 to 2.6 were measured."""
SIZES: dict[Flavour, float] = {"direct": 8.0, "udev": 12.0, "systemd": 14.0}
"""MiB of a packed image that isn't there yet."""
MAKEDUMPFILE = 2.0
"""MiB: its program, its buffers for a page and for its compression."""
BITS = 2
"""Of makedumpfile's bitmaps for each page of the system: what is in the dump, what has been written (its cyclic mode
does with less, but goes through the page tables again for every part)."""
USERLAND: dict[Flavour, float] = {"direct": 0.0, "udev": 6.0, "systemd": 12.0}
"""MiB of processes and of the modules that they load besides busybox' shell."""
CRYPTSETUP = 4.0
"""MiB, with the libraries that it maps."""
SYSTEM = 96.0
"""MiB of a whole system that was started as far as kdump-save.service; a guess."""
MARGIN, MARGIN_SHARE = 4.0, 0.04
"""MiB at the least, and the share of the sum."""
MEASURED_MARGIN, MEASURED_SHARE = 8.0, 0.1
"""The same on top of the smallest reservation that captured, which has no slack of its own left."""
UNKNOWN = 256
"""MiB; where no capture can be designed: what the kernel's documentation and most distributions say."""


def estimate(facts: Facts, capture: Capture | None, rehearsed: Rehearsed | None) -> Estimate:
    """What to reserve, whence, and whether what is reserved now is enough."""
    if capture is None:
        return _finish(facts, None, (), UNKNOWN, certain=False, used=None)
    parts = _from_measured(facts, capture) or _sum(facts, capture)
    known = rehearsed if rehearsed and _is_proof(rehearsed, capture) else None
    need = round_up(sum(part.mib for part in parts))
    used = None
    if known and known.reserved and known.least_kib is not None:
        used = round(known.reserved / MIB - known.least_kib / 1024, 1)
    return _finish(facts, known, parts, need, certain=_certain(facts, capture), used=used)


def round_up(mib: float) -> int:
    """To what may be proposed."""
    return math.ceil(mib / STEP - 1e-9) * STEP


def measured_margin(least_mib: float) -> float:
    """What goes on top of the smallest reservation that captured, in MiB."""
    return max(MEASURED_MARGIN, MEASURED_SHARE * least_mib)


def _is_proof(rehearsed: Rehearsed, capture: Capture) -> bool:
    """Whether this very image captured, in its reservation alone: nobody knows how much of `,cma` it used."""
    alone = not any(value.endswith(",cma") for value in rehearsed.crashkernel.split())
    return rehearsed.captured and rehearsed.fingerprint == capture.fingerprint and alone


def _is_current(image: ImageState, capture: Capture) -> bool:
    return image.fingerprint is not None and image.fingerprint == capture.fingerprint


def _certain(facts: Facts, capture: Capture) -> bool:
    """Whether nothing in it is a guess."""
    if capture.system or not _is_current(facts.image, capture) or facts.boot.memory_total is None:
        return False
    return facts.image.least_mib is not None or None not in (facts.image.unpacked, capture.kernel.init_size)


def _from_measured(facts: Facts, capture: Capture) -> tuple[Part, ...]:
    """The short sum, where `estimate --measure` has found with what this very image captures."""
    least = facts.image.least_mib
    if least is None or not _is_current(facts.image, capture):
        return ()
    return (
        Part("measured", least, "the smallest reservation with which a rehearsal captured"),
        *_larger_bitmap(facts),
        *_screen(facts),
        Part("margin", measured_margin(least), "10 %, at least 8 MiB: real hardware has more drivers"),
    )


def _sum(facts: Facts, capture: Capture) -> tuple[Part, ...]:
    common = (*_kernel(capture), *_screen(facts), *_image(facts, capture))
    packed = _packed(facts, capture)
    saving = _after(_saving(facts, capture), packed.mib)
    parts = (*common, packed, *saving)
    whole = sum(part.mib for part in parts)
    margin = max(MARGIN, MARGIN_SHARE * whole)
    pages = (whole + margin) * PAGE_SHARE / (1 - PAGE_SHARE)
    return (
        *parts,
        Part("pages", round(pages, 1), "64 bytes for each page of the reservation"),
        Part("margin", round(margin, 1), f"{MARGIN_SHARE:.0%}, at least {MARGIN:.0f} MiB: for real hardware's drivers"),
    )


def _kernel(capture: Capture) -> tuple[Part, ...]:
    kernel = capture.kernel
    mib = kernel.init_size / MIB if kernel.init_size else KERNEL
    source = f"{kernel.release}, as its header says" if kernel.init_size else f"{kernel.release}: not known, guessed"
    tables, what = TABLES_SHARE * mib, f"{TABLES_SHARE:.0%} of the kernel"
    if kernel.builtin:
        tables, what = DRIVER * len(kernel.builtin), f"what its {len(kernel.builtin)} drivers and file systems take"
    return (
        Part("kernel", round(mib, 1), source),
        Part("its tables", round(TABLES + tables, 1), f"{TABLES:.0f} MiB, and {what}"),
    )


def _screen(facts: Facts) -> tuple[Part, ...]:
    mib = facts.boot.framebuffer / MIB
    return (Part("screen", round(mib, 1), "what is drawn, kept once more in memory (/sys/class/graphics/fb0)"),) * (
        mib > 0
    )


def _packed_mib(facts: Facts, capture: Capture) -> float:
    return facts.image.size / MIB if facts.image.size else SIZES[capture.flavour]


def _image(facts: Facts, capture: Capture) -> tuple[Part, ...]:
    image = facts.image
    if image.unpacked is not None:
        mib, source = image.unpacked / MIB, "measured when it was built"
    else:
        mib, source = PACKED_RATIO * _packed_mib(facts, capture), f"not measured, taken for {PACKED_RATIO} times packed"
    return (Part("image", round(mib * ROOTFS, 1), f"unpacked, {source}"),)


def _packed(facts: Facts, capture: Capture) -> Part:
    source = capture.image if facts.image.size else f"{capture.image} can't be seen, so what this flavour usually takes"
    return Part("packed image", round(_packed_mib(facts, capture), 1), f"{source}, until it is unpacked")


def _saving(facts: Facts, capture: Capture) -> tuple[Part, ...]:
    """What is there when the packed image is gone."""
    parts = [Part("makedumpfile", MAKEDUMPFILE, "program and buffers"), _bitmap(facts)]
    if USERLAND[capture.flavour]:
        parts.append(Part("user land", USERLAND[capture.flavour], f"flavour {capture.flavour}"))
    argon2 = targets.argon2_kib(facts, capture.targets) / 1024
    if any(target.crypt for target in capture.targets):
        parts.append(Part("cryptsetup", CRYPTSETUP, "opens an encrypted target"))
    if argon2:
        parts.append(Part("Argon2", argon2, "to check a passphrase, as the LUKS header says"))
    if capture.system:
        parts.append(Part("whole system", SYSTEM, "capture = system; guessed"))
    return tuple(parts)


def _bitmap(facts: Facts) -> Part:
    memory = facts.boot.memory_total or 0
    source = f"{BITS} bits for each page of {memory / (1 << 30):.0f} GiB" if memory else "of memory that can't be seen"
    return Part("bitmap", round(memory / 4096 * BITS / 8 / MIB, 1), source)


def _larger_bitmap(facts: Facts) -> tuple[Part, ...]:
    """What it takes here and not in the machine of 1 GiB in which was measured."""
    bitmap = _bitmap(facts)
    more = round(bitmap.mib - 1024 / 4096 * BITS / 8 * 1024 / 1024, 1)
    return (Part(bitmap.name, more, f"{bitmap.source}, less that of the rehearsal"),) if more > 0 else ()


def _after(parts: Sequence[Part], room: float) -> list[Part]:
    """The same parts less the ROOM that the packed image has given back by then, taken off in their order."""
    left = []
    for part in parts:
        taken = min(part.mib, room)
        room -= taken
        note = f"; {taken:.1f} MiB of it where the packed image was" if taken else ""
        left.append(Part(part.name, round(part.mib - taken, 1), f"{part.source}{note}"))
    return left


def _finish(
    facts: Facts, known: Rehearsed | None, parts: tuple[Part, ...], need: int, *, certain: bool, used: float | None
) -> Estimate:
    size = facts.boot.crash_size
    reserved = None if facts.boot.confined or size is None else size >> 20
    proven = known is not None and size is not None and 0 < known.reserved <= size
    enough = None if reserved is None else reserved >= need or proven
    value = f"{need}M"
    how = "" if certain else "about "
    return Estimate(
        parts=parts,
        need_mib=need,
        values=(value,),
        certain=certain,
        text=f"{how}{need} MiB are needed{_compared(reserved, need, proven=proven)}",
        reserved_mib=reserved,
        enough=enough,
        used_mib=used,
        measured=bool(parts) and parts[0].name == "measured",
    )


def _compared(reserved: int | None, need: int, *, proven: bool) -> str:
    if reserved is None:
        return ""
    if reserved == 0:
        return ", nothing is reserved"
    if reserved >= need:
        more = f", {reserved - need} MiB more than that" if reserved > need else ""
        return f"; {reserved} MiB are reserved: enough{more}"
    if proven:
        return f"; {reserved} MiB are reserved: less, but a rehearsal captured with it"
    return f"; only {reserved} MiB are reserved"
