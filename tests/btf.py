"""BTF made by hand, type by type (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

HEAD = 24


@dataclass
class Builder:
    """Types get their numbers in the order in which they are made; with a BASE they go on after that."""

    base: Builder | None = None
    types: bytearray = field(default_factory=bytearray)
    strings: bytearray = field(default_factory=bytearray)
    count: int = 0
    names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.base is None:
            self.strings += b"\0"
            self.names[""] = 0
        else:
            self.names.update(self.base.names)
            self.count = self.base.count

    def name(self, text: str) -> int:
        if text not in self.names:
            self.names[text] = len(self.strings) + (len(self.base.strings) if self.base else 0)
            self.strings += text.encode() + b"\0"
        return self.names[text]

    def add(self, name: str, kind: int, third: int, *rest: int, count: int = 0, flag: bool = False) -> int:
        info = kind << 24 | count | flag << 31
        self.types += struct.pack(f"<{3 + len(rest)}I", self.name(name), info, third, *(n & 0xFFFFFFFF for n in rest))
        self.count += 1
        return self.count

    def integer(self, name: str, size: int = 4, encoding: int = 0, bits: int | None = None) -> int:
        return self.add(name, 1, size, encoding << 24 | (8 * size if bits is None else bits))

    def pointer(self, to: int) -> int:
        return self.add("", 2, to)

    def array(self, of: int, count: int, index: int = 1) -> int:
        return self.add("", 3, 0, of, index, count)

    def structure(
        self, name: str, size: int, *members: tuple[str, int, int], union: bool = False, flag: bool = False
    ) -> int:
        """Members are name, type and place in bits."""
        words = [word for member, kind, place in members for word in (self.name(member), kind, place)]
        return self.add(name, 5 if union else 4, size, *words, count=len(members), flag=flag)

    def enum(self, name: str, values: Sequence[tuple[str, int]], size: int = 4, *, signed: bool = False) -> int:
        words = [word for one, value in values for word in (self.name(one), value)]
        return self.add(name, 6, size, *words, count=len(values), flag=signed)

    def forward(self, name: str, *, union: bool = False) -> int:
        return self.add(name, 7, 0, flag=union)

    def typedef(self, name: str, to: int) -> int:
        return self.add(name, 8, to)

    def volatile(self, to: int) -> int:
        return self.add("", 9, to)

    def const(self, to: int) -> int:
        return self.add("", 10, to)

    def restrict(self, to: int) -> int:
        return self.add("", 11, to)

    def function(self, name: str, prototype: int) -> int:
        return self.add(name, 12, prototype, count=1)

    def prototype(self, result: int, *parameters: tuple[str, int]) -> int:
        words = [word for one, kind in parameters for word in (self.name(one), kind)]
        return self.add("", 13, result, *words, count=len(parameters))

    def variable(self, name: str, kind: int) -> int:
        return self.add(name, 14, kind, 1)

    def variables(self, name: str, *variables: tuple[int, int, int]) -> int:
        """Variables are number, offset and size."""
        return self.add(name, 15, 0, *(word for one in variables for word in one), count=len(variables))

    def floating(self, name: str, size: int) -> int:
        return self.add(name, 16, size)

    def declaration_tag(self, name: str, to: int) -> int:
        return self.add(name, 17, to, 0xFFFFFFFF)

    def type_tag(self, name: str, to: int) -> int:
        return self.add(name, 18, to)

    def enum64(self, name: str, values: Sequence[tuple[str, int]], *, signed: bool = False) -> int:
        words = [word for one, v in values for word in (self.name(one), v & 0xFFFFFFFF, v >> 32 & 0xFFFFFFFF)]
        return self.add(name, 19, 8, *words, count=len(values), flag=signed)

    def build(self) -> bytes:
        return pack(bytes(self.types), bytes(self.strings))


def pack(types: bytes, strings: bytes) -> bytes:
    """The section of these types and names."""
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, HEAD, 0, len(types), len(types), len(strings)) + types + strings


def every_kind() -> Builder:
    """One type of each kind at least."""
    b = Builder()
    number, character, long = b.integer("int", 4, 1), b.integer("char", 1), b.integer("long unsigned int", 8)
    b.integer("_Bool", 1, 4)
    node = b.count + 2
    b.pointer(node)
    b.structure("list_head", 16, ("next", b.count, 0), ("prev", b.count, 64))
    name = b.array(character, 16)
    task = b.structure("task_struct", 64, ("comm", name, 0), ("tasks", node, 128), ("pid", number, 256))
    b.structure("flags", 4, ("low", number, 3 << 24 | 0), ("high", number, 5 << 24 | 3), ("", number, 8), flag=True)
    b.structure("", 8, ("one", number, 0), ("all", long, 0), union=True)
    b.structure("holder", 16, ("", b.count, 0), ("rest", b.array(number, 0), 64))
    b.enum("state", [("RUNNING", 0), ("STOPPED", 4)])
    b.enum("error", [("NONE", 0), ("FAILED", -5)], signed=True)
    b.enum("NR", [("NR_NODES", 3)])
    b.enum("later", [])
    b.enum64("wide", [("HUGE", 1 << 40), ("ALL", (1 << 64) - 1)])
    b.enum64("deep", [("LOW", -(1 << 40))], signed=True)
    b.forward("elsewhere")
    b.forward("either", union=True)
    u64 = b.typedef("u64", long)
    b.typedef("nothing", 0)
    b.const(b.volatile(u64))
    b.const(0)
    b.restrict(b.pointer(b.const(character)))
    b.pointer(0)
    b.array(b.array(number, 3), 2)
    tagged = b.type_tag("user", number)
    b.pointer(tagged)
    b.floating("double", 8)
    call = b.prototype(number, ("task", b.pointer(task)), ("", b.pointer(0)), ("", 0))
    b.prototype(0)
    b.declaration_tag("kfunc", b.function("do_work", call))
    b.function("unknown", call)
    b.variables(".data..percpu", (b.variable("current_count", u64), 0, 8), (b.variable("nowhere", number), 8, 4))
    return b
