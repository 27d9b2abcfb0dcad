"""One line of a trace, and the marks between them."""

from __future__ import annotations

import re

from kdump_pkg.model.crash import Frame

ADDRESS = r"(?:\[<[0-9a-fx]{1,18}>\] ?){0,2}+"
MODULE = r"(?: \[([\w-]{1,64})(?: [0-9a-f]{8,64})?\])?"  # perhaps with its build ID
PLACE = r"([A-Za-z_$.][\w.$@]{0,255}+)\+0x([0-9a-f]{1,16})/0x([0-9a-f]{1,16})" + MODULE
NAMED = re.compile(rf"{ADDRESS}(\? )?{ADDRESS}{PLACE}(?: \([A-Z]{{1,8}}\))?")
BARE = re.compile(r"(\? )?0x[0-9a-f]{8,16}(?: \[([\w-]{1,64})@[^\]]{1,40}\])?")
WITHIN = re.compile(PLACE)
MARK = re.compile(r"<(/?)([A-Z#][A-Za-z0-9_#]{1,19})>")
REGISTER = re.compile(rf"(?:R|E)IP: [0-9a-f]{{4}}:{ADDRESS}(.*)")
KERNEL_SEGMENTS = ("0010", "e030", "0008", "0060")


def frame(text: str, context: str = "") -> Frame | None:
    """TEXT, without blanks around it, as a frame; None where it is something else."""
    if (match := NAMED.fullmatch(text)) is not None:
        unsure, name, offset, size, module = match.groups()
        return Frame(plain(name), int(offset, 16), int(size, 16), module or "", not unsure, context)
    if (bare := BARE.fullmatch(text)) is not None:
        return Frame("", module=bare[2] or "", reliable=not bare[1], context=context)
    return None


def within(text: str) -> Frame | None:
    """The first `function+0x1/0x2 [module]` somewhere in TEXT."""
    if "+0x" not in text or (match := WITHIN.search(text)) is None:
        return None
    name, offset, size, module = match.groups()
    return Frame(plain(name), int(offset, 16), int(size, 16), module or "")


def plain(name: str) -> str:
    """NAME without what the compiler put behind it: .constprop.0, .isra.0, .cold …"""
    return name.split(".", 1)[0] or name


def mark(text: str) -> tuple[str, bool] | None:
    """`</IRQ>` as ("IRQ", True): the stack's name, and whether it ends here."""
    match = MARK.fullmatch(text)
    return (match[2], bool(match[1])) if match else None


def instruction(text: str) -> tuple[Frame | None, bool]:
    """Of a line that says where the processor was: the function, and whether it was in the kernel."""
    if (match := REGISTER.match(text)) is not None:
        segment = text.split(":", 2)[1].strip()
        return _at(match[1]), segment in KERNEL_SEGMENTS
    if text.startswith(("pc : ", "epc : ", "PC is at ", "NIP [")):
        return _at(text.replace("PC is at ", "pc : ", 1).partition(" : ")[2].partition(" ra : ")[0] or text), True
    return None, False


def _at(text: str) -> Frame | None:
    return within(text) or (Frame("") if text.strip().startswith("0x") else None)
