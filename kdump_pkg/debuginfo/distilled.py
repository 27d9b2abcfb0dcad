"""BTF of modules that were built outside of the kernel's tree (.BTF.base, Linux 6.11 and later).

Such a module doesn't count on the numbers of one kernel: it brings a base of its own, in which the kernel's types are
mere stubs, by name and size. Here they are looked up in the kernel that it runs with, as that does it when it loads the
module (tools/lib/bpf/btf_relocate.c says how). Raises BadImageError when one isn't there or has another size.
"""

from __future__ import annotations

from array import array

from kdump_pkg.debuginfo import btf as kinds
from kdump_pkg.debuginfo.btf import Btf
from kdump_pkg.errors import BadImageError

_LOOKED_UP = frozenset({kinds.INT, kinds.FLOAT, kinds.STRUCT, kinds.UNION, kinds.ENUM, kinds.ENUM64})


def read(data: bytes, stubs: bytes, base: Btf) -> Btf:
    """Types of a module, DATA, whose kernel's types are STUBS, on top of those of the real kernel."""
    own_base = kinds.read(stubs)
    module = kinds.read(data, own_base)
    numbers = [_find(own_base, number, base) for number in range(len(own_base))]
    shift = len(base) - len(own_base)

    def moved(number: int) -> int:
        return numbers[number] if number < len(own_base) else number + shift

    words = module.words[:]
    names = len(base.strings)
    for number in range(module.first, len(module)):
        for place in module.places_of_types(number):
            words[place] = moved(words[place])
        for place in module.places_of_names(number):
            words[place] += names
    first = module.starts[module.first] if module.first < len(module) else len(words)
    moved_by = len(base.words) - first
    starts = base.starts + array("I", [start + moved_by for start in module.starts[module.first :]])
    own_kinds = module.kinds[module.first :]
    return Btf(base.words + words[first:], starts, base.kinds + own_kinds, base.strings + module.strings, base)


def _find(stubs: Btf, number: int, base: Btf) -> int:
    """The kernel's type that a stub stands for."""
    kind = stubs.kinds[number]
    if kind == kinds.VOID:
        return kinds.VOID
    name = stubs.name(number)
    if kind == kinds.FWD:  # nothing but pointers lead to it
        return base.named.get((kinds.UNION if stubs.flag(number) else kinds.STRUCT, name), kinds.VOID)
    if kind in _LOOKED_UP and name:
        found = base.named.get((kinds.ENUM if kind == kinds.ENUM64 else kind, name))
    else:
        raise BadImageError(f"BTF: type {number} of its base is of a kind that doesn't belong there")
    if found is None or base.size(found) != stubs.size(number):
        raise BadImageError(f"BTF: the kernel has no {name}, or one of another size: built for another kernel")
    return found
