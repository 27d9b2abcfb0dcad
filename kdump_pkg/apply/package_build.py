"""Packages that makepkg builds, as a user who may do nothing else: prepared, built, taken out of its hands, installed.

Whatever lies in the directory of that user may be planted there. So root goes into it by a descriptor and follows no
link, and looks at a package only once it is a copy of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdump_pkg import fs, paths
from kdump_pkg.apply.build_log import BuildError, Log, Reader
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.run import uninterrupted, watched
from kdump_pkg.untrusted import masked, one_line

__all__ = [
    "BuildError", "Builder", "Log", "builder", "command", "drop", "drop_packages", "install", "is_installed", "lacking",
    "makepkg", "prepare", "uninstall",
]  # fmt: skip

LOG = "build.log"
PACKAGE = re.compile(r"[a-z0-9][A-Za-z0-9@._+-]*\.pkg\.tar\.zst")
DROPPED = "--reuid={0} --regid={1} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/usr/bin/core_perl"
MAKEPKG = ("makepkg", "-f", "--noconfirm", "--nocolor", "--nosign")
OPENED = "/proc/self/fd/{}"
"""How a directory is reached by its descriptor."""
LOCKED = "unable to lock database"
LOCK_FILE = f"{paths.PACMAN_DB}/db.lck"
PATIENCE = 3600  # seconds that another pacman may take
POLL = 2


@dataclass(frozen=True)
class Builder:
    """The user who builds."""

    uid: int
    gid: int


def builder(ctx: Context) -> Builder:
    """Raises KdumpError where there is none yet."""
    for line in (ctx.read_text("/etc/passwd") or "").splitlines():
        words = line.split(":")
        if words[0] == paths.VARIANT_USER and len(words) > 3 and words[2].isdecimal() and words[3].isdecimal():
            return Builder(int(words[2]), int(words[3]))
    raise KdumpError(f"there is no user {paths.VARIANT_USER}, who builds", hint="systemd-sysusers")


def command(ctx: Context, argv: Collection[str], *, apart: bool = False) -> list[str]:
    """How ARGV is run by that user, in this root; APART: with all its children's children it ends when we do."""
    user = builder(ctx)
    root = [] if ctx.live else ["chroot", os.fspath(ctx.root)]
    dies = ["--pdeathsig", "KILL"] if apart else []
    own = ["setpriv", *dies, "--", "unshare", "--pid", "--fork", "--kill-child", "--"] if apart else []
    return [*own, *root, "setpriv", *dies, *DROPPED.format(user.uid, user.gid).split(), "--", *argv]


def environment(home: str) -> dict[str, str]:
    """All that it sees of ours. What makepkg finds here goes before what stands in the machine's makepkg.conf."""
    places = ("BUILDDIR", "PKGDEST", "SRCDEST", "SRCPKGDEST", "LOGDEST")
    return {
        "PATH": PATH,
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "USER": paths.VARIANT_USER,
        "LOGNAME": paths.VARIANT_USER,
        "HOME": home,
        "TMPDIR": f"{home}/tmp",
        **dict.fromkeys(places, home),
        "PKGEXT": ".pkg.tar.zst",
    }


def prepare(
    ctx: Context, home: str, files: Mapping[str, bytes], links: Mapping[str, str], keep: Collection[str] | None = None
) -> None:
    """Make the directory HOME and put FILES and LINKS (name to target) into it; `#!` makes a file executable.

    Files of another recipe go. src/ stays, and of what makepkg fetched what KEEP names; all of it without KEEP.
    """
    user = builder(ctx)
    mark = ctx.read_text(_mark(home))
    if mark is not None and mark != _boot(ctx):
        # The power went during a build: what looks finished may be empty on the disk.
        ctx.runner(command(ctx, ["rm", "-rf", "--", f"{home}/src"]))
    with _opened(ctx, home, user, make=True) as inside:
        for path in inside.iterdir():
            kind = path.lstat().st_mode
            stale = stat.S_ISLNK(kind) or (stat.S_ISREG(kind) and (_of_recipe(path.name) or keep is not None))
            if stale and path.name not in files and path.name not in (keep or ()) and path.name != LOG:
                path.unlink()
        for name, data in files.items():
            _write(inside / name, data, user)
        for name, target in links.items():
            (inside / name).unlink(missing_ok=True)
            (inside / name).symlink_to(target)
    ctx.runner(command(ctx, ["rm", "-rf", "--", f"{home}/tmp"]))
    ctx.runner(command(ctx, ["mkdir", f"{home}/tmp"]))


def lacking(ctx: Context, recipe: bytes) -> tuple[str, ...]:
    """Packages that the PKGBUILD wants for building and that are not installed."""
    found = re.search(rb"^makedepends=\(([^)]*)\)", recipe, re.MULTILINE)
    wanted = ["fakeroot", *(found[1].decode("utf-8", "replace").split() if found else ())]
    said = ctx.runner(["pacman", "-T", *(word.strip("'\"") for word in wanted)], root=ctx.root, check=False)
    return tuple(masked(word) for word in said.text.split())


def makepkg(ctx: Context, home: str, watch: Callable[[Log], None]) -> str:
    """Build what was prepared in HOME; returns the path of the package, which is root's own, beside HOME.

    WATCH is called about every second with what was said so far, and may raise to end it. Raises BuildError.
    """
    user = builder(ctx)
    with _opened(ctx, home, user) as inside, _marked(ctx, home):
        for path in _packages(inside):
            path.unlink()
        argv = command(ctx, ["env", "-C", home, *MAKEPKG], apart=_can_be_apart(ctx))
        with _new(inside / LOG, os.O_RDWR) as log:
            reader = Reader(log)
            code = watched(argv, log=log, watch=lambda: watch(reader.read()), env=environment(home))
            said = reader.read()
            if code != 0:
                raise reader.failure(f"makepkg ended with exit code {code}")
            watch(said)
        made = _packages(inside)
        if len(made) != 1:
            raise BuildError("building", f"makepkg made {len(made)} packages, one was wanted", tail=said.tail)
        return _take(ctx, made[0], f"{PurePosixPath(home).parent}/{made[0].name}", user)


def _can_be_apart(ctx: Context) -> bool:
    """Not in every container."""
    try:
        return ctx.runner(["unshare", "--pid", "--fork", "--kill-child", "--", "true"], check=False).returncode == 0
    except CommandError:
        return False


def _mark(home: str) -> str:
    return f"{home}.building"


def _boot(ctx: Context) -> str:
    return ctx.read_text("/proc/sys/kernel/random/boot_id") or "unknown"


@contextmanager
def _marked(ctx: Context, home: str) -> Iterator[None]:
    """A file says in which boot a build is at work, until all that it has made is on the disk."""
    mark = ctx.path(_mark(home), follow=False)
    fs.write_atomic(mark, _boot(ctx).encode())
    try:
        yield
    finally:
        with contextlib.suppress(CommandError):
            ctx.runner(["sync", "-f", home], root=ctx.root)
        fs.remove(mark)


def _take(ctx: Context, made: Path, path: str, user: Builder) -> str:
    """A copy of the package, as PATH, that its builder can't change any more."""
    final = ctx.path(path, follow=False)
    tmp = fs.temporary(final)
    try:
        with os.fdopen(os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source:
            facts = os.fstat(source.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != user.uid:
                raise BuildError("building", f"{final.name} is no file of {paths.VARIANT_USER}")
            fs.check_space(final.parent, facts.st_size)
            tmp.unlink(missing_ok=True)
            with tmp.open("xb") as copy:
                shutil.copyfileobj(source, copy)
        fs.commit(tmp, final)
        made.unlink()
    finally:
        tmp.unlink(missing_ok=True)
    return path


# --- installing -------------------------------------------------------------------------------------------------------


def install(ctx: Context, package: str, say: Callable[[str], None], then: Callable[[], None] = lambda: None) -> None:
    """pacman -U, as soon as no other pacman is at work; SAY gets what is to be told meanwhile. Raises KdumpError.

    Once it is installed, THEN is called before anybody can interrupt us.
    """
    _pacman(ctx, ["-U", package], say, then)


def uninstall(ctx: Context, name: str, say: Callable[[str], None]) -> None:
    """pacman -R, the same way."""
    _pacman(ctx, ["-R", name], say, lambda: None)


def is_installed(ctx: Context, name: str) -> bool:
    return ctx.runner(["pacman", "-Q", name], root=ctx.root, check=False).returncode == 0


def drop(ctx: Context, home: str, name: str) -> None:
    """Take away the directory of a build, and the packages NAME beside it."""
    drop_packages(ctx, home, name)
    fs.remove(ctx.path(_mark(home), follow=False))
    fs.remove_tree(ctx.path(home, follow=False))


def drop_packages(ctx: Context, home: str, name: str, but: str = "") -> None:
    """Those that were kept; BUT is the path of one that stays."""
    parent = PurePosixPath(home).parent
    for file in ctx.names(str(parent)):
        if PACKAGE.fullmatch(file) and file.startswith(f"{name}-") and f"{parent}/{file}" != but:
            fs.remove(ctx.path(f"{parent}/{file}", follow=False))


def _pacman(ctx: Context, words: list[str], say: Callable[[str], None], then: Callable[[], None]) -> None:
    """Once begun it is not interrupted: a transaction that is stopped halfway is nobody's wish."""
    deadline = time.monotonic() + PATIENCE
    while True:
        _wait_for_lock(ctx, say, deadline)
        argv = ["pacman", words[0], "--noconfirm", "--noprogressbar", "--color=never", *words[1:]]
        with uninterrupted():
            done = ctx.runner(argv, root=ctx.root, check=False, timeout=None)
            if done.returncode == 0:
                then()
        told = [one_line(line, 400) for line in (done.text + done.stderr.decode("utf-8", "replace")).splitlines()]
        if done.returncode == 0:
            for line in filter(re.compile(r"(==> )?(ERROR|error):").match, told):
                say(line)
            return
        if not any(LOCKED in line for line in told):
            why = "; ".join(line.removeprefix("error: ") for line in told if line.startswith("error: "))
            text = f"pacman {words[0]} failed: {why or f'exit code {done.returncode}'}"
            raise KdumpError(text, hint=f"see why: pacman {' '.join(words)}")
        time.sleep(POLL)


def _wait_for_lock(ctx: Context, say: Callable[[str], None], deadline: float) -> None:
    lock = ctx.path(LOCK_FILE, follow=False)
    if not os.path.lexists(lock):
        return
    say("waiting for pacman, which is at work")
    while os.path.lexists(lock):
        if time.monotonic() >= deadline:
            raise KdumpError(
                f"pacman is still locked after {PATIENCE // 60} minutes", hint=f"if no pacman runs, remove {LOCK_FILE}"
            )
        time.sleep(POLL)
    say("pacman is done")


# --- in the directory of somebody else --------------------------------------------------------------------------------


def _of_recipe(name: str) -> bool:
    return name in ("PKGBUILD", "configure", "settings") or name.endswith((".config", ".sh"))


def _packages(inside: Path) -> list[Path]:
    return [path for path in inside.iterdir() if PACKAGE.fullmatch(path.name)]


@contextmanager
def _opened(ctx: Context, home: str, user: Builder, *, make: bool = False) -> Iterator[Path]:
    """The directory HOME, which is that user's, by a descriptor: whatever comes to have its name later.

    Raises KdumpError for what goes wrong in the block.
    """
    path = ctx.path(home, follow=False)
    try:
        if make:
            fs.ensure_directory(path.parent)
            path.mkdir(0o755, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if make:
                os.fchown(fd, user.uid, user.gid)
            yield Path(OPENED.format(fd))
        finally:
            os.close(fd)
    except OSError as error:
        raise KdumpError(f"{home}: {error.strerror}", hint=fs.HINTS.get(error.errno or 0)) from None


@contextmanager
def _new(path: Path, flags: int) -> Iterator[int]:
    """A descriptor of a new file, in the place of whatever had its name."""
    path.unlink(missing_ok=True)
    fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        yield fd
    finally:
        os.close(fd)


def _write(path: Path, data: bytes, user: Builder) -> None:
    with _new(path, os.O_WRONLY) as fd:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fchmod(fd, 0o755 if data.startswith(b"#!") else 0o644)
        os.fchown(fd, user.uid, user.gid)
