"""The kernel's keyrings, as far as handing a key over needs them: system calls that no program can make for us."""

from __future__ import annotations

import os
from typing import Protocol

from kdump_pkg.errors import KdumpError

# keyctl(2) and the C library's header: libkeyutils would be one dependency more for four calls.
SYSCALL = {"x86_64": 250, "aarch64": 219}
JOIN_SESSION, LINK, SEARCH, READ = 1, 8, 10, 11
SESSION, USER = -3, -4


class Keyring(Protocol):
    """Root's user keyring; see SystemKeyring."""

    def join(self) -> None:
        """Let this process, and what it starts, find what is in there."""
        ...

    def has(self, kind: str, description: str) -> bool:
        """Whether there is such a key."""
        ...

    def read(self, kind: str, description: str) -> bytes | None:
        """What a key holds; None where there is none, or none that can be read."""
        ...


class SystemKeyring:
    """The real one.

    The kernel looks for a key in the session keyring of whoever asks. That of a service, of sudo or of a pacman hook
    need not lead to root's user keyring, so this process takes a session keyring of its own that does.
    """

    def join(self) -> None:
        _keyctl(JOIN_SESSION, 0)
        _keyctl(LINK, USER, SESSION)

    def has(self, kind: str, description: str) -> bool:
        try:
            return _search(kind, description) > 0
        except KdumpError:
            return False

    def read(self, kind: str, description: str) -> bytes | None:
        import ctypes

        try:
            serial = _search(kind, description)
            size = _keyctl(READ, serial, 0, 0)
            buffer = ctypes.create_string_buffer(size)
            now = _keyctl(READ, serial, ctypes.addressof(buffer), size)
            return buffer.raw[:now]
        except KdumpError:
            return None


def _search(kind: str, description: str) -> int:
    import ctypes

    words = [ctypes.create_string_buffer(word.encode()) for word in (kind, description)]
    return _keyctl(SEARCH, USER, *(ctypes.addressof(word) for word in words), 0)


def _keyctl(*arguments: int) -> int:
    """keyctl(2). Raises KdumpError where it fails or where its number is not known."""
    import ctypes  # costs a start ten milliseconds, and few need it

    number = SYSCALL.get(os.uname().machine)
    if number is None:
        raise KdumpError(f"the number of keyctl(2) is not known on {os.uname().machine}")
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    answer = int(call(*(ctypes.c_long(value) for value in (number, *arguments))))
    if answer < 0:
        raise KdumpError(f"kernel keyring: {os.strerror(ctypes.get_errno())}")
    return answer
