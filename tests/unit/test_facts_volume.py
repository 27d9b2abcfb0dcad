"""Whence a volume's key can be had."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.facts import luks, volume
from kdump_pkg.facts.stack import Crypt
from kdump_pkg.facts.volume import read_crypttab, read_keys, read_volume
from kdump_pkg.model import CryptVolume
from tests.fakes import Entry, FakeRunner, Link, LiveContext, make_tree
from tests.unit.test_facts_luks import ARGON, PBKDF, TPM, VOLUME, luks1, luks2

CRYPT = Crypt(VOLUME, "cryptroot", "/dev/vda2")
KEY = f"link-volume-key=@u::%logon:cryptsetup:{VOLUME}"
UNLOCK = "run kdump-pkg load --unlock once after boot"


def key(description: str, kind: str = "logon", *, uid: int = 0, flags: str = "I--Q---", left: str = "perm") -> str:
    """A line of /proc/keys as the kernel prints it."""
    return f"1f2e3d4c {flags}     1 {left} 3f010000 {uid:5}     0 {kind:9.9} {description}\n"


def read(root: Path, entries: dict[str, Entry], crypt: Crypt = CRYPT, *, live: bool = True) -> CryptVolume:
    make_tree(root, {"/dev/vda2": luks2([ARGON])} | entries)
    return read_volume((LiveContext if live else Context)(root=root, runner=FakeRunner()), crypt)


def test_nothing_to_be_had(root: Path) -> None:
    found = read(root, {})
    assert (found.uuid, found.version, found.argon2_kib, found.key) == (VOLUME, 2, 1048576, "none")
    assert found.device == "/dev/vda2"
    assert found.problem == (
        f"the key of LUKS volume {VOLUME} can't be had without a passphrase; add {KEY} to its options in "
        f"/etc/crypttab.initramfs or rd.luks.options=, or {UNLOCK}"
    )


def test_linked(root: Path) -> None:
    found = read(root, {"/proc/keys": key("cryptsetup", "user") + key(f"cryptsetup:{VOLUME}: 64")})
    assert (found.key, found.problem) == ("linked", None)


@pytest.mark.parametrize(
    "line",
    [
        key(f"cryptsetup:{VOLUME}: 64", "user"),
        key(f"cryptsetup:{VOLUME}: 64", uid=1000),
        key(f"cryptsetup:{VOLUME}x: 64"),
        key(f"cryptsetup:{VOLUME}: 64", flags="IR-Q---"),
        key(f"cryptsetup:{VOLUME}: 64", flags="I--Q-Ni"),
        key(f"cryptsetup:{VOLUME}", flags="I--QU-i"),
        key(f"cryptsetup:{VOLUME}: 64", left="expd"),
        f"logon cryptsetup:{VOLUME}\n",
    ],
)
def test_keys_that_are_no_help(root: Path, line: str) -> None:
    assert read(root, {"/proc/keys": line}).key == "none"


def test_key_that_has_a_time_limit(root: Path) -> None:
    assert read(root, {"/proc/keys": key(f"cryptsetup:{VOLUME}: 64", left=" 2m ")}).key == "linked"


def test_cached_passphrase(root: Path) -> None:
    assert read(root, {"/proc/keys": key("cryptsetup: 9", "user", left="145s")}).key == "cached"


def test_token(root: Path) -> None:
    entries: dict[str, Entry] = {"/dev/vda2": luks2([ARGON], [TPM]), "/proc/keys": key("cryptsetup: 9", "user")}
    assert read(root, entries).key == "token"


def test_luks1(root: Path) -> None:
    """cryptsetup links the keys of LUKS2 volumes only, so that a key file is no help."""
    entries: dict[str, Entry] = {"/dev/vda2": luks1(), "/etc/crypttab": f"c UUID={VOLUME} /etc/key", "/etc/key": b"k"}
    found = read(root, entries)
    assert (found.version, found.argon2_kib, found.key) == (1, 0, "none")
    assert found.problem == (
        f"LUKS volume {VOLUME} is of version 1, whose key can't be handed over; convert it while it is closed "
        "(cryptsetup convert --type luks2), or add a [target] elsewhere"
    )


@pytest.mark.parametrize(
    "line",
    [
        f"cryptroot UUID={VOLUME} /etc/key luks",
        f'other UUID="{VOLUME.upper()}" /etc/key',
        f"other /dev/disk/by-uuid/{VOLUME} /etc/key discard",
        "cryptroot /dev/sdz9 /etc/key",
        "other /dev/vda2 /etc/key",
        "other /dev/linked /etc/key",
        f"# note\n\nx UUID=1 none\n\tcryptroot\tUUID={VOLUME}\t/etc/key",
    ],
)
@pytest.mark.parametrize("table", volume.TABLES)
def test_key_file_of_crypttab(root: Path, line: str, table: str) -> None:
    found = read(root, {table: f"{line}\n", "/etc/key": b"k", "/dev/linked": Link("vda2")})
    assert (found.key, found.keyfile, found.problem) == ("keyfile", "/etc/key", None)


@pytest.mark.parametrize(
    "line",
    [
        f"cryptroot UUID={VOLUME}",
        f"cryptroot UUID={VOLUME} none",
        f"cryptroot UUID={VOLUME} -",
        f"cryptroot UUID={VOLUME} /etc/gone",
        f"cryptroot UUID={VOLUME} /etc/key:LABEL=stick",
        f"cryptroot UUID={VOLUME} etc/key",
        f"cryptroot UUID={VOLUME} /etc",
        f"cryptroot UUID={VOLUME} /etc/key keyfile-offset=512",
        f"cryptroot UUID={VOLUME} /etc/key luks,keyfile-size=64",
        f"cryptroot UUID={VOLUME} /etc/key header=/etc/header",
        "other UUID=1 /etc/key",
        "other /dev/vdb /etc/key",
        "other /dev/loop /etc/key",
        f"UUID={VOLUME}",
    ],
)
def test_lines_that_give_no_key(root: Path, line: str) -> None:
    entries: dict[str, Entry] = {"/etc/crypttab": line, "/etc/key": b"k", "/dev/loop": Link("loop")}
    assert read(root, entries).key == "none"


@pytest.mark.parametrize("home", volume.KEY_DIRECTORIES)
def test_key_file_where_systemd_looks_by_itself(root: Path, home: str) -> None:
    assert read(root, {f"{home}/cryptroot.key": b"k"}).keyfile == f"{home}/cryptroot.key"


def test_key_file_by_the_name_in_crypttab(root: Path) -> None:
    entries: dict[str, Entry] = {
        "/etc/crypttab": f"late UUID={VOLUME} - nofail", "/etc/cryptsetup-keys.d/late.key": b"k",
    }  # fmt: skip
    assert read(root, entries, Crypt(VOLUME, "luks-x", "/dev/vda2")).keyfile == "/etc/cryptsetup-keys.d/late.key"


@pytest.mark.parametrize(
    "entries",
    [
        {"/etc/crypttab.initramfs": f"cryptroot UUID={VOLUME} none discard,{KEY}"},
        {"/proc/cmdline": f"rd.luks.name={VOLUME}=root rd.luks.options={VOLUME}=discard,{KEY} rw"},
    ],
)
def test_asked_for_but_not_linked(root: Path, entries: dict[str, Entry]) -> None:
    assert read(root, entries).problem == (
        f"the key of LUKS volume {VOLUME} can't be had without a passphrase: it was not linked at boot, though "
        f"link-volume-key= asks for it; build the system's images anew and reboot, or {UNLOCK}"
    )


def test_only_root_can_tell(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(luks, "read_header", refused)
    found = read(root, {})
    assert (found.version, found.key) == (None, "none")
    assert found.problem == f"only root can see whether the key of LUKS volume {VOLUME} can be had without a passphrase"


def test_detached_header(root: Path) -> None:
    found = read(root, {"/dev/vda2": bytes(8192)})
    assert found.problem == (
        f"LUKS volume {VOLUME}: /dev/vda2: no LUKS header on it; a detached header can't be used in a capture"
    )


def test_in_another_root_the_keys_of_this_kernel_say_nothing(root: Path) -> None:
    entries: dict[str, Entry] = {"/proc/keys": key(f"cryptsetup:{VOLUME}: 64")}
    assert read(root, entries, Crypt(VOLUME, "", ""), live=False).key == "none"
    entries = {"/etc/crypttab": f"c UUID={VOLUME} /etc/key", "/etc/key": b"k"}
    assert read(root, entries, Crypt(VOLUME, "", ""), live=False).key == "keyfile"


def test_two_mappings_without_a_name_are_not_the_same(root: Path) -> None:
    """A volume known by UUID alone has no name that a line could have."""
    assert read(root, {"/etc/cryptsetup-keys.d/.key": b"k"}, Crypt(VOLUME, "", "")).key == "none"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_property_noise_in_tables(root: Path, table: bytes, keys: bytes) -> None:
    make_tree(root, {"/etc/crypttab": table, "/proc/keys": keys, "/dev/vda2": luks2([PBKDF])})
    context = LiveContext(root=root, runner=FakeRunner())
    assert isinstance(read_crypttab(context), list)
    assert isinstance(read_keys(context), frozenset)
    assert read_volume(context, CRYPT).uuid == VOLUME
