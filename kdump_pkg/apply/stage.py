"""A package of linux-kdump that is not installed yet: looked through before anything is done with it, then tried."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture
from kdump_pkg.run import streaming
from kdump_pkg.untrusted import escaped

META = (".BUILDINFO", ".MTREE", ".PKGINFO")
MEMBER = re.compile(r"usr/lib/modules/(?P<release>[A-Za-z0-9._+~-]+-kdump)(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")
ABOVE = ("usr", "usr/lib", "usr/lib/modules")
INFO = {
    "pkgname", "pkgbase", "xdata", "pkgver", "pkgdesc", "url", "builddate", "packager", "size", "arch", "license",
    "makedepend",
}  # fmt: skip
"""What the package may say of itself: nothing that makes pacman take another one away, or bring one in."""
LONGEST_LIST = 1 << 20  # bytes
LONGEST_INFO = 1 << 16
LARGEST = 1 << 28  # bytes unpacked; it has three megabytes
MTREE = "mtree:!all,mtree:type,mtree:mode,mtree:uid,mtree:gid,mtree:size"
ENTRY = re.compile(r"(?:\./)?(?P<path>\S+)(?P<words>(?: [a-z]+=\S*)+)")


def check(ctx: Context, package: str) -> str:
    """The release of the one kernel in PACKAGE. Raises KdumpError for a package that has anything else in it."""
    name = package.rpartition("/")[2]
    size, releases, kernels = 0, set(), 0
    for path, words in _members(ctx, package):
        found = MEMBER.fullmatch(path)
        wrong = _odd(words, directory=path in ABOVE)
        if path.endswith("/pkgbase") or not (found or path in (*META, *ABOVE)):
            wrong = "a slim kernel has none"
        if wrong:
            raise KdumpError(f"{name} holds {escaped(path)[:200]}: {wrong}")
        size += int(words.get("size", "0"))
        if found:
            releases.add(found["release"])
            kernels += path == f"usr/lib/modules/{found['release']}/vmlinuz"
    if len(releases) != 1 or kernels != 1:
        raise KdumpError(f"{name} holds {kernels} kernels, for {len(releases)} releases: one was wanted")
    if size > LARGEST:
        raise KdumpError(f"{name} has {size >> 20} MiB unpacked, far more than a slim kernel")
    _check_info(ctx, package, name)
    return str(releases.pop())


def _odd(words: dict[str, str], *, directory: bool) -> str:
    if words["type"] not in (("dir",) if directory else ("dir", "file")):
        return f"it is a {words['type']}"
    if (words.get("uid"), words.get("gid")) != ("0", "0") or int(words.get("mode", "7777"), 8) & 0o7022:
        return "others than root could change it"
    return ""


def _members(ctx: Context, package: str) -> list[tuple[str, dict[str, str]]]:
    """All of them, as mtree(5) has them: a name that can be written in one word, and what is known of it."""
    inside = os.fspath(ctx.path(package))
    text = _said(["bsdtar", "-cf", "-", "--format=mtree", "--options", MTREE, f"@{inside}"], LONGEST_LIST)
    found = []
    for line in text.splitlines()[1:]:
        hit = ENTRY.fullmatch(line)
        words = dict(word.partition("=")[::2] for word in hit["words"].split()) if hit else {}
        numbers = [words.get("size", "0"), words.get("mode", "0")]
        if hit is None or "type" not in words or not all(number.isascii() and number.isdecimal() for number in numbers):
            raise KdumpError(f"{package.rpartition('/')[2]} has a member that can't be: {escaped(line)[:200]}")
        found.append((hit["path"], words))
    return found


def _check_info(ctx: Context, package: str, name: str) -> None:
    text = _said(["bsdtar", "-xOf", os.fspath(ctx.path(package)), ".PKGINFO"], LONGEST_INFO)
    pairs = [line.partition(" = ")[::2] for line in text.splitlines() if line and not line.startswith("#")]
    names = [value for key, value in pairs if key == "pkgname"]
    more = next((key for key, _ in pairs if key not in INFO), None)
    if names != [paths.VARIANT]:
        raise KdumpError(f"{name} is no package of {paths.VARIANT}")
    if more is not None:
        raise KdumpError(f"{name} has a {escaped(more)[:50]}, which {paths.VARIANT} has not")


def _said(argv: Sequence[str], longest: int) -> str:
    """What a program prints, as long as that is no more."""
    with Path(os.devnull).open("rb") as nothing, streaming(argv, stdin=nothing.fileno()) as stream:
        data = stream.read(longest + 1)
        if len(data) > longest:
            raise KdumpError("the package that was built holds far more than a slim kernel")
        done = stream.end()
    if done.returncode != 0:
        words = escaped(done.stderr.decode("utf-8", "replace").strip())
        raise KdumpError(f"the package that was built can't be read: {words[:200]}")
    return data.decode("utf-8", "replace")


# --- to be tried ------------------------------------------------------------------------------------------------------


def unpack(ctx: Context, package: str) -> None:
    """Put the kernel of a package that was checked into an empty stage, where an image can be made for it."""
    stage = _empty(ctx)
    plain = ["--no-same-owner", "--no-xattrs", "--no-acls", "--no-fflags"]
    ctx.runner(["bsdtar", "-xf", package, *plain, "-C", paths.VARIANT_STAGE, "usr"], root=ctx.root)
    _lead_there(stage)


def borrow(ctx: Context, release: str) -> None:
    """The same for one that is installed."""
    stage = _empty(ctx)
    try:
        home = ctx.path(f"{paths.MODULES}/{release}")
        shutil.copytree(home, stage / "usr/lib/modules" / release, symlinks=True)
    except OSError as error:
        raise KdumpError(f"{paths.MODULES}/{release}: {error.strerror}") from None
    _lead_there(stage)


def _empty(ctx: Context) -> Path:
    clear(ctx)
    stage = ctx.path(paths.VARIANT_STAGE, follow=False)
    fs.ensure_directory(stage.parent)
    stage.mkdir(0o700)
    fs.check_space(stage, LARGEST)
    return stage


def _lead_there(stage: Path) -> None:
    """Generators look in lib/modules."""
    (stage / "lib").symlink_to("usr/lib")


def write(ctx: Context, capture: Capture, derived: bytes | None) -> None:
    """The settings of the image that is to be made there."""
    fs.write_atomic(ctx.path(f"{paths.VARIANT_STAGE}/capture.env"), capture.env, 0o600)
    if derived is not None:
        fs.write_atomic(ctx.path(f"{paths.VARIANT_STAGE}/mkinitcpio.conf"), derived)


def clear(ctx: Context) -> None:
    """Leave nothing there."""
    fs.remove_tree(ctx.path(paths.VARIANT_STAGE, follow=False))
