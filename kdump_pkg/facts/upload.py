"""What there is to send, what has arrived, where it goes: the dumps' files, our record, rclone's configuration."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdump_pkg import paths
from kdump_pkg.context import Context, stamp_of
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps
from kdump_pkg.facts.records import made
from kdump_pkg.model import UploadWish
from kdump_pkg.model.upload import Arrived, Candidate, Failure, LocalFile, Record, Sent, Store
from kdump_pkg.paths import REPORT_JSON
from kdump_pkg.untrusted import masked

if TYPE_CHECKING:
    from kdump_pkg.model.dumps import Entry  # `status` has to be fast, and needs none

WITHOUT_REPORT = 3600
"""Seconds after which a dump that has got no report is sent without one."""
LARGEST_CONFIG = 1 << 20
NO_NAMES = ("", "localhost", "archlinux", "archiso", "(none)")
"""Host names that many machines have."""
SECRET = re.compile(r"pass|secret|key|token|auth|sas|cred|pem|cookie|client_id", re.IGNORECASE)
PLACE = re.compile(r"\w[\w.-]*/\w+/\w[\w.+@=-]*", re.ASCII)
"""host/signature/id"""
FROM_THE_LOG = ("words", "panic", "lines", "before", "trace", "process")


def in_capture(ctx: Context) -> bool:
    try:
        return ctx.path("/proc/vmcore").exists()
    except (OSError, KdumpError):
        return False


def read_candidates(ctx: Context, entries: Iterable[Entry]) -> tuple[Candidate, ...]:
    """Our own ones of ENTRIES, in their order; what others have made stays here."""
    found = (_candidate(ctx, entry) for entry in entries if not entry.foreign)
    return tuple(one for one in found if one is not None)


def _candidate(ctx: Context, entry: Entry) -> Candidate | None:
    try:
        fd = os.open(ctx.path(entry.path, follow=False), dumps.HERE | os.O_DIRECTORY)
    except (OSError, KdumpError):
        return None
    try:
        files = _files(fd)
        names = {file.name for file in files}
        encrypted = entry.encrypted or any(name.endswith(".age") for name in names)
        age = ctx.clock() - os.fstat(fd).st_mtime
        waits = ""
        if entry.state == "being written":
            waits = "it is being written"
        elif REPORT_JSON not in names and 0 <= age < WITHOUT_REPORT:
            waits = "it has no report yet: kdump-pkg collect makes it"
        opened = encrypted and REPORT_JSON in names and _tells_of_the_log(fd)
        return Candidate(entry.id, entry.path, files, entry.signature, encrypted, opened, waits)
    except OSError:  # removed meanwhile
        return None
    finally:
        os.close(fd)


def _files(fd: int) -> tuple[LocalFile, ...]:
    found = []
    for name in sorted(dumps.files_of(fd)):
        facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
        found.append(LocalFile(name, facts.st_size, stamp_of(facts)))
    return tuple(found)


def _tells_of_the_log(fd: int) -> bool:
    """Whether a report says more than `meta` does; one that can't be read might."""
    try:
        crash = dumps.read_json(fd, REPORT_JSON)["crash"]
        return any(crash.get(key) for key in FROM_THE_LOG)
    except (KeyError, TypeError, AttributeError):
        return True


# --- the record -------------------------------------------------------------------------------------------------------


def read_record(ctx: Context) -> Record:
    """What has arrived as far as we have written it down; what is damaged of it has not, and is looked at there."""
    value = ctx.read_record(paths.UPLOADS)
    found = value.get("dumps") if value.get("version") == 1 else None
    sent = {name: _sent(one) for name, one in found.items()} if isinstance(found, dict) else {}
    config = value.get("config")
    known = {name: one for name, one in sent.items() if one is not None}
    return Record(known, _failure(value.get("failure")), config if isinstance(config, str) else "")


def _sent(value: Any) -> Sent | None:
    objects = value.get("objects") if isinstance(value, dict) else None
    if not isinstance(objects, dict) or not all(
        isinstance(value.get(n), str) for n in ("remote", "to", "path", "whole")
    ):
        return None
    arrived = {name: _arrived(one) for name, one in objects.items()}
    known = {name: one for name, one in arrived.items() if one is not None}
    good = known == arrived and PLACE.fullmatch(value["to"])
    return Sent(value["remote"], value["to"], value["path"], known, value["whole"]) if good else None


def _arrived(value: Any) -> Arrived | None:
    found = made(Arrived, value)
    return found if found and re.fullmatch("[0-9a-f]{64}", found.sha256) else None


def _failure(value: Any) -> Failure | None:
    found = made(Failure, value)
    return replace(found, text=masked(found.text), hint=masked(found.hint)) if found else None


# --- where to ---------------------------------------------------------------------------------------------------------


def read_host(ctx: Context, wish: UploadWish) -> str:
    """The directory of this machine: a name that is its own."""
    if wish.host != "auto":
        return wish.host
    name = ctx.read_text("/proc/sys/kernel/hostname") or ctx.read_text("/etc/hostname") or ""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:48]
    if clean.split(".")[0].lower() not in NO_NAMES:
        return clean
    machine = ctx.read_text("/etc/machine-id") or ""
    # The machine's ID itself is not to be handed to others, see machine-id(5).
    digits = hashlib.sha256(f"kdump-pkg upload {machine}".encode()).hexdigest()[:8]
    return f"{clean or 'localhost'}-{digits}" if machine else clean or "localhost"


def read_store(ctx: Context, wish: UploadWish) -> Store:
    """Where to. Raises KdumpError where rclone's configuration isn't there, isn't safe, or lacks the remote."""
    data, stamp = _read_private(ctx, wish.config)
    sections = _parse(wish.config, data)
    name = wish.remote.partition(":")[0]
    if name not in sections:
        raise KdumpError(f"{wish.config}: no remote [{name}]", hint=f"make it: rclone --config {wish.config} config")
    reached = _reached(sections, name)
    for one in reached:
        keys = sections[one]
        if keys.get("type") == "sftp" and not keys.get("known_hosts_file"):
            raise KdumpError(
                f"{wish.config}: [{one}] takes any server for the right one",
                hint="set known_hosts_file = FILE there, with the server's key in FILE as ssh-keyscan prints it",
            )
    secrets = {v for one in reached for k, v in sections[one].items() if SECRET.search(k) and "file" not in k}
    longest_first = tuple(sorted((s for s in secrets if len(s) > 3), key=len, reverse=True))
    return Store(wish.remote, wish.config, wish.rate, longest_first, stamp, data)


def _read_private(ctx: Context, name: str) -> tuple[bytes, str]:
    path = ctx.path(name)
    try:
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise KdumpError(f"{name}: no regular file", hint="name the file that rclone config writes")
            if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o077:
                raise KdumpError(
                    f"{name}: others than root may read it, and it holds keys",
                    hint=f"chown root: {name}; chmod 600 {name}",
                )
            return file.read(LARGEST_CONFIG), stamp_of(facts)
    except FileNotFoundError:
        raise KdumpError(
            f"{name}: not there", hint=f"make it: rclone --config {name} config; chmod 600 {name}"
        ) from None
    except OSError as error:
        raise KdumpError(f"{name}: can't be read: {error.strerror}") from None


def _parse(name: str, data: bytes) -> dict[str, dict[str, str]]:
    import configparser

    if b"\nRCLONE_ENCRYPT_V0:" in b"\n" + data:
        raise KdumpError(
            f"{name}: encrypted with a password, which a service can't type",
            hint=f"rclone --config {name} config encryption remove",
        )
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), default_section="")
    try:
        parser.read_string(data.decode("utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError):  # its words might hold a key
        raise KdumpError(f"{name}: not what rclone config writes", hint=f"rclone --config {name} config") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def _reached(sections: dict[str, dict[str, str]], first: str) -> list[str]:
    """A remote and those that it stands on, as crypt, alias and union do."""
    found, todo = [], [first]
    while todo:
        name = todo.pop()
        if name in sections and name not in found:
            found.append(name)
            todo += [n for value in sections[name].values() for n in re.findall(r"([\w.+@-]+):", value)]
    return found
