"""Whence the key of a LUKS volume can be had when the capture kernel is loaded: keyring, crypttab, tokens.

systemd links a volume key into a keyring when it opens a volume with the option link-volume-key= (crypttab(5), read by
parse_one_option() in src/cryptsetup/cryptsetup.c), cryptsetup with --link-vk-to-keyring (cryptsetup-open(8)). Both are
written KEYRING::%TYPE:DESCRIPTION; @u is root's user keyring, and the kernel takes keys of type logon for a capture
(kernel/crash_dump_dm_crypt.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import luks
from kdump_pkg.facts.stack import Crypt
from kdump_pkg.model import CACHED, CryptVolume

TABLES = ("/etc/crypttab", "/etc/crypttab.initramfs")
KEY_DIRECTORIES = ("/etc/cryptsetup-keys.d", "/run/cryptsetup-keys.d")
"""Where systemd looks for NAME.key when a line names no file, crypttab(5)."""
PARTIAL = ("keyfile-offset=", "keyfile-size=", "header=")


@dataclass(frozen=True)
class Line:
    """One line of a crypttab."""

    name: str
    device: str
    key: str
    options: tuple[str, ...]


def link_option(volume: CryptVolume) -> str:
    return f"link-volume-key=@u::%logon:{volume.key_name}"


def read_volume(ctx: Context, crypt: Crypt) -> CryptVolume:
    """All that is known of one volume; what is wrong with it stands in `problem`."""
    volume, found = CryptVolume(crypt.uuid, device=crypt.device), None
    hidden = False
    if crypt.device:
        try:
            found = luks.read_header(ctx, crypt.device)
            volume = replace(volume, version=found.version, argon2_kib=found.argon2_kib)
        except PermissionError:
            hidden = True
        except luks.HeaderError as error:
            return replace(
                volume, problem=f"LUKS volume {crypt.uuid}: {error}; a detached header can't be used in a capture"
            )
    lines = [line for line in read_crypttab(ctx) if _is_of(ctx, line, crypt)]
    return _with_key(ctx, volume, found, lines, crypt.name, hidden=hidden)


def _with_key(
    ctx: Context, volume: CryptVolume, header: luks.Header | None, lines: list[Line], name: str, *, hidden: bool
) -> CryptVolume:
    keys = read_keys(ctx) if ctx.live else frozenset()
    if ("logon", volume.key_name) in keys:
        return replace(volume, key="linked")
    if volume.version == 1:  # cryptsetup 2.8: "This operation is supported only for LUKS2 device"
        return replace(volume, problem=_no_key(ctx, volume, lines, hidden=hidden))
    file = _keyfile(ctx, lines, name)
    if file:
        return replace(volume, key="keyfile", keyfile=file)
    if header is not None and header.unattended:
        return replace(volume, key="token")
    if ("user", CACHED) in keys:
        return replace(volume, key="cached")
    return replace(volume, problem=_no_key(ctx, volume, lines, hidden=hidden))


def _no_key(ctx: Context, volume: CryptVolume, lines: list[Line], *, hidden: bool) -> str:
    uuid, option = volume.uuid, link_option(volume)
    if volume.version == 1:
        remedy = "convert it while it is closed (cryptsetup convert --type luks2), or add a [target] elsewhere"
        return f"LUKS volume {uuid} is of version 1, whose key can't be handed over; {remedy}"
    if hidden:
        return f"only root can see whether the key of LUKS volume {uuid} can be had without a passphrase"
    start = f"the key of LUKS volume {uuid} can't be had without a passphrase"
    unlock = "run kdump-pkg load --unlock once after boot"
    asked = any(option in line.options for line in lines) or option in (ctx.read_text("/proc/cmdline") or "")
    if asked:
        why = "it was not linked at boot, though link-volume-key= asks for it"
        return f"{start}: {why}; build the system's images anew and reboot, or {unlock}"
    return f"{start}; add {option} to its options in /etc/crypttab.initramfs or rd.luks.options=, or {unlock}"


def read_keys(ctx: Context) -> frozenset[tuple[str, str]]:
    """Type and description of root's usable keys, as far as this process may see them, proc_keys(5)."""
    found = set()
    for line in (ctx.read_text("/proc/keys") or "").splitlines():
        fields = line.split(None, 8)
        if len(fields) == 9 and fields[5] == "0" and fields[3] != "expd" and not set(fields[1]) & set("RDNi"):
            found.add((fields[7], re.sub(r": \d+$", "", fields[8].strip())))
    return frozenset(found)


def read_crypttab(ctx: Context) -> list[Line]:
    lines = []
    for table in TABLES:
        for text in (ctx.read_text(table) or "").splitlines():
            fields = text.split()
            if len(fields) >= 2 and not fields[0].startswith("#"):
                key = fields[2] if len(fields) > 2 else ""
                options = tuple(fields[3].split(",")) if len(fields) > 3 else ()
                lines.append(Line(fields[0], fields[1].replace('"', ""), key, options))
    return lines


def _is_of(ctx: Context, line: Line, crypt: Crypt) -> bool:
    uuid = crypt.uuid.lower()
    if line.device.lower() in (f"uuid={uuid}", f"/dev/disk/by-uuid/{uuid}") or line.name == crypt.name:
        return True
    if not crypt.device or not line.device.startswith("/dev/"):
        return False
    try:
        return ctx.path(line.device).resolve() == ctx.path(crypt.device).resolve()
    except (OSError, KdumpError, RuntimeError):
        return False


def _keyfile(ctx: Context, lines: list[Line], name: str) -> str:
    """A key file that is there; not one on another device (FILE:DEVICE), nor one of which only a part is the key."""
    for line in lines:
        if any(option.startswith(PARTIAL) for option in line.options):
            continue
        named = line.key if line.key not in ("", "-", "none") else ""
        for file in [named] if named else [f"{home}/{line.name}.key" for home in KEY_DIRECTORIES]:
            if file.startswith("/") and ctx.is_file(file):
                return file
    return next((f for f in (f"{home}/{name}.key" for home in KEY_DIRECTORIES) if name and ctx.is_file(f)), "")
