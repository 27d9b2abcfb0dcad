"""What linux-kdump can't be built from, with the real source and the real compiler, and a real build interrupted."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdump_pkg import paths

from . import compilers, packages, variant
from .base import layer
from .common import LabError, digest, once, run, say
from .root import Generator, default_generator, open_root
from .variant_root import CONFIG, SOURCE, Armed, VariantRoot
from .variant_source import Signer

TREE = "/srv/linux"
BUILD = ("kdump-pkg", "variant", "build")
PATIENCE = 7200
INTERRUPTIONS = (("TERM", 90), ("KILL", 120))
"""Signal and seconds, one after the other, before the build may come to its end."""
ROOM = "1850m"
"""Enough for the unpacked source, too little for the objects."""


@dataclass(frozen=True)
class Row:
    name: str
    code: int
    seconds: float
    line: str
    before: Armed
    after: Armed

    def text(self) -> str:
        same = "the same" if self.before == self.after else f"{self.after.release}, before {self.before.release}"
        return f"| {self.name} | {self.code} | {self.seconds:.0f} | {self.line.replace('|', ' ')} | {same} |"


def table(package: Path) -> tuple[list[str], list[str]]:
    """The lines of it, and what is not as it should be."""
    lines = ["| bad input | exit code | seconds | what it said | armed afterwards |", "| --- " * 5 + "|"]
    wrong: list[str] = []
    for name, spoil in CASES.items():
        with _armed(default_generator(), package) as root:
            row = _run(root, name, spoil)
        say(row.text())
        lines.append(row.text())
        if row.code != 1 or row.before != row.after or "==> ERROR" not in row.line:
            wrong.append(row.text())
    return lines, wrong


def interrupted(package: Path) -> tuple[list[str], list[str]]:
    """A real build, stopped, killed and then finished; and the same once more, which has to be quick."""
    lines, wrong = [], []
    with _armed(default_generator(), package) as root:
        before = root.armed()
        for signal, seconds in INTERRUPTIONS:
            argv = ["timeout", f"--signal={signal}", str(seconds), *BUILD, "--force"]
            done = root.root.run(argv, check=False, timeout=PATIENCE)
            last = (done.stdout + done.stderr).splitlines()[-1:]
            lines.append(f"- SIG{signal} after {seconds} s: exit code {done.returncode}, it said {last}")
            say(lines[-1])
            if root.armed() != before:
                wrong.append(f"SIG{signal}: {root.armed()}, before {before}")
        for name in ("finished", "the same once more"):
            start = time.monotonic()
            done = root.root.run([*BUILD, "--force"], check=False, timeout=PATIENCE)
            lines.append(
                f"- {name}: exit code {done.returncode}, {time.monotonic() - start:.0f} s, {root.armed().release}"
            )
            say(lines[-1])
            if done.returncode != 0:
                wrong.append(done.stdout + done.stderr)
    return lines, wrong


def _run(root: VariantRoot, name: str, spoil: Callable[[VariantRoot], str]) -> Row:
    before = root.armed()
    first = spoil(root)
    start = time.monotonic()
    script = f"{first}\nexec {' '.join(BUILD)} --force"
    done = root.root.run(["bash", "-c", script], check=False, timeout=PATIENCE)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("==> ERROR")]
    return Row(name, done.returncode, time.monotonic() - start, " / ".join(errors), before, root.armed())


# --- what is wrong --------------------------------------------------------------------------------------------------


def _hash(root: VariantRoot) -> str:
    root.configure(variant=f"sha256 = {'0' * 64}\n")
    return ""


def _signature(root: VariantRoot) -> str:
    signer = Signer(root.root)
    signer.sign(SOURCE, f"{SOURCE}.sig")
    root.configure(variant=f"keys = {signer.export('/srv/keys.gpg')}\n")
    with (root.path / SOURCE.lstrip("/")).open("ab") as file:
        file.write(b"\0" * 512)
    return ""


def _key(root: VariantRoot) -> str:
    Signer(root.root).sign(SOURCE, f"{SOURCE}.sig")
    root.configure(variant=f"keys = {Signer(root.root, 'other').export('/srv/keys.gpg')}\n")
    return ""


def _tree(root: VariantRoot, file: str, old: str, new: str) -> str:
    """The source as a tree, in which something is other than the recipe expects."""
    tree = root.path / TREE.lstrip("/")
    tree.mkdir()
    run(["bsdtar", "-xf", root.path / SOURCE.lstrip("/"), "-C", tree, "--strip-components", "1"])
    text, count = re.subn(old, new, (tree / file).read_text(), flags=re.MULTILINE)
    if not count:
        raise LabError(f"{file}: there is no {old}")
    (tree / file).write_text(text)
    conf = root.path / paths.CONFIG.lstrip("/")
    conf.write_text(conf.read_text().replace(SOURCE, TREE))
    return ""


def _vanished(root: VariantRoot) -> str:
    return _tree(root, "fs/proc/Kconfig", r"^config PROC_VMCORE$", "config PROC_CRASHED_MEMORY")


def _old(root: VariantRoot) -> str:
    return _tree(root, "Makefile", r"^VERSION = \d+\nPATCHLEVEL = \d+$", "VERSION = 5\nPATCHLEVEL = 15")


def _too_new(root: VariantRoot) -> str:
    """As Linux 6.12.0 was: its code for real mode is compiled by the standard of the compiler, C23 from gcc 15 on."""
    return _tree(root, "arch/x86/Makefile", r"^(REALMODE_CFLAGS\s*:= )-std=gnu11 ", r"\1")


def _no_gcc(root: VariantRoot) -> str:
    for path in (root.path / "usr/bin").glob("*gcc*"):
        path.unlink()
    return ""


def _full(root: VariantRoot) -> str:
    cache, home = Path(paths.VARIANT_BUILD).parent, paths.VARIANT_BUILD
    made = f"install -d -o {paths.VARIANT_USER} {home} {home}/src{{,/build}}"
    return f"mount -t tmpfs -o size={ROOM} small {cache}\n{made}"


def _small(root: VariantRoot) -> str:
    return f"mount -t tmpfs -o size={ROOM} small {Path(paths.VARIANT_BUILD).parent}"


CASES: dict[str, Callable[[VariantRoot], str]] = {
    "wrong hash": _hash,
    "wrong signature": _signature,
    "key that nobody trusts": _key,
    "source older than the fragments": _old,
    "option that has vanished": _vanished,
    "no compiler": _no_gcc,
    "compiler too new for the source": _too_new,
    "disk too small": _small,
    "disk full while it compiles": _full,
}

# --- the root -------------------------------------------------------------------------------------------------------


@contextmanager
def _armed(generator: Generator, package: Path) -> Iterator[VariantRoot]:
    """The real compiler and source, and the variant that tests.lab.variant has built of it, installed."""
    below = [compilers.layer(generator)]
    built = variant.built("6.12").package

    def make(dest: Path) -> None:
        with open_root(generator=generator, above=below) as root:
            one = VariantRoot(root)
            (one.path / "srv").mkdir(exist_ok=True)
            shutil.copy(variant.source("6.12"), one.path / SOURCE.lstrip("/"))
            one.configure()
            one.upgrade("-U", packages.kernel("6.12"), package, built)
            root.run(["systemd-sysusers"])  # by a hook of systemd's on Arch
            run(["cp", "-a", root.detach(), dest])

    names = (layer(generator).name, package.parent.name, CONFIG, below[0].name, built.parent.name)
    with open_root(generator=generator, above=[once(f"variant-roots/real-{digest(*names)}", make), *below]) as root:
        yield VariantRoot(root)
