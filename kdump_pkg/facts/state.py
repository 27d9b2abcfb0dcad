"""What we left on the machine ourselves: generated files, the image, debug kernels, the load."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from kdump_pkg import paths
from kdump_pkg.context import Context, stamp
from kdump_pkg.facts.kernels import natural
from kdump_pkg.fs import TEMPORARY
from kdump_pkg.model import DebugKernel, ImageState, Loaded, OwnFile

HOOK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CHECKSUM = "# checksum: "
SCRIPTS = (
    f"{paths.LIBRARY}/kdump-save", f"{paths.LIBRARY}/kdump-init",
    f"{paths.INITCPIO}/hooks/kdump", f"{paths.INITCPIO}/install/kdump", f"{paths.INITCPIO}/install/sd-kdump",
    "/usr/lib/systemd/system/kdump-capture.service",
    f"{paths.DRACUT_MODULE}/module-setup.sh",
)  # fmt: skip
UNITS = ("kdump.service", "kdump-pkg-collect.service")


def read_own_file(ctx: Context, name: str) -> OwnFile:
    """A generated text file; it is pristine while the checksum in its header fits the rest."""
    data = ctx.read_bytes(name)
    if data is None:
        there = os.path.lexists(ctx.path(name, follow=False))
        return OwnFile(name, None, problem="no text file that can be read" if there else None)
    text = data.decode("utf-8", "replace")
    found = re.search(rf"^{re.escape(CHECKSUM)}([0-9a-f]{{64}})\n", text, re.MULTILINE)
    if found is None:
        return OwnFile(name, data, pristine=False)
    rest = (text[: found.start()] + text[found.end() :]).encode("utf-8", "replace")
    return OwnFile(name, data, pristine=hashlib.sha256(rest).hexdigest() == found[1])


def read_image(ctx: Context, name: str) -> ImageState:
    """The capture image; what it was built from stands in its first, uncompressed cpio archive."""
    path = ctx.path(name)
    try:
        if not path.is_file():
            return ImageState(name, path.exists())
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8192)
    except PermissionError:
        return ImageState(name, True, readable=False)
    except OSError:
        return ImageState(name, False)
    mark = _fingerprint(head)
    known = ctx.read_record(paths.IMAGE_FACTS)
    if mark is None or known.get("fingerprint") != mark:
        return ImageState(name, True, mark, size)
    least = _positive(known.get("least_mib"))
    return ImageState(name, True, mark, size, unpacked=_positive(known.get("unpacked")), least_mib=least)


def _positive(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


def _fingerprint(head: bytes) -> str | None:
    """Content of `kdump/fingerprint` in a newc archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    offset = 0
    while head[offset : offset + 6] in (b"070701", b"070702") and offset + 110 <= len(head):
        try:
            size, namesize = int(head[offset + 54 : offset + 62], 16), int(head[offset + 94 : offset + 102], 16)
        except ValueError:
            return None
        name = head[offset + 110 : offset + 110 + namesize].rstrip(b"\0")
        start = (offset + 110 + namesize + 3) & ~3
        if name == b"kdump/fingerprint":
            value = head[start : start + size].strip().decode("ascii", "replace")
            return value if re.fullmatch(r"[0-9a-f]{64}", value) else None
        offset = (start + size + 3) & ~3
    return None


def read_debug(ctx: Context) -> tuple[DebugKernel, ...]:
    """The unpacked kernels under /usr/lib/debug: ours by the record, others as somebody else's."""
    record = ctx.read_record(paths.DEBUG_RECORD)
    found = []
    for release in sorted(ctx.names(paths.DEBUG_MODULES), key=natural):
        path = f"{paths.DEBUG_MODULES}/{release}/vmlinux"
        entry = record.get(release)
        if not ctx.is_file(path):  # where no kernel is kept there may be what was made of it, to be let go in its time
            path = f"{path}.{paths.MADE}"
            entry = entry.get("made") if isinstance(entry, dict) else None
            if not ctx.is_file(path):
                continue
        ours = isinstance(entry, dict) and entry.get("stamp") == stamp(ctx.path(path))
        entry = entry if ours and isinstance(entry, dict) else {}
        found.append(
            DebugKernel(
                release=release,
                path=path,
                build_id=entry.get("build_id"),
                abilities=str(entry.get("abilities", "unknown")),
                origin=str(entry.get("origin", "")),
                sources=str(entry.get("sources", "")),
                size=ctx.path(path).stat().st_size,
                recorded=ours,
            )
        )
    return tuple(found)


def read_dump_releases(ctx: Context, directories: Iterable[str]) -> frozenset[str]:
    """Releases that there is a dump of, wherever: their debug kernels are still needed."""
    metas = (f"{directory}/{name}/meta" for directory in dict.fromkeys(directories) for name in ctx.names(directory))
    lines = (line for meta in metas for line in (ctx.read_text(meta) or "").splitlines())
    return frozenset(line.removeprefix("release=") for line in lines if line.startswith("release="))


def read_loaded(ctx: Context, name: str = paths.LOADED) -> Loaded | None:
    """What we loaded in this boot; None when nothing is recorded or the record is damaged."""
    record = ctx.read_record(name)
    try:
        return Loaded(**record) if all(isinstance(v, str) for v in record.values()) else None
    except TypeError:
        return None


def read_leftovers(ctx: Context, image: str) -> tuple[str, ...]:
    """Temporary files of ours that a killed run left, wherever we write."""
    directories = [str(Path(image).parent), "/etc", paths.PRESET_DIR, paths.STATE, paths.LAST_GOOD, paths.RUN]
    directories += [f"{paths.DEBUG_BUILD_ID}/{start}" for start in ctx.names(paths.DEBUG_BUILD_ID)]
    directories += [f"{paths.DEBUG_MODULES}/{release}" for release in ctx.names(paths.DEBUG_MODULES)]
    return tuple(f"{d}/{n}" for d in directories for n in ctx.names(d) if n.startswith(TEMPORARY))


def read_parts_hash(ctx: Context) -> str:
    """Digest of our scripts and units that go into the image: a new version of them makes it stale."""
    digest = hashlib.sha256()
    parts = [f"{paths.SAVE_PARTS}/{name}" for name in ctx.names(paths.SAVE_PARTS)]
    for name in (*SCRIPTS, *parts):
        digest.update(hashlib.sha256(ctx.read_bytes(name) or b"").digest())
    return digest.hexdigest()


def read_hooks(ctx: Context) -> tuple[tuple[str, str], ...]:
    """The user's scripts that run before and after a dump, each with a digest of its content."""
    found = []
    for directory in paths.CAPTURE_HOOKS:
        for name in ctx.names(directory):
            path = f"{directory}/{name}"
            data = ctx.read_bytes(path) if ctx.is_file(path) and HOOK_NAME.fullmatch(name) else None
            if data is not None and ctx.path(path).stat().st_mode & 0o111:
                found.append((path, hashlib.sha256(data).hexdigest()))
    return tuple(found)


def read_units(ctx: Context) -> dict[str, bool | None]:
    """Whether each unit is enabled: a link in some target's .wants directory, as `systemctl enable` makes it."""
    wants = [d for d in ctx.names("/etc/systemd/system") if d.endswith((".wants", ".requires"))]
    enabled = {name for d in wants for name in ctx.names(f"/etc/systemd/system/{d}")}
    return {unit: unit in enabled for unit in UNITS}
