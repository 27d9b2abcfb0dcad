"""The walk over the tasks in a dump: what it reads, and that it reads no further."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from kdump_pkg import vmcore

drgn: Any = pytest.importorskip("drgn", reason="drgn is not installed")
PAGE = 4096
NAMES = ("tasks", "pid", "comm", "on_cpu", "thread_node", "state", "cpu", *vmcore.POINTERS)
OFFSETS = {name: 8 * number for number, name in enumerate(NAMES)} | {
    "comm": 512,
    "thread_head": 16,
    "thread": PAGE + 64,
}
TASK = 0x100000
OBJECTS = {name: 0x200000 + 0x10000 * number for number, name in enumerate(vmcore.POINTERS)}


class Memory:
    """One task, init, in memory of which only some pages were saved."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.put(TASK, bytes(2 * PAGE))
        for name, place in OBJECTS.items():
            self.put(place, bytes(vmcore.SIZES.get(name, vmcore.SIZE)))
            self.put(TASK + OFFSETS[name], struct.pack("<Q", place))
        self.put(TASK + OFFSETS["tasks"], struct.pack("<Q", TASK + OFFSETS["tasks"]))
        self.put(TASK + OFFSETS["pid"], struct.pack("<I", 1))
        self.put(TASK + OFFSETS["comm"], b"init\0")
        head, node = OBJECTS["signal"] + OFFSETS["thread_head"], TASK + OFFSETS["thread_node"]
        self.put(head, struct.pack("<Q", node))
        self.put(node, struct.pack("<Q", head))

    def put(self, place: int, data: bytes) -> None:
        for at, byte in enumerate(data, place):
            self.pages.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def read(self, place: int, count: int) -> bytes:
        for page in range(place // PAGE, (place + count - 1) // PAGE + 1):
            if page not in self.pages:
                raise drgn.FaultError("Excluded page", page * PAGE)
        return bytes(self.pages[at // PAGE][at % PAGE] for at in range(place, place + count))

    def read_u8(self, place: int) -> int:
        return self.read(place, 1)[0]

    def read_u32(self, place: int) -> int:
        return int.from_bytes(self.read(place, 4), "little")

    def read_u64(self, place: int) -> int:
        return int.from_bytes(self.read(place, 8), "little")

    def symbol(self, name: str) -> SimpleNamespace:
        assert name == "init_task"
        return SimpleNamespace(address=TASK)


def test_a_whole_one() -> None:
    found = vmcore.walk(Memory(), OFFSETS)
    assert (found.tasks, found.fault) == (1, "")
    assert found.objects == [TASK, *OBJECTS.values()]


@pytest.mark.parametrize("name", vmcore.POINTERS)
def test_a_page_that_was_left_out_is_named(name: str) -> None:
    memory = Memory()
    del memory.pages[OBJECTS[name] // PAGE]
    found = vmcore.walk(memory, OFFSETS)
    assert "Excluded page" in found.fault
    assert name == "signal" or found.fault.startswith(f"{name} of task 1 (init): ")


@pytest.mark.parametrize(("name", "size"), [("fs", 56), ("nsproxy", 72), ("cred", 176)])
def test_what_comes_next_in_memory_may_be_left_out(name: str, size: int) -> None:
    """The last object of a slab, with the size that it has in Linux 6.12: the next page is free, and in no dump."""
    memory = Memory()
    place = OBJECTS[name] + PAGE - size
    memory.put(place, bytes(size))
    memory.put(TASK + OFFSETS[name], struct.pack("<Q", place))
    assert vmcore.walk(memory, OFFSETS).fault == ""


def test_a_task_is_read_up_to_its_thread() -> None:
    """What follows is of a size that only the running kernel knew: it may be another's, and left out."""
    memory = Memory()
    del memory.pages[TASK // PAGE + 1]
    assert "Excluded page" in vmcore.walk(memory, OFFSETS).fault
    assert vmcore.walk(memory, OFFSETS | {"thread": PAGE}).fault == ""


def test_a_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmcore, "MOST_TASKS", 100)
    memory = Memory()
    other = TASK + PAGE + OFFSETS["tasks"]
    memory.put(TASK + OFFSETS["tasks"], struct.pack("<Q", other))
    memory.put(TASK + PAGE, bytes(memory.pages[TASK // PAGE]))
    memory.put(other, struct.pack("<Q", other))
    memory.pages[TASK // PAGE + 2] = bytearray(PAGE)
    assert vmcore.walk(memory, OFFSETS).fault.endswith("it never ends")
