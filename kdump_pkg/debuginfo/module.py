"""A module's file with DWARF, made of its split BTF and of that of its kernel, which goes before it.

Only what the module's own types need is written. Of the kernel's structures that they merely point to, the name is
enough: a debugger that has the kernel's vmlinux finds the rest there, and a module's file has kilobytes instead of
megabytes.
"""

from __future__ import annotations

from kdump_pkg.debuginfo import btf as kinds
from kdump_pkg.debuginfo import code, distilled, dwarf, symbols, writer
from kdump_pkg.debuginfo.btf import Btf
from kdump_pkg.debuginfo.image import LIMITS, Made, content
from kdump_pkg.debuginfo.types import Types
from kdump_pkg.errors import BadImageError
from kdump_pkg.model.elf import AARCH64, RELOCATABLE, SYMTAB, X86_64, Layout, Section

_ABSOLUTE = {X86_64: 1, AARCH64: 257}  # R_X86_64_64, R_AARCH64_ABS64: an address of eight bytes
_QUALITIES = frozenset({kinds.TYPEDEF, kinds.CONST, kinds.VOLATILE, kinds.RESTRICT})


def make(data: bytes, layout: Layout, base: Btf) -> Made:
    """The module DATA with DWARF; BASE are the types of its kernel. Raises BadImageError when it can't be made."""
    if layout.type != RELOCATABLE or layout.machine not in _ABSOLUTE:
        raise BadImageError("no module for x86-64 or aarch64")
    own = content(data, layout, ".BTF")
    if layout.find(".BTF.base"):
        types = distilled.read(own, content(data, layout, ".BTF.base"), base)
    else:
        types = kinds.read(own, base)
    kept = _keep(layout)
    table = symbols.from_table(data, layout, {n: n for n in range(len(kept))})
    named = symbols.by_name(table)
    info = dwarf.Info(len(types), dwarf.Strings(types.strings, whole=False), relocatable=True)
    whole, declared = reachable(types)
    info.begin("module")
    described = Types(types, info)
    count = described.write(sorted(whole | declared), declared)
    variables = code.variables(types, named, info, described)
    info.end()
    functions = code.functions(types, named, info, described)
    pieces, size = writer.file(data, layout, kept, _sections(layout, kept, info), lambda one: True)
    return Made(tuple(pieces), size, len(table), count, functions, len(variables), LIMITS)


def reachable(btf: Btf) -> tuple[frozenset[int], frozenset[int]]:
    """Types that a module's own need in whole, and those of which the name does."""
    whole: set[int] = set()
    pointed: set[int] = set()
    declared: set[int] = set()
    tag = kinds.TYPE_TAG  # none of them is written, and what it is put on needn't be needed
    own = range(btf.first, len(btf))
    todo = [(number, btf.kinds[number] in _QUALITIES) for number in own if btf.kinds[number] != tag]
    while todo:
        number, weak = todo.pop()
        while btf.kinds[number] == tag:
            number = btf.target(number)
        if number == kinds.VOID or number in whole or (weak and number in pointed):
            continue
        kind = btf.kinds[number]
        if weak and number in btf.single and number < btf.first:
            declared.add(number)
            continue
        weak = weak and kind in _QUALITIES
        (pointed if weak else whole).add(number)
        todo += [(target, weak or kind == kinds.PTR) for target in btf.targets(number)]
    return frozenset(whole | pointed), frozenset(declared - whole)


def _keep(layout: Layout) -> list[Section]:
    """All sections, so that relocations and symbols stay right; the last one is the table of their names."""
    kept = [s for s in layout.sections if not s.name.startswith((".debug", ".zdebug", ".rela.debug"))]
    if len(kept) != len(layout.sections):
        raise BadImageError("has DWARF already, or a part of it")
    return kept[:-1] if kept and kept[-1].name == ".shstrtab" else kept


def _sections(layout: Layout, kept: list[Section], info: dwarf.Info) -> list[writer.Addition]:
    first = len(kept)
    added = [
        writer.debug_section(".debug_info", info.finish()),
        writer.debug_section(".debug_abbrev", dwarf.abbreviations()),
        writer.debug_section(".debug_str", bytes(info.strings.data)),
    ]
    table = next((n for n, s in enumerate(kept) if s.type == SYMTAB), None)
    if table is not None and info.relocations:
        added.append(writer.relocation_section(info.relocations, _ABSOLUTE[layout.machine], table, first))
    return added
