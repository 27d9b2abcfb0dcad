"""Fuzz the readers of BTF and kallsyms with atheris, and the writer with whatever they let pass.

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris pyelftools
    mkdir -p /tmp/fuzz/btf && /tmp/fuzz/bin/python -m tests.fuzz.btf --seeds /tmp/fuzz/btf
    /tmp/fuzz/bin/python -m tests.fuzz.btf -max_len=20000 -timeout=10 -max_total_time=900 /tmp/fuzz/btf

The first byte says what the rest is: 0 a section .BTF, 1 the types of one, 2 types of a module on top of a kernel's,
3 a .rodata with kallsyms in it, 4 a whole image. An input that breaks something is written to the current directory;
`python -m tests.fuzz.btf FILE` runs it again.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from kdump_pkg.errors import BadImageError
from tests import kernels
from tests.btf import Builder, every_kind, pack

KERNEL = every_kind()
LONGEST = 300
"""Characters of an error."""


def seeds() -> dict[str, bytes]:
    """Inputs to begin with, by name."""
    module = Builder(KERNEL)
    module.pointer(module.structure("own", 8, ("first", 6, 0)))
    found = {"btf": b"\0" + KERNEL.build(), "types": b"\1" + bytes(KERNEL.types), "module": b"\2" + bytes(module.types)}
    for number, layout in enumerate(kernels.LAYOUTS):
        table = kernels.kallsyms([*kernels.SYMBOLS, *kernels.many()], layout)
        found[f"kallsyms-{number}"] = b"\3" + table
        found[f"image-{number}"] = b"\4" + kernels.kernel(layout)
    return found


def one(data: bytes) -> None:
    """Whatever DATA is, it is read, and written as DWARF, or refused in one line."""
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"\3":
            _kallsyms(rest)
        elif kind == b"\4":
            _image(rest)
        else:
            _types(kind, rest)
    except BadImageError as error:
        assert error.message.isprintable()
        assert len(error.message) <= LONGEST


def _types(kind: bytes, data: bytes) -> None:
    from kdump_pkg.debuginfo import btf, dwarf, module
    from kdump_pkg.debuginfo.types import Types

    if kind == b"\0":
        types = btf.read(data)
    elif kind == b"\2":
        types = btf.read(pack(data[: len(data) & ~3], b"\0"), btf.read(KERNEL.build()))
    else:
        types = btf.read(pack(data[: len(data) & ~3], bytes(KERNEL.strings)))
    wanted, declared = module.reachable(types) if kind == b"\2" else (frozenset(range(1, len(types))), frozenset[int]())
    info = dwarf.Info(len(types), dwarf.Strings(types.strings, whole=kind != b"\2"))
    info.begin("fuzz")
    Types(types, info).write(sorted(wanted | declared), declared)
    info.end()
    assert all(info.places[number] for number in info.patches[1::2]), "refers to a type that is nowhere"
    assert len(info.finish()) < 64 * (len(data) + 1000)
    for number in range(len(types)):
        types.size(number)
    assert len(types.named) + len(types.constants) <= len(data) + len(KERNEL.types)


def _kallsyms(data: bytes) -> None:
    from kdump_pkg.debuginfo import kallsyms
    from kdump_pkg.model.elf import Layout, Section

    text = Section(".text", 1, 6, kernels.TEXT, 0, 0)
    rodata = Section(".rodata", 1, 2, kernels.RODATA, 0, len(data))
    way, entries = kallsyms.read(data, Layout(2, 62, 0, 0, (text, rodata), ()))
    assert way
    assert len(entries) <= len(data)
    assert all(entry.name.isprintable() and 0 <= entry.address < 1 << 64 for entry in entries)


def _image(data: bytes) -> None:
    from kdump_pkg.debuginfo import image
    from kdump_pkg.facts import elf

    made = image.make(data, elf.layout(data, "image"))
    end = 0
    for place, piece in made.pieces:
        assert place >= 0
        end = max(end, place + len(piece))
    assert end <= made.size


def main() -> None:
    if sys.argv[1:2] == ["--seeds"]:
        for name, data in seeds().items():
            Path(sys.argv[2], name).write_bytes(data)
        return
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: see the beginning of this file")
    with atheris.instrument_imports(include=["kdump_pkg.debuginfo"]):
        importlib.import_module("kdump_pkg.debuginfo.image")
        importlib.import_module("kdump_pkg.debuginfo.module")
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
