"""LUKS headers: good ones, damaged ones, hostile ones."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.facts import luks
from kdump_pkg.facts.luks import Header, HeaderError, read_header
from tests.fakes import Link, make_tree

VOLUME = "5b7a0f3e-98c1-4a63-8c5f-2f3a4f1d9e70"
ARGON: dict[str, Any] = {"type": "luks2", "kdf": {"type": "argon2id", "time": 4, "memory": 1048576, "cpus": 4}}
PBKDF: dict[str, Any] = {"type": "luks2", "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000}}
TPM: dict[str, Any] = {"type": "systemd-tpm2", "keyslots": ["1"], "tpm2-pin": False}


def luks1(uuid: str = VOLUME) -> bytes:
    """The fixed part of a LUKS1 header."""
    head = b"LUKS\xba\xbe" + struct.pack(">H32s32s32sII", 1, b"aes", b"xts-plain64", b"sha256", 4096, 64)
    return (head + bytes(56) + uuid.encode().ljust(40, b"\0")).ljust(592, b"\0")


def copy(
    area: object,
    *,
    second: bool = False,
    sequence: int = 3,
    size: int = 0x4000,
    uuid: str = VOLUME,
    alg: str = "sha256",
) -> bytes:
    """One copy of a LUKS2 header: 4096 bytes, then JSON."""
    text = area if isinstance(area, bytes) else json.dumps(area).encode()
    magic = b"SKUL\xba\xbe" if second else b"LUKS\xba\xbe"
    head = magic + struct.pack(">HQQ48s32s64s40s", 2, size, sequence, b"", alg.encode(), b"s" * 64, uuid.encode())
    head = head.ljust(4096, b"\0")
    body = text.ljust(size - 4096, b"\0")
    digest = hashlib.new(alg, head + body).digest() if alg in hashlib.algorithms_available else b""
    return head[:448] + digest.ljust(64, b"\0") + head[512:] + body


def luks2(slots: list[Any], tokens: list[Any] | None = None) -> bytes:
    area = {
        "keyslots": {str(n): slot for n, slot in enumerate(slots)},
        "tokens": {str(n): token for n, token in enumerate(tokens or [])},
    }
    return copy(area) + copy(area, second=True)


def read(root: Path, data: bytes) -> Header:
    make_tree(root, {"/dev/vda2": data})
    return read_header(Context(root=root), "/dev/vda2")


def test_luks1(root: Path) -> None:
    assert read(root, luks1() + bytes(4096)) == Header(VOLUME, 1)


def test_luks2(root: Path) -> None:
    found = read(root, luks2([ARGON, PBKDF, {"kdf": {"type": "argon2i", "memory": 65536}}], [TPM]))
    assert found == Header(VOLUME, 2, 1048576, ("systemd-tpm2",), unattended=True)


@pytest.mark.parametrize(
    ("token", "alone"),
    [
        ({"type": "systemd-tpm2"}, True),
        ({"type": "systemd-tpm2", "tpm2-pin": True}, False),
        ({"type": "systemd-fido2", "fido2-up-required": False, "fido2-clientPin-required": False}, True),
        ({"type": "systemd-fido2", "fido2-up-required": True}, False),
        ({"type": "systemd-recovery"}, False),
        ({"type": "systemd-pkcs11"}, False),
        ({"type": ["systemd-tpm2"]}, False),
        ({}, False),
        ("systemd-tpm2", False),
    ],
)
def test_tokens_that_need_nobody(root: Path, token: object, alone: bool) -> None:
    assert read(root, luks2([ARGON], [token])).unattended is alone


def test_pbkdf2_needs_no_memory(root: Path) -> None:
    assert read(root, luks2([PBKDF])).argon2_kib == 0


@pytest.mark.parametrize("memory", [-1, 0, "1048576", None, 10**30, 1.5, [1], True])
def test_nonsense_for_memory(root: Path, memory: object) -> None:
    found = read(root, luks2([{"kdf": {"type": "argon2id", "memory": memory}}]))
    assert found.argon2_kib in (0, 1)


def test_the_second_copy_counts_where_the_first_is_damaged(root: Path) -> None:
    first, second = copy({}), copy({"keyslots": {"0": ARGON}}, second=True)
    assert read(root, first[:5000] + b"!" + first[5001:] + second).argon2_kib == 1048576
    assert read(root, bytes(0x4000) + second).argon2_kib == 1048576
    wrong_size = first[:8] + struct.pack(">Q", 12345) + first[16:]
    assert read(root, wrong_size + second).argon2_kib == 1048576


def test_the_newer_copy_counts(root: Path) -> None:
    """cryptsetup writes one after the other; a power cut may lie between."""
    new = copy({"keyslots": {"0": ARGON}}, sequence=4)
    assert read(root, new + copy({}, second=True, sequence=3)).argon2_kib == 1048576
    assert read(root, copy({}, sequence=3) + copy({"keyslots": {"0": ARGON}}, second=True, sequence=4)).argon2_kib


def test_large_areas(root: Path) -> None:
    area = {"keyslots": {"0": ARGON}, "tokens": {"0": {"type": "x" * 30000}}}
    assert read(root, copy(area, size=0x400000) + copy(area, size=0x400000, second=True)).argon2_kib == 1048576


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no LUKS header on it"),
        (bytes(10000), "no LUKS header on it"),
        (b"LUKS\xba\xbe", "no sound LUKS header on it"),
        (b"LUKS\xba\xbe\0\1", "no sound LUKS header on it"),
        (b"LUKS\xba\xbe\0\3" + bytes(20000), "no sound LUKS header on it"),
        (copy({})[:9000], "no sound LUKS header on it"),
        (copy({}, alg="rot13"), "no sound LUKS header on it"),
        (copy({}, size=0x5000), "no sound LUKS header on it"),
        (copy(b"{ no JSON"), "the LUKS2 header holds no JSON"),
        (copy(b"[" * 12000), "the LUKS2 header holds no JSON"),
        (copy(b"\xff\xfe\xfd"), "the LUKS2 header holds no JSON"),
        (copy(b'{"a": ' + b"9" * 6000 + b"}"), "the LUKS2 header holds no JSON"),
    ],
)
def test_what_is_no_header(root: Path, data: bytes, why: str) -> None:
    with pytest.raises(HeaderError) as caught:
        read(root, data)
    assert str(caught.value) == f"/dev/vda2: {why}"


@pytest.mark.parametrize("area", [[], "x", 7, None, {"keyslots": []}, {"keyslots": {"0": []}}, {"tokens": {"0": 1}}])
def test_json_of_another_shape(root: Path, area: object) -> None:
    assert read(root, copy(area)) == Header(VOLUME, 2)


def test_a_device_that_is_not_there(root: Path) -> None:
    with pytest.raises(HeaderError, match="/dev/vda9 can't be read: No such file"):
        read_header(Context(root=root), "/dev/vda9")
    make_tree(root, {"/dev/loop": Link("loop")})
    with pytest.raises(HeaderError, match="too many levels"):
        read_header(Context(root=root), "/dev/loop")
    make_tree(root, {"/dev/dir": None})
    with pytest.raises(HeaderError, match="Is a directory"):
        read_header(Context(root=root), "/dev/dir")


def test_only_root_may_look(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        read_header(Context(root=root), "/dev/vda2")


GOOD = luks2([ARGON], [TPM])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=9)), max_size=5)))
def test_property_noise_is_an_answer_or_a_header_error(root: Path, noise: bytes | list[tuple[int, bytes]]) -> None:
    """Pure noise, and a good header with some of it overwritten."""
    data = noise if isinstance(noise, bytes) else GOOD
    for offset, piece in noise if isinstance(noise, list) else []:
        data = data[:offset] + piece + data[offset + len(piece) :]
    try:
        assert read(root, data).version in (1, 2)
    except HeaderError as error:
        assert "\n" not in str(error)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["keyslots", "tokens", "kdf", "type", "memory", "tpm2-pin"]), inner, max_size=4
            )
        ),
        max_leaves=15,
    )
)
def test_property_any_json(area: object) -> None:
    head = copy({})[: luks.BINARY]
    found = luks._version2(head, json.dumps(area).encode())
    assert 0 <= found.argon2_kib <= luks.LARGEST_MEMORY
